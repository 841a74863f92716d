//! The reclaim list (GC queue): `volume id (16) · blob id (16)` → bytes. Nothing references its blobs, and nothing
//! ever will. An entry is removed when its volume has durably deleted the blob.
//!
//! A replica tombstone (same path → when it was reclaimed) then remembers it for a while: a commit that is retried
//! because its answer was lost must not reference a replica that is gone.

use shared::clock::Timestamp;
use shared::ids::{BlobId, VolumeId};

use super::replica::{blob_of, is_referenced, replica_path, volume_of};
use super::{Kind, Read, TableError, Tables, scan};

/// Returns at most `limit` blobs on the list of `volume`, the oldest first.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn page(tree: &sled::Tree, volume: VolumeId, limit: usize) -> Result<Vec<BlobId>, TableError> {
    scan::<u64>(tree, Kind::Reclaim, volume.as_bytes(), None)
        .take(limit)
        .filter_map(|r| r.map(|(place, _)| blob_of(&place)).transpose())
        .collect()
}

/// Counts the blobs on the list of `volume` by a scan.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn count(tree: &sled::Tree, volume: VolumeId) -> Result<u64, TableError> {
    scan::<u64>(tree, Kind::Reclaim, volume.as_bytes(), None).try_fold(0, |n, r| r.map(|_| n + 1))
}

/// Returns the oldest blob on the lists of all volumes but `except`.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn oldest_elsewhere(tree: &sled::Tree, except: VolumeId) -> Result<Option<BlobId>, TableError> {
    let (mut oldest, mut after) = (None, None::<Vec<u8>>);
    while let Some(first) = scan::<u64>(tree, Kind::Reclaim, b"", after.as_deref()).next() {
        let (place, _) = first?;
        let Some(volume) = volume_of(&place) else { break };
        if volume != except {
            let blob = blob_of(&place);
            oldest = if oldest.is_none() { blob } else { oldest.min(blob) };
        }
        // Continue with the next volume.
        after = Some([&volume.as_bytes()[..], &[0xff; 17]].concat());
    }
    Ok(oldest)
}

/// Returns at most `limit` replica tombstones older than `before`.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn expired_replica_tombstones(
    tree: &sled::Tree,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<(VolumeId, BlobId)>, TableError> {
    let mut old = Vec::new();
    for tombstone in scan::<u64>(tree, Kind::ReplicaTombstone, b"", None) {
        let (place, dug) = tombstone?;
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

/// Removes from the list the replicas of blobs that are still referenced on other volumes; for tables restored from a
/// backup. Such a replica was an excess one when the backup was made, but may be the last one now. If it is still
/// excess, reconciliation finds it.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn remove_still_referenced(tree: &sled::Tree) -> Result<(), TableError> {
    let volumes = super::volume::all(tree)?;
    for item in scan::<u64>(tree, Kind::Reclaim, b"", None) {
        let (at, _) = item?;
        let (Some(volume), Some(blob)) = (volume_of(&at), blob_of(&at)) else { continue };
        for other in &volumes {
            if is_referenced(tree, other.volume, blob)? {
                let mut tables = Tables::new(tree);
                let mut progress = super::meta::counters(&tables)?;
                progress.reclaim_pending -= 1;
                tables.put_counters(&progress);
                tables.remove_reclaim(volume, blob);
                tree.apply_batch(tables.into_batch()?)?;
                break;
            }
        }
    }
    Ok(())
}

/// Whether `blob` was reclaimed on `volume` recently.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn was_reclaimed(records: &impl Read, volume: VolumeId, blob: BlobId) -> Result<bool, TableError> {
    Ok(records.get::<u64>(Kind::ReplicaTombstone, &replica_path(volume, blob))?.is_some())
}

/// Whether `blob` is on the list of `volume`.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn contains(records: &impl Read, volume: VolumeId, blob: BlobId) -> Result<bool, TableError> {
    Ok(records.get::<u64>(Kind::Reclaim, &replica_path(volume, blob))?.is_some())
}

impl Tables<'_> {
    /// Records that `blob` was reclaimed on `volume`.
    pub fn put_replica_tombstone(&mut self, volume: VolumeId, blob: BlobId, at: Timestamp) {
        self.put(Kind::ReplicaTombstone, &replica_path(volume, blob), &at.unix_ms());
    }

    pub fn remove_replica_tombstone(&mut self, volume: VolumeId, blob: BlobId) {
        self.remove(Kind::ReplicaTombstone, &replica_path(volume, blob));
    }

    /// Puts `blob` of `bytes` length on the list of `volume`.
    pub fn put_reclaim(&mut self, volume: VolumeId, blob: BlobId, bytes: u64) {
        self.put(Kind::Reclaim, &replica_path(volume, blob), &bytes);
    }

    /// Removes `blob` from the list of `volume`.
    pub fn remove_reclaim(&mut self, volume: VolumeId, blob: BlobId) {
        self.remove(Kind::Reclaim, &replica_path(volume, blob));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::meta::{self, Counters};
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
        tables.put_counters(&Counters { reclaim_pending: 4, ..Counters::default() });
        db.apply_batch(tables.into_batch().unwrap()).unwrap();
        remove_still_referenced(&db).unwrap();
        assert_eq!(page(&db, volume(1), 9).unwrap(), [id(2), id(3)]);
        assert_eq!(page(&db, volume(2), 9).unwrap(), [id(3)]);
        assert_eq!(meta::counters(&db).unwrap().reclaim_pending, 3);
    }
}
