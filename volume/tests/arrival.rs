//! Replicas that a volume receives from others, and its answers to a master: two real volumes, a scripted master,
//! and faulty sources.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

mod site;

mod copies;
mod deletes;
mod notes;
mod questions;
mod source;
