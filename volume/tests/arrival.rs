//! Copies that a volume takes in from others, and what it tells a master of what it holds: two real volumes, a master that says
//! what it is told to, and sources that fail.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

#[path = "arrival/site.rs"]
mod site;

#[path = "arrival/copies.rs"]
mod copies;
#[path = "arrival/deletes.rs"]
mod deletes;
#[path = "arrival/notes.rs"]
mod notes;
#[path = "arrival/questions.rs"]
mod questions;
#[path = "arrival/source.rs"]
mod source;
