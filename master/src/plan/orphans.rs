//! Orphans: records that a volume holds and no object refers to, left by uploads that ended between
//! their receipts and their commit.

use std::time::Duration;

use shared::ids::{BlobId, VolumeId};
use shared::wire::volume::InventoryEntry;

use crate::tables::{TableError, replica};

/// Those of a page of `volume`'s inventory that may go: unreferenced, and older than `grace`, which is
/// longer than any ticket's upload can still be waiting for its commit.
///
/// # Errors
/// When the tables cannot be read.
pub fn choose(
    tree: &sled::Tree,
    volume: VolumeId,
    page: &[InventoryEntry],
    grace: Duration,
) -> Result<Vec<(BlobId, u64)>, TableError> {
    let mut orphans = Vec::new();
    for entry in page.iter().filter(|e| Duration::from_millis(e.age_ms) > grace) {
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
    use shared::clock::Timestamp;

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
        let chosen = choose(&db, volume, &page, Duration::from_secs(10)).unwrap();
        assert_eq!(chosen, vec![(id(2), 9), (id(4), 9)]);
    }
}
