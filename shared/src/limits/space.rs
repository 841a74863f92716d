//! Limits of the space on a volume's disk: the reserve that clients never get, and what uploads reserve in advance.

use super::LANES_MAX;

/// Free bytes that a volume never gives to clients: deletes, seals and compaction need them.
pub const RESERVE_BYTES: u64 = 256 << 20;
/// Space that an upload reserves before it has sent anything. All lanes together reserve less than the reserve.
pub const RESERVE_FIRST_BYTES: u64 = 128 << 10;
/// An upload that grows reserves as much again as it has sent, up to this: rare file system calls, and no space
/// withheld from others for long.
pub const RESERVE_STEP_BYTES: u64 = 64 << 20;

const _: () = assert!(LANES_MAX as u64 * RESERVE_FIRST_BYTES < RESERVE_BYTES);
