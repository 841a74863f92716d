//! What becomes of copies, by what volumes say: a real master, and volumes that answer what they are told to.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

mod site;

mod carrying;
mod orphans;
