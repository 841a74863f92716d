//! What is in sled: one tree, one file of code for each kind of record, a prefix byte for each kind.
//!
//! One tree, because then one batch over all kinds is one atomic write. Every value carries a
//! version and a CRC32C of kind, key and bytes, so that a torn page, a swapped value or rot is an
//! error that is seen, never a wrong answer.

pub mod access_key;
pub mod bucket;
pub mod content;
pub mod meta;
pub mod mode;
pub mod object;
pub mod reclaim;
pub mod replica;
pub mod standing;
pub mod tombstone;
pub mod unsettled;
pub mod upload;
pub mod volume;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::crc32c::Crc32c;

use self::content::Content;

/// The first byte of every sled key: which kind of record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Counters and identity of the cluster, by name.
    Meta = b'm',
    /// Objects, by key.
    Object = b'o',
    /// Keys whose value was written under a condition: its generation, by key.
    Conditional = b'c',
    /// Blobs by volume: which key each belongs to.
    Replica = b'b',
    /// Blobs on volumes that wait to be reclaimed.
    Reclaim = b'r',
    /// Blobs that were reclaimed a moment ago.
    Grave = b'g',
    /// Volumes, by id.
    Volume = b'v',
    /// What volumes are to be told of blobs that wait to be reclaimed.
    Tombstone = b't',
    /// Keys that were deleted not long ago.
    Deleted = b'd',
    /// Buckets, by name.
    Bucket = b'n',
    /// Uploads in parts, by key.
    Upload = b'u',
    /// Parts, by upload.
    Part = b'p',
    /// Uploads whose parts are to go.
    Condemned = b'x',
    /// Access keys, by id.
    AccessKey = b'k',
    /// What is to become of volumes, by id.
    Standing = b's',
    /// Blobs with too few or too many copies, by id.
    Unsettled = b'w',
    /// Copies on their way, by blob and volume.
    Arriving = b'a',
    /// When uploads of buckets are acknowledged, by name.
    Mode = b'y',
    /// Values in parts whose parts are elsewhere now, by upload.
    Unweighed = b'z',
}

impl Kind {
    /// The kind that has this first byte.
    fn of(first: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == first)
    }

    const ALL: [Self; 19] = [
        Self::Meta,
        Self::Object,
        Self::Conditional,
        Self::Replica,
        Self::Reclaim,
        Self::Grave,
        Self::Volume,
        Self::Tombstone,
        Self::Deleted,
        Self::Bucket,
        Self::Upload,
        Self::Part,
        Self::Condemned,
        Self::AccessKey,
        Self::Standing,
        Self::Unsettled,
        Self::Arriving,
        Self::Mode,
        Self::Unweighed,
    ];
}

/// The metadata could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A bug, or an error of the disk that sled does not return.
    #[error("the metadata store panicked")]
    Panicked,
    /// It does not come back from a write.
    #[error("the metadata store hangs")]
    Stuck,
    /// It has failed, as was said before.
    #[error("{0}")]
    Failed(String),
    /// sled says no.
    #[error("the metadata store failed: {0}")]
    Sled(#[from] sled::Error),
    /// A value is not what was written.
    #[error("a {kind:?} record is damaged ({bytes} bytes); the values on the volumes are not affected")]
    Damaged {
        /// Which kind.
        kind: Kind,
        /// How long the damaged value is.
        bytes: usize,
    },
    /// Every record is one that was written, and some are not the newest, or are missing.
    #[error(
        "the metadata is damaged: the digest of its records is not that of what was written last; in: {0}. The values on \
         the volumes are not affected"
    )]
    Differs(String),
}

impl TableError {
    /// Whether the tables are to be made again, from other masters or from the volumes.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Differs(_) | Self::Panicked => true,
            Self::Sled(error) => {
                matches!(error, sled::Error::Corruption { .. } | sled::Error::ReportableBug(_))
            }
            Self::Stuck | Self::Failed(_) => false,
        }
    }
}

/// sled panics on some errors of the disk, and on some damage; that is a failure like any other.
///
/// # Errors
/// Those of `work`; `Panicked`.
pub fn caught<T, E: From<TableError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(TableError::Panicked.into()))
}

const VERSION: u8 = 1;
const PREFIX_BYTES: usize = 5;

fn crc(kind: Kind, key: &[u8], body: &[u8]) -> [u8; 4] {
    let mut crc = Crc32c::default();
    for part in [&[kind as u8][..], key, body] {
        crc.update(&(part.len() as u64).to_le_bytes());
        crc.update(part);
    }
    crc.finish().to_le_bytes()
}

/// `version (1) · CRC32C (4, little endian) · postcard`.
pub fn encode<T: Serialize>(kind: Kind, key: &[u8], value: &T) -> Vec<u8> {
    let body = postcard::to_stdvec(value).expect("records hold nothing postcard refuses");
    [&[VERSION][..], &crc(kind, key, &body), &body].concat()
}

/// What `encode` wrote.
///
/// # Errors
/// When it is anything else.
pub fn decode<T: DeserializeOwned>(kind: Kind, key: &[u8], bytes: &[u8]) -> Result<T, TableError> {
    let damaged = TableError::Damaged { kind, bytes: bytes.len() };
    postcard::from_bytes(body(kind, key, bytes)?).map_err(|_| damaged)
}

/// Sees whether a record as sled has it is one that `encode` wrote.
///
/// # Errors
/// When it is not. A record of no kind of ours is somebody else's business.
pub fn check(path: &[u8], bytes: &[u8]) -> Result<(), TableError> {
    let Some((first, key)) = path.split_first() else { return Ok(()) };
    let Some(kind) = Kind::of(*first) else { return Ok(()) };
    body(kind, key, bytes).map(|_| ())
}

/// What stands behind the checksum of a record, which is right.
fn body<'b>(kind: Kind, key: &[u8], bytes: &'b [u8]) -> Result<&'b [u8], TableError> {
    let damaged = TableError::Damaged { kind, bytes: bytes.len() };
    if bytes.len() < PREFIX_BYTES || bytes[0] != VERSION {
        return Err(damaged);
    }
    let (sum, body) = (&bytes[1..PREFIX_BYTES], &bytes[PREFIX_BYTES..]);
    if sum == crc(kind, key, body) { Ok(body) } else { Err(damaged) }
}

fn path(kind: Kind, key: &[u8]) -> Vec<u8> {
    [&[kind as u8][..], key].concat()
}

/// The tables with the changes of one batch on top: what `apply` reads and writes. Nothing reaches
/// sled before `into_batch`.
pub struct Tables<'a> {
    tree: &'a sled::Tree,
    changes: BTreeMap<Vec<u8>, Change>,
    /// What `changes` said before, since the mark.
    undo: Vec<(Vec<u8>, Option<Change>)>,
}

/// A new value, or none.
type Change = Option<Vec<u8>>;

impl<'a> Tables<'a> {
    /// A view without changes.
    pub fn new(tree: &'a sled::Tree) -> Self {
        Self { tree, changes: BTreeMap::new(), undo: Vec::new() }
    }

    /// The record at `key`.
    ///
    /// # Errors
    /// When sled fails or the record is damaged.
    pub fn get<T: DeserializeOwned>(&self, kind: Kind, key: &[u8]) -> Result<Option<T>, TableError> {
        let path = path(kind, key);
        match self.changes.get(&path) {
            Some(change) => change.as_deref().map(|b| decode(kind, key, b)).transpose(),
            None => self.tree.get(path)?.map(|b| decode(kind, key, &b)).transpose(),
        }
    }

    /// Whether there is a record whose key begins with `prefix`.
    ///
    /// # Errors
    /// When sled fails.
    pub fn any(&self, kind: Kind, prefix: &[u8]) -> Result<bool, TableError> {
        Ok(self.paths(kind, prefix).next().transpose()?.is_some())
    }

    /// The first `limit` records whose keys begin with `prefix`, in order.
    ///
    /// # Errors
    /// When sled fails or a record is damaged.
    pub fn scan<T: DeserializeOwned>(
        &self,
        kind: Kind,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<T>, TableError> {
        let record = |path: Result<Vec<u8>, TableError>| {
            let record = self.get(kind, &path?[1..])?;
            record.ok_or(TableError::Damaged { kind, bytes: 0 })
        };
        self.paths(kind, prefix).take(limit).map(record).collect()
    }

    /// Paths that begin so, in order: the same whatever is in sled already and what in this batch.
    pub(super) fn paths<'s>(
        &'s self,
        kind: Kind,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<Vec<u8>, TableError>> + 's {
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

    /// Writes a record.
    pub fn put<T: Serialize>(&mut self, kind: Kind, key: &[u8], value: &T) {
        self.change(path(kind, key), Some(encode(kind, key, value)));
    }

    /// Removes a record.
    pub fn remove(&mut self, kind: Kind, key: &[u8]) {
        self.change(path(kind, key), None);
    }

    fn change(&mut self, path: Vec<u8>, change: Change) {
        let before = self.changes.insert(path.clone(), change);
        self.undo.push((path, before));
    }

    /// From here on changes can be taken back.
    pub fn mark(&mut self) {
        self.undo.clear();
    }

    /// Takes back all changes since the mark.
    pub fn roll_back(&mut self) {
        while let Some((path, before)) = self.undo.pop() {
            match before {
                Some(change) => self.changes.insert(path, change),
                None => self.changes.remove(&path),
            };
        }
    }

    /// The changes with what they replace, in the order of their paths, and the digest of the tables with them, which is
    /// one of the changes.
    ///
    /// # Errors
    /// When sled fails, or the digest is damaged.
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

    /// The changes as one atomic batch.
    ///
    /// # Errors
    /// When sled fails, or the digest is damaged.
    pub fn into_batch(self) -> Result<sled::Batch, TableError> {
        Ok(batch(self.into_changes()?.0))
    }
}

/// What a batch does to one record.
#[derive(Clone, Debug)]
pub struct Written {
    /// The byte of its kind, then its key.
    pub path: Vec<u8>,
    /// What is in sled.
    pub before: Option<sled::IVec>,
    /// What is to be there; none: it goes.
    pub after: Option<Vec<u8>>,
}

/// Changes as one atomic batch.
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

/// Records of one kind in key order, from `after` (exclusive) on, as long as they begin with `prefix`.
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
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn any_changed_byte_is_seen(text in ".{0,60}", at: prop::sample::Index, flip in 1u8..) {
            let mut bytes = encode(Kind::Object, b"key", &text);
            prop_assert_eq!(decode::<String>(Kind::Object, b"key", &bytes).ok(), Some(text));
            prop_assert!(decode::<String>(Kind::Object, b"kez", &bytes).is_err());
            prop_assert!(decode::<String>(Kind::Reclaim, b"key", &bytes).is_err());
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(decode::<String>(Kind::Object, b"key", &bytes).is_err());
        }
    }
}
