//! Limits of metadata checks: what masters compare, and how often.

use std::time::Duration;

/// All masters end a batch at each log entry whose index is a multiple of this, so that their tables can be compared:
/// often enough that a busy cluster passes one about every second, rarely enough that batches stay large.
pub const CONTENT_PLACE_ENTRIES: u64 = 1024;
/// How many of the latest table digests taken at such entries are kept: a follower may be thousands
/// of entries behind.
pub const CONTENT_PLACES: usize = 32;
/// The clocks of the other masters are asked again when the answers are older than this: clocks drift by milliseconds
/// in that time.
pub const CLOCK_REFRESH: Duration = Duration::from_secs(5);
/// Answers older than this do not count any longer: a clock may have been set.
pub const CLOCK_KNOWN_FOR: Duration = Duration::from_secs(60);
/// How long a master may take to tell its clock: by so much it may count as late.
pub const CLOCK_ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// Expired objects that one command removes: other commands wait for it.
pub const EXPIRE_BATCH: usize = 128;
/// Interval at which masters compare their tables.
pub const CONTENT_COMPARE_EVERY: Duration = Duration::from_secs(60);
/// Interval at which a master reads all of its tables to verify them.
pub const CONTENT_PROVE_EVERY: Duration = Duration::from_secs(6 * 3600);
/// The check pauses this many times as long as it reads: it takes a tenth of one core.
pub const CONTENT_CHECK_SHARE: u32 = 9;
/// A master that stops because its metadata is corrupt restarts at once, with another master's metadata, but no more
/// often than this: a failure that recurs so soon is not corruption.
pub const HEAL_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A master stops if a checkpoint of its metadata store, or a write of its log, does not return for this long. No
/// disk is that slow.
pub const METADATA_STUCK: Duration = Duration::from_secs(60);
/// Like `METADATA_STUCK`, for applying entries: a start applies all entries after the checkpoint at once.
pub const METADATA_APPLY_STUCK: Duration = Duration::from_secs(300);
/// A server ends itself if its runtime runs no timer for this long: one thread that waits for a disk that hangs can
/// stop them all. Longer than `METADATA_STUCK`, so that a stop that can say why comes first.
pub const RUNTIME_STUCK: Duration = Duration::from_secs(90);
