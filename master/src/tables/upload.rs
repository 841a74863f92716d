//! Uploads in parts: `key · 0 · upload id (16)` → what was said when it began; and their parts, `upload id (16) · number (2,
//! big endian)` → where each is. The parts of a completed upload stay where they are: they are the object's.
//!
//! Condemned uploads, `upload id (16)` → the key: nothing refers to their parts any more, which go a few at a time.

use serde::{Deserialize, Serialize};
use shared::attributes::Algorithm;
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::manifest::Part;
use shared::wire::routes::{MANIFEST_NOTE, PART_NOTE};

use super::{Kind, Read, TableError, Tables, scan};

/// What was said when an upload began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Content type, where one was given.
    pub content_type: Option<String>,
    /// Metadata headers: name in lower case, value.
    pub metadata: Vec<(String, String)>,
    /// Tags of the object.
    pub tags: Vec<(String, String)>,
    /// The checksum that is asked for: of each part, and whether that of the whole is made of those.
    pub checksum: Option<(Algorithm, bool)>,
    /// The volumes its parts go to while they can: those of the ring when it began.
    pub volumes: Vec<VolumeId>,
    pub wanted: u8,
}

/// A part, and who holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    pub part: Part,
    /// The volumes that hold it.
    pub replicas: Vec<VolumeId>,
}

/// What the record of a part says besides its bytes: a rebuild must not take it for a version of its key.
pub fn part_note(upload: BlobId, number: u16) -> (String, String) {
    (PART_NOTE.to_owned(), format!("{upload}.{number}"))
}

/// What the record of a manifest says besides its bytes.
pub fn manifest_note() -> (String, String) {
    (MANIFEST_NOTE.to_owned(), "1".to_owned())
}

fn upload_path(key: &Key, upload: BlobId) -> Vec<u8> {
    [key.as_str().as_bytes(), &[0], upload.as_bytes()].concat()
}

fn part_path(upload: BlobId, number: u16) -> Vec<u8> {
    [&upload.as_bytes()[..], &number.to_be_bytes()].concat()
}

/// The key and the id in the path of an upload.
fn parse(path: &[u8]) -> Option<(Key, BlobId)> {
    let (key, id) = path.split_at_checked(path.len().checked_sub(16)?)?;
    let key = std::str::from_utf8(key.strip_suffix(&[0])?).ok()?;
    Some((Key::new(key).ok()?, BlobId::from_bytes(id.try_into().ok()?).ok()?))
}

/// An upload, as a reader sees it.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn read(records: &impl Read, key: &Key, upload: BlobId) -> Result<Option<Upload>, TableError> {
    let path = upload_path(key, upload);
    records.get(Kind::Upload, &path)
}

/// Uploads of keys that begin with `prefix`, by key and then by id, after this one.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn after(
    tree: &sled::Tree,
    prefix: &str,
    after: Option<(&str, Option<BlobId>)>,
) -> impl Iterator<Item = Result<(Key, BlobId, Upload), TableError>> + use<> {
    // Without an id: behind all uploads of that key.
    let after = after.map(|(key, id)| {
        let id = id.map_or([0xff; 16], |id| *id.as_bytes());
        [key.as_bytes(), &[0], &id].concat()
    });
    scan::<Upload>(tree, Kind::Upload, prefix.as_bytes(), after.as_deref()).map(|item| {
        let (path, upload) = item?;
        let (key, id) = parse(&path).ok_or(TableError::Damaged { kind: Kind::Upload, bytes: path.len() })?;
        Ok((key, id, upload))
    })
}

/// Parts of an upload or of the object it became, after this number, in order.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn parts(
    tree: &sled::Tree,
    upload: BlobId,
    after: u16,
) -> impl Iterator<Item = Result<PartRecord, TableError>> + use<> {
    let after = part_path(upload, after);
    scan::<PartRecord>(tree, Kind::Part, upload.as_bytes(), Some(&after)).map(|r| r.map(|(_, part)| part))
}

/// One part, as a reader sees it.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn part(records: &impl Read, upload: BlobId, number: u16) -> Result<Option<PartRecord>, TableError> {
    let path = part_path(upload, number);
    records.get(Kind::Part, &path)
}

/// The part of `key`'s object, or of an upload of that key, whose bytes are this blob: with the upload it belongs to.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn part_of(
    tree: &sled::Tree,
    key: &Key,
    blob: BlobId,
) -> Result<Option<(BlobId, PartRecord)>, TableError> {
    let object = super::object::read(tree, key)?.and_then(|o| o.parts).map(|p| Ok(p.upload));
    for upload in object.into_iter().chain(of_key(tree, key)) {
        let upload = upload?;
        for record in parts(tree, upload, 0) {
            let record = record?;
            if record.part.blob == blob {
                return Ok(Some((upload, record)));
            }
        }
    }
    Ok(None)
}

/// Uploads of `key` that are under way.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn of_key(tree: &sled::Tree, key: &Key) -> impl Iterator<Item = Result<BlobId, TableError>> + use<> {
    let begun = [key.as_str().as_bytes(), &[0]].concat();
    scan::<Upload>(tree, Kind::Upload, &begun, None).map(|item| {
        let path = item?.0;
        let damaged = TableError::Damaged { kind: Kind::Upload, bytes: path.len() };
        parse(&path).map(|(_, id)| id).ok_or(damaged)
    })
}

/// Uploads whose parts are to go, at most `limit`.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn condemned(tree: &sled::Tree, limit: usize) -> Result<Vec<BlobId>, TableError> {
    let id = |path: Vec<u8>| path.try_into().ok().and_then(|id| BlobId::from_bytes(id).ok());
    scan::<()>(tree, Kind::Condemned, b"", None)
        .take(limit)
        .filter_map(|r| r.map(|(path, ())| id(path)).transpose())
        .collect()
}

/// All parts of an upload, with what this batch has changed, at most `limit`.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn first_parts(records: &impl Read, upload: BlobId, limit: usize) -> Result<Vec<PartRecord>, TableError> {
    records.first(Kind::Part, upload.as_bytes(), limit)
}

/// Whether the parts of an upload are to go.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn is_condemned(records: &impl Read, upload: BlobId) -> Result<bool, TableError> {
    Ok(records.get::<()>(Kind::Condemned, upload.as_bytes())?.is_some())
}

impl Tables<'_> {
    /// Writes an upload.
    pub fn put_upload(&mut self, key: &Key, id: BlobId, upload: &Upload) {
        self.put(Kind::Upload, &upload_path(key, id), upload);
    }

    /// Removes an upload; its parts stay.
    pub fn remove_upload(&mut self, key: &Key, id: BlobId) {
        self.remove(Kind::Upload, &upload_path(key, id));
    }

    /// Writes a part.
    pub fn put_part(&mut self, upload: BlobId, part: &PartRecord) {
        self.put(Kind::Part, &part_path(upload, part.part.number), part);
    }

    /// Removes a part.
    pub fn remove_part(&mut self, upload: BlobId, number: u16) {
        self.remove(Kind::Part, &part_path(upload, number));
    }

    /// The parts of an upload are to go.
    pub fn put_condemned(&mut self, upload: BlobId) {
        self.put(Kind::Condemned, upload.as_bytes(), &());
    }

    /// They are gone.
    pub fn remove_condemned(&mut self, upload: BlobId) {
        self.remove(Kind::Condemned, upload.as_bytes());
    }
}
