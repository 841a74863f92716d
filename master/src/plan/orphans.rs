//! Orphans: records that a volume holds and no object refers to, left by uploads that ended between
//! their receipts and their commit.

use std::time::Duration;

use shared::clock::Timestamp;
use shared::ids::{BlobId, VolumeId};
use shared::wire::volume::InventoryEntry;

use crate::tables::{TableError, meta, replica};

/// Those of a page of `volume`'s inventory that may go: unreferenced, and older than `grace`, which is
/// longer than any receipt is good for. Both clocks must say so, the volume's for the record and ours for the
/// blob's id, so that one that jumps ahead costs nothing. After a rebuild older blobs stay: a volume that was not asked
/// then may hold the only copies of values that nobody knows of.
///
/// # Errors
/// When the tables cannot be read.
pub fn choose(
    tree: &sled::Tree,
    volume: VolumeId,
    page: &[InventoryEntry],
    grace: Duration,
    now: Timestamp,
) -> Result<Vec<(BlobId, u64)>, TableError> {
    let mut orphans = Vec::new();
    let gap = meta::gap(tree)?;
    let old =
        |e: &&InventoryEntry| Duration::from_millis(e.age_ms) > grace && now.since(e.blob.created()) > grace;
    let known = |e: &&InventoryEntry| !gap.is_some_and(|g| g.covers(e.blob));
    for entry in page.iter().filter(old).filter(known) {
        if !replica::is_referenced(tree, volume, entry.blob)? {
            orphans.push((entry.blob, entry.length));
        }
    }
    Ok(orphans)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Tables;

    #[test]
    fn only_old_and_unreferenced_ones_go() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let volume = VolumeId::from_bytes([1; 16]);
        let id = |n: u8| BlobId::next(None, Timestamp::from_unix_ms(1 << 40), [n; 10]);
        let mut tables = Tables::new(&db);
        tables.put_replica(volume, id(1), &"k".parse().unwrap());
        // Referenced, but on another volume.
        tables.put_replica(VolumeId::from_bytes([2; 16]), id(2), &"k".parse().unwrap());
        db.apply_batch(tables.into_batch()).unwrap();
        let entry = |n, age_ms| InventoryEntry { blob: id(n), length: 9, age_ms };
        let page = [entry(1, 99_999), entry(2, 99_999), entry(3, 5_000), entry(4, 10_001)];
        let at = |secs| Timestamp::from_unix_ms(1 << 40).after(Duration::from_secs(secs));
        let chosen = |now| choose(&db, volume, &page, Duration::from_secs(10), now).unwrap();
        assert_eq!(chosen(at(11)), vec![(id(2), 9), (id(4), 9)]);
        assert_eq!(chosen(at(9)), vec![], "the volume's clock has jumped ahead");
        let mut tables = Tables::new(&db);
        tables.put_gap(&meta::Gap { after: Some(id(3)), until: at(5) });
        db.apply_batch(tables.into_batch()).unwrap();
        assert_eq!(chosen(at(11)), vec![(id(2), 9)], "what was written when nothing is known of stays");
    }
}
