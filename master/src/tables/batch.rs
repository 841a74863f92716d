//! Reads and writes of the tables: the records in sled, optionally overlaid with the changes of one batch.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::content::{self, Content};
use super::{Kind, TableError, decode, encode, path};

/// The tables overlaid with the changes of one batch: what `apply` reads and writes. Nothing reaches sled before the
/// result of `into_batch` or `into_changes` is applied.
pub struct Tables<'a> {
    tree: &'a sled::Tree,
    changes: BTreeMap<Vec<u8>, Change>,
    /// Previous entries of `changes`, since the mark.
    undo: Vec<(Vec<u8>, Option<Change>)>,
}

/// The new value; `None` if the record is removed.
type Change = Option<Vec<u8>>;

/// Read access to the records, in sled alone or overlaid with a batch. Each kind has a file with functions that read
/// through this trait and methods of `Tables` that write.
pub trait Read {
    /// Returns the encoded record at a path.
    ///
    /// # Errors
    /// When sled fails.
    fn bytes(&self, path: &[u8]) -> Result<Option<sled::IVec>, TableError>;

    /// Iterates in order over the paths of a kind's records whose keys begin with `prefix`.
    fn paths(&self, kind: Kind, prefix: &[u8]) -> impl Iterator<Item = Result<Vec<u8>, TableError>>;

    /// Returns the record at `key`.
    ///
    /// # Errors
    /// When sled fails or the record is corrupt.
    fn get<T: DeserializeOwned>(&self, kind: Kind, key: &[u8]) -> Result<Option<T>, TableError> {
        self.bytes(&path(kind, key))?.map(|bytes| decode(kind, key, &bytes)).transpose()
    }

    /// Whether there is a record whose key begins with `prefix`, corrupt ones included.
    ///
    /// # Errors
    /// When sled fails.
    fn any(&self, kind: Kind, prefix: &[u8]) -> Result<bool, TableError> {
        Ok(self.paths(kind, prefix).next().transpose()?.is_some())
    }

    /// Returns the first `limit` records whose keys begin with `prefix`, in order.
    ///
    /// # Errors
    /// When sled fails or a record is corrupt.
    fn first<T: DeserializeOwned>(
        &self,
        kind: Kind,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<T>, TableError> {
        let record = |path: Result<Vec<u8>, TableError>| {
            let record = self.get(kind, &path?[1..])?;
            record.ok_or(TableError::Corrupt { kind, bytes: 0 })
        };
        self.paths(kind, prefix).take(limit).map(record).collect()
    }
}

impl Read for sled::Tree {
    fn bytes(&self, path: &[u8]) -> Result<Option<sled::IVec>, TableError> {
        Ok(self.get(path)?)
    }

    fn paths(&self, kind: Kind, prefix: &[u8]) -> impl Iterator<Item = Result<Vec<u8>, TableError>> {
        let keys = self.scan_prefix(path(kind, prefix)).keys();
        keys.map(|path| path.map(|path| path.to_vec()).map_err(Into::into))
    }
}

impl Read for sled::Db {
    fn bytes(&self, path: &[u8]) -> Result<Option<sled::IVec>, TableError> {
        Read::bytes(&**self, path)
    }

    fn paths(&self, kind: Kind, prefix: &[u8]) -> impl Iterator<Item = Result<Vec<u8>, TableError>> {
        Read::paths(&**self, kind, prefix)
    }
}

impl Read for Tables<'_> {
    fn bytes(&self, path: &[u8]) -> Result<Option<sled::IVec>, TableError> {
        match self.changes.get(path) {
            Some(change) => Ok(change.as_deref().map(sled::IVec::from)),
            None => Ok(self.tree.get(path)?),
        }
    }

    /// Merges the paths in sled and in this batch in order.
    fn paths(&self, kind: Kind, prefix: &[u8]) -> impl Iterator<Item = Result<Vec<u8>, TableError>> {
        let prefix = path(kind, prefix);
        let begins = prefix.clone();
        let changed = self.changes.range(prefix.clone()..).take_while(move |(p, _)| p.starts_with(&begins));
        let mut written = changed.filter(|(_, change)| change.is_some()).map(|(p, _)| p).peekable();
        let stored = self.tree.scan_prefix(prefix).keys().filter(|path| match path {
            Ok(path) => !self.changes.contains_key(&path[..]),
            Err(_) => true,
        });
        let mut stored = stored.peekable();
        std::iter::from_fn(move || match (written.peek(), stored.peek()) {
            (_, Some(Err(_))) => stored.next().map(|path| path.map(|p| p.to_vec()).map_err(Into::into)),
            (Some(ours), Some(Ok(theirs))) if ours.as_slice() < &theirs[..] => {
                written.next().map(|p| Ok(p.clone()))
            }
            (_, Some(Ok(_))) => stored.next().map(|path| path.map(|p| p.to_vec()).map_err(Into::into)),
            (Some(_), None) => written.next().map(|p| Ok(p.clone())),
            (None, None) => None,
        })
    }
}

impl<'a> Tables<'a> {
    /// Returns the tables without changes.
    pub fn new(tree: &'a sled::Tree) -> Self {
        Self { tree, changes: BTreeMap::new(), undo: Vec::new() }
    }

    pub fn put<T: Serialize>(&mut self, kind: Kind, key: &[u8], value: &T) {
        self.change(path(kind, key), Some(encode(kind, key, value)));
    }

    pub fn remove(&mut self, kind: Kind, key: &[u8]) {
        self.change(path(kind, key), None);
    }

    fn change(&mut self, path: Vec<u8>, change: Change) {
        let before = self.changes.insert(path.clone(), change);
        self.undo.push((path, before));
    }

    /// Sets the point to which `roll_back` returns.
    pub fn mark(&mut self) {
        self.undo.clear();
    }

    /// Undoes all changes since the mark.
    pub fn roll_back(&mut self) {
        while let Some((path, before)) = self.undo.pop() {
            match before {
                Some(change) => self.changes.insert(path, change),
                None => self.changes.remove(&path),
            };
        }
    }

    /// Returns the changes with the values they replace, ordered by path, and the resulting digest of the tables,
    /// which is itself one of the changes.
    ///
    /// # Errors
    /// When sled fails, or the digest is corrupt.
    pub fn into_changes(self) -> Result<(Vec<Written>, Option<Content>), TableError> {
        let mut content = match content::read(self.tree)? {
            None if self.tree.is_empty() => Some(Content::default()),
            found => found,
        };
        let mut written = Vec::with_capacity(self.changes.len() + 1);
        for (path, after) in self.changes {
            let before = self.tree.get(&path)?;
            let change = Written { path, before, after };
            if let Some(content) = &mut content {
                content.follow(&change);
            }
            written.push(change);
        }
        if let Some(content) = &content {
            let (path, value) = content::record(content);
            written.push(Written { path, before: None, after: Some(value) });
        }
        Ok((written, content))
    }

    /// Returns the changes as one atomic batch.
    ///
    /// # Errors
    /// When sled fails, or the digest is corrupt.
    pub fn into_batch(self) -> Result<sled::Batch, TableError> {
        Ok(batch(self.into_changes()?.0))
    }
}

/// The change of one record.
#[derive(Clone, Debug)]
pub struct Written {
    /// `Kind` byte, then key.
    pub path: Vec<u8>,
    /// Its value in sled.
    pub before: Option<sled::IVec>,
    /// Its new value; `None` if it is removed.
    pub after: Option<Vec<u8>>,
}

/// Converts changes to one atomic batch.
pub fn batch(changes: Vec<Written>) -> sled::Batch {
    let mut batch = sled::Batch::default();
    for Written { path, after, .. } in changes {
        match after {
            Some(value) => batch.insert(path, value),
            None => batch.remove(path),
        }
    }
    batch
}

/// Iterates over the records of a kind whose keys begin with `prefix`, in key order, after `after`.
pub fn scan<T: DeserializeOwned>(
    tree: &sled::Tree,
    kind: Kind,
    prefix: &[u8],
    after: Option<&[u8]>,
) -> impl Iterator<Item = Result<(Vec<u8>, T), TableError>> + use<T> {
    let prefix = path(kind, prefix);
    let start = match after.map(|a| path(kind, a)) {
        Some(a) if a >= prefix => Bound::Excluded(a),
        _ => Bound::Included(prefix.clone()),
    };
    tree.range((start, Bound::Unbounded))
        .take_while(move |item| item.as_ref().is_ok_and(|(k, _)| k.starts_with(&prefix)) || item.is_err())
        .map(move |item| {
            let (path, value) = item?;
            let key = path[1..].to_vec();
            let record = decode(kind, &key, &value)?;
            Ok((key, record))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_since_the_mark_can_be_taken_back() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let mut tables = Tables::new(&db);
        tables.put(Kind::Meta, b"kept", &1u64);
        tables.mark();
        tables.put(Kind::Meta, b"kept", &2u64);
        tables.remove(Kind::Meta, b"kept");
        tables.put(Kind::Meta, b"new", &3u64);
        tables.roll_back();
        assert_eq!(tables.get::<u64>(Kind::Meta, b"kept").unwrap(), Some(1));
        assert_eq!(tables.get::<u64>(Kind::Meta, b"new").unwrap(), None);
    }
}
