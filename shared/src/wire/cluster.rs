//! How a cluster looks after itself, as operators see it and steer it: the life of volumes, repair, drain, rebalance, orphans,
//! where a value is and why.

use serde::{Deserialize, Serialize};

use super::master::VolumeState;
use super::replicas::{BlobPlace, Examination};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::ids::{BlobId, ClusterId, VolumeId};
use crate::key::Key;
use crate::ring::Zone;

/// A volume became something else, as one master saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, by that master's clock.
    pub at: Timestamp,
    /// Which volume.
    pub volume: VolumeId,
    /// Where peers reach it.
    pub address: String,
    /// What it was; none when it was not known.
    pub from: Option<VolumeState>,
    /// What it is.
    pub to: VolumeState,
    /// Why.
    pub reason: String,
}

/// What is owed, and how it is being paid. Only the leader knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RepairStatus {
    /// Blobs that lack a copy, or have one too many, or one on a volume that is to be emptied, when they were last looked
    /// through.
    pub owed_blobs: u64,
    /// Bytes of the copies that are to be made.
    pub owed_bytes: u64,
    /// Of those blobs: how many have no copy, one copy, two … that count.
    pub owed_by_copies: Vec<u64>,
    /// Blobs of which no copy can be had now.
    pub without_source: u64,
    /// Blobs that no volume that is up has room for, or all such volumes hold already.
    pub without_destination: u64,
    /// Blobs that wait until volumes have forgotten that they were told to delete them.
    #[serde(default)]
    pub deleting: u64,
    /// Copies made since this master leads.
    pub copied_blobs: u64,
    /// Bytes of them.
    pub copied_bytes: u64,
    /// Copies taken away since this master leads, when there were enough others.
    pub dropped_blobs: u64,
    /// Bytes a second of late.
    pub bytes_per_second: u64,
    /// Seconds until all that can be paid is paid, at that rate; none while nothing moves.
    pub eta_secs: Option<u64>,
    /// The last thing that went wrong, if it was lately.
    pub trouble: Option<String>,
}

/// The moving of values between volumes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RebalanceStatus {
    /// Whether it is under way, and not paused.
    pub running: bool,
    /// Whether it was begun and rests.
    pub paused: bool,
    /// Bytes that are to be moved so that all volumes are equally full.
    pub bytes: u64,
    /// Bytes that were to be moved when it began.
    pub planned_bytes: u64,
    /// Seconds it takes at the rate that is set; none where no rate is set.
    pub secs: Option<u64>,
    /// The volumes, and what each gives or takes.
    pub volumes: Vec<RebalanceVolume>,
}

/// One volume of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RebalanceVolume {
    /// Which.
    pub volume: VolumeId,
    /// Where it stands.
    pub zone: Option<Zone>,
    /// How full it is: 1 is to the brim.
    pub fullness: f64,
    /// Bytes to go.
    pub over_bytes: u64,
    /// Bytes to come.
    pub under_bytes: u64,
}

/// What to do about a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetDuty {
    /// Its id, or where it is.
    pub volume: String,
    /// What.
    pub duty: DutyWish,
}

/// What a volume is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DutyWish {
    /// To serve, as all do.
    Serve,
    /// To give its values away and stay.
    Drain,
    /// To give its values away and leave for good.
    Retire,
}

/// How far a volume has come with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DutyStatus {
    /// Which volume.
    pub volume: VolumeId,
    /// What it is now.
    pub state: VolumeState,
    /// Blobs that it still has to give away.
    pub blobs: u64,
    /// Blobs on it that wait to be deleted.
    pub reclaiming: u64,
}

/// What to do about the moving of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SteerRebalance {
    /// Say what there is to be moved.
    Plan,
    /// Begin, or go on.
    Start,
    /// Rest.
    Pause,
    /// End it as it is.
    Cancel,
}

/// Has all inventories compared with the tables now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphansRequest {
    /// Whether it is only to be said what is found.
    pub dry_run: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphansReport {
    /// Records that nothing refers to.
    pub orphans: u64,
    /// Bytes of them.
    pub orphan_bytes: u64,
    /// Those of them that are too young to be collected: an upload may still be committed.
    pub young: u64,
    /// Copies that volumes should have and do not.
    pub missing: u64,
    /// The first of them, by volume.
    pub shown: Vec<StrayBlob>,
    /// Bytes of messages that it took to find them.
    pub exchanged_bytes: u64,
    /// Volumes that could not be asked.
    pub silent: Vec<VolumeId>,
}

/// A record that nothing refers to, or one that is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrayBlob {
    /// On which volume.
    pub volume: VolumeId,
    /// Which blob.
    pub blob: BlobId,
    /// Its length in bytes; none where it is not there.
    pub length: Option<u64>,
    /// How long ago it became durable, in milliseconds; none where it is not there.
    pub age_ms: Option<u64>,
}

/// Asks where a value is and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// Its key.
    pub key: Key,
}

/// Where a value is and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Its key.
    pub key: Key,
    /// Its generation.
    pub generation: BlobId,
    /// Its length in bytes.
    pub size: u64,
    /// BLAKE3 of its bytes, or of the list of its parts.
    pub blake3: Digest,
    /// Copies wanted.
    pub wanted: usize,
    /// When uploads of its bucket are acknowledged.
    pub mode: String,
    /// Parts it has; 0 when it is one blob.
    pub parts: u32,
    /// Its blobs: one, or the list of the parts and the first of them.
    pub blobs: Vec<ExplainedBlob>,
    /// What the ring proposes for its key, the first first, as many as there are volumes, at most `EXPLAIN_VOLUMES`.
    pub ring: Vec<ExplainedVolume>,
    /// What is to be done about it next, if anything.
    pub next: String,
}

/// One blob of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedBlob {
    /// Which.
    pub blob: BlobId,
    /// Number of the part; none of a whole value, or of the list of parts.
    pub part: Option<u16>,
    /// Its length in bytes.
    pub length: u64,
    /// Its copies.
    pub copies: Vec<ExplainedCopy>,
}

/// One copy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedCopy {
    /// On which volume.
    pub volume: VolumeId,
    /// Where peers reach that.
    pub address: String,
    /// What it is.
    pub state: VolumeState,
    /// Where it is on its disk; none when it is not there, or the volume does not answer.
    pub place: Option<BlobPlace>,
    /// What is wrong with it, if anything.
    pub trouble: Option<String>,
}

/// One volume of the ring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedVolume {
    /// Which.
    pub volume: VolumeId,
    /// Where peers reach it.
    pub address: String,
    /// Where it stands.
    pub zone: Option<Zone>,
    /// Whether it holds the value, and if not why.
    pub why: String,
}

/// When uploads of a bucket, or all, are acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetMode {
    /// The bucket.
    pub bucket: String,
    /// `sync`, `quorum` or `async`; none: as everywhere.
    pub mode: Option<String>,
}

/// When uploads are acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modes {
    /// Where nothing else is said.
    pub everywhere: String,
    /// Buckets with a mode of their own.
    pub buckets: Vec<(String, String)>,
}

/// Has all servers look at themselves and at each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorRequest {
    /// Which cluster.
    pub cluster: ClusterId,
}

/// What they found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DoctorReport {
    /// The masters and volumes: where each is, and what it found or why it could not be asked.
    pub servers: Vec<Examined>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Examined {
    /// Where its peers reach it.
    pub address: String,
    /// Where clients reach it.
    pub public_url: String,
    /// Which volume it is; none of a master.
    pub volume: Option<VolumeId>,
    /// When it was asked, by the clock of the master that asked.
    pub asked: Timestamp,
    /// When it had answered, by that clock.
    pub answered: Timestamp,
    /// What it found.
    pub found: Option<Examination>,
    /// Why it could not be asked.
    pub trouble: Option<String>,
}
