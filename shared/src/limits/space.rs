//! Limits of the space on a volume's disk: what clients never get, and what uploads have in advance.

use super::LANES_MAX;

/// Free bytes a volume never gives to clients: deletes, seals and compaction work inside them.
pub const RESERVE_BYTES: u64 = 256 << 20;
/// Space that an upload has set aside before it has sent anything. All lanes together hold less than the reserve by that.
pub const RESERVE_FIRST_BYTES: u64 = 128 << 10;
/// As it grows it sets as much aside again as it has sent, and at most so much: a question to the file system now and then,
/// and nothing that others could have for long.
pub const RESERVE_STEP_BYTES: u64 = 64 << 20;

const _: () = assert!(LANES_MAX as u64 * RESERVE_FIRST_BYTES < RESERVE_BYTES);
