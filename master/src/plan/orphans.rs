//! Strays: records that a volume holds and no object refers to, left by uploads that ended between their receipts and their
//! commit; and copies that should be there and are not.

use std::time::Duration;

use shared::clock::Timestamp;
use shared::ids::{BlobId, VolumeId};
use shared::wire::volume::InventoryEntry;

use super::survey::{Finder, held};
use crate::cluster::topology::Topology;
use crate::tables::unsettled::{self, Spot};
use crate::tables::{TableError, Tables, meta, reclaim, replica};

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
/// blobs that nothing refers to stay: a volume that was not asked then may hold the only copies of values that nobody knows of.
/// A record of a blob that is named on other volumes goes only when as many of those as are wanted are up and were compared; else it
/// is needed.
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
        let expected = replica::is_referenced(tree, volume, blob)?
            || unsettled::is_arriving(&tables, blob, volume)?.is_some();
        if expected || reclaim::contains(&tables, volume, blob)? {
            continue;
        }
        let old = Duration::from_millis(entry.age_ms) > grace && now.since(blob.created()) > grace;
        let named = match unsettled::read(tree, blob)? {
            Some(spot) => Named::Needed(spot),
            None => named_elsewhere(tree, topology, &mut finder, blob)?,
        };
        match named {
            Named::Needed(spot) => strays.needed.push((blob, spot)),
            Named::Nowhere if gap.is_some_and(|gap| gap.covers(blob)) => {}
            _ if old => strays.orphans.push(*entry),
            _ => strays.young.push(*entry),
        }
    }
    Ok(strays)
}

/// Whether other volumes are named for a blob.
enum Named {
    /// Nothing refers to it.
    Nowhere,
    /// As many of them as are wanted are up and were compared.
    Enough,
    /// Too few are; this is where it is named.
    Needed(Spot),
}

fn named_elsewhere(
    tree: &sled::Tree,
    topology: &Topology,
    finder: &mut Finder,
    blob: BlobId,
) -> Result<Named, TableError> {
    for (other, _) in topology.seats() {
        let Some(key) = replica::read(tree, other, blob)? else { continue };
        let Some(spot) = finder.spot(tree, &key, blob)? else { continue };
        let Some(held) = held(tree, blob, &spot)? else { continue };
        let kept = held.replicas.iter().filter(|v| topology.keeps_of(**v, blob)).count();
        return Ok(if kept < held.wanted { Named::Needed(spot) } else { Named::Enough });
    }
    Ok(Named::Nowhere)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::topology::{Condition, Seat};
    use crate::tables::object::{Blob, Object};
    use shared::attributes::Attributes;
    use shared::digest::Digest;

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
        db.apply_batch(tables.into_batch().unwrap()).unwrap();
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
        db.apply_batch(tables.into_batch().unwrap()).unwrap();
        assert_eq!(
            chosen(at(11)).orphans,
            vec![entry(2, 99_999)],
            "what was written when nothing is known of stays"
        );
    }

    #[test]
    fn what_is_named_elsewhere_is_known_whatever_is_not() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let volume = |n| VolumeId::from_bytes([n; 16]);
        let at = |secs| Timestamp::from_unix_ms(1 << 40).after(Duration::from_secs(secs));
        let (blob, key) = (BlobId::next(None, at(0), [1; 10]), "k".parse().unwrap());
        let mut tables = Tables::new(&db);
        let replicas = vec![volume(2), volume(3)];
        let object = Object {
            generation: blob,
            size: 9,
            digest: Digest::of(b""),
            content_type: None,
            metadata: vec![],
            wanted: 2,
            blobs: vec![Blob { id: blob, length: 9, replicas: replicas.clone() }],
            attributes: Attributes::default(),
            parts: None,
        };
        tables.put_object(&key, &object);
        replicas.iter().for_each(|v| tables.put_replica(*v, blob, &key));
        tables.put_gap(&meta::Gap { after: None, until: at(5) });
        db.apply_batch(tables.into_batch().unwrap()).unwrap();
        let seat = |compared| Seat {
            zone: None,
            condition: Condition::Up,
            compared,
            capacity_bytes: 9,
            available_bytes: 9,
            live_bytes: 9,
        };
        let extra = [InventoryEntry { blob, length: 9, age_ms: 99_999 }];
        let chosen = |compared| {
            let topology = Topology::new([(volume(2), seat(true)), (volume(3), seat(compared))]);
            choose(&db, volume(1), &topology, &extra, (Duration::from_secs(10), at(99))).unwrap()
        };
        // Moved away, and left over; but as long as it is not sure that the others have it, it stays.
        assert_eq!(chosen(true).orphans, extra);
        assert_eq!(chosen(false).needed, vec![(blob, Spot::object(&key))]);
    }
}
