//! Where a blob is referenced, and the replicas it has there.

use super::repair::BlobReplicas;
use crate::tables::object;
use crate::tables::repair_queue::{self, BlobRef};
use crate::tables::replica_list::ReplicaList;
use crate::tables::upload::{self, PartRecord};
use crate::tables::{TableError, reclaim, replica_list};
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use std::collections::HashMap;

/// Reads the replicas of a blob that `blob_ref` references; `None` if it no longer does.
///
/// # Errors
/// When the tables cannot be read.
pub fn read_replicas(
    tree: &sled::Tree,
    blob: BlobId,
    blob_ref: &BlobRef,
) -> Result<Option<BlobReplicas>, TableError> {
    let Some(ReplicaList { length, replicas, wanted }) = replica_list::read(tree, blob, blob_ref)? else {
        return Ok(None);
    };
    let pending = repair_queue::pending_volumes(tree, blob)?;
    let (wanted, barred) = (usize::from(wanted), Vec::new());
    Ok(Some(BlobReplicas { blob, length, wanted, replicas, pending, excluded: barred }))
}

/// Returns those of `volumes` that must not get a replica of `blob` now: theirs is being deleted, or
/// was just deleted.
///
/// # Errors
/// When the tables cannot be read.
pub fn excluded_volumes(
    tree: &sled::Tree,
    blob: BlobId,
    volumes: impl IntoIterator<Item = VolumeId>,
) -> Result<Vec<VolumeId>, TableError> {
    let mut barred = Vec::new();
    for volume in volumes {
        if reclaim::contains(tree, volume, blob)? || reclaim::was_reclaimed(tree, volume, blob)? {
            barred.push(volume);
        }
    }
    Ok(barred)
}

/// Finds what references a blob of a known key. Caches the parts of recent keys, since the blobs of a key are often
/// looked up together, mixed with those of other uploads.
#[derive(Debug, Default)]
pub struct BlobLocator {
    keys: HashMap<Key, HashMap<BlobId, BlobRef>>,
    /// Number of cached parts.
    parts: usize,
}

/// Maximum of cached parts: about ten objects with `PARTS_MAX` parts.
const PARTS_REMEMBERED: usize = 100_000;

impl BlobLocator {
    /// Returns what references a blob of `key`; `None` if nothing does any longer.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn locate(
        &mut self,
        tree: &sled::Tree,
        key: &Key,
        blob: BlobId,
    ) -> Result<Option<BlobRef>, TableError> {
        let object = object::read_stored(tree, key)?;
        if object.as_ref().is_some_and(|o| o.blobs.iter().any(|b| b.id == blob)) {
            return Ok(Some(BlobRef::object(key)));
        }
        if !self.keys.contains_key(key) {
            if self.parts > PARTS_REMEMBERED {
                *self = Self::default();
            }
            let parts = parts_of(tree, key, object.and_then(|o| o.parts).map(|parts| parts.upload))?;
            // A key without parts takes room, too.
            self.parts += parts.len() + 1;
            self.keys.insert(key.clone(), parts);
        }
        Ok(self.keys.get(key).and_then(|parts| parts.get(&blob)).cloned())
    }
}

/// Returns all parts of a key: those of its object, and of multipart uploads in progress.
fn parts_of(
    tree: &sled::Tree,
    key: &Key,
    completed: Option<BlobId>,
) -> Result<HashMap<BlobId, BlobRef>, TableError> {
    let mut parts = HashMap::new();
    for upload in completed.map(Ok).into_iter().chain(upload::of_key(tree, key)) {
        let upload = upload?;
        for record in upload::parts(tree, upload, 0) {
            let PartRecord { part, .. } = record?;
            parts.insert(part.blob, BlobRef::part(key, upload, part.number));
        }
    }
    Ok(parts)
}
