//! Signed requests of a master for repair and reconciliation: add a replica, locate blobs, compare digests; and the
//! examination of servers.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::{BlobId, ClusterId, VolumeId};
use crate::inventory::RangeDigest;

/// Makes a volume add a replica of a blob. The volume asks a master for its digest, metadata and sources, and whether
/// it is still expected: before it begins, and again before the replica counts. So a late request does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddReplicaRequest {
    /// The asking master's cluster.
    pub cluster: ClusterId,
    /// The volume meant; another one refuses.
    pub volume: VolumeId,
    /// Id of the blob to add.
    pub blob: BlobId,
    /// Limit for all replicas being added to this volume together; 0 means no limit.
    pub bytes_per_second: u64,
    /// Whether to read the record back from disk before the receipt, because it replaces another replica.
    pub verify: bool,
}

/// The replica is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddReplicaResponse {
    /// The volume's signed receipt.
    pub receipt: String,
}

/// Asks a volume where blobs are on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocateRequest {
    /// The asking master's cluster.
    pub cluster: ClusterId,
    /// The volume meant; another one refuses.
    pub volume: VolumeId,
    /// The blobs to locate, at most `INVENTORY_PAGE`.
    pub blobs: Vec<BlobId>,
}

/// The locations of blobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocateResponse {
    /// In the order of the request; none for a blob that is not there.
    pub locations: Vec<Option<BlobLocation>>,
}

/// Where a blob is on a volume's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobLocation {
    /// Number of the segment.
    pub segment: u32,
    /// Where its record begins, in bytes.
    pub offset: u64,
    /// Length of the value in bytes.
    pub length: u64,
    /// Whether the record is known to be corrupt and not healed yet.
    pub bad: bool,
    /// When the record was last known to be good: written, or verified since.
    pub verified: Timestamp,
}

/// Asks for digests of a volume's inventory, by range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestsRequest {
    /// The asking master's cluster.
    pub cluster: ClusterId,
    /// The volume meant; another one refuses.
    pub volume: VolumeId,
    /// First blob, inclusive; none: from the beginning.
    pub from: Option<BlobId>,
    /// Last blob, exclusive; none: to the end.
    pub until: Option<BlobId>,
    /// First blob of each range but the first, ascending, at most `DIGEST_BOUNDS_MAX`.
    pub bounds: Vec<BlobId>,
}

/// Digests of the requested ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestsResponse {
    /// In order; one more than `bounds`.
    pub ranges: Vec<RangeDigest>,
}

/// Makes a server examine itself and try to reach others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExamineRequest {
    /// The asking master's cluster.
    pub cluster: ClusterId,
    /// Base URLs of the cluster's servers, whose health is to be fetched; at most `EXAMINE_URLS_MAX`.
    pub urls: Vec<String>,
}

/// The result of an examination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Examination {
    /// The server's clock when it answered.
    pub now: Timestamp,
    /// Barge version of the server.
    pub version: String,
    /// Limit of open files.
    pub files_max: u64,
    /// Capabilities of the disk; none for a master.
    pub disk: Option<DiskExamination>,
    /// The URLs in the order of the request, each with its error, if any.
    pub reached: Vec<(String, Option<String>)>,
}

/// Capabilities of a volume's disk, tested on a small file in its directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskExamination {
    /// Path of the volume's directory.
    pub directory: String,
    /// Whether holes can be punched, so that deletes free space without compaction.
    pub punches: bool,
    /// Whether writes can bypass the page cache.
    pub direct: bool,
    /// Median time to sync one written page, in microseconds.
    pub sync_micros: u64,
    /// Free bytes of the file system.
    pub free_bytes: u64,
    /// Size of the file system in bytes.
    pub capacity_bytes: u64,
    /// Free inodes; none if the file system does not say.
    pub inodes_free: Option<u64>,
    /// Device number; volumes with the same one share a disk.
    pub device: u64,
}
