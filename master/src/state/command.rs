//! Commands (the entries of the replicated log) and their outcomes. The list of replicas changes by
//! `AddPendingReplica`, `ReplicaAdded`, `CancelPendingReplica`, `RemoveReplica` and `ReplicaLost`. An outcome depends
//! only on its command and the tables.

use serde::{Deserialize, Serialize};
use shared::access::AccessKeyId;
use shared::attributes::Attributes;
use shared::clock::Timestamp;
use shared::condition::WriteCondition;
use shared::digest::Digest;
use shared::ids::{BlobId, ClusterId, VolumeId};
use shared::key::Key;
use shared::tombstone::KeyHash;
use shared::wire::master::CommitOutcome;

use super::expiry::{ExpiryCondition, NewExpiry};
use crate::tables::access_key::AccessKey;
use crate::tables::admin_state::AdminStateRecord;
use crate::tables::bucket::{AbortRule, Bucket, CorsRule};
use crate::tables::expiry::Expiring;
use crate::tables::meta::Rebalance;
use crate::tables::object::Object;
use crate::tables::repair_queue::BlobRef;
use crate::tables::replication_mode::ReplicationMode;
use crate::tables::upload::{PartRecord, UploadRecord};
use crate::tables::volume::VolumeRecord;

/// A change to the metadata.
///
/// The replicated log holds commands in postcard: keep the order of variants and fields, and append new ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Makes a blob the current value of its key.
    Commit(Commit),
    /// Deletes a key.
    Delete {
        key: Key,
        /// Precondition on its current value.
        condition: WriteCondition,
    },
    /// Stores the record of a volume that is new or has changed.
    Volume(VolumeRecord),
    /// Records that a volume has durably deleted blobs.
    Reclaimed {
        volume: VolumeId,
        blobs: Vec<BlobId>,
        /// When, by the proposing master's clock.
        at: Timestamp,
    },
    /// Removes replica tombstones for which no commit can arrive any longer.
    PurgeReplicaTombstones {
        tombstones: Vec<(VolumeId, BlobId)>,
    },
    /// Puts orphans on the reclaim list: nothing references them, and their tickets and receipts have expired.
    ReclaimOrphans {
        volume: VolumeId,
        /// Blobs with their lengths.
        blobs: Vec<(BlobId, u64)>,
    },
    /// Creates the cluster; only the first of these has an effect.
    CreateCluster(ClusterId),
    /// Removes key tombstones for which no commit can arrive any longer, each with its generation.
    PurgeKeyTombstones {
        keys: Vec<(KeyHash, BlobId)>,
    },
    /// Like `Commit`, with the attributes of S3.
    CommitS3(Box<S3Commit>),
    /// Begins a multipart upload.
    CreateMultipartUpload {
        key: Key,
        id: BlobId,
        upload: UploadRecord,
    },
    /// Adds a durable part to an upload, or replaces the part with its number.
    PutPart {
        key: Key,
        upload: BlobId,
        /// The part, and the volumes with valid receipts.
        part: PartRecord,
        /// Replicas without which it fails.
        min_replicas: u8,
    },
    /// Completes a multipart upload.
    CompleteMultipartUpload {
        upload: BlobId,
        /// Numbers of the parts, in order. The digest of their manifest must then equal the commit's.
        numbers: Vec<u16>,
        store: Box<S3Commit>,
    },
    /// Aborts a multipart upload.
    AbortMultipartUpload {
        key: Key,
        upload: BlobId,
    },
    /// Removes some of the parts of unreferenced uploads from the tables.
    RemoveUnreferencedParts {
        uploads: Vec<BlobId>,
    },
    /// Changes the tags of an object.
    Tag {
        key: Key,
        /// Its generation when it was read.
        generation: BlobId,
        /// The new tags.
        tags: Vec<(String, String)>,
    },
    CreateBucket {
        name: String,
        bucket: Bucket,
    },
    /// Replaces one setting of a bucket.
    SetBucket {
        name: String,
        setting: BucketSetting,
    },
    /// Deletes a bucket without values.
    DeleteBucket {
        name: String,
    },
    /// Creates an access key, or replaces the one with that id.
    PutAccessKey {
        id: AccessKeyId,
        key: Box<AccessKey>,
    },
    RevokeAccessKey {
        id: AccessKeyId,
    },
    /// Records pending replicas, before a volume is asked to fetch them.
    AddPendingReplica {
        volume: VolumeId,
        /// Blobs, and what references them.
        blobs: Vec<(BlobId, BlobRef)>,
    },
    /// Lists replicas that a volume has added, as proved by its receipts.
    ReplicaAdded {
        volume: VolumeId,
        /// Blobs with their lengths, and what references them.
        blobs: Vec<(BlobId, u64, BlobRef)>,
    },
    /// Cancels pending replicas that are no longer needed.
    CancelPendingReplica {
        volume: VolumeId,
        /// Blobs with their lengths.
        blobs: Vec<(BlobId, u64)>,
    },
    /// Removes an excess replica.
    RemoveReplica(RemoveReplica),
    /// Unlists replicas that a volume lacks.
    ReplicaLost {
        volume: VolumeId,
        /// Blobs, and what references them.
        blobs: Vec<(BlobId, BlobRef)>,
    },
    /// Recomputes which volumes hold all of a multipart object.
    RecomputeFullReplicas {
        key: Key,
        upload: BlobId,
    },
    /// Sets the admin state of a volume.
    SetAdminState {
        volume: VolumeId,
        admin_state: AdminStateRecord,
    },
    /// Begins, pauses or ends a rebalance.
    SetRebalance(Option<Rebalance>),
    /// Sets the replication mode of a bucket.
    SetReplicationMode {
        /// Its name; it need not exist yet.
        bucket: String,
        /// `None` for the cluster's default.
        mode: Option<ReplicationMode>,
    },
    /// Fills the repair queue of tables of an older version, or rebuilt ones.
    EnqueueRepair {
        /// Blobs, and what references them.
        blobs: Vec<(BlobId, BlobRef)>,
        /// Whether the queue is complete after this.
        last: bool,
    },
    /// A change of access keys or of bucket settings, with its sequence number.
    InSequence {
        /// Number of changes before it.
        sequence: u64,
        /// Applied only if `sequence` matches.
        change: Box<Command>,
    },
    /// Like `Commit`, of a value that may expire.
    CommitExpiring {
        commit: Box<Commit>,
        expiry: NewExpiry,
    },
    /// Sets or removes the expiry of a key.
    SetExpiry {
        key: Key,
        /// When it expires from now on; `None`: it does not.
        at: Option<Timestamp>,
        condition: ExpiryCondition,
        /// Only while this is its generation.
        generation: Option<BlobId>,
    },
    /// Advances the group's time, by which values expire.
    AdvanceTime {
        to: Timestamp,
    },
    /// Removes objects that have expired.
    RemoveExpired {
        objects: Vec<Expiring>,
    },
}

/// Removes a replica. The only command that removes a good replica of a live blob, so it names those that stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveReplica {
    /// The volume it is removed from.
    pub volume: VolumeId,
    pub blob: BlobId,
    /// What references the blob.
    pub blob_ref: BlobRef,
    /// Volumes whose good replicas have just been verified, as many as wanted.
    pub keep: Vec<VolumeId>,
}

/// A commit by an S3 client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Commit {
    pub commit: Commit,
    pub attributes: Attributes,
}

/// A setting of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BucketSetting {
    /// Whether its values can be read without an access key.
    PublicRead(bool),
    Cors(Vec<CorsRule>),
    /// Names and values.
    Tags(Vec<(String, String)>),
    /// When unfinished multipart uploads expire.
    AbortUploads(Vec<AbortRule>),
}

impl Command {
    /// Returns approximately how many bytes it takes in the log.
    pub fn weight(&self) -> usize {
        const FIXED: usize = 256;
        const PLACE: usize = 34;
        FIXED
            + match self {
                Self::Commit(commit) => commit.weight(),
                Self::Delete { key, .. } => key.as_str().len(),
                Self::Reclaimed { blobs, .. } => blobs.len() * PLACE,
                Self::PurgeReplicaTombstones { tombstones } => tombstones.len() * PLACE,
                Self::ReclaimOrphans { blobs, .. } => blobs.len() * PLACE,
                Self::PurgeKeyTombstones { keys } => keys.len() * PLACE,
                Self::CommitS3(store) => store.weight(),
                Self::CompleteMultipartUpload { numbers, store, .. } => store.weight() + numbers.len() * 3,
                Self::CreateMultipartUpload { upload, .. } => pairs(&upload.metadata) + pairs(&upload.tags),
                Self::Tag { tags, .. } => pairs(tags),
                Self::SetBucket { setting, .. } => setting.weight(),
                Self::RemoveUnreferencedParts { uploads } => uploads.len() * PLACE,
                Self::PutPart { .. } | Self::AbortMultipartUpload { .. } | Self::CreateBucket { .. } => 0,
                Self::DeleteBucket { .. } | Self::Volume(_) | Self::CreateCluster(_) => 0,
                Self::PutAccessKey { key, .. } => key.weight(),
                Self::AddPendingReplica { blobs, .. }
                | Self::ReplicaLost { blobs, .. }
                | Self::EnqueueRepair { blobs, .. } => {
                    blobs.iter().map(|(_, blob_ref)| PLACE + blob_ref.key.as_str().len()).sum()
                }
                Self::ReplicaAdded { blobs, .. } => {
                    blobs.iter().map(|(_, _, blob_ref)| PLACE + blob_ref.key.as_str().len()).sum()
                }
                Self::CancelPendingReplica { blobs, .. } => blobs.len() * PLACE,
                Self::RemoveReplica(drop) => drop.blob_ref.key.as_str().len() + drop.keep.len() * PLACE,
                Self::RecomputeFullReplicas { key, .. } => key.as_str().len(),
                Self::RevokeAccessKey { .. } | Self::SetAdminState { .. } | Self::SetRebalance(_) => 0,
                Self::SetReplicationMode { .. } => 0,
                Self::InSequence { change, .. } => change.weight(),
                Self::CommitExpiring { commit, .. } => commit.weight(),
                Self::SetExpiry { key, .. } => key.as_str().len(),
                Self::AdvanceTime { .. } => 0,
                Self::RemoveExpired { objects } => {
                    objects.iter().map(|expiring| PLACE + expiring.key.as_str().len()).sum()
                }
            }
    }
}

/// Returns the bytes of names and values.
fn pairs(pairs: &[(String, String)]) -> usize {
    pairs.iter().map(|(n, v)| n.len() + v.len() + 4).sum()
}

impl Commit {
    fn weight(&self) -> usize {
        self.key.as_str().len() + pairs(&self.metadata)
    }
}

impl S3Commit {
    fn weight(&self) -> usize {
        self.commit.weight() + pairs(&self.attributes.tags)
    }
}

impl BucketSetting {
    /// Returns approximately how many bytes it takes in the log and the tables.
    pub fn weight(&self) -> usize {
        let lengths = |texts: &[String]| texts.iter().map(|t| t.len() + 2).sum::<usize>();
        match self {
            Self::PublicRead(_) => 0,
            Self::Tags(tags) => pairs(tags),
            Self::AbortUploads(rules) => {
                let id = |r: &AbortRule| r.id.as_ref().map_or(0, String::len);
                rules.iter().map(|r| r.prefix.len() + id(r) + 64).sum()
            }
            Self::Cors(rules) => {
                let of = |r: &CorsRule| [&r.origins, &r.methods, &r.headers, &r.exposed].map(|t| lengths(t));
                rules.iter().flat_map(of).sum()
            }
        }
    }
}

/// A commit, with everything that the receipts and the client state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    pub key: Key,
    /// The blob, which becomes its generation.
    pub blob: BlobId,
    /// Its length in bytes.
    pub size: u64,
    /// BLAKE3 of its bytes.
    pub digest: Digest,
    pub content_type: Option<String>,
    pub metadata: Vec<(String, String)>,
    /// The volumes with valid receipts.
    pub replicas: Vec<VolumeId>,
    pub wanted: u8,
    /// Replicas without which it fails.
    pub min_replicas: u8,
    /// Precondition on the key's current value.
    pub condition: WriteCondition,
}

/// The outcome of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Of a commit: its outcome, and how many replicas count.
    Commit(CommitOutcome, usize),
    /// Of a delete: the deleted object.
    Deleted(Box<Object>),
    /// The object, replica or access key does not exist.
    NotFound,
    /// Of a delete: the condition did not hold.
    ConditionFailed,
    /// Of any command: a record that it depends on is corrupt; nothing was changed.
    Corrupt,
    Done,
    /// The bucket does not exist.
    NoBucket,
    /// The bucket already exists.
    BucketExists,
    /// The bucket has values.
    BucketNotEmpty,
    /// The upload does not exist: it was completed, aborted, or never begun.
    NoUpload,
    /// Of a completion: it was done before, and its object is still the current one.
    CompletedBefore(Box<Object>),
    /// Of a completion: the parts no longer match the manifest.
    PartsChanged,
    /// Refused: it would leave too few replicas, or objects still refer to the volume, or nobody
    /// requested its decommissioning.
    LastReplicas,
    /// Of a change in sequence: another one came first; nothing was changed.
    Outdated,
    /// Of a part: too few of its replicas count; nothing was stored.
    NotEnoughReceipts,
}
