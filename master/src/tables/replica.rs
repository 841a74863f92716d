//! Replicas by volume: `volume id (16) · blob id (16)` → the key. Reconciliation compares a volume's inventory with
//! this in one ordered pass.

use shared::ids::{BlobId, VolumeId};
use shared::key::Key;

use super::{Kind, Read, TableError, Tables, scan};

pub(super) fn replica_path(volume: VolumeId, blob: BlobId) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(volume.as_bytes());
    bytes[16..].copy_from_slice(blob.as_bytes());
    bytes
}

/// Returns the blob in a replica path.
pub(super) fn blob_of(place: &[u8]) -> Option<BlobId> {
    place.get(16..32).and_then(|b| BlobId::from_bytes(b.try_into().ok()?).ok())
}

/// Returns the volume in a replica path.
pub(super) fn volume_of(place: &[u8]) -> Option<VolumeId> {
    place.get(..16).and_then(|v| Some(VolumeId::from_bytes(v.try_into().ok()?)))
}

/// Whether anything references `blob` on `volume`.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn is_referenced(tree: &sled::Tree, volume: VolumeId, blob: BlobId) -> Result<bool, TableError> {
    Ok(tree.contains_key(super::path(Kind::Replica, &replica_path(volume, blob)))?)
}

/// Returns the key that references `blob` on `volume`.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn read(records: &impl Read, volume: VolumeId, blob: BlobId) -> Result<Option<Key>, TableError> {
    let place = replica_path(volume, blob);
    records.get(Kind::Replica, &place)
}

/// Counts the referenced blobs on `volume` by a scan.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn count(tree: &sled::Tree, volume: VolumeId) -> Result<u64, TableError> {
    scan::<Key>(tree, Kind::Replica, volume.as_bytes(), None).try_fold(0, |n, r| r.map(|_| n + 1))
}

/// Iterates over the referenced blobs on `volume` from `from` (inclusive), in order, without their keys.
///
/// # Errors
/// When sled fails.
pub fn blobs(
    tree: &sled::Tree,
    volume: VolumeId,
    from: Option<BlobId>,
) -> impl Iterator<Item = Result<BlobId, TableError>> + use<> {
    let prefix = super::path(Kind::Replica, volume.as_bytes());
    let start = from.map_or(prefix.clone(), |blob| super::path(Kind::Replica, &replica_path(volume, blob)));
    tree.range(start..)
        .keys()
        .take_while(move |path| path.as_ref().map_or(true, |path| path.starts_with(&prefix)))
        .filter_map(|path| path.map(|path| blob_of(&path[1..])).map_err(TableError::from).transpose())
}

/// Iterates over the referenced blobs on `volume` after `after`, in order, with their keys.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn after(
    tree: &sled::Tree,
    volume: VolumeId,
    after: Option<BlobId>,
) -> impl Iterator<Item = Result<(BlobId, Key), TableError>> + use<> {
    let after = after.map(|blob| replica_path(volume, blob));
    scan::<Key>(tree, Kind::Replica, volume.as_bytes(), after.as_ref().map(|a| &a[..]))
        .filter_map(|r| r.map(|(path, key)| Some((blob_of(&path)?, key))).transpose())
}

impl Tables<'_> {
    /// Records that `key` references `blob` on `volume`.
    pub fn put_replica(&mut self, volume: VolumeId, blob: BlobId, key: &Key) {
        self.put(Kind::Replica, &replica_path(volume, blob), key);
    }

    /// Records that nothing references `blob` on `volume`.
    pub fn remove_replica(&mut self, volume: VolumeId, blob: BlobId) {
        self.remove(Kind::Replica, &replica_path(volume, blob));
    }
}
