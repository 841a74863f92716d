//! Tombstones that volumes have to be told of: `volume id (16) · blob id (16)` → why the blob goes. Beside an entry of
//! the reclaim list, and as long as that: the volume makes it durable before it deletes the blob.
//!
//! And deleted keys: `key's hash (16)` → the generation that was deleted, for as long as an upload that began before may
//! still come to its commit: it must not come after the delete with a generation that the tombstone has buried.

use shared::ids::{BlobId, VolumeId};
use shared::tombstone::{KeyHash, Tombstone};

use super::replica::place;
use super::{Kind, Read, TableError, Tables, decode, scan};

/// What `volume` is to be told of `blobs`.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn of(tree: &sled::Tree, volume: VolumeId, blobs: &[BlobId]) -> Result<Vec<Tombstone>, TableError> {
    let mut found = Vec::new();
    for blob in blobs {
        let place = place(volume, *blob);
        if let Some(bytes) = tree.get(super::path(Kind::Tombstone, &place))? {
            found.push(decode(Kind::Tombstone, &place, &bytes)?);
        }
    }
    Ok(found)
}

/// At most `limit` deleted keys whose generation is older than `before`, and that generation.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn forgettable(
    tree: &sled::Tree,
    before: shared::clock::Timestamp,
    limit: usize,
) -> Result<Vec<(KeyHash, BlobId)>, TableError> {
    let mut old = Vec::new();
    for deleted in scan::<BlobId>(tree, Kind::Deleted, b"", None) {
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

/// The generation of this key that was deleted last, as far as that is still known.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn deleted(records: &impl Read, key: KeyHash) -> Result<Option<BlobId>, TableError> {
    records.get(Kind::Deleted, key.as_bytes())
}

impl Tables<'_> {
    /// Notes what `volume` is to be told of `blob`.
    pub fn put_tombstone(&mut self, volume: VolumeId, blob: BlobId, tombstone: &Tombstone) {
        self.put(Kind::Tombstone, &place(volume, blob), tombstone);
    }

    pub fn remove_tombstone(&mut self, volume: VolumeId, blob: BlobId) {
        self.remove(Kind::Tombstone, &place(volume, blob));
    }

    /// Notes that all generations of a key up to this one were deleted.
    pub fn put_deleted(&mut self, key: KeyHash, generation: BlobId) {
        self.put(Kind::Deleted, key.as_bytes(), &generation);
    }

    pub fn remove_deleted(&mut self, key: KeyHash) {
        self.remove(Kind::Deleted, key.as_bytes());
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
                prop_assert_eq!(of(&db, VolumeId::from_bytes([v; 16]), &all).unwrap(), expected);
            }
        }
    }

    #[test]
    fn old_deletes_are_forgotten() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let key = |n: u8| KeyHash::from_bytes([n; 16]);
        let mut tables = Tables::new(&db);
        (1..6).for_each(|n| tables.put_deleted(key(n), blob(u64::from(n) * 100)));
        assert_eq!(deleted(&tables, key(2)).unwrap(), Some(blob(200)));
        db.apply_batch(tables.into_batch().unwrap()).unwrap();
        let before = Timestamp::from_unix_ms(300);
        assert_eq!(forgettable(&db, before, 9).unwrap(), vec![(key(1), blob(100)), (key(2), blob(200))]);
        assert_eq!(forgettable(&db, before, 1).unwrap().len(), 1);
    }
}
