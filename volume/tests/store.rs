//! The store through its public face, on a real file system: what goes in comes out, whatever is
//! done to the files between two openings, and whatever fails underneath.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

pub mod kit;

mod spoil;

mod capacity;
mod compaction;
mod damage;
mod failure;
mod inspecting;
mod listing;
mod opening;
mod reclaim;
mod round_trip;
mod scrub;
mod strangers;
