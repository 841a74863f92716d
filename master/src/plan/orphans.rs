//! Strays: records that a volume holds and no object refers to, left by uploads that ended between their receipts and their
//! commit; and copies that should be there and are not.

use std::time::Duration;

use shared::clock::Timestamp;
use shared::ids::{BlobId, VolumeId};
use shared::wire::volume::InventoryEntry;

use super::survey::{Finder, held};
use super::topology::Topology;
use crate::tables::unsettled::{self, Spot};
use crate::tables::{TableError, Tables, meta, replica};

/// What becomes of records that the tables did not name when they were compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strays {
    /// May go: nothing refers to them, and they are older than any receipt is good for.
    pub orphans: Vec<InventoryEntry>,
    /// May become a value's yet.
    pub young: Vec<InventoryEntry>,
    /// A value lacks a copy, and this is one.
    pub needed: Vec<(BlobId, Spot)>,
}

/// Judges records on `volume` that the tables did not name a moment ago. Both clocks must say that one is older than `grace`, the
/// volume's for the record and ours for the blob's id, so that one that jumps ahead costs nothing. After a rebuild older
/// blobs stay: a volume that was not asked then may hold the only copies of values that nobody knows of. A record of a blob that is
/// named on other volumes goes only when as many of those as are wanted are up and were compared; else it is needed.
///
/// # Errors
/// When the tables cannot be read.
pub fn choose(
    tree: &sled::Tree,
    volume: VolumeId,
    topology: &Topology,
    extra: &[InventoryEntry],
    (grace, now): (Duration, Timestamp),
) -> Result<Strays, TableError> {
    let (mut strays, mut finder) = (Strays::default(), Finder::default());
    let (gap, tables) = (meta::gap(tree)?, Tables::new(tree));
    for entry in extra {
        let blob = entry.blob;
        let expected = replica::is_referenced(tree, volume, blob)? || tables.arriving(blob, volume)?;
        if expected || tables.reclaiming(volume, blob)? || gap.is_some_and(|gap| gap.covers(blob)) {
            continue;
        }
        let old = Duration::from_millis(entry.age_ms) > grace && now.since(blob.created()) > grace;
        let spot = match unsettled::read(tree, blob)? {
            Some(spot) => Some(spot),
            None => named_elsewhere(tree, topology, &mut finder, blob)?,
        };
        match spot {
            Some(spot) => strays.needed.push((blob, spot)),
            None if old => strays.orphans.push(*entry),
            None => strays.young.push(*entry),
        }
    }
    Ok(strays)
}

/// Where a blob is named whose copies are named on other volumes, too few of which are up and compared.
fn named_elsewhere(
    tree: &sled::Tree,
    topology: &Topology,
    finder: &mut Finder,
    blob: BlobId,
) -> Result<Option<Spot>, TableError> {
    for (other, _) in topology.seats() {
        let Some(key) = replica::read(tree, other, blob)? else { continue };
        let Some(spot) = finder.spot(tree, &key, blob)? else { continue };
        let Some(held) = held(tree, blob, &spot)? else { continue };
        let kept = held.replicas.iter().filter(|v| topology.keeps_of(**v, blob)).count();
        return Ok(Some(spot).filter(|_| kept < held.wanted));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_and_unreferenced_ones_go() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let volume = VolumeId::from_bytes([1; 16]);
        let id = |n: u8| BlobId::next(None, Timestamp::from_unix_ms(1 << 40), [n; 10]);
        let key = "k".parse().unwrap();
        let mut tables = Tables::new(&db);
        tables.put_replica(volume, id(1), &key);
        // Referenced, but on another volume.
        tables.put_replica(VolumeId::from_bytes([2; 16]), id(2), &key);
        // On its way here; on the reclaim list; a copy of a value that lacks one.
        tables.put_arriving(id(5), volume, &Spot::object(&key));
        tables.put_reclaim(volume, id(6), 9);
        tables.put_settled(id(7), &Spot::object(&key), 1, 2);
        db.apply_batch(tables.into_batch()).unwrap();
        let entry = |n, age_ms| InventoryEntry { blob: id(n), length: 9, age_ms };
        let page = [entry(1, 99_999), entry(2, 99_999), entry(3, 5_000), entry(4, 10_001)];
        let more = [entry(5, 99_999), entry(6, 99_999), entry(7, 99_999)];
        let page = [&page[..], &more].concat();
        let at = |secs| Timestamp::from_unix_ms(1 << 40).after(Duration::from_secs(secs));
        let grace = Duration::from_secs(10);
        let chosen = |now| choose(&db, volume, &Topology::default(), &page, (grace, now)).unwrap();
        let strays = chosen(at(11));
        assert_eq!(strays.orphans, vec![entry(2, 99_999), entry(4, 10_001)]);
        assert_eq!(strays.young, vec![entry(3, 5_000)]);
        assert_eq!(strays.needed, vec![(id(7), Spot::object(&key))]);
        assert_eq!(chosen(at(9)).orphans, vec![], "the volume's clock has jumped ahead");
        let mut tables = Tables::new(&db);
        tables.put_gap(&meta::Gap { after: Some(id(3)), until: at(5) });
        db.apply_batch(tables.into_batch()).unwrap();
        assert_eq!(
            chosen(at(11)).orphans,
            vec![entry(2, 99_999)],
            "what was written when nothing is known of stays"
        );
    }
}
