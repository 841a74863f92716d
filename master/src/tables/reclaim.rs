//! The reclaim list: `volume id (16) · blob id (16)` → bytes. What is on it, nothing refers to, and
//! nothing ever will; it leaves the list when its volume has durably deleted it.

use shared::ids::{BlobId, VolumeId};

use super::replica::{blob_of, place};
use super::{Kind, TableError, Tables, scan};

/// At most `limit` blobs that wait to be reclaimed on `volume`.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn page(tree: &sled::Tree, volume: VolumeId, limit: usize) -> Result<Vec<BlobId>, TableError> {
    scan::<u64>(tree, Kind::Reclaim, volume.as_bytes(), None)
        .take(limit)
        .filter_map(|r| r.map(|(place, _)| blob_of(&place)).transpose())
        .collect()
}

impl Tables<'_> {
    /// Whether `blob` waits to be reclaimed on `volume`.
    ///
    /// # Errors
    /// When sled fails or the record is damaged.
    pub fn reclaiming(&self, volume: VolumeId, blob: BlobId) -> Result<bool, TableError> {
        Ok(self.get::<u64>(Kind::Reclaim, &place(volume, blob))?.is_some())
    }

    /// Puts `blob` of `bytes` length on the list of `volume`.
    pub fn put_reclaim(&mut self, volume: VolumeId, blob: BlobId, bytes: u64) {
        self.put(Kind::Reclaim, &place(volume, blob), &bytes);
    }

    /// Takes `blob` off the list of `volume`.
    pub fn remove_reclaim(&mut self, volume: VolumeId, blob: BlobId) {
        self.remove(Kind::Reclaim, &place(volume, blob));
    }
}
