//! Messages a master takes, and what it answers: to volumes and to clients.

use serde::{Deserialize, Serialize};

use super::cluster::{RebalanceStatus, RepairStatus};
use crate::digest::Digest;
use crate::ids::{BlobId, ClusterId, VolumeId};
use crate::key::Key;
use crate::ring::Zone;

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatResponse {
    /// The cluster the volume belongs to from now on.
    pub cluster: ClusterId,
    /// Where all its masters are, as base URLs: a volume tells each of them that it lives.
    #[serde(default)]
    pub masters: Vec<String>,
}

/// What a master is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MasterRole {
    /// Decides the order of all changes.
    Leader,
    /// Has a vote.
    Follower,
    /// Catches up; has no vote yet.
    Learner,
}

/// One master of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterSummary {
    /// Which.
    pub master: u64,
    /// Where masters and volumes reach it.
    pub address: String,
    /// Where clients reach it.
    pub public_url: String,
    /// What it is.
    pub role: MasterRole,
    /// Entries of the log that it lacks; only the leader knows.
    pub behind: Option<u64>,
}

/// The masters, as one of them sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masters {
    /// Who answers.
    pub me: u64,
    /// The masters, by id.
    pub masters: Vec<MasterSummary>,
}

impl Masters {
    /// Who leads, as far as the answering master knows.
    pub fn leader(&self) -> Option<&MasterSummary> {
        self.masters.iter().find(|m| m.role == MasterRole::Leader)
    }
}

/// Who a master is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterSelf {
    /// Its id.
    pub master: u64,
    /// Where masters and volumes reach it.
    pub address: String,
    /// Where clients reach it.
    pub public_url: String,
    /// The cluster it belongs to; none while it waits.
    pub cluster: Option<ClusterId>,
}

/// How far a master has come on its way into a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It gets the log, or a snapshot, and has no vote yet.
    Learner {
        /// Entries that it lacks, as far as that is known.
        behind: Option<u64>,
    },
    /// It belongs to the cluster.
    Voter,
}

/// Takes a master into the cluster: the one that asks, or one at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddMaster {
    /// This one.
    Known(MasterSelf),
    /// The one that answers there.
    At(String),
}

/// Takes a master out of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveMaster {
    /// Its id, or where it is.
    pub master: String,
}

/// Receipts in: makes a blob the current value of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRequest {
    /// The key.
    pub key: Key,
    /// The write ticket, sealed.
    pub ticket: String,
    /// Receipts, sealed, one a volume.
    pub receipts: Vec<String>,
    /// Content type, when the client gave one.
    pub content_type: Option<String>,
    /// User metadata headers: name in lower case, value.
    pub metadata: Vec<(String, String)>,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitOutcome {
    /// The key had no value before.
    Created,
    /// The key had one, which is being reclaimed.
    Replaced,
    /// The condition did not hold; the blob is being reclaimed.
    ConditionFailed,
    /// The receipts do not reach `min_replicas`, or name volumes that are not of the chain.
    NotEnoughReceipts,
    /// A newer generation came first, and one of the two was written under a condition; the blob is being reclaimed.
    Overtaken,
}

/// The answer to a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitResponse {
    /// What became of it.
    pub outcome: CommitOutcome,
    /// Replicas that were counted.
    pub replicas: usize,
}

/// Asks for other copies of a blob that the asking volume should hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiesRequest {
    /// The asking volume's cluster.
    pub cluster: ClusterId,
    /// The asking volume.
    pub volume: VolumeId,
    /// The blob.
    pub blob: BlobId,
}

/// What the master knows of a blob that a volume should hold: enough to write its record anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiesResponse {
    /// The key it is a version of.
    pub key: Key,
    /// Its length in bytes.
    pub length: u64,
    /// BLAKE3 of its bytes.
    pub blake3: Digest,
    /// Content type, where one was given.
    pub content_type: Option<String>,
    /// User metadata headers.
    pub metadata: Vec<(String, String)>,
    /// Where live volumes give it, each with a ticket: never logged.
    pub sources: Vec<String>,
}

/// A value that a volume cannot read, and for which it found no good copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedValue {
    /// The key; none when no object refers to the blob any more.
    pub key: Option<Key>,
    /// The blob.
    pub blob: BlobId,
    /// The volume whose copy is damaged.
    pub volume: VolumeId,
}

/// What a client hears of a value it stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The key.
    pub key: Key,
    /// Length in bytes.
    pub size: u64,
    /// BLAKE3 of the bytes.
    pub blake3: Digest,
    /// The generation it became.
    pub generation: BlobId,
    /// Durable copies there are now.
    pub replicas: usize,
    /// Copies the cluster wants; the rest is owed.
    pub wanted: usize,
}

/// What a client hears of a value it deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The key.
    pub key: Key,
    /// Length of what was deleted, in bytes.
    pub size: u64,
    /// Its generation.
    pub generation: BlobId,
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPage {
    /// Keys in byte order.
    pub keys: Vec<ListedKey>,
    /// With a delimiter: what keys share up to it, in byte order.
    pub prefixes: Vec<String>,
    /// Hand this back as `start` for the next page; none at the end.
    pub next: Option<String>,
}

/// One key of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedKey {
    /// The key.
    pub key: Key,
    /// Length in bytes.
    pub size: u64,
    /// BLAKE3 of the bytes.
    pub blake3: Digest,
    /// Its generation.
    pub generation: BlobId,
    /// Content type, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// When it was written, as an HTTP date.
    pub last_modified: String,
}

/// What the master thinks of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeState {
    /// Heard of, new or back after a while: what it holds is being compared with what it should hold.
    Joining,
    /// Heard of within `--down-after`, takes writes.
    Up,
    /// Heard of, but takes no writes.
    ReadOnly,
    /// Heard of, but has no room for writes.
    Full,
    /// A call to it failed, or it did not say in time that it lives: it is not used until it does.
    Suspect,
    /// Silent for `--down-after`. After `--repair-after` its copies count no more.
    Down,
    /// It gives its values away.
    Draining,
    /// It has given its values away.
    Drained,
    /// It has left for good.
    Retired,
}

impl VolumeState {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 9] = [
        Self::Joining,
        Self::Up,
        Self::ReadOnly,
        Self::Full,
        Self::Suspect,
        Self::Down,
        Self::Draining,
        Self::Drained,
        Self::Retired,
    ];

    /// Its name, as in the status.
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
            Self::Retired => "retired",
        }
    }
}

/// One volume in the status of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeSummary {
    /// Which.
    pub volume: VolumeId,
    /// What the master thinks of it.
    pub state: VolumeState,
    /// Why, where there is something to say.
    pub reason: Option<String>,
    /// Where peers reach it.
    pub address: String,
    /// Where clients reach it.
    pub public_url: String,
    /// What it shares its fate with.
    pub zone: Option<Zone>,
    /// Size of its file system in bytes.
    pub capacity_bytes: u64,
    /// Bytes for new values.
    pub available_bytes: u64,
    /// Blobs it holds.
    pub blobs: u64,
    /// Bytes of their records.
    pub live_bytes: u64,
    /// Milliseconds since it was last heard of; none if never since the master started.
    pub silent_ms: Option<u64>,
}

/// The status of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Barge's version.
    pub version: String,
    /// Keys with a value.
    pub objects: u64,
    /// Bytes of their values, each counted once.
    pub bytes: u64,
    /// Copies wanted of each value.
    pub replicas: usize,
    /// Copies without which an upload fails.
    pub min_replicas: usize,
    /// Values with fewer copies than wanted.
    pub degraded: u64,
    /// Blobs on volumes that wait to be reclaimed.
    pub reclaim_pending: u64,
    /// Values that a volume could neither read nor heal, the first of each volume.
    #[serde(default)]
    pub damaged: Vec<DamagedValue>,
    /// Commands applied to the metadata.
    pub applied: u64,
    /// The masters, by id.
    #[serde(default)]
    pub masters: Vec<MasterSummary>,
    /// The volumes, by id.
    pub volumes: Vec<VolumeSummary>,
    /// What is owed, and how it is being paid; only the leader knows.
    #[serde(default)]
    pub repair: Option<RepairStatus>,
    /// The moving of values between volumes, where it was begun.
    #[serde(default)]
    pub rebalance: Option<RebalanceStatus>,
}
