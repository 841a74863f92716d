//! Messages for operating a cluster: states of volumes (liveness), repair, drain, rebalance, reconciliation,
//! replication modes, explain and doctor.

use serde::{Deserialize, Serialize};

use super::master::VolumeState;
use super::replicas::{BlobLocation, Examination};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::ids::{BlobId, ClusterId, VolumeId};
use crate::key::Key;
use crate::ring::Zone;

/// A state change of a volume, as one master saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, by that master's clock.
    pub at: Timestamp,
    /// The volume's id.
    pub volume: VolumeId,
    /// Base URL at which peers reach it.
    pub address: String,
    /// The state before; none if the volume was unknown.
    pub from: Option<VolumeState>,
    /// The new state.
    pub to: VolumeState,
    /// Why it changed, in words.
    pub reason: String,
}

/// The repair queue and the progress of repair (re-replication). Only the leader knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RepairStatus {
    /// Blobs that were under- or over-replicated, or had a replica on a draining volume, at the last scan.
    pub queued_blobs: u64,
    /// Bytes of the replicas to add.
    pub queued_bytes: u64,
    /// Number of those blobs by live replicas: index 0 counts blobs with none, index 1 with one, and so on.
    pub queued_by_replicas: Vec<u64>,
    /// Blobs that no live volume can provide now.
    pub without_source: u64,
    /// Blobs for which no other live volume has room.
    pub without_destination: u64,
    /// Blobs that wait because the possible volumes are deleting an old replica.
    #[serde(default)]
    pub deleting: u64,
    /// Replicas added since this master became leader.
    pub replicas_added: u64,
    /// Bytes of the added replicas.
    pub replicated_bytes: u64,
    /// Excess replicas removed since this master became leader.
    pub replicas_removed: u64,
    /// Recent rate of added replicas.
    pub bytes_per_second: u64,
    /// Seconds until everything that can be repaired is repaired, at that rate; none while nothing moves.
    pub eta_secs: Option<u64>,
    /// The last error, if it is recent.
    pub trouble: Option<String>,
}

/// The plan and progress of the rebalance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RebalanceStatus {
    /// Whether it was started and is not paused.
    pub running: bool,
    /// Whether it was started and is paused.
    pub paused: bool,
    /// Bytes still to move until all volumes are equally full.
    pub bytes: u64,
    /// Bytes to move when it started.
    pub planned_bytes: u64,
    /// Seconds it takes at the configured rate; none if no rate is set.
    pub secs: Option<u64>,
    /// The volumes, and what each has to give or receive.
    pub volumes: Vec<RebalanceVolume>,
}

/// One volume in a rebalance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RebalanceVolume {
    /// The volume's id.
    pub volume: VolumeId,
    /// Its zone, if it has one.
    pub zone: Option<Zone>,
    /// Fraction of its space in use: 1 is full.
    pub fullness: f64,
    /// Bytes to move away.
    pub over_bytes: u64,
    /// Bytes to receive.
    pub under_bytes: u64,
}

/// Sets the admin state of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAdminState {
    /// The volume's id or address.
    pub volume: String,
    /// The state it should have.
    pub admin_state: WantedAdminState,
}

/// An admin state that an operator can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WantedAdminState {
    /// In service: it takes values.
    Serve,
    /// All replicas move off the volume; it stays in the cluster, empty.
    Drain,
    /// All replicas move off the volume; then it leaves the cluster for good.
    Decommission,
}

/// The progress of a drain or decommission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainStatus {
    /// The volume's id.
    pub volume: VolumeId,
    /// Its state now.
    pub state: VolumeState,
    /// Blobs that objects still place on it.
    pub blobs: u64,
    /// Its blobs on the reclaim list.
    pub reclaiming: u64,
}

/// What to do with the rebalance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebalanceAction {
    /// Only show what would move.
    Plan,
    /// Start it, or continue after a pause.
    Start,
    /// Pause it; `Start` continues.
    Pause,
    /// End it; what was moved stays moved.
    Cancel,
}

/// Compares all inventories with the tables now (reconciliation, anti-entropy).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphansRequest {
    /// Whether to only report the differences.
    pub dry_run: bool,
}

/// The differences between inventories and tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphansReport {
    /// Records that no object refers to.
    pub orphans: u64,
    /// Bytes of the orphans.
    pub orphan_bytes: u64,
    /// Orphans too young to be reclaimed: their upload may still be committed.
    pub young: u64,
    /// Replicas that are listed in the tables but missing on their volume.
    pub missing: u64,
    /// The first differences, by volume.
    pub shown: Vec<InventoryMismatch>,
    /// Bytes of the messages exchanged.
    pub exchanged_bytes: u64,
    /// Volumes that could not be compared.
    pub unreachable: Vec<VolumeId>,
}

/// An orphan or a missing replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryMismatch {
    /// The volume that has the orphan or lacks the replica.
    pub volume: VolumeId,
    /// The blob's id.
    pub blob: BlobId,
    /// Its length in bytes; none if the replica is missing.
    pub length: Option<u64>,
    /// How long ago it became durable, in milliseconds; none if the replica is missing.
    pub age_ms: Option<u64>,
}

/// Asks where a value is and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// The key of the value.
    pub key: Key,
}

/// Where a value is and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The key of the value.
    pub key: Key,
    /// The id of its current version.
    pub generation: BlobId,
    /// Length of the value in bytes.
    pub size: u64,
    /// BLAKE3 of its bytes, or of the manifest of a multipart object.
    pub blake3: Digest,
    /// Number of replicas wanted.
    pub wanted: usize,
    /// Replication mode of its bucket: `sync`, `quorum` or `async`.
    pub mode: String,
    /// Number of parts; 0 if the value is one blob.
    pub parts: u32,
    /// The one blob, or the manifest and the first parts.
    pub blobs: Vec<ExplainedBlob>,
    /// The volumes that the ring proposes for the key, best first, at most `EXPLAIN_VOLUMES`.
    pub ring: Vec<ExplainedVolume>,
    /// The next repair step, in words; starts with `nothing` if there is none.
    pub next: String,
}

/// One blob of an explained value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedBlob {
    /// The blob's id.
    pub blob: BlobId,
    /// Part number; none for a whole value or a manifest.
    pub part: Option<u16>,
    /// Length in bytes.
    pub length: u64,
    /// The replicas that the tables list.
    pub replicas: Vec<ExplainedReplica>,
}

/// One replica of an explained blob.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedReplica {
    /// The volume that should hold it.
    pub volume: VolumeId,
    /// Base URL at which peers reach that volume.
    pub address: String,
    /// The volume's state.
    pub state: VolumeState,
    /// Where the record is on disk; none if it is missing or the volume does not answer.
    pub location: Option<BlobLocation>,
    /// What is wrong with the replica, if anything.
    pub trouble: Option<String>,
}

/// One volume that the ring proposes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedVolume {
    /// The volume's id.
    pub volume: VolumeId,
    /// Base URL at which peers reach it.
    pub address: String,
    /// Its zone, if it has one.
    pub zone: Option<Zone>,
    /// Whether it holds the value, and if not, why.
    pub why: String,
}

/// Sets the replication mode of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetReplicationMode {
    /// The bucket; it need not exist.
    pub bucket: String,
    /// `sync`, `quorum` or `async`; none: the default of the cluster.
    pub mode: Option<String>,
}

/// The replication modes of a cluster: when uploads are acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationModes {
    /// The default mode.
    pub everywhere: String,
    /// Buckets with a mode of their own: bucket, mode.
    pub buckets: Vec<(String, String)>,
}

/// Makes all servers examine themselves and try to reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorRequest {
    /// The cluster meant; a master of another one refuses.
    pub cluster: ClusterId,
}

/// The examinations of all servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DoctorReport {
    /// Masters first, then volumes.
    pub servers: Vec<Examined>,
}

/// One examined server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Examined {
    /// Base URL at which its peers reach it.
    pub address: String,
    /// Base URL at which clients reach it.
    pub public_url: String,
    /// The volume's id; none for a master.
    pub volume: Option<VolumeId>,
    /// When it was called, by the calling master's clock.
    pub asked: Timestamp,
    /// When its answer arrived, by the same clock.
    pub answered: Timestamp,
    /// Its examination, if it answered.
    pub found: Option<Examination>,
    /// Why it did not answer.
    pub trouble: Option<String>,
}
