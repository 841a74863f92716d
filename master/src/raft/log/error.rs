//! Why a log cannot be opened, and why it stopped.
//!
//! A refusal to open changes nothing and says what to do: a log with a hole must never be voted with.

use std::io;
use std::path::PathBuf;

use super::format::VERSION;

/// The log could not be opened. Nothing was changed, except where the disk itself failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk says no.
    #[error("the raft log in {path}: {source}")]
    Io {
        /// The directory or the file.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Something that was durable is not what was written.
    #[error(
        "the raft log is damaged: {path} at byte {offset}: {damage}. Nothing was changed. This master must not go on with \
         a hole in its log: remove its directory and let it join the group again; with one master alone: \
         `barge cluster rebuild`"
    )]
    Rotten {
        path: PathBuf,
        /// The first byte that cannot be right.
        offset: u64,
        /// How it shows.
        damage: Damage,
    },
    /// Entries are missing in front of a segment.
    #[error(
        "the raft log has a hole: {path} begins with entry {found}, entry {expected} should come next. Nothing was \
         changed. This master must not go on with a hole in its log: remove its directory and let it join the group \
         again; with one master alone: `barge cluster rebuild`"
    )]
    Hole {
        /// The segment behind the hole.
        path: PathBuf,
        /// The entry that should come next.
        expected: u64,
        /// The first entry of the segment.
        found: u64,
    },
    /// The vote is gone: voting anew might elect a second leader.
    #[error(
        "the raft log in {path} has lost its `vote` file. Nothing was changed. A master that does not know whom it voted \
         for must not vote: remove its directory and let it join the group again; with one master alone: \
         `barge cluster rebuild`"
    )]
    VoteMissing { path: PathBuf },
    /// Written by another version.
    #[error(
        "{path} has format version {found}; this master reads version {VERSION}: use the version of Barge that wrote it"
    )]
    OtherVersion { path: PathBuf, found: u32 },
}

/// How damage shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A header that no crash can leave behind.
    #[error("its header is not one")]
    Header,
    /// A small file whose checksum does not match.
    #[error("its checksum does not match")]
    Checksum,
    /// A frame that does not check, with something behind it that was written after it was durable.
    #[error("a frame does not check, and later ones do")]
    Frame,
    /// A good frame in the wrong place.
    #[error("an entry is out of order")]
    Order,
    /// Whole, but not what this version writes.
    #[error("its content cannot be decoded")]
    Content,
    /// Files that cannot be there together.
    #[error("it does not belong to the files beside it")]
    Beside,
}

/// A write or a sync failed: from then on nothing is written, read or acknowledged until the log is opened again.
#[derive(Debug, thiserror::Error)]
#[error("the raft log stopped: {doing}: {source}. Mend the disk, then start the master again")]
pub(super) struct Poisoned {
    /// What was being done.
    pub(super) doing: &'static str,
    /// What the disk said.
    #[source]
    pub(super) source: io::Error,
}

/// The thread that writes is gone.
#[derive(Debug, thiserror::Error)]
#[error("the thread that writes the raft log is gone")]
pub(super) struct WriterGone;

/// A call that would make the log wrong. Nothing was done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Misuse {
    /// What is purged cannot be truncated.
    #[error("entry {index} cannot be truncated: the log is purged up to {purged}")]
    TruncatePurged { index: u64, purged: u64 },
    /// An entry of this size is no command.
    #[error("an entry of {bytes} bytes is too large for the raft log")]
    EntryTooLarge { bytes: usize },
    /// `begin_at` is for a log that never had anything.
    #[error("the raft log cannot begin elsewhere: it is not new")]
    NotNew,
}
