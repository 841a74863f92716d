//! Classifies records that reconciliation found on a volume but not in the tables: orphans, left by uploads that
//! ended between receipt and commit (garbage collection); young ones; and replicas that are still needed.

use crate::plan::blob_locator::{BlobLocator, read_replicas};
use std::time::Duration;

use shared::clock::Timestamp;
use shared::ids::{BlobId, VolumeId};
use shared::wire::volume::InventoryEntry;

use crate::cluster::topology::Topology;
use crate::tables::repair_queue::{self, BlobRef};
use crate::tables::{TableError, Tables, meta, reclaim, replica};

/// Unreferenced records of a volume, by what is to be done with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnreferencedRecords {
    /// To be deleted: nothing references them, and every receipt for them has expired.
    pub orphans: Vec<InventoryEntry>,
    /// To be kept for now: a commit may still reference them.
    pub young: Vec<InventoryEntry>,
    /// Replicas of under-replicated blobs, to be listed again.
    pub needed: Vec<(BlobId, BlobRef)>,
}

/// Classifies records on `volume` that the tables did not reference when compared. An orphan must be older than
/// `grace` by both clocks, the volume's for the record and ours for the blob id, so that a clock that jumps ahead
/// does no harm. Unreferenced blobs from the gap of a rebuild or restore are kept: they may be the only replicas of
/// unknown values. A record of a blob that is referenced on other volumes is an orphan only if enough verified
/// replicas exist there; otherwise it is needed.
///
/// # Errors
/// When the tables cannot be read.
pub fn classify_unreferenced(
    tree: &sled::Tree,
    volume: VolumeId,
    topology: &Topology,
    extra: &[InventoryEntry],
    (grace, now): (Duration, Timestamp),
) -> Result<UnreferencedRecords, TableError> {
    let (mut unreferenced, mut finder) = (UnreferencedRecords::default(), BlobLocator::default());
    let (gap, tables) = (meta::gap(tree)?, Tables::new(tree));
    for entry in extra {
        let blob = entry.blob;
        let expected = replica::is_referenced(tree, volume, blob)?
            || repair_queue::pending_replica(&tables, blob, volume)?.is_some();
        if expected || reclaim::contains(&tables, volume, blob)? {
            continue;
        }
        let old = Duration::from_millis(entry.age_ms) > grace && now.since(blob.created()) > grace;
        let named = match repair_queue::read(tree, blob)? {
            Some(blob_ref) => Named::Needed(blob_ref),
            None => named_elsewhere(tree, topology, &mut finder, blob)?,
        };
        match named {
            Named::Needed(blob_ref) => unreferenced.needed.push((blob, blob_ref)),
            Named::Nowhere if gap.is_some_and(|gap| gap.covers(blob)) => {}
            _ if old => unreferenced.orphans.push(*entry),
            _ => unreferenced.young.push(*entry),
        }
    }
    Ok(unreferenced)
}

/// Whether a blob is referenced on other volumes.
enum Named {
    /// Nothing references it.
    Nowhere,
    /// It has as many verified replicas as wanted.
    Enough,
    /// It has too few verified replicas; this references it.
    Needed(BlobRef),
}

fn named_elsewhere(
    tree: &sled::Tree,
    topology: &Topology,
    finder: &mut BlobLocator,
    blob: BlobId,
) -> Result<Named, TableError> {
    for (other, _) in topology.volumes() {
        let Some(key) = replica::read(tree, other, blob)? else { continue };
        let Some(blob_ref) = finder.locate(tree, &key, blob)? else { continue };
        let Some(held) = read_replicas(tree, blob, &blob_ref)? else { continue };
        let kept = held.replicas.iter().filter(|v| topology.has_verified_replica(**v, blob)).count();
        return Ok(if kept < held.wanted { Named::Needed(blob_ref) } else { Named::Enough });
    }
    Ok(Named::Nowhere)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::topology::{Availability, TopologyVolume};
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
        // A pending replica; one on the reclaim list; a replica of an under-replicated value.
        tables.put_pending_replica(id(5), volume, &BlobRef::object(&key));
        tables.put_reclaim(volume, id(6), 9);
        tables.update_repair_queue(id(7), &BlobRef::object(&key), 1, 2);
        db.apply_batch(tables.into_batch().unwrap()).unwrap();
        let entry = |n, age_ms| InventoryEntry { blob: id(n), length: 9, age_ms };
        let page = [entry(1, 99_999), entry(2, 99_999), entry(3, 5_000), entry(4, 10_001)];
        let more = [entry(5, 99_999), entry(6, 99_999), entry(7, 99_999)];
        let page = [&page[..], &more].concat();
        let at = |secs| Timestamp::from_unix_ms(1 << 40).after(Duration::from_secs(secs));
        let grace = Duration::from_secs(10);
        let chosen =
            |now| classify_unreferenced(&db, volume, &Topology::default(), &page, (grace, now)).unwrap();
        let unreferenced = chosen(at(11));
        assert_eq!(unreferenced.orphans, vec![entry(2, 99_999), entry(4, 10_001)]);
        assert_eq!(unreferenced.young, vec![entry(3, 5_000)]);
        assert_eq!(unreferenced.needed, vec![(id(7), BlobRef::object(&key))]);
        assert_eq!(chosen(at(9)).orphans, vec![], "the volume's clock has jumped ahead");
        let mut tables = Tables::new(&db);
        tables.put_gap(&meta::Gap { after: Some(id(3)), until: at(5) });
        db.apply_batch(tables.into_batch().unwrap()).unwrap();
        assert_eq!(chosen(at(11)).orphans, vec![entry(2, 99_999)], "records from the gap are kept");
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
            expiry: Default::default(),
        };
        tables.put_object(&key, &object);
        replicas.iter().for_each(|v| tables.put_replica(*v, blob, &key));
        tables.put_gap(&meta::Gap { after: None, until: at(5) });
        db.apply_batch(tables.into_batch().unwrap()).unwrap();
        let entry = |compared| TopologyVolume {
            zone: None,
            availability: Availability::Writable,
            compared,
            capacity_bytes: 9,
            available_bytes: 9,
            live_bytes: 9,
        };
        let extra = [InventoryEntry { blob, length: 9, age_ms: 99_999 }];
        let chosen = |compared| {
            let topology = Topology::new([(volume(2), entry(true)), (volume(3), entry(compared))]);
            classify_unreferenced(&db, volume(1), &topology, &extra, (Duration::from_secs(10), at(99)))
                .unwrap()
        };
        // Moved away and left over; kept until the other replicas are verified.
        assert_eq!(chosen(true).orphans, extra);
        assert_eq!(chosen(false).needed, vec![(blob, BlobRef::object(&key))]);
    }
}
