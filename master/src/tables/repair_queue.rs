//! The repair queue, the under- and over-replicated blobs: `blob id` → what references it. It finds all repair work
//! without a scan of all objects.
//!
//! Multipart objects whose list of full replicas is stale, because replicas of their blobs changed: `upload id` →
//! key. It is recomputed once for many changes.
//!
//! Pending replicas: `blob id · volume id` → what references the blob. One is recorded before its volume is asked to
//! fetch it, so that neither a concurrent delete nor a crash of the asking master leaves an unknown record behind.

use serde::{Deserialize, Serialize};
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;

use super::{Kind, Read, TableError, Tables, scan};

/// What references a blob: the object of a key, or a part of an upload of that key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    pub key: Key,
    /// Of a part: its upload and number.
    pub part: Option<(BlobId, u16)>,
}

impl BlobRef {
    pub fn object(key: &Key) -> Self {
        Self { key: key.clone(), part: None }
    }

    pub fn part(key: &Key, upload: BlobId, number: u16) -> Self {
        Self { key: key.clone(), part: Some((upload, number)) }
    }
}

fn pending_replica_path(blob: BlobId, volume: VolumeId) -> Vec<u8> {
    [&blob.as_bytes()[..], volume.as_bytes()].concat()
}

fn blob_of(path: &[u8]) -> Option<BlobId> {
    BlobId::from_bytes(path.get(..16)?.try_into().ok()?).ok()
}

fn volume_of(path: &[u8]) -> Option<VolumeId> {
    Some(VolumeId::from_bytes(path.get(16..32)?.try_into().ok()?))
}

/// Iterates over the repair queue after `after`, in order.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn after(
    tree: &sled::Tree,
    after: Option<BlobId>,
) -> impl Iterator<Item = Result<(BlobId, BlobRef), TableError>> + use<> {
    let after = after.map(|blob| *blob.as_bytes());
    scan::<BlobRef>(tree, Kind::RepairQueue, b"", after.as_ref().map(|a| &a[..]))
        .filter_map(|r| r.map(|(path, blob_ref)| Some((blob_of(&path)?, blob_ref))).transpose())
}

/// Returns what references a blob in the repair queue; `None` if it is not queued.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn read(records: &impl Read, blob: BlobId) -> Result<Option<BlobRef>, TableError> {
    let path = blob.as_bytes();
    records.get(Kind::RepairQueue, path)
}

/// Iterates over all pending replicas, ordered by blob.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn pending_replicas(
    tree: &sled::Tree,
) -> impl Iterator<Item = Result<(BlobId, VolumeId, BlobRef), TableError>> + use<> {
    scan::<BlobRef>(tree, Kind::PendingReplica, b"", None).filter_map(|r| {
        r.map(|(path, blob_ref)| Some((blob_of(&path)?, volume_of(&path)?, blob_ref))).transpose()
    })
}

/// Returns what references a blob with a pending replica on this volume; `None` if there is none.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn pending_replica(
    records: &impl Read,
    blob: BlobId,
    volume: VolumeId,
) -> Result<Option<BlobRef>, TableError> {
    let path = pending_replica_path(blob, volume);
    records.get(Kind::PendingReplica, &path)
}

/// Returns at most `limit` multipart objects whose full replicas must be recomputed.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn stale_full_replicas(tree: &sled::Tree, limit: usize) -> Result<Vec<(BlobId, Key)>, TableError> {
    scan::<Key>(tree, Kind::StaleFullReplicas, b"", None)
        .take(limit)
        .filter_map(|r| r.map(|(path, key)| Some((blob_of(&path)?, key))).transpose())
        .collect()
}

/// Whether a volume has a pending replica; scans all pending replicas.
///
/// # Errors
/// When sled fails.
pub fn has_pending_replicas(records: &impl Read, volume: VolumeId) -> Result<bool, TableError> {
    for path in records.paths(Kind::PendingReplica, b"") {
        if volume_of(&path?[1..]) == Some(volume) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the volumes with a pending replica of a blob.
///
/// # Errors
/// When sled fails.
pub fn pending_volumes(records: &impl Read, blob: BlobId) -> Result<Vec<VolumeId>, TableError> {
    records
        .paths(Kind::PendingReplica, blob.as_bytes())
        .filter_map(|path| path.map(|path| volume_of(&path[1..])).transpose())
        .collect()
}

impl Tables<'_> {
    /// Marks the full replicas of a multipart object as stale.
    pub fn put_stale_full_replicas(&mut self, upload: BlobId, key: &Key) {
        self.put(Kind::StaleFullReplicas, upload.as_bytes(), key);
    }

    /// Removes that mark.
    pub fn remove_stale_full_replicas(&mut self, upload: BlobId) {
        self.remove(Kind::StaleFullReplicas, upload.as_bytes());
    }

    /// Queues a blob if it is under- or over-replicated; otherwise removes it from the queue.
    pub fn update_repair_queue(&mut self, blob: BlobId, blob_ref: &BlobRef, copies: usize, wanted: u8) {
        if copies == usize::from(wanted) {
            self.remove(Kind::RepairQueue, blob.as_bytes());
        } else {
            self.put(Kind::RepairQueue, blob.as_bytes(), blob_ref);
        }
    }

    pub fn remove_from_repair_queue(&mut self, blob: BlobId) {
        self.remove(Kind::RepairQueue, blob.as_bytes());
    }

    pub fn put_pending_replica(&mut self, blob: BlobId, volume: VolumeId, blob_ref: &BlobRef) {
        self.put(Kind::PendingReplica, &pending_replica_path(blob, volume), blob_ref);
    }

    pub fn remove_pending_replica(&mut self, blob: BlobId, volume: VolumeId) {
        self.remove(Kind::PendingReplica, &pending_replica_path(blob, volume));
    }
}
