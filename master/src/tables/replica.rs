//! Blobs by volume: `volume id (16) · blob id (16)` → the key it belongs to. What makes a volume's
//! inventory comparable with what the objects refer to, in one ordered pass.

use shared::ids::{BlobId, VolumeId};
use shared::key::Key;

use super::{Kind, TableError, Tables, decode, scan};

pub(super) fn place(volume: VolumeId, blob: BlobId) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(volume.as_bytes());
    bytes[16..].copy_from_slice(blob.as_bytes());
    bytes
}

/// The blob of a place.
pub(super) fn blob_of(place: &[u8]) -> Option<BlobId> {
    place.get(16..32).and_then(|b| BlobId::from_bytes(b.try_into().ok()?).ok())
}

/// The volume of a place.
pub(super) fn volume_of(place: &[u8]) -> Option<VolumeId> {
    place.get(..16).and_then(|v| Some(VolumeId::from_bytes(v.try_into().ok()?)))
}

/// Whether an object refers to `blob` on `volume`.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn is_referenced(tree: &sled::Tree, volume: VolumeId, blob: BlobId) -> Result<bool, TableError> {
    Ok(tree.contains_key(super::path(Kind::Replica, &place(volume, blob)))?)
}

/// The key whose object refers to `blob` on `volume`, as a reader sees it.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn read(tree: &sled::Tree, volume: VolumeId, blob: BlobId) -> Result<Option<Key>, TableError> {
    let place = place(volume, blob);
    tree.get(super::path(Kind::Replica, &place))?.map(|b| decode(Kind::Replica, &place, &b)).transpose()
}

/// How many blobs objects refer to on `volume`: a scan.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn count(tree: &sled::Tree, volume: VolumeId) -> Result<u64, TableError> {
    scan::<Key>(tree, Kind::Replica, volume.as_bytes(), None).try_fold(0, |n, r| r.map(|_| n + 1))
}

impl Tables<'_> {
    /// The key whose object refers to `blob` on `volume`.
    ///
    /// # Errors
    /// When sled fails or the record is damaged.
    pub fn replica(&self, volume: VolumeId, blob: BlobId) -> Result<Option<Key>, TableError> {
        self.get(Kind::Replica, &place(volume, blob))
    }

    /// Notes that `key`'s object refers to `blob` on `volume`.
    pub fn put_replica(&mut self, volume: VolumeId, blob: BlobId, key: &Key) {
        self.put(Kind::Replica, &place(volume, blob), key);
    }

    /// Nothing refers to `blob` on `volume` any more.
    pub fn remove_replica(&mut self, volume: VolumeId, blob: BlobId) {
        self.remove(Kind::Replica, &place(volume, blob));
    }
}
