//! The store through its public API, on a real file system: stored values are read back, whatever is done to the
//! files between two openings, and whatever call fails.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

pub mod kit;

mod spoil;

mod capacity;
mod compaction;
mod corruption;
mod failure;
mod inspecting;
mod listing;
mod opening;
mod reclaim;
mod round_trip;
mod scrub;
mod strangers;
