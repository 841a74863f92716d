//! Commands and their outcomes. A command holds everything that its outcome depends on, besides the tables.

use serde::{Deserialize, Serialize};
use shared::access::AccessKeyId;
use shared::clock::Timestamp;
use shared::condition::WriteCondition;
use shared::digest::Digest;
use shared::ids::{BlobId, ClusterId, VolumeId};
use shared::key::Key;
use shared::tombstone::KeyHash;
use shared::wire::master::CommitOutcome;

use crate::tables::access_key::AccessKey;
use crate::tables::object::Object;
use crate::tables::volume::VolumeRecord;

/// A change to the metadata.
///
/// It is what the replicated log holds, in postcard: variants and fields keep their places, new ones come at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Makes a blob the current value of its key.
    Commit(Commit),
    /// Removes a key.
    Delete {
        /// Which.
        key: Key,
        /// What must hold of its value.
        condition: WriteCondition,
    },
    /// A volume joined, or says something new of itself.
    Volume(VolumeRecord),
    /// A volume has durably deleted blobs.
    Reclaimed {
        /// Which volume.
        volume: VolumeId,
        /// Which blobs.
        blobs: Vec<BlobId>,
        /// When, by the proposing master's clock.
        at: Timestamp,
    },
    /// Graves that no commit can come for any more.
    Purge {
        /// Which.
        graves: Vec<(VolumeId, BlobId)>,
    },
    /// A volume holds blobs that no object refers to, and whose tickets and receipts have long expired.
    Orphaned {
        /// Which volume.
        volume: VolumeId,
        /// Which blobs, with their lengths.
        blobs: Vec<(BlobId, u64)>,
    },
    /// A new cluster begins; the first of these counts.
    Founded(ClusterId),
    /// Deleted keys that no upload can come for any more, each with the generation that was deleted.
    Forget {
        /// Which.
        keys: Vec<(KeyHash, BlobId)>,
    },
    /// An access key is made; another one of that id is replaced.
    PutAccessKey {
        /// Which.
        id: AccessKeyId,
        /// What it is.
        key: Box<AccessKey>,
    },
    /// An access key is good no more.
    RevokeAccessKey {
        /// Which.
        id: AccessKeyId,
    },
}

impl Command {
    /// Bytes it takes in the log, about and at least.
    pub fn weight(&self) -> usize {
        const FIXED: usize = 256;
        const PLACE: usize = 34;
        FIXED
            + match self {
                Self::Commit(commit) => {
                    let metadata: usize = commit.metadata.iter().map(|(n, v)| n.len() + v.len() + 4).sum();
                    commit.key.as_str().len() + metadata
                }
                Self::Delete { key, .. } => key.as_str().len(),
                Self::Reclaimed { blobs, .. } => blobs.len() * PLACE,
                Self::Purge { graves } => graves.len() * PLACE,
                Self::Orphaned { blobs, .. } => blobs.len() * PLACE,
                Self::Forget { keys } => keys.len() * PLACE,
                Self::Volume(_) | Self::Founded(_) => 0,
                Self::PutAccessKey { key, .. } => key.weight(),
                Self::RevokeAccessKey { .. } => 0,
            }
    }
}

/// What is committed: everything the receipts and the client said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The key.
    pub key: Key,
    /// The blob, which becomes its generation.
    pub blob: BlobId,
    /// Its length in bytes.
    pub size: u64,
    /// BLAKE3 of its bytes.
    pub digest: Digest,
    /// Content type, where one was given.
    pub content_type: Option<String>,
    /// User metadata.
    pub metadata: Vec<(String, String)>,
    /// The volumes whose receipts were good.
    pub replicas: Vec<VolumeId>,
    /// Copies wanted.
    pub wanted: u8,
    /// Copies without which it fails.
    pub min_replicas: u8,
    /// What must hold of the key's present value.
    pub condition: WriteCondition,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Of a commit: what, and how many replicas counted.
    Commit(CommitOutcome, usize),
    /// Of a delete: what was there.
    Deleted(Box<Object>),
    /// Of a delete, or of a revocation: nothing was there.
    NotFound,
    /// Of a delete: the condition did not hold.
    ConditionFailed,
    /// Of any: a record it depends on is damaged; nothing was changed.
    Damaged,
    /// Of the others.
    Done,
}
