//! What can go wrong, one enum per operation. Sources are kept; nothing here is logged (the
//! caller that handles an error logs it) and nothing here knows of HTTP.

use std::fmt;
use std::io;

use shared::ids::BlobId;

use super::format::FormatError;
use super::segment::SegmentNumber;

/// Opening the store failed as a whole. A single bad segment never does this: it is reported.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory itself cannot be worked with.
    #[error("the segment directory: {step}")]
    Directory {
        /// What was being done.
        step: &'static str,
        #[source]
        source: io::Error,
    },
    /// A segment or its index could not be read or written.
    #[error("segment {segment}: {step}")]
    Segment {
        segment: SegmentNumber,
        /// What was being done.
        step: &'static str,
        #[source]
        source: io::Error,
    },
}

/// An upload was refused or failed; nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Every lane has an upload.
    #[error("all {lanes} lanes are busy")]
    Busy {
        /// How many there are.
        lanes: usize,
    },
    /// This blob is stored here already, or being stored.
    #[error("blob {blob} exists")]
    Exists { blob: BlobId },
    /// The record that was to be replaced is not here (any more), or is being replaced already.
    #[error("blob {blob} is not here any more, or is being rewritten")]
    Gone { blob: BlobId },
    /// The bytes that were to replace a record do not have its digest: the old record stays.
    #[error("the new record of blob {blob} does not hold the bytes of the old one")]
    OtherBytes { blob: BlobId },
    /// The disk has no room for it above the reserve.
    #[error("{needed} bytes needed, {available} available")]
    NoSpace {
        /// Bytes the upload would take.
        needed: u64,
        /// Bytes that may be given to uploads.
        available: u64,
    },
    /// More bytes than declared, or than any blob may have.
    #[error("more than {limit} bytes")]
    TooLong {
        /// What was declared, or the largest blob.
        limit: u64,
    },
    /// The upload ended before its declared length.
    #[error("{received} of {declared} bytes came")]
    ShortBody { declared: u64, received: u64 },
    /// Key, content type and metadata do not fit the header pages.
    #[error("the metadata does not fit a record's header")]
    Metadata,
    /// A write or sync failed earlier: nothing is accepted until the store is opened again.
    #[error("read-only: {0}")]
    ReadOnly(ReadOnlyReason),
    /// An earlier call on this upload failed or was given up half way.
    #[error("the upload was aborted")]
    Aborted,
    #[error("the disk failed")]
    Io(#[from] io::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such blob here.
    #[error("blob {blob} is not here")]
    NotFound { blob: BlobId },
    /// The bytes on disk are not those that were written.
    #[error("blob {blob} is damaged")]
    Damaged {
        blob: BlobId,
        #[source]
        what: Damage,
    },
    #[error("the disk failed")]
    Io(#[from] io::Error),
}

/// Where a record is damaged.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Damage {
    #[error("header")]
    Header(#[source] FormatError),
    #[error("trailer")]
    Trailer(#[source] FormatError),
    /// This block of its body.
    #[error("block {0}")]
    Block(u64),
    /// The whole body does not have the digest in its trailer.
    #[error("digest")]
    Digest,
    /// The master expects it here, and it is not: recovery could not make sense of what stands in its place.
    #[error("its record is not here any more")]
    Missing,
    /// The segment ends before the record does.
    #[error("past the end of the segment")]
    CutOff,
}

/// A delete failed; the blobs it names may or may not come back when the store is opened again.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The index of this segment failed before: no delete in it can be made durable.
    #[error("the index of segment {segment} failed earlier")]
    Poisoned { segment: SegmentNumber },
    #[error("the disk failed")]
    Io(#[from] io::Error),
}

/// Why the store takes no more uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOnlyReason {
    /// Where it happened.
    pub segment: SegmentNumber,
    pub step: FailedStep,
    /// With which error.
    pub kind: io::ErrorKind,
    /// And which number of the operating system, if it gave one.
    pub errno: Option<i32>,
}

/// A step after whose failure nothing more may be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedStep {
    /// Creating a segment.
    Create,
    /// Writing to a segment.
    Write,
    /// Making a segment's bytes durable.
    Sync,
    /// Cutting an aborted upload off.
    Truncate,
    /// Writing or syncing an index.
    Index,
    /// Making a directory entry durable.
    Directory,
}

impl ReadOnlyReason {
    pub(super) fn new(segment: SegmentNumber, step: FailedStep, error: &io::Error) -> Self {
        Self { segment, step, kind: error.kind(), errno: error.raw_os_error() }
    }
}

impl fmt::Display for ReadOnlyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            FailedStep::Create => "creating",
            FailedStep::Write => "writing to",
            FailedStep::Sync => "syncing",
            FailedStep::Truncate => "truncating",
            FailedStep::Index => "writing the index of",
            FailedStep::Directory => "syncing the directory entry of",
        };
        write!(f, "{step} segment {} failed: {}", self.segment, self.kind)?;
        self.errno.map_or(Ok(()), |n| write!(f, " (os error {n})"))
    }
}

/// Whether an error means that the disk is full rather than broken.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether an error is one of this process's limits, and says nothing about the disk.
pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}
