//! Blobs by volume: `volume id (16) · blob id (16)` → the key it belongs to. What makes a volume's
//! inventory comparable with what the objects refer to, in one ordered pass.

use shared::ids::{BlobId, VolumeId};
use shared::key::Key;

use super::{Kind, Read, TableError, Tables, scan};

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
pub fn read(records: &impl Read, volume: VolumeId, blob: BlobId) -> Result<Option<Key>, TableError> {
    let place = place(volume, blob);
    records.get(Kind::Replica, &place)
}

/// How many blobs objects refer to on `volume`: a scan.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn count(tree: &sled::Tree, volume: VolumeId) -> Result<u64, TableError> {
    scan::<Key>(tree, Kind::Replica, volume.as_bytes(), None).try_fold(0, |n, r| r.map(|_| n + 1))
}

/// Blobs that objects refer to on `volume`, from `from` on, in order; without what each belongs to.
///
/// # Errors
/// When sled fails.
pub fn blobs(
    tree: &sled::Tree,
    volume: VolumeId,
    from: Option<BlobId>,
) -> impl Iterator<Item = Result<BlobId, TableError>> + use<> {
    let prefix = super::path(Kind::Replica, volume.as_bytes());
    let start = from.map_or(prefix.clone(), |blob| super::path(Kind::Replica, &place(volume, blob)));
    tree.range(start..)
        .keys()
        .take_while(move |path| path.as_ref().map_or(true, |path| path.starts_with(&prefix)))
        .filter_map(|path| path.map(|path| blob_of(&path[1..])).map_err(TableError::from).transpose())
}

/// Blobs that objects refer to on `volume`, after `after`, in order, with the keys they belong to.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn after(
    tree: &sled::Tree,
    volume: VolumeId,
    after: Option<BlobId>,
) -> impl Iterator<Item = Result<(BlobId, Key), TableError>> + use<> {
    let after = after.map(|blob| place(volume, blob));
    scan::<Key>(tree, Kind::Replica, volume.as_bytes(), after.as_ref().map(|a| &a[..]))
        .filter_map(|r| r.map(|(path, key)| Some((blob_of(&path)?, key))).transpose())
}

impl Tables<'_> {
    /// Notes that `key`'s object refers to `blob` on `volume`.
    pub fn put_replica(&mut self, volume: VolumeId, blob: BlobId, key: &Key) {
        self.put(Kind::Replica, &place(volume, blob), key);
    }

    /// Nothing refers to `blob` on `volume` any more.
    pub fn remove_replica(&mut self, volume: VolumeId, blob: BlobId) {
        self.remove(Kind::Replica, &place(volume, blob));
    }
}
