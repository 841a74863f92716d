//! The reclaim list: `volume id (16) · blob id (16)` → bytes. What is on it, nothing refers to, and
//! nothing ever will; it leaves the list when its volume has durably deleted it.
//!
//! For a while a grave remembers it (the same place → when it left the list): a commit that comes again, after its
//! answer was lost, must not bring back what is gone.

use shared::clock::Timestamp;
use shared::ids::{BlobId, VolumeId};

use super::replica::{blob_of, is_referenced, place, volume_of};
use super::{Kind, Read, TableError, Tables, scan};

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

/// How many blobs wait to be reclaimed on `volume`: a scan.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn count(tree: &sled::Tree, volume: VolumeId) -> Result<u64, TableError> {
    scan::<u64>(tree, Kind::Reclaim, volume.as_bytes(), None).try_fold(0, |n, r| r.map(|_| n + 1))
}

/// The least blob that waits to be reclaimed on another volume than `except`.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn oldest_elsewhere(tree: &sled::Tree, except: VolumeId) -> Result<Option<BlobId>, TableError> {
    let (mut oldest, mut after) = (None, None::<Vec<u8>>);
    while let Some(first) = scan::<u64>(tree, Kind::Reclaim, b"", after.as_deref()).next() {
        let (place, _) = first?;
        let Some(volume) = volume_of(&place) else { break };
        if volume != except {
            let blob = blob_of(&place);
            oldest = if oldest.is_none() { blob } else { oldest.min(blob) };
        }
        // On to the first of the next volume.
        after = Some([&volume.as_bytes()[..], &[0xff; 17]].concat());
    }
    Ok(oldest)
}

/// At most `limit` graves older than `before`.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn graves(
    tree: &sled::Tree,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<(VolumeId, BlobId)>, TableError> {
    let mut old = Vec::new();
    for grave in scan::<u64>(tree, Kind::Grave, b"", None) {
        let (place, dug) = grave?;
        if dug < before.unix_ms()
            && let (Some(volume), Some(blob)) = (volume_of(&place), blob_of(&place))
        {
            old.push((volume, blob));
            if old.len() == limit {
                break;
            }
        }
    }
    Ok(old)
}

/// Takes off the list the copies of blobs that objects still name on other volumes: for tables that are older than the volumes. Such a
/// copy was one too many; since then it may have been taken in again, and be the last one. If it is still too many, that is found.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn forget_moved(tree: &sled::Tree) -> Result<(), TableError> {
    let volumes = super::volume::all(tree)?;
    for item in scan::<u64>(tree, Kind::Reclaim, b"", None) {
        let (at, _) = item?;
        let (Some(volume), Some(blob)) = (volume_of(&at), blob_of(&at)) else { continue };
        for other in &volumes {
            if is_referenced(tree, other.volume, blob)? {
                let mut tables = Tables::new(tree);
                let mut progress = super::meta::progress(&tables)?;
                progress.reclaim_pending -= 1;
                tables.put_progress(&progress);
                tables.remove_reclaim(volume, blob);
                tree.apply_batch(tables.into_batch()?)?;
                break;
            }
        }
    }
    Ok(())
}

/// Whether `blob` was reclaimed on `volume` a moment ago.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn was_reclaimed(records: &impl Read, volume: VolumeId, blob: BlobId) -> Result<bool, TableError> {
    Ok(records.get::<u64>(Kind::Grave, &place(volume, blob))?.is_some())
}

/// Whether `blob` waits to be reclaimed on `volume`.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn contains(records: &impl Read, volume: VolumeId, blob: BlobId) -> Result<bool, TableError> {
    Ok(records.get::<u64>(Kind::Reclaim, &place(volume, blob))?.is_some())
}

impl Tables<'_> {
    /// Remembers that `blob` was reclaimed on `volume`.
    pub fn put_grave(&mut self, volume: VolumeId, blob: BlobId, at: Timestamp) {
        self.put(Kind::Grave, &place(volume, blob), &at.unix_ms());
    }

    pub fn remove_grave(&mut self, volume: VolumeId, blob: BlobId) {
        self.remove(Kind::Grave, &place(volume, blob));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::meta::{self, Progress};
    use crate::tables::volume::VolumeRecord;

    #[test]
    fn copies_of_what_is_named_elsewhere_leave_the_list() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let volume = |n| VolumeId::from_bytes([n; 16]);
        let id = |n: u8| BlobId::next(None, Timestamp::from_unix_ms(1 << 40), [n; 10]);
        let mut tables = Tables::new(&db);
        for n in [1, 2] {
            let (address, public_url) = (String::new(), String::new());
            tables.put_volume(&VolumeRecord {
                volume: volume(n),
                address,
                public_url,
                zone: None,
                capacity_bytes: 1,
            });
        }
        // Moved from one volume to the other; deleted; deleted from both.
        tables.put_replica(volume(2), id(1), &"k".parse().unwrap());
        tables.put_reclaim(volume(1), id(1), 9);
        tables.put_reclaim(volume(1), id(2), 9);
        tables.put_reclaim(volume(1), id(3), 9);
        tables.put_reclaim(volume(2), id(3), 9);
        tables.put_progress(&Progress { reclaim_pending: 4, ..Progress::default() });
        db.apply_batch(tables.into_batch().unwrap()).unwrap();
        forget_moved(&db).unwrap();
        assert_eq!(page(&db, volume(1), 9).unwrap(), [id(2), id(3)]);
        assert_eq!(page(&db, volume(2), 9).unwrap(), [id(3)]);
        assert_eq!(meta::progress(&db).unwrap().reclaim_pending, 3);
    }
}
