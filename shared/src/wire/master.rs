//! Requests to a master and its answers, to volumes, masters and clients.

use serde::{Deserialize, Serialize};

use super::cluster::{RebalanceStatus, RepairStatus};
use crate::digest::Digest;
use crate::ids::{BlobId, ClusterId, VolumeId};
use crate::key::Key;
use crate::ring::Zone;

/// A master's answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatResponse {
    /// The cluster the volume belongs to from now on.
    pub cluster: ClusterId,
    /// Base URLs of all its masters; the volume sends heartbeats to each of them.
    #[serde(default)]
    pub masters: Vec<String>,
}

/// The role of a master in its Raft group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MasterRole {
    /// Orders all commands.
    Leader,
    /// Has a vote and follows the leader.
    Follower,
    /// Catches up and has no vote yet.
    Learner,
}

/// One master of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterSummary {
    /// The master's id.
    pub master: u64,
    /// Base URL at which masters and volumes reach it.
    pub address: String,
    /// Base URL at which clients reach it.
    pub public_url: String,
    /// Its role in the Raft group.
    pub role: MasterRole,
    /// Log entries that it lacks; only the leader knows.
    pub behind: Option<u64>,
}

/// The masters, as one of them sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masters {
    /// Id of the answering master.
    pub me: u64,
    /// All masters, by id.
    pub masters: Vec<MasterSummary>,
}

impl Masters {
    /// Returns the leader, as far as the answering master knows.
    pub fn leader(&self) -> Option<&MasterSummary> {
        self.masters.iter().find(|m| m.role == MasterRole::Leader)
    }
}

/// A master's id, addresses and cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterIdentity {
    /// The master's id.
    pub master: u64,
    /// Base URL at which masters and volumes reach it.
    pub address: String,
    /// Base URL at which clients reach it.
    pub public_url: String,
    /// The cluster it belongs to; none before it has joined one.
    pub cluster: Option<ClusterId>,
}

/// The progress of a master that joins a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembershipState {
    /// It receives the log or a snapshot, and has no vote yet.
    Learner {
        /// Log entries that it lacks, if known.
        behind: Option<u64>,
    },
    /// It belongs to the cluster and has a vote.
    Voter,
}

/// Adds a master to the cluster: the one that calls, or one at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddMaster {
    /// The master with this identity.
    Known(MasterIdentity),
    /// The master that answers at this base URL.
    At(String),
}

/// Removes a master from the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveMaster {
    /// The master's id or one of its base URLs.
    pub master: String,
}

/// Makes a durable blob the current value of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRequest {
    /// The key the ticket is for.
    pub key: Key,
    /// The signed write ticket.
    pub ticket: String,
    /// Signed receipts, one per volume.
    pub receipts: Vec<String>,
    /// Content type, if the client sent one.
    pub content_type: Option<String>,
    /// User metadata headers: name in lower case, value.
    pub metadata: Vec<(String, String)>,
}

/// The outcome of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitOutcome {
    /// The key had no value before.
    Created,
    /// The key had a value, which is being reclaimed.
    Replaced,
    /// The condition did not hold; the blob is being reclaimed.
    ConditionFailed,
    /// Fewer than `min_replicas` receipts count.
    NotEnoughReceipts,
    /// A newer generation was committed first, and one of the two had a condition; the blob is being reclaimed.
    Overtaken,
}

/// The answer to a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitResponse {
    /// Whether the blob became the key's value, and if not, why.
    pub outcome: CommitOutcome,
    /// Number of replicas that counted.
    pub replicas: usize,
}

/// Asks for other replicas of a blob that the asking volume should hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaSourcesRequest {
    /// The asking volume's cluster.
    pub cluster: ClusterId,
    /// The asking volume.
    pub volume: VolumeId,
    /// Id of the blob whose bytes it needs.
    pub blob: BlobId,
}

/// What the master knows of a blob that a volume should hold: enough to rewrite its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaSourcesResponse {
    /// The key it is a version of.
    pub key: Key,
    /// Its length in bytes.
    pub length: u64,
    /// BLAKE3 of its bytes.
    pub blake3: Digest,
    /// Content type, if one was given.
    pub content_type: Option<String>,
    /// Metadata headers as the record has them: name, value.
    pub metadata: Vec<(String, String)>,
    /// URLs of live replicas, each with a ticket: never log them.
    pub sources: Vec<String>,
}

/// A blob that is corrupt on a volume, with no good replica to heal it from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorruptValue {
    /// The key; none if no object refers to the blob any longer.
    pub key: Option<Key>,
    /// The blob's id.
    pub blob: BlobId,
    /// The volume whose replica is corrupt.
    pub volume: VolumeId,
}

/// The answer to a client that stored a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredObject {
    /// The key it is stored under.
    pub key: Key,
    /// Length in bytes.
    pub size: u64,
    /// BLAKE3 of the bytes.
    pub blake3: Digest,
    /// The new generation of the key.
    pub generation: BlobId,
    /// Durable replicas now.
    pub replicas: usize,
    /// Replicas wanted; repair adds those that lack.
    pub wanted: usize,
}

/// The answer to a client that deleted a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedObject {
    /// The key whose value was deleted.
    pub key: Key,
    /// Length of the deleted value in bytes.
    pub size: u64,
    /// Generation of the deleted value.
    pub generation: BlobId,
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPage {
    /// Keys in byte order.
    pub keys: Vec<ListedKey>,
    /// With a delimiter: the common prefixes of keys up to it, in byte order.
    pub prefixes: Vec<String>,
    /// The `start` of the next page; none at the end.
    pub next: Option<String>,
}

/// One key of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedKey {
    /// The full key, with its prefix.
    pub key: Key,
    /// Length of the value in bytes.
    pub size: u64,
    /// BLAKE3 of the bytes.
    pub blake3: Digest,
    /// Id of the current version.
    pub generation: BlobId,
    /// Content type, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// When it was written, as an HTTP date.
    pub last_modified: String,
}

/// The state of a volume as a master sees it: liveness, and whether it takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeState {
    /// New, or back after a while: its inventory is being compared with the tables.
    Joining,
    /// Sent a heartbeat within `--down-after`, and takes writes.
    Up,
    /// Alive, but takes no writes.
    ReadOnly,
    /// Alive, but has no room for writes.
    Full,
    /// A call to it failed or its heartbeat is late; not used until the next heartbeat.
    Suspect,
    /// Silent for `--down-after`. After `--repair-after` its replicas no longer count.
    Down,
    /// Its replicas are being moved to other volumes.
    Draining,
    /// Drained: no object refers to it.
    Drained,
    /// Decommissioned: it has left the cluster for good.
    Decommissioned,
}

impl VolumeState {
    /// All states, in the order of a volume's life.
    pub const ALL: [Self; 9] = [
        Self::Joining,
        Self::Up,
        Self::ReadOnly,
        Self::Full,
        Self::Suspect,
        Self::Down,
        Self::Draining,
        Self::Drained,
        Self::Decommissioned,
    ];

    /// Returns the name shown in the status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Up => "up",
            Self::ReadOnly => "read-only",
            Self::Full => "full",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Decommissioned => "decommissioned",
        }
    }
}

/// One volume in the status of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeSummary {
    /// The volume's id.
    pub volume: VolumeId,
    /// Its state as this master sees it.
    pub state: VolumeState,
    /// Why it has this state, if there is more to say.
    pub reason: Option<String>,
    /// Base URL at which peers reach it.
    pub address: String,
    /// Base URL at which clients reach it.
    pub public_url: String,
    /// Its zone (failure domain), if it has one.
    pub zone: Option<Zone>,
    /// Size of its file system in bytes.
    pub capacity_bytes: u64,
    /// Bytes available for new values.
    pub available_bytes: u64,
    /// Number of blobs it holds.
    pub blobs: u64,
    /// Bytes of their records.
    pub live_bytes: u64,
    /// Milliseconds since its last heartbeat; none if there was none since this master started.
    pub silent_ms: Option<u64>,
}

/// The status of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Barge version of the answering master.
    pub version: String,
    /// Number of keys with a value.
    pub objects: u64,
    /// Bytes of their values, each counted once.
    pub bytes: u64,
    /// Replicas wanted of each value.
    pub replicas: usize,
    /// Replicas without which an upload fails.
    pub min_replicas: usize,
    /// Number of under-replicated values.
    pub under_replicated: u64,
    /// Number of entries on the reclaim list: one per blob and volume.
    pub reclaim_pending: u64,
    /// Corrupt blobs that their volume could not heal, the first of each volume.
    #[serde(default)]
    pub corrupt: Vec<CorruptValue>,
    /// Number of commands applied to the tables.
    pub applied: u64,
    /// All masters, by id.
    #[serde(default)]
    pub masters: Vec<MasterSummary>,
    /// All volumes, by id.
    pub volumes: Vec<VolumeSummary>,
    /// The repair queue and its progress; only the leader knows it.
    #[serde(default)]
    pub repair: Option<RepairStatus>,
    /// The rebalance, if one was started; only the leader knows it.
    #[serde(default)]
    pub rebalance: Option<RebalanceStatus>,
}
