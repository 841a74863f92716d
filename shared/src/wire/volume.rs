//! Requests to a volume and its answers, and the report that it sends as registration and heartbeat.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{BlobId, ClusterId, VolumeId};
use crate::key::Key;
use crate::ring::Zone;
use crate::tombstone::Tombstone;

/// A volume's report on itself: registration and heartbeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeReport {
    /// The volume's id.
    pub volume: VolumeId,
    /// The cluster its directory belongs to; none before it has joined one.
    pub cluster: Option<ClusterId>,
    /// Base URL at which peers and masters reach it.
    pub address: String,
    /// Base URL at which clients reach it.
    pub public_url: String,
    /// Its zone (failure domain), if it has one.
    pub zone: Option<Zone>,
    /// Size of its file system in bytes.
    pub capacity_bytes: u64,
    /// Bytes available for new values now: free space, less reserve and reservations.
    pub available_bytes: u64,
    /// Number of blobs it holds.
    pub blobs: u64,
    /// Bytes of their records.
    pub live_bytes: u64,
    /// Uploads in progress.
    pub uploads: u64,
    /// Why it takes no writes; none if it does.
    pub read_only: Option<String>,
    /// Corrupt blobs that no replica could heal, at most `CORRUPT_SHOWN`.
    #[serde(default)]
    pub corrupt: Vec<BlobId>,
    /// Corrupt blobs that it cannot rewrite, for lack of space or of a writable disk, at most `CORRUPT_SHOWN`. They
    /// need a replica on another volume.
    #[serde(default)]
    pub unhealed: Vec<BlobId>,
    /// Segments that it does not serve; their contents are in no inventory.
    #[serde(default)]
    pub segments_refused: u64,
    /// Corrupt ranges of segments in quarantine; the keys of their records are unknown.
    #[serde(default)]
    pub ranges_quarantined: u64,
    /// Format version of its directory.
    pub format_version: u32,
    /// Random number drawn at each start; a new one means that the volume has restarted.
    #[serde(default)]
    pub incarnation: u64,
}

/// A volume's own `/_/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// The report that the masters get.
    #[serde(flatten)]
    pub report: VolumeReport,
    /// Open segments, which take records.
    pub segments_open: u64,
    /// The number of sealed segments.
    pub segments_sealed: u64,
    /// Bytes of deleted records not freed yet.
    pub dead_bytes: u64,
    /// Bytes freed by hole punching since start.
    pub punched_bytes: u64,
    /// Corrupt ranges in quarantine.
    pub quarantined: u64,
    /// Corrupt records and blocks found since start; each read of one counts.
    pub corrupt_blocks: u64,
    /// Corrupt records that are not healed yet.
    pub corrupt_records: u64,
    /// Corrupt records for which no good replica was found.
    pub lost_records: u64,
    /// Records healed since start.
    pub healed_records: u64,
    /// Blocks that read repair took from another replica since start.
    pub read_repaired_blocks: u64,
    /// Reads since start whose whole record read repair took from another replica.
    pub read_repaired_records: u64,
    /// Bytes moved by compaction since start.
    pub moved_bytes: u64,
    /// Barge version of the volume.
    pub version: String,
}

/// Asks a volume for its report. A volume without a cluster joins this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentifyRequest {
    /// The asking master's cluster.
    pub cluster: ClusterId,
    /// Base URLs at which volumes reach the masters, the asking one first.
    #[serde(default)]
    pub masters: Vec<String>,
    /// Base URL of the volume in the master's configuration.
    #[serde(default)]
    pub address: Option<String>,
}

/// Deletes blobs; a blob that is not there counts as deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRequest {
    /// The asking master's cluster.
    pub cluster: ClusterId,
    /// The volume meant: a wrong address must not delete another volume's blobs.
    pub volume: VolumeId,
    /// The blobs to delete, at most `RECLAIM_BATCH`.
    pub blobs: Vec<BlobId>,
    /// Tombstones of blobs that were not simply overwritten, at most `RECLAIM_BATCH`. They are durable before any
    /// blob is deleted.
    #[serde(default)]
    pub tombstones: Vec<Tombstone>,
    /// After this call no blob with a lower id waits to be reclaimed anywhere: tombstones below it can be purged.
    #[serde(default)]
    pub reclaimed_before: Option<BlobId>,
}

/// The answer to a delete: all named blobs are durably gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteResponse {
    /// Number of blobs that were there.
    pub found: usize,
    /// Bytes of their records.
    pub bytes: u64,
}

/// Asks for a page of a volume's inventory: the blobs it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryRequest {
    /// The asking master's cluster.
    pub cluster: ClusterId,
    /// The volume meant: another volume's inventory would look like nothing but orphans.
    pub volume: VolumeId,
    /// Only blobs after this one.
    pub after: Option<BlobId>,
    /// Last blob, exclusive; none: to the end.
    #[serde(default)]
    pub until: Option<BlobId>,
    /// Maximum number of entries; capped at `INVENTORY_PAGE`.
    pub limit: usize,
}

/// A page of an inventory, by blob id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryPage {
    /// The blobs; fewer than the limit only at the end.
    pub entries: Vec<InventoryEntry>,
}

/// One blob a volume holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryEntry {
    /// The blob's id.
    pub blob: BlobId,
    /// Its length in bytes.
    pub length: u64,
    /// How long ago it became durable or recovery found it, in milliseconds by the volume's clock.
    pub age_ms: u64,
}

/// Asks a volume for its report and a page of its records, for a rebuild of the metadata. The volume joins nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordsRequest {
    /// If set, volumes of another cluster refuse.
    pub cluster: Option<ClusterId>,
    /// If set, another volume refuses.
    pub volume: Option<VolumeId>,
    /// Only blobs after this one.
    pub after: Option<BlobId>,
    /// Maximum number of records; capped at `INVENTORY_PAGE`.
    pub limit: usize,
}

/// A page of records, by blob id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordsPage {
    /// The report of the answering volume.
    pub report: VolumeReport,
    /// At most `limit` records.
    pub records: Vec<RecordEntry>,
    /// The `after` of the next page; none at the end.
    pub next: Option<BlobId>,
}

/// One record a volume holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordEntry {
    /// The blob's id.
    pub blob: BlobId,
    /// Its length in bytes.
    pub length: u64,
    /// The contents of its header and trailer; none if they cannot be read.
    pub value: Option<RecordedValue>,
}

/// What the header and trailer of a record say about its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedValue {
    /// The key it is a version or part of.
    pub key: Key,
    /// BLAKE3 of its bytes.
    pub blake3: Digest,
    /// Content type, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Metadata headers: name, value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<(String, String)>,
}

/// Asks for a page of a volume's tombstones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstonesRequest {
    /// The volume's cluster.
    pub cluster: ClusterId,
    /// The volume meant; another one refuses.
    pub volume: VolumeId,
    /// `next` of the last page; none for the first.
    pub after: Option<TombstonesCursor>,
}

/// A position in a volume's tombstones. If they were rewritten meanwhile, the next page is the first one again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstonesCursor {
    /// Edition of the tombstone file; grows with each rewrite.
    pub edition: u64,
    /// Number of tombstones before this position.
    pub count: u64,
}

/// A page of tombstones, in the order of their arrival.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstonesPage {
    /// Those from the cursor on.
    pub tombstones: Vec<Tombstone>,
    /// Position of the next page; none at the end.
    pub next: Option<TombstonesCursor>,
}

/// A volume's answer to an upload marked with `CHAIN_HEADER`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainResponse {
    /// Signed receipts of this volume, first, and of those after it in the chain.
    pub receipts: Vec<String>,
    /// BLAKE3 as this volume computed it.
    pub blake3: Digest,
}
