//! The tables in sled: one tree, with a prefix byte and a source file for each kind of record.
//!
//! A single tree makes a batch over all kinds one atomic write. Every value carries a version and a CRC32C of kind,
//! key and bytes, so that a torn page, a swapped value or bit rot is a detected error, never a wrong answer.

pub mod access_key;
pub mod admin_state;
mod batch;
pub mod bucket;
pub mod content;
pub mod expiry;
pub mod meta;
pub mod object;
pub mod peer;
pub mod reclaim;
pub mod repair_queue;
pub mod replica;
pub mod replica_list;
pub mod replication_mode;
pub mod tombstone;
pub mod upload;
pub mod volume;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::crc32c::Crc32c;

pub use self::batch::{Read, Tables, Written, batch, scan};

/// The kind of a record: the first byte of its sled key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Counters and identity of the cluster, by name.
    Meta = b'm',
    /// Objects, by key.
    Object = b'o',
    /// Keys whose value was written with a condition: its generation, by key.
    Conditional = b'c',
    /// Replicas, by volume and blob: the key each belongs to.
    Replica = b'b',
    /// The reclaim list, by volume and blob.
    Reclaim = b'r',
    /// Replicas that were reclaimed recently, by volume and blob.
    ReplicaTombstone = b'g',
    /// Volumes, by id.
    Volume = b'v',
    /// Tombstones to be sent with entries of the reclaim list, by volume and blob.
    OutgoingTombstone = b't',
    /// Keys that were deleted recently, by their hash.
    KeyTombstone = b'd',
    /// Buckets, by name.
    Bucket = b'n',
    /// Multipart uploads, by key and id.
    Upload = b'u',
    /// Parts, by upload and number.
    Part = b'p',
    /// Uploads whose parts are to be removed, by id.
    UnreferencedParts = b'x',
    /// Access keys, by id.
    AccessKey = b'k',
    /// Admin states of volumes, by id.
    AdminState = b's',
    /// The repair queue, by blob.
    RepairQueue = b'w',
    /// Pending replicas, by blob and volume.
    PendingReplica = b'a',
    /// Replication modes of buckets, by name.
    ReplicationMode = b'y',
    /// Multipart objects whose list of full replicas is stale, by upload.
    StaleFullReplicas = b'z',
    /// Objects that expire, by time and generation.
    Expiry = b'e',
}

impl Kind {
    fn of(first: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == first)
    }

    const ALL: [Self; 20] = [
        Self::Meta,
        Self::Object,
        Self::Conditional,
        Self::Replica,
        Self::Reclaim,
        Self::ReplicaTombstone,
        Self::Volume,
        Self::OutgoingTombstone,
        Self::KeyTombstone,
        Self::Bucket,
        Self::Upload,
        Self::Part,
        Self::UnreferencedParts,
        Self::AccessKey,
        Self::AdminState,
        Self::RepairQueue,
        Self::PendingReplica,
        Self::ReplicationMode,
        Self::StaleFullReplicas,
        Self::Expiry,
    ];
}

/// The metadata could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A bug, or a disk error on which sled panics.
    #[error("the metadata store panicked")]
    Panicked,
    /// A write does not return.
    #[error("the metadata store hangs in a write")]
    Stuck,
    /// It has failed before, with this error.
    #[error("{reason}")]
    Failed { reason: String },
    /// sled returned an error.
    #[error("the metadata store failed: {0}")]
    Sled(#[from] sled::Error),
    /// The checksum of a record does not match, or it cannot be decoded.
    #[error("a {kind:?} record is corrupt ({bytes} bytes); the values on the volumes are not affected")]
    Corrupt {
        kind: Kind,
        /// Length of the corrupt value.
        bytes: usize,
    },
    /// The checksums match, but some records are stale or missing.
    #[error(
        "the metadata is corrupt: the digest of its records does not match what was written last, in: {kinds}. The \
         values on the volumes are not affected"
    )]
    Differs { kinds: String },
}

impl TableError {
    /// Whether the tables must be recovered from other masters or rebuilt from the volumes.
    pub fn is_corruption(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::Differs { kinds: _ } | Self::Panicked => true,
            Self::Sled(error) => {
                matches!(error, sled::Error::Corruption { .. } | sled::Error::ReportableBug(_))
            }
            Self::Stuck | Self::Failed { reason: _ } => false,
        }
    }
}

/// Runs `work` and turns a panic into an error: sled panics on some disk errors and some kinds of corruption.
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

/// Encodes a record as `version (1) · CRC32C (4, little endian) · postcard`.
pub fn encode<T: Serialize>(kind: Kind, key: &[u8], value: &T) -> Vec<u8> {
    let body = postcard::to_stdvec(value).expect("records hold nothing postcard refuses");
    [&[VERSION][..], &crc(kind, key, &body), &body].concat()
}

/// Decodes a record.
///
/// # Errors
/// `Corrupt` if it is not one that `encode` wrote for this kind and key.
pub fn decode<T: DeserializeOwned>(kind: Kind, key: &[u8], bytes: &[u8]) -> Result<T, TableError> {
    let corrupt = TableError::Corrupt { kind, bytes: bytes.len() };
    postcard::from_bytes(body(kind, key, bytes)?).map_err(|_| corrupt)
}

/// Verifies version and checksum of a record in sled. Ignores records of unknown kinds.
///
/// # Errors
/// `Corrupt` if they do not match.
pub fn check(path: &[u8], bytes: &[u8]) -> Result<(), TableError> {
    let Some((first, key)) = path.split_first() else { return Ok(()) };
    let Some(kind) = Kind::of(*first) else { return Ok(()) };
    body(kind, key, bytes).map(|_| ())
}

/// Verifies version and checksum of a record; returns its postcard bytes.
fn body<'b>(kind: Kind, key: &[u8], bytes: &'b [u8]) -> Result<&'b [u8], TableError> {
    let corrupt = TableError::Corrupt { kind, bytes: bytes.len() };
    if bytes.len() < PREFIX_BYTES || bytes[0] != VERSION {
        return Err(corrupt);
    }
    let (sum, body) = (&bytes[1..PREFIX_BYTES], &bytes[PREFIX_BYTES..]);
    if sum == crc(kind, key, body) { Ok(body) } else { Err(corrupt) }
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
