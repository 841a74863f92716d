//! The store through its public face, on a real file system: what goes in comes out, whatever is
//! done to the files between two openings, and whatever fails underneath.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

#[path = "store/kit.rs"]
mod kit;

#[path = "store/spoil.rs"]
mod spoil;

#[path = "store/capacity.rs"]
mod capacity;
#[path = "store/compaction.rs"]
mod compaction;
#[path = "store/damage.rs"]
mod damage;
#[path = "store/failure.rs"]
mod failure;
#[path = "store/inspecting.rs"]
mod inspecting;
#[path = "store/listing.rs"]
mod listing;
#[path = "store/opening.rs"]
mod opening;
#[path = "store/reclaim.rs"]
mod reclaim;
#[path = "store/round_trip.rs"]
mod round_trip;
#[path = "store/scrub.rs"]
mod scrub;
#[path = "store/strangers.rs"]
mod strangers;
