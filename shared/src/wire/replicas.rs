//! What a master asks a volume when it looks after replicas: to take a copy in, what it holds, and how it is doing. All
//! of it is signed.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::{BlobId, ClusterId, VolumeId};
use crate::inventory::RangeDigest;

/// Has a volume take in a copy of a blob. Whether the blob is still expected there, what its bytes are and who has them
/// the volume asks a master, before it begins and again before the copy counts: a call that comes late does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRequest {
    /// The asking master's cluster.
    pub cluster: ClusterId,
    /// Whom it is meant for.
    pub volume: VolumeId,
    /// What it is to hold.
    pub blob: BlobId,
    /// Bytes a second that all copies to this volume may take together; 0 is no limit.
    pub bytes_per_second: u64,
    /// Whether the record is read back from the disk and verified before the receipt: another copy is to go for it.
    pub verify: bool,
}

/// The copy is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyResponse {
    /// The volume's receipt, sealed.
    pub receipt: String,
}

/// Asks what a volume knows of blobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookRequest {
    /// The asking master's cluster.
    pub cluster: ClusterId,
    /// Whom it is meant for.
    pub volume: VolumeId,
    /// At most `INVENTORY_PAGE`.
    pub blobs: Vec<BlobId>,
}

/// Where they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookResponse {
    /// In the order of the question; none for a blob that is not there.
    pub places: Vec<Option<BlobPlace>>,
}

/// Where a blob is on a volume's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobPlace {
    /// Number of the segment.
    pub segment: u32,
    /// Where its record begins, in bytes.
    pub offset: u64,
    /// Length of the value in bytes.
    pub length: u64,
    /// It is known to be bad here, and is not healed yet.
    pub bad: bool,
    /// It was whole at that time: when it was written, or verified since.
    pub verified: Timestamp,
}

/// Asks for digests of what a volume holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestsRequest {
    /// The asking master's cluster.
    pub cluster: ClusterId,
    /// Whom it is meant for.
    pub volume: VolumeId,
    /// From this blob on; none: from the first.
    pub from: Option<BlobId>,
    /// Before this blob; none: to the last.
    pub until: Option<BlobId>,
    /// Where ranges begin, ascending, at most `DIGEST_BOUNDS_MAX`.
    pub bounds: Vec<BlobId>,
}

/// Digests of the ranges, one more than bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestsResponse {
    /// They.
    pub ranges: Vec<RangeDigest>,
}

/// Has a server look at itself and at its way to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExamineRequest {
    /// The asking master's cluster.
    pub cluster: ClusterId,
    /// Base URLs whose health it is to fetch, at most `EXAMINE_URLS_MAX`. They are those of servers of the cluster, and come
    /// with the cluster's signature.
    pub urls: Vec<String>,
}

/// What it found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Examination {
    /// Its clock when it answered.
    pub now: Timestamp,
    /// Barge's version.
    pub version: String,
    /// Files that it may open.
    pub files_max: u64,
    /// What its disk can do; none of a master.
    pub disk: Option<DiskExamination>,
    /// The URLs in the order of the question, each with what went wrong, if anything did.
    pub reached: Vec<(String, Option<String>)>,
}

/// What a volume's disk can do, tried on a small file in its directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskExamination {
    /// The directory.
    pub directory: String,
    /// Holes can be punched: deleted space is back without copying.
    pub punches: bool,
    /// Writes can pass the page cache.
    pub direct: bool,
    /// How long a sync of one written page took, in microseconds, the median of several.
    pub sync_micros: u64,
    /// Free bytes of the file system.
    pub free_bytes: u64,
    /// Its size in bytes.
    pub capacity_bytes: u64,
    /// Files that can still be made; none where the file system does not say.
    pub inodes_free: Option<u64>,
    /// The device number: volumes that share it share a disk.
    pub device: u64,
}
