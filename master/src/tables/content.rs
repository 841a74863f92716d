//! The digest of all records, kept in the tables and updated with every batch, in the same atomic write.
//!
//! A checksum proves that a record was once written, not that it is the newest: tables that lost a piece of their
//! file may hold the previous version, or nothing, and look intact. So the digest of a table is the sum, modulo
//! 2^128, of the keyed BLAKE3 of the path and value of its records (the additive multiset hash of Bellare and
//! Micciancio, 1997). A sum does not depend on order: a batch updates it by what it replaces and what it writes, and
//! reading all records gives the same sum.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::meta::{self, FORMAT_VERSION, Identity, VERSION_WITHOUT_DIGEST};
use super::{Kind, TableError, Written, check, decode, encode, path};

const CONTENT: &[u8] = b"content";

/// Not a secret: domain separation from all other hashes.
static HASH_KEY: LazyLock<[u8; 32]> =
    LazyLock::new(|| blake3::derive_key("barge 2026-11 digest of the records of a table", b""));

/// Count and digest of the records of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sum {
    records: u64,
    digest: u128,
}

/// Count and digest of each table, by its `Kind` byte, without the record of this digest itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content(BTreeMap<u8, Sum>);

impl Content {
    /// Adds a record.
    pub fn add(&mut self, path: &[u8], value: &[u8]) {
        self.change(path, value, 1, u128::wrapping_add);
    }

    /// Subtracts a record.
    pub fn remove(&mut self, path: &[u8], value: &[u8]) {
        self.change(path, value, u64::MAX, u128::wrapping_sub);
    }

    fn change(&mut self, path: &[u8], value: &[u8], records: u64, apply: fn(u128, u128) -> u128) {
        let Some(table) = path.first().filter(|_| !is_content(path)) else { return };
        let sum = self.0.entry(*table).or_default();
        sum.records = sum.records.wrapping_add(records);
        sum.digest = apply(sum.digest, hash(path, value));
        if *sum == Sum::default() {
            self.0.remove(table);
        }
    }

    /// Returns the number of records of a kind.
    pub fn records(&self, kind: Kind) -> u64 {
        self.0.get(&(kind as u8)).map_or(0, |sum| sum.records)
    }

    /// Applies the change of a record.
    pub fn follow(&mut self, change: &Written) {
        if let Some(before) = &change.before {
            self.remove(&change.path, before);
        }
        if let Some(after) = &change.after {
            self.add(&change.path, after);
        }
    }

    /// Describes the tables in which the two differ; empty if they are equal.
    pub fn differing(&self, expected: &Self) -> String {
        let all: std::collections::BTreeSet<u8> = self.0.keys().chain(expected.0.keys()).copied().collect();
        let sum = |of: &Self, table| of.0.get(&table).copied().unwrap_or_default();
        let differs = all.into_iter().filter(|table| sum(self, *table) != sum(expected, *table));
        let words = differs.map(|table| {
            let (found, expected) = (sum(self, table), sum(expected, table));
            let name = Kind::of(table).map_or_else(|| format!("{table:#04x}"), |kind| format!("{kind:?}"));
            match found.records == expected.records {
                true => format!("{name} (other contents in {} records)", found.records),
                false => format!("{name} ({} records of {})", found.records, expected.records),
            }
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

fn hash(path: &[u8], value: &[u8]) -> u128 {
    let mut hasher = blake3::Hasher::new_keyed(&HASH_KEY);
    hasher.update(&(path.len() as u64).to_le_bytes()).update(path).update(value);
    let [low @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *hasher.finalize().as_bytes();
    u128::from_le_bytes(low)
}

fn is_content(path: &[u8]) -> bool {
    path.split_first() == Some((&(Kind::Meta as u8), CONTENT))
}

/// Reads the stored digest; `None` in tables of an older version.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn read(tree: &sled::Tree) -> Result<Option<Content>, TableError> {
    tree.get(path(Kind::Meta, CONTENT))?.map(|b| decode(Kind::Meta, CONTENT, &b)).transpose()
}

/// Returns path and value of the record of the digest.
pub(super) fn record(content: &Content) -> (Vec<u8>, Vec<u8>) {
    (path(Kind::Meta, CONTENT), encode(Kind::Meta, CONTENT, content))
}

/// Result of reading all records.
#[derive(Debug, Default)]
pub struct Found {
    content: Content,
    /// Tables with unreadable records, and the first error of each: their digests are not compared.
    corrupt: BTreeMap<u8, TableError>,
}

impl Found {
    /// Adds a record.
    pub fn add(&mut self, path: &[u8], value: &[u8]) {
        if let (Some(table), Err(error)) = (path.first(), check(path, value)) {
            self.corrupt.entry(*table).or_insert(error);
        }
        self.content.add(path, value);
    }

    /// Applies the change of a record.
    pub fn follow(&mut self, change: &Written) {
        self.content.follow(change);
    }

    /// Compares the records with the expected digest.
    ///
    /// # Errors
    /// `Differs`, with the names of the tables; `Corrupt` if a record cannot be read and no other table differs.
    pub fn expect(mut self, mut expected: Content) -> Result<(), TableError> {
        for table in self.corrupt.keys() {
            self.content.0.remove(table);
            expected.0.remove(table);
        }
        let differing = self.content.differing(&expected);
        if !differing.is_empty() {
            return Err(TableError::Differs { kinds: differing });
        }
        self.corrupt.pop_first().map_or(Ok(()), |(_, error)| Err(error))
    }
}

/// Reads all records.
///
/// # Errors
/// When sled fails.
pub fn of(tree: &sled::Tree) -> Result<Found, TableError> {
    let mut found = Found::default();
    for item in tree {
        let (path, value) = item?;
        found.add(&path, &value);
    }
    Ok(found)
}

/// Reads all records and compares them with the stored digest. Creates the digest of new tables and of those of
/// an older version.
///
/// # Errors
/// Like `Found::expect`; if sled fails.
pub fn prove(tree: &sled::Tree) -> Result<(), TableError> {
    let mut found = of(tree)?;
    let identity = meta::identity(tree)?;
    // In tables of an older version the digest may be stale: masters of that version do not update it.
    let older = identity.filter(|i| i.format_version <= VERSION_WITHOUT_DIGEST);
    if let Some(expected) = read(tree)?.filter(|_| older.is_none()) {
        return found.expect(expected);
    }
    if older.is_none() && !tree.is_empty() {
        return Err(TableError::Differs { kinds: "the digest itself (it is missing)".into() });
    }
    let mut batch = sled::Batch::default();
    // Tables of the first version keep it until they have a log.
    if let Some(identity) = older.filter(|i| i.format_version == VERSION_WITHOUT_DIGEST) {
        let (path, value) = meta::identity_record(&Identity { format_version: FORMAT_VERSION, ..identity });
        let before = tree.get(&path)?;
        let change = Written { path, before, after: Some(value) };
        found.follow(&change);
        batch.insert(change.path, change.after.unwrap_or_default());
    }
    let (path, value) = record(&found.content);
    batch.insert(path, value);
    tree.apply_batch(batch)?;
    found.corrupt.pop_first().map_or(Ok(()), |(_, error)| Err(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Tables;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_moves_with_every_batch(batches in prop::collection::vec(
            prop::collection::vec((0u8..20, prop::option::of(0u64..5)), 1..8), 1..20,
        )) {
            let db = sled::Config::new().temporary(true).open().unwrap();
            for batch in batches {
                let mut tables = Tables::new(&db);
                for (key, value) in batch {
                    let kind = if key % 2 == 0 { Kind::Object } else { Kind::Volume };
                    match value {
                        Some(value) => tables.put(kind, &[key], &value),
                        None => tables.remove(kind, &[key]),
                    }
                }
                db.apply_batch(tables.into_batch().unwrap()).unwrap();
                prop_assert_eq!(read(&db).unwrap(), Some(of(&db).unwrap().content));
            }
            prove(&db).unwrap();
        }
    }

    #[test]
    fn tables_without_a_digest_get_one_if_they_are_older_than_it() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let cluster = shared::ids::ClusterId::random();
        let versions = |db: &sled::Tree| meta::identity(db).unwrap().unwrap().format_version;
        meta::write_identity(&db, &Identity { cluster, format_version: VERSION_WITHOUT_DIGEST }).unwrap();
        db.remove(path(Kind::Meta, CONTENT)).unwrap();
        prove(&db).unwrap();
        assert_eq!((versions(&db), read(&db).unwrap()), (FORMAT_VERSION, Some(of(&db).unwrap().content)));
        db.remove(path(Kind::Meta, CONTENT)).unwrap();
        assert!(prove(&db).unwrap_err().to_string().contains("missing"));
    }

    #[test]
    fn an_older_version_a_missing_and_a_strange_record_are_named() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let put = |value: u64| {
            let mut tables = Tables::new(&db);
            tables.put(Kind::Object, b"key", &value);
            db.apply_batch(tables.into_batch().unwrap()).unwrap();
            db.get(b"okey").unwrap().unwrap()
        };
        let (old, new) = (put(1), put(2));
        prove(&db).unwrap();
        let said = || prove(&db).unwrap_err().to_string();
        db.insert(b"okey", old).unwrap();
        assert!(said().contains("Object (other contents in 1 records)"), "{}", said());
        db.remove(b"okey").unwrap();
        assert!(said().contains("Object (0 records of 1)"), "{}", said());
        db.insert(b"okey", new).unwrap();
        prove(&db).unwrap();
        db.insert(b"vrot", b"rot").unwrap();
        assert!(matches!(prove(&db), Err(TableError::Corrupt { kind: Kind::Volume, .. })));
        db.insert(b"rx", super::super::encode(Kind::Reclaim, b"x", &1u64)).unwrap();
        assert!(said().contains("Reclaim (1 records of 0)"), "whatever else is corrupt: {}", said());
        db.remove(b"vrot").unwrap();
        db.remove(b"rx").unwrap();
        db.insert([200u8, 1], b"of no table").unwrap();
        assert!(said().contains("0xc8 (1 records of 0)"), "{}", said());
    }
}
