//! Messages a volume takes, and what it tells of itself.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{BlobId, ClusterId, VolumeId};
use crate::key::Key;
use crate::ring::Zone;
use crate::tombstone::Tombstone;

/// What a volume tells of itself: registration and heartbeat alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeReport {
    /// Which volume.
    pub volume: VolumeId,
    /// The cluster its directory belongs to; none before it joined one.
    pub cluster: Option<ClusterId>,
    /// Where peers and masters reach it, as a base URL.
    pub address: String,
    /// Where clients reach it, as a base URL.
    pub public_url: String,
    /// What it shares its fate with.
    pub zone: Option<Zone>,
    /// Size of its file system in bytes.
    pub capacity_bytes: u64,
    /// Bytes it could give to new values now: free, less reserve and reservations.
    pub available_bytes: u64,
    /// Blobs it holds.
    pub blobs: u64,
    /// Bytes of their records.
    pub live_bytes: u64,
    /// Uploads under way.
    pub uploads: u64,
    /// Why it takes no writes, when it takes none.
    pub read_only: Option<String>,
    /// Blobs that it can neither read nor heal, at most `DAMAGED_SHOWN` of them.
    #[serde(default)]
    pub damaged: Vec<BlobId>,
    /// Blobs that it cannot read and has no way to write anew, for want of room or of a disk that takes writes, at most
    /// `DAMAGED_SHOWN` of them: they need a copy elsewhere.
    #[serde(default)]
    pub unhealed: Vec<BlobId>,
    /// Segments that it does not serve: nobody is told what stands in them.
    #[serde(default)]
    pub segments_refused: u64,
    /// Ranges of segments set aside as damaged: of what stood there the keys are unknown.
    #[serde(default)]
    pub ranges_set_aside: u64,
    /// Format of its directory.
    pub format_version: u32,
    /// Drawn at random when it started: another one means that it was started anew.
    #[serde(default)]
    pub incarnation: u64,
}

/// A volume as its own `/_/status` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// What it tells the master.
    #[serde(flatten)]
    pub report: VolumeReport,
    /// Segments that take records.
    pub segments_open: u64,
    /// Segments that are complete.
    pub segments_sealed: u64,
    /// Bytes of deleted records not given back yet.
    pub dead_bytes: u64,
    /// Bytes given back since start.
    pub punched_bytes: u64,
    /// Records set aside as damaged.
    pub quarantined: u64,
    /// Damaged records and blocks met since start, each time counted.
    pub damaged_blocks: u64,
    /// Records known to be damaged and not healed yet.
    pub damaged_records: u64,
    /// Those of them for which no good copy was found.
    pub lost_records: u64,
    /// Records written anew since start.
    pub healed_records: u64,
    /// Blocks that readers got from another replica since start.
    pub blocks_from_replicas: u64,
    /// Reads that got a whole record from another replica since start.
    pub records_from_replicas: u64,
    /// Bytes moved by compactions since start.
    pub moved_bytes: u64,
    /// Barge's version.
    pub version: String,
}

/// Asks a volume who it is. A volume without a cluster joins this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentifyRequest {
    /// The asking master's cluster.
    pub cluster: ClusterId,
    /// Where volumes reach the masters, as base URLs, the asking one first.
    #[serde(default)]
    pub masters: Vec<String>,
    /// Where the master was told that the volume is, as a base URL.
    #[serde(default)]
    pub address: Option<String>,
}

/// Deletes blobs; those that are not there count as deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRequest {
    /// The asking master's cluster.
    pub cluster: ClusterId,
    /// Whom it is meant for: an address that leads elsewhere must not delete what another volume holds.
    pub volume: VolumeId,
    /// At most `RECLAIM_BATCH`.
    pub blobs: Vec<BlobId>,
    /// Why they go, where their being overwritten does not say it: durable there before any of them is deleted. At
    /// most `RECLAIM_BATCH`.
    #[serde(default)]
    pub tombstones: Vec<Tombstone>,
    /// Once this call is done no blob with an id below this waits to be reclaimed anywhere: tombstones below it are of
    /// no use any more.
    #[serde(default)]
    pub settled_before: Option<BlobId>,
}

/// What a delete did: all named blobs are durably gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteResponse {
    /// Blobs that were there.
    pub found: usize,
    /// Bytes of their records.
    pub bytes: u64,
}

/// Asks for a page of the blobs a volume holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryRequest {
    /// The asking master's cluster.
    pub cluster: ClusterId,
    /// Whom it is meant for: another volume's inventory would look like nothing but orphans.
    pub volume: VolumeId,
    /// Blobs after this one.
    pub after: Option<BlobId>,
    /// Before this one; none: to the last.
    #[serde(default)]
    pub until: Option<BlobId>,
    /// At most so many, and at most `INVENTORY_PAGE`.
    pub limit: usize,
}

/// A page of an inventory, by blob id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryPage {
    /// The blobs; fewer than asked for at the end.
    pub entries: Vec<InventoryEntry>,
}

/// One blob a volume holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryEntry {
    /// The blob.
    pub blob: BlobId,
    /// Its length in bytes.
    pub length: u64,
    /// How long ago it became durable (or was found by recovery), in milliseconds by the volume's clock.
    pub age_ms: u64,
}

/// Asks a volume who it is and for a page of its records: what a rebuild of the metadata reads. Joins nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordsRequest {
    /// Refused by volumes of another cluster than this, where one is named.
    pub cluster: Option<ClusterId>,
    /// Refused by another volume than this, where one is named.
    pub volume: Option<VolumeId>,
    /// Blobs after this one.
    pub after: Option<BlobId>,
    /// At most so many, and at most `INVENTORY_PAGE`.
    pub limit: usize,
}

/// A page of records, by blob id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordsPage {
    /// Who answers.
    pub report: VolumeReport,
    /// The records.
    pub records: Vec<RecordEntry>,
    /// Hand this back as `after` for the next page; none at the end.
    pub next: Option<BlobId>,
}

/// One record a volume holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordEntry {
    /// The blob.
    pub blob: BlobId,
    /// Its length in bytes.
    pub length: u64,
    /// What its pages say; none when they cannot be read.
    pub value: Option<RecordedValue>,
}

/// What header and trailer of a record say of its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedValue {
    /// The key it is a version of.
    pub key: Key,
    /// BLAKE3 of its bytes.
    pub blake3: Digest,
    /// Content type, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// User metadata headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<(String, String)>,
}

/// Asks for a page of a volume's tombstones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstonesRequest {
    /// The volume's cluster.
    pub cluster: ClusterId,
    /// Whom it is meant for.
    pub volume: VolumeId,
    /// As the last page said; none for the first.
    pub after: Option<TombstonesPlace>,
}

/// A place in a volume's tombstones. When they were rewritten meanwhile, the next page is the first again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstonesPlace {
    /// How often they were rewritten.
    pub edition: u64,
    /// Tombstones in front of it.
    pub count: u64,
}

/// A page of tombstones, in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstonesPage {
    /// They.
    pub tombstones: Vec<Tombstone>,
    /// Where the next page begins; none at the end.
    pub next: Option<TombstonesPlace>,
}

/// What the next volume in a chain answers to an upload: receipts, its own first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainResponse {
    /// Sealed receipts of this volume and those behind it.
    pub receipts: Vec<String>,
    /// BLAKE3 as this volume computed it.
    pub blake3: Digest,
}
