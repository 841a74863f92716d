//! Plans garbage collection (GC): which volume is to delete which blobs of the reclaim list next.
//!
//! Verify before destroy: only `state::apply` puts a blob on the list, when nothing references it, and nothing on the
//! list is ever referenced again. So a delete may be sent any number of times.

use std::collections::{BTreeSet, HashSet};

use shared::ids::{BlobId, VolumeId};
use shared::tombstone::Tombstone;

use crate::cluster::VolumeAddress;
use crate::tables::meta::Gap;
use crate::tables::{TableError, reclaim, tombstone};

/// One delete call to one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    pub volume: VolumeAddress,
    pub blobs: Vec<BlobId>,
    /// Tombstones of those blobs that a rebuild could otherwise bring back.
    pub tombstones: Vec<Tombstone>,
    /// The volume may purge tombstones of blobs below this after the call.
    pub reclaimed_before: Option<BlobId>,
}

/// Returns the next call to each live volume with entries on the list. Blobs that a client waits for come first;
/// blobs that the volume has acknowledged, although they are still on the list, are left out.
///
/// # Errors
/// When the tables cannot be read.
pub fn next_deletes(
    tree: &sled::Tree,
    alive: Vec<VolumeAddress>,
    batch: usize,
    horizon: Option<BlobId>,
    awaited: impl Fn(VolumeId) -> Vec<BlobId>,
    told: impl Fn(VolumeId) -> HashSet<BlobId>,
) -> Result<Vec<Delete>, TableError> {
    let mut calls = Vec::new();
    for volume in alive {
        let (awaited, told) = (awaited(volume.volume), told(volume.volume));
        match call(tree, volume.clone(), batch, horizon, &awaited, &told) {
            // A corrupt record must not block the other volumes.
            Err(error @ TableError::Corrupt { .. }) => {
                tracing::error!(volume = volume.address, %error, "the reclaim list of a volume cannot be read");
            }
            call => calls.extend(call?),
        }
    }
    Ok(calls)
}

/// Returns the id below which every blob on every volume is referenced or on the reclaim list, given that all orphans
/// below `collected` were found. Blobs in a gap are never collected as orphans: their tombstones are kept.
pub fn horizon(collected: BlobId, gap: Option<Gap>) -> Option<BlobId> {
    gap.map_or(Some(collected), |gap| gap.after.map(|known| known.min(collected)))
}

/// `horizon`: below it, every blob on every volume is referenced or on the reclaim list; `None` if that is unknown
/// because a volume is down.
fn call(
    tree: &sled::Tree,
    volume: VolumeAddress,
    batch: usize,
    horizon: Option<BlobId>,
    awaited: &[BlobId],
    told: &HashSet<BlobId>,
) -> Result<Option<Delete>, TableError> {
    let oldest = reclaim::page(tree, volume.volume, batch + 1 + told.len())?;
    let mut chosen = BTreeSet::new();
    for blob in awaited.iter().filter(|b| !told.contains(b)).take(batch) {
        if reclaim::contains(tree, volume.volume, *blob)? {
            chosen.insert(*blob);
        }
    }
    for blob in oldest.iter().filter(|b| !told.contains(b)) {
        if chosen.len() < batch {
            chosen.insert(*blob);
        }
    }
    if chosen.is_empty() {
        return Ok(None);
    }
    // Acknowledged entries that are still on the list count as waiting.
    let rest = oldest.into_iter().find(|blob| !chosen.contains(blob));
    let blobs: Vec<_> = chosen.into_iter().collect();
    let tombstones = tombstone::to_send(tree, volume.volume, &blobs)?;
    // Read after the page, so that entries added together with one of its blobs are seen.
    let waiting = [rest, reclaim::oldest_elsewhere(tree, volume.volume)?].into_iter().flatten().min();
    let reclaimed_before = horizon.map(|horizon| waiting.map_or(horizon, |w| w.min(horizon)));
    Ok(Some(Delete { volume, blobs, tombstones, reclaimed_before }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Tables;
    use shared::clock::Timestamp;

    #[test]
    fn tombstones_of_a_time_of_which_nothing_is_known_are_kept() {
        let blob = |ms| BlobId::next(None, Timestamp::from_unix_ms(ms), [1; 10]);
        let gap = |after| Some(Gap { after, until: Timestamp::from_unix_ms(50) });
        assert_eq!(horizon(blob(90), None), Some(blob(90)));
        assert_eq!(horizon(blob(90), gap(Some(blob(20)))), Some(blob(20)));
        assert_eq!(horizon(blob(10), gap(Some(blob(20)))), Some(blob(10)));
        assert_eq!(horizon(blob(90), gap(None)), None);
    }

    #[test]
    fn what_waits_elsewhere_keeps_its_tombstones() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let volume = |n| VolumeId::from_bytes([n; 16]);
        let blob = |n: u64| BlobId::next(None, Timestamp::from_unix_ms((1 << 40) + n), [1; 10]);
        let reach =
            |n| VolumeAddress { volume: volume(n), address: String::new(), public_url: String::new() };
        let none = |_| HashSet::new();
        let mut tables = Tables::new(&db);
        for (v, b) in [(1, 5), (1, 6), (1, 7), (2, 6), (2, 9), (0xff, 8)] {
            tables.put_reclaim(volume(v), blob(b), 1);
        }
        tables.put_tombstone(volume(1), blob(6), &Tombstone::Refused { blob: blob(6) });
        db.apply_batch(tables.into_batch().unwrap()).unwrap();
        let settled = |v, batch, horizon| {
            let calls = next_deletes(&db, vec![reach(v)], batch, horizon, |_| vec![], none).unwrap();
            (calls[0].blobs.len(), calls[0].tombstones.len(), calls[0].reclaimed_before)
        };
        assert_eq!(settled(1, 2, Some(blob(99))), (2, 1, Some(blob(6))));
        assert_eq!(settled(2, 2, Some(blob(99))), (2, 0, Some(blob(5))));
        assert_eq!(settled(0xff, 2, Some(blob(3))), (1, 0, Some(blob(3))));
        assert_eq!(settled(1, 9, None), (3, 1, None));
        assert_eq!(next_deletes(&db, vec![reach(3)], 2, None, |_| vec![], none).unwrap(), vec![]);
        // A request waits for the newest, and for one that is no longer on the list.
        let call = next_deletes(&db, vec![reach(1)], 2, Some(blob(99)), |_| vec![blob(7), blob(4)], none)
            .unwrap()
            .remove(0);
        assert_eq!((call.blobs, call.reclaimed_before), (vec![blob(5), blob(7)], Some(blob(6))));
        // Acknowledged blobs are not sent again, and keep the tombstones until they leave the list.
        let next = |told: &[u64]| {
            let told = |_| told.iter().map(|n| blob(*n)).collect();
            let call =
                next_deletes(&db, vec![reach(1)], 2, Some(blob(99)), |_| vec![blob(7)], told).unwrap().pop();
            call.map(|call| (call.blobs, call.reclaimed_before))
        };
        assert_eq!(next(&[5, 6]), Some((vec![blob(7)], Some(blob(5)))));
        assert_eq!(next(&[5, 7]), Some((vec![blob(6)], Some(blob(5)))));
        assert_eq!(next(&[5, 6, 7]), None);
    }
}
