//! Tombstones to be sent to volumes: `volume id (16) · blob id (16)` → why the blob is deleted. Each accompanies an
//! entry of the reclaim list: the volume makes it durable before it deletes the blob.
//!
//! Key tombstones: `key's hash (16)` → the deleted generation. Kept until no upload that began before the delete can
//! still be committed (what gc_grace is elsewhere): `overtaken` in `master/src/state/apply.rs` refuses the commit of a
//! generation that a tombstone covers, so that a deleted value does not come back.

use shared::ids::{BlobId, VolumeId};
use shared::tombstone::{KeyHash, Tombstone};

use super::replica::replica_path;
use super::{Kind, Read, TableError, Tables, decode, scan};

/// Returns the tombstones of `blobs` to be sent to `volume`.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn to_send(tree: &sled::Tree, volume: VolumeId, blobs: &[BlobId]) -> Result<Vec<Tombstone>, TableError> {
    let mut found = Vec::new();
    for blob in blobs {
        let place = replica_path(volume, *blob);
        if let Some(bytes) = tree.get(super::path(Kind::OutgoingTombstone, &place))? {
            found.push(decode(Kind::OutgoingTombstone, &place, &bytes)?);
        }
    }
    Ok(found)
}

/// Returns at most `limit` key tombstones whose generation is older than `before`.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn expired_key_tombstones(
    tree: &sled::Tree,
    before: shared::clock::Timestamp,
    limit: usize,
) -> Result<Vec<(KeyHash, BlobId)>, TableError> {
    let mut old = Vec::new();
    for deleted in scan::<BlobId>(tree, Kind::KeyTombstone, b"", None) {
        let (key, generation) = deleted?;
        if generation.created() < before
            && let Ok(key) = key.try_into()
        {
            old.push((KeyHash::from_bytes(key), generation));
            if old.len() == limit {
                break;
            }
        }
    }
    Ok(old)
}

/// Returns the generation of this key that was deleted last, if its tombstone still exists.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn key_tombstone(records: &impl Read, key: KeyHash) -> Result<Option<BlobId>, TableError> {
    records.get(Kind::KeyTombstone, key.as_bytes())
}

impl Tables<'_> {
    /// Writes the tombstone of `blob` to be sent to `volume`.
    pub fn put_tombstone(&mut self, volume: VolumeId, blob: BlobId, tombstone: &Tombstone) {
        self.put(Kind::OutgoingTombstone, &replica_path(volume, blob), tombstone);
    }

    pub fn remove_tombstone(&mut self, volume: VolumeId, blob: BlobId) {
        self.remove(Kind::OutgoingTombstone, &replica_path(volume, blob));
    }

    /// Records that all generations of a key up to this one are deleted.
    pub fn put_key_tombstone(&mut self, key: KeyHash, generation: BlobId) {
        self.put(Kind::KeyTombstone, key.as_bytes(), &generation);
    }

    pub fn remove_key_tombstone(&mut self, key: KeyHash) {
        self.remove(Kind::KeyTombstone, key.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::clock::Timestamp;

    fn blob(n: u64) -> BlobId {
        BlobId::next(None, Timestamp::from_unix_ms(n), [1; 10])
    }

    proptest! {
        #[test]
        fn what_was_written_is_found(volumes in prop::collection::btree_map((0u8..3, 1u64..20), any::<bool>(), 0..20)) {
            let db = sled::Config::new().temporary(true).open().unwrap();
            let mut tables = Tables::new(&db);
            let make = |b: u64, deleted: bool| {
                let key = KeyHash::from_bytes([u8::try_from(b).unwrap(); 16]);
                if deleted { Tombstone::Deleted { key, generation: blob(b) } } else { Tombstone::Refused { blob: blob(b) } }
            };
            for ((v, b), deleted) in &volumes {
                tables.put_tombstone(VolumeId::from_bytes([*v; 16]), blob(*b), &make(*b, *deleted));
            }
            db.apply_batch(tables.into_batch().unwrap()).unwrap();
            let all: Vec<_> = (1..20).map(blob).collect();
            for v in 0..3 {
                let expected: Vec<_> = volumes.range((v, 0)..(v + 1, 0)).map(|((_, b), d)| make(*b, *d)).collect();
                prop_assert_eq!(to_send(&db, VolumeId::from_bytes([v; 16]), &all).unwrap(), expected);
            }
        }
    }

    #[test]
    fn old_deletes_are_forgotten() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let key = |n: u8| KeyHash::from_bytes([n; 16]);
        let mut tables = Tables::new(&db);
        (1..6).for_each(|n| tables.put_key_tombstone(key(n), blob(u64::from(n) * 100)));
        assert_eq!(key_tombstone(&tables, key(2)).unwrap(), Some(blob(200)));
        db.apply_batch(tables.into_batch().unwrap()).unwrap();
        let before = Timestamp::from_unix_ms(300);
        assert_eq!(
            expired_key_tombstones(&db, before, 9).unwrap(),
            vec![(key(1), blob(100)), (key(2), blob(200))]
        );
        assert_eq!(expired_key_tombstones(&db, before, 1).unwrap().len(), 1);
    }
}
