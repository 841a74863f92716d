//! The errors of the store, one enum per operation. Sources are kept. Errors are logged by the caller that handles
//! them, not here.

use std::fmt;
use std::io;

use shared::ids::BlobId;

use super::format::FormatError;
use super::segment::SegmentNumber;

/// Opening the store failed as a whole. A single bad segment does not cause this: it is reported.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory itself cannot be read or written.
    #[error("the segment directory: {step}")]
    Directory {
        /// What was being done.
        step: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("segment {segment}: {step}")]
    Segment {
        segment: SegmentNumber,
        /// What was being done.
        step: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Why an upload was refused or failed; nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Every append lane has an upload.
    #[error("all {lanes} append lanes of this volume are in use")]
    Busy { lanes: usize },
    /// The blob is stored here already, or being stored.
    #[error("blob {blob} is already stored or being stored on this volume")]
    Exists { blob: BlobId },
    /// The record to be replaced is not here, or is already being replaced.
    #[error("blob {blob} is no longer here, or is already being rewritten")]
    Gone { blob: BlobId },
    /// The new bytes do not match the digest of the record they were to replace: the old record stays.
    #[error("the new record of blob {blob} does not match the digest of the old one")]
    OtherBytes { blob: BlobId },
    /// The disk is full up to the reserve.
    #[error("the volume has no space: {needed} bytes needed, {available} available")]
    NoSpace {
        /// Bytes that the upload would take.
        needed: u64,
        /// Bytes available to uploads.
        available: u64,
    },
    #[error("the value has more than {limit} bytes")]
    TooLong {
        /// The declared length, or `BLOB_BYTES_MAX`.
        limit: u64,
    },
    #[error("the upload ended after {received} of {declared} bytes")]
    ShortBody { declared: u64, received: u64 },
    /// Key, content type and metadata do not fit into the header pages.
    #[error("key, content type and metadata do not fit into a record's header")]
    Metadata,
    /// A write or sync failed earlier: no upload is accepted until the store is reopened.
    #[error("the volume is read-only until it is restarted: {0}")]
    ReadOnly(ReadOnlyReason),
    /// An earlier call on this upload failed or was dropped half way.
    #[error("the upload was aborted")]
    Aborted,
    #[error("the disk failed")]
    Io(#[from] io::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("blob {blob} is not on this volume")]
    NotFound { blob: BlobId },
    /// A checksum does not match, or the record is missing.
    #[error("blob {blob} is corrupt")]
    Corrupt {
        blob: BlobId,
        #[source]
        what: Corruption,
    },
    #[error("the disk failed")]
    Io(#[from] io::Error),
}

/// The corrupt part of a record.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Corruption {
    #[error("header")]
    Header(#[source] FormatError),
    #[error("trailer")]
    Trailer(#[source] FormatError),
    /// This block of its body.
    #[error("block {0}")]
    Block(u64),
    /// The blocks are good, but the whole body does not match the digest in the trailer.
    #[error("digest")]
    Digest,
    /// The master expects it here, but recovery found no valid record.
    #[error("its record is missing")]
    Missing,
    /// The segment ends before the record does.
    #[error("past the end of the segment")]
    CutOff,
}

/// Why a delete failed; its blobs may or may not come back when the store is reopened.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// A sync of this segment's index failed before: no delete in it can be made durable.
    #[error(
        "the index of segment {segment} failed earlier: nothing is deleted there until the volume is restarted"
    )]
    Poisoned { segment: SegmentNumber },
    #[error("the disk failed")]
    Io(#[from] io::Error),
}

/// Why the store accepts no uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOnlyReason {
    pub segment: SegmentNumber,
    pub step: FailedStep,
    /// The kind of the error.
    pub kind: io::ErrorKind,
    /// The error number of the operating system, if there is one.
    pub errno: Option<i32>,
}

/// A step whose failure makes the store read-only.
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
