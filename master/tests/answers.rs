//! Repair and orphan collection against scripted volumes: a real master, and volumes that answer as the test says.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

mod site;

mod carrying;
mod orphans;
