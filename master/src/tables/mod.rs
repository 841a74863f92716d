//! What is in sled: one tree, one file of code for each kind of record, a prefix byte for each kind.
//!
//! One tree, because then one batch over all kinds is one atomic write. Every value carries a
//! version and a CRC32C of kind, key and bytes, so that a torn page, a swapped value or rot is an
//! error that is seen, never a wrong answer.

pub mod access_key;
mod batch;
pub mod bucket;
pub mod content;
pub mod listed;
pub mod meta;
pub mod mode;
pub mod object;
pub mod peer;
pub mod reclaim;
pub mod replica;
pub mod standing;
pub mod tombstone;
pub mod unsettled;
pub mod upload;
pub mod volume;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::crc32c::Crc32c;

pub use self::batch::{Read, Tables, Written, batch, scan};

/// The first byte of every sled key: which kind of record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Counters and identity of the cluster, by name.
    Meta = b'm',
    /// Objects, by key.
    Object = b'o',
    /// Keys whose value was written under a condition: its generation, by key.
    Conditional = b'c',
    /// Blobs by volume: which key each belongs to.
    Replica = b'b',
    /// Blobs on volumes that wait to be reclaimed.
    Reclaim = b'r',
    /// Blobs that were reclaimed a moment ago.
    Grave = b'g',
    /// Volumes, by id.
    Volume = b'v',
    /// What volumes are to be told of blobs that wait to be reclaimed.
    Tombstone = b't',
    /// Keys that were deleted not long ago.
    Deleted = b'd',
    /// Buckets, by name.
    Bucket = b'n',
    /// Uploads in parts, by key.
    Upload = b'u',
    /// Parts, by upload.
    Part = b'p',
    /// Uploads whose parts are to go.
    Condemned = b'x',
    /// Access keys, by id.
    AccessKey = b'k',
    /// What is to become of volumes, by id.
    Standing = b's',
    /// Blobs with too few or too many copies, by id.
    Unsettled = b'w',
    /// Copies on their way, by blob and volume.
    Arriving = b'a',
    /// When uploads of buckets are acknowledged, by name.
    Mode = b'y',
    /// Values in parts whose parts are elsewhere now, by upload.
    Unweighed = b'z',
}

impl Kind {
    /// The kind that has this first byte.
    fn of(first: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == first)
    }

    const ALL: [Self; 19] = [
        Self::Meta,
        Self::Object,
        Self::Conditional,
        Self::Replica,
        Self::Reclaim,
        Self::Grave,
        Self::Volume,
        Self::Tombstone,
        Self::Deleted,
        Self::Bucket,
        Self::Upload,
        Self::Part,
        Self::Condemned,
        Self::AccessKey,
        Self::Standing,
        Self::Unsettled,
        Self::Arriving,
        Self::Mode,
        Self::Unweighed,
    ];
}

/// The metadata could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A bug, or an error of the disk that sled does not return.
    #[error("the metadata store panicked")]
    Panicked,
    /// It does not come back from a write.
    #[error("the metadata store hangs")]
    Stuck,
    /// It has failed, as was said before.
    #[error("{0}")]
    Failed(String),
    /// sled says no.
    #[error("the metadata store failed: {0}")]
    Sled(#[from] sled::Error),
    /// A value is not what was written.
    #[error("a {kind:?} record is damaged ({bytes} bytes); the values on the volumes are not affected")]
    Damaged {
        kind: Kind,
        /// How long the damaged value is.
        bytes: usize,
    },
    /// Every record is one that was written, and some are not the newest, or are missing.
    #[error(
        "the metadata is damaged: the digest of its records is not that of what was written last; in: {0}. The values on \
         the volumes are not affected"
    )]
    Differs(String),
}

impl TableError {
    /// Whether the tables are to be made again, from other masters or from the volumes.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Differs(_) | Self::Panicked => true,
            Self::Sled(error) => {
                matches!(error, sled::Error::Corruption { .. } | sled::Error::ReportableBug(_))
            }
            Self::Stuck | Self::Failed(_) => false,
        }
    }
}

/// sled panics on some errors of the disk, and on some damage; that is a failure like any other.
///
/// # Errors
/// Those of `work`; `Panicked`.
pub fn caught<T, E: From<TableError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(TableError::Panicked.into()))
}

const VERSION: u8 = 1;
const PREFIX_BYTES: usize = 5;

fn crc(kind: Kind, key: &[u8], body: &[u8]) -> [u8; 4] {
    let mut crc = Crc32c::default();
    for part in [&[kind as u8][..], key, body] {
        crc.update(&(part.len() as u64).to_le_bytes());
        crc.update(part);
    }
    crc.finish().to_le_bytes()
}

/// `version (1) · CRC32C (4, little endian) · postcard`.
pub fn encode<T: Serialize>(kind: Kind, key: &[u8], value: &T) -> Vec<u8> {
    let body = postcard::to_stdvec(value).expect("records hold nothing postcard refuses");
    [&[VERSION][..], &crc(kind, key, &body), &body].concat()
}

/// What `encode` wrote.
///
/// # Errors
/// When it is anything else.
pub fn decode<T: DeserializeOwned>(kind: Kind, key: &[u8], bytes: &[u8]) -> Result<T, TableError> {
    let damaged = TableError::Damaged { kind, bytes: bytes.len() };
    postcard::from_bytes(body(kind, key, bytes)?).map_err(|_| damaged)
}

/// Sees whether a record as sled has it is one that `encode` wrote.
///
/// # Errors
/// When it is not. A record of no kind of ours is somebody else's business.
pub fn check(path: &[u8], bytes: &[u8]) -> Result<(), TableError> {
    let Some((first, key)) = path.split_first() else { return Ok(()) };
    let Some(kind) = Kind::of(*first) else { return Ok(()) };
    body(kind, key, bytes).map(|_| ())
}

/// What stands behind the checksum of a record, which is right.
fn body<'b>(kind: Kind, key: &[u8], bytes: &'b [u8]) -> Result<&'b [u8], TableError> {
    let damaged = TableError::Damaged { kind, bytes: bytes.len() };
    if bytes.len() < PREFIX_BYTES || bytes[0] != VERSION {
        return Err(damaged);
    }
    let (sum, body) = (&bytes[1..PREFIX_BYTES], &bytes[PREFIX_BYTES..]);
    if sum == crc(kind, key, body) { Ok(body) } else { Err(damaged) }
}

fn path(kind: Kind, key: &[u8]) -> Vec<u8> {
    [&[kind as u8][..], key].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_changed_byte_is_seen(text in ".{0,60}", at: prop::sample::Index, flip in 1u8..) {
            let mut bytes = encode(Kind::Object, b"key", &text);
            prop_assert_eq!(decode::<String>(Kind::Object, b"key", &bytes).ok(), Some(text));
            prop_assert!(decode::<String>(Kind::Object, b"kez", &bytes).is_err());
            prop_assert!(decode::<String>(Kind::Reclaim, b"key", &bytes).is_err());
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(decode::<String>(Kind::Object, b"key", &bytes).is_err());
        }
    }
}
