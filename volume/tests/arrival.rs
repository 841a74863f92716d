//! Copies that a volume takes in from others, and what it tells a master of what it holds: two real volumes, a master that says
//! what it is told to, and sources that fail.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

mod site;

mod copies;
mod deletes;
mod notes;
mod questions;
mod source;
