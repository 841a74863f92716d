//! Blobs that do not have as many copies as are wanted, too few or too many: `blob id` → where it is named. What is
//! owed is found here without looking at all objects.
//!
//! Values in parts of which a part or the list is elsewhere now: `upload id` → key. Which volumes have all of one is looked at again, once
//! for many parts.
//!
//! And copies on their way: `blob id · volume id` → where the blob is named. One is noted before its volume is asked to take it
//! in, so that a delete meanwhile, or the end of the master that asked, leaves nothing behind that nobody knows of.

use serde::{Deserialize, Serialize};
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;

use super::{Kind, Read, TableError, Tables, scan};

/// Where a blob is named: by the object of a key, or as a part of an upload of that key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spot {
    pub key: Key,
    /// Of a part: under which upload, and its number.
    pub part: Option<(BlobId, u16)>,
}

impl Spot {
    /// The object of a key.
    pub fn object(key: &Key) -> Self {
        Self { key: key.clone(), part: None }
    }

    pub fn part(key: &Key, upload: BlobId, number: u16) -> Self {
        Self { key: key.clone(), part: Some((upload, number)) }
    }
}

fn arriving_path(blob: BlobId, volume: VolumeId) -> Vec<u8> {
    [&blob.as_bytes()[..], volume.as_bytes()].concat()
}

fn blob_of(path: &[u8]) -> Option<BlobId> {
    BlobId::from_bytes(path.get(..16)?.try_into().ok()?).ok()
}

fn volume_of(path: &[u8]) -> Option<VolumeId> {
    Some(VolumeId::from_bytes(path.get(16..32)?.try_into().ok()?))
}

/// Blobs after this one that have too few or too many copies, in order.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn after(
    tree: &sled::Tree,
    after: Option<BlobId>,
) -> impl Iterator<Item = Result<(BlobId, Spot), TableError>> + use<> {
    let after = after.map(|blob| *blob.as_bytes());
    scan::<Spot>(tree, Kind::Unsettled, b"", after.as_ref().map(|a| &a[..]))
        .filter_map(|r| r.map(|(path, spot)| Some((blob_of(&path)?, spot))).transpose())
}

/// Where a blob is named that has too few or too many copies.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn read(records: &impl Read, blob: BlobId) -> Result<Option<Spot>, TableError> {
    let path = blob.as_bytes();
    records.get(Kind::Unsettled, path)
}

/// All copies on their way, by blob.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn arriving(
    tree: &sled::Tree,
) -> impl Iterator<Item = Result<(BlobId, VolumeId, Spot), TableError>> + use<> {
    scan::<Spot>(tree, Kind::Arriving, b"", None)
        .filter_map(|r| r.map(|(path, spot)| Some((blob_of(&path)?, volume_of(&path)?, spot))).transpose())
}

/// Where a blob is named of which a copy is on its way to this volume.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn is_arriving(records: &impl Read, blob: BlobId, volume: VolumeId) -> Result<Option<Spot>, TableError> {
    let path = arriving_path(blob, volume);
    records.get(Kind::Arriving, &path)
}

/// Values in parts that are to be weighed, at most `limit`.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn unweighed(tree: &sled::Tree, limit: usize) -> Result<Vec<(BlobId, Key)>, TableError> {
    scan::<Key>(tree, Kind::Unweighed, b"", None)
        .take(limit)
        .filter_map(|r| r.map(|(path, key)| Some((blob_of(&path)?, key))).transpose())
        .collect()
}

/// Whether a copy of anything is on its way to a volume: a scan of all that are.
///
/// # Errors
/// When sled fails.
pub fn awaits(records: &impl Read, volume: VolumeId) -> Result<bool, TableError> {
    for path in records.paths(Kind::Arriving, b"") {
        if volume_of(&path?[1..]) == Some(volume) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// To which volumes copies of a blob are on their way.
///
/// # Errors
/// When sled fails.
pub fn arrivals(records: &impl Read, blob: BlobId) -> Result<Vec<VolumeId>, TableError> {
    records
        .paths(Kind::Arriving, blob.as_bytes())
        .filter_map(|path| path.map(|path| volume_of(&path[1..])).transpose())
        .collect()
}

impl Tables<'_> {
    /// The parts of a key's value, or their list, are elsewhere now.
    pub fn put_unweighed(&mut self, upload: BlobId, key: &Key) {
        self.put(Kind::Unweighed, upload.as_bytes(), key);
    }

    /// Where all of them are was looked at.
    pub fn remove_unweighed(&mut self, upload: BlobId) {
        self.remove(Kind::Unweighed, upload.as_bytes());
    }

    /// Notes whether a blob has as many copies as are wanted.
    pub fn put_settled(&mut self, blob: BlobId, spot: &Spot, copies: usize, wanted: u8) {
        if copies == usize::from(wanted) {
            self.remove(Kind::Unsettled, blob.as_bytes());
        } else {
            self.put(Kind::Unsettled, blob.as_bytes(), spot);
        }
    }

    /// The blob is gone. It stands here only when its copies were too few or too many.
    pub fn remove_unsettled(&mut self, blob: BlobId) {
        self.remove(Kind::Unsettled, blob.as_bytes());
    }

    /// A copy is on its way.
    pub fn put_arriving(&mut self, blob: BlobId, volume: VolumeId, spot: &Spot) {
        self.put(Kind::Arriving, &arriving_path(blob, volume), spot);
    }

    /// It has come, or is not needed any more.
    pub fn remove_arriving(&mut self, blob: BlobId, volume: VolumeId) {
        self.remove(Kind::Arriving, &arriving_path(blob, volume));
    }
}
