//! Limits of the checks of the metadata: what masters compare, and how often.

use std::time::Duration;

/// All masters end a batch at each entry of the log whose index is a multiple of this, so that their tables can be
/// compared: often enough that a busy cluster passes one each second or so, seldom enough that batches stay large.
pub const CONTENT_PLACE_ENTRIES: u64 = 1024;
/// The digests of the tables at so many such places are kept: a follower may be some thousand entries behind.
pub const CONTENT_PLACES: usize = 32;
/// Masters compare their tables so often.
pub const CONTENT_COMPARE_EVERY: Duration = Duration::from_secs(60);
/// A master reads all of its tables so often, to see whether they hold what was written.
pub const CONTENT_PROVE_EVERY: Duration = Duration::from_secs(6 * 3600);
/// And rests so many times as long as it reads: a tenth of one core.
pub const CONTENT_CHECK_SHARE: u32 = 9;
/// A master that stops because its metadata is damaged starts again at once, with that of another master, but no more often
/// than this: what happens again so soon is not damage.
pub const HEAL_AGAIN_AFTER: Duration = Duration::from_secs(60);
