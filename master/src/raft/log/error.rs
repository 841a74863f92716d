//! Errors of opening the log, and of a log that stopped.
//!
//! A refusal to open changes nothing and says what to do: a master with a hole in its log must never vote.

use std::io;
use std::path::PathBuf;

use super::format::VERSION;

/// The log could not be opened. Nothing was changed, except where the disk itself failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk returned an error.
    #[error("the raft log in {path}: {source}")]
    Io {
        /// Directory or file.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Durable bytes have changed (bit rot).
    #[error(
        "the raft log is corrupt: {path} at byte {offset}: {corruption}. Nothing was changed. This master must not \
         continue with a hole in its log: remove its directory and let it join the group again; with a single \
         master, run `barge cluster rebuild`"
    )]
    Rotten {
        path: PathBuf,
        /// The first wrong byte.
        offset: u64,
        corruption: Corruption,
    },
    /// Entries are missing in front of a segment.
    #[error(
        "the raft log has a hole: {path} begins with entry {found}, but entry {expected} should come next. Nothing \
         was changed. This master must not continue with a hole in its log: remove its directory and let it join the \
         group again; with a single master, run `barge cluster rebuild`"
    )]
    Hole {
        /// The segment after the hole.
        path: PathBuf,
        /// The entry that should come next.
        expected: u64,
        /// The first entry of the segment.
        found: u64,
    },
    /// The vote is gone: voting again could elect a second leader.
    #[error(
        "the raft log in {path} has lost its `vote` file. Nothing was changed. A master that does not know whom it \
         voted for must not vote: remove its directory and let it join the group again; with a single master, run \
         `barge cluster rebuild`"
    )]
    VoteMissing { path: PathBuf },
    #[error(
        "{path} has format version {found}; this master reads {VERSION}: use the version of Barge that wrote it"
    )]
    OtherVersion { path: PathBuf, found: u32 },
}

/// How corruption shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// A header that no crash can leave behind.
    #[error("its header is invalid")]
    Header,
    #[error("its checksum does not match")]
    Checksum,
    /// A frame whose checksum does not match, followed by one that was written after it was durable.
    #[error("the checksum of a frame does not match, but those of later frames do")]
    Frame,
    /// A valid frame in the wrong place.
    #[error("an entry is out of order")]
    Order,
    /// A matching checksum over content that this version does not write.
    #[error("its content cannot be decoded")]
    Content,
    /// Files that cannot exist together.
    #[error("it does not match the files beside it")]
    Beside,
}

/// A write or sync failed: nothing is written, read or acknowledged until the log is opened again.
#[derive(Debug, thiserror::Error)]
#[error("the raft log stopped: {doing}: {source}. Repair the disk, then restart the master")]
pub(super) struct Poisoned {
    /// The failed operation.
    pub(super) doing: &'static str,
    #[source]
    pub(super) source: io::Error,
}

#[derive(Debug, thiserror::Error)]
#[error("the writer thread of the raft log has ended")]
pub(super) struct WriterGone;

/// A call that would break the log. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Misuse {
    #[error("entry {index} cannot be truncated: the log is purged up to {purged}")]
    TruncatePurged { index: u64, purged: u64 },
    #[error("an entry of {bytes} bytes is too large for the raft log")]
    EntryTooLarge { bytes: usize },
    /// `begin_at` needs a log that was never used.
    #[error("the raft log cannot begin at another entry: it is not new")]
    NotNew,
}
