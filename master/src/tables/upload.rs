//! Multipart uploads: `key · 0 · upload id (16)` → the settings from their creation; and their parts: `upload id (16)
//! · number (2, big endian)` → part and replicas. The records of parts stay when an upload is completed: they then
//! belong to the object.
//!
//! Unreferenced uploads: `upload id (16)` → nothing. Nothing references their parts, which are removed a few
//! at a time.

use serde::{Deserialize, Serialize};
use shared::attributes::Algorithm;
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::manifest::Part;
use shared::wire::routes::{MANIFEST_HEADER, PART_HEADER};

use super::{Kind, Read, TableError, Tables, scan};

/// Settings of a multipart upload from its creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRecord {
    pub content_type: Option<String>,
    /// Metadata headers: name in lower case, value.
    pub metadata: Vec<(String, String)>,
    /// Tags of the object.
    pub tags: Vec<(String, String)>,
    /// Checksum algorithm, and whether the checksum of the object is a composite of those of the parts.
    pub checksum: Option<(Algorithm, bool)>,
    /// Preferred volumes of all parts: those of the ring at creation.
    pub volumes: Vec<VolumeId>,
    pub wanted: u8,
}

/// A part and its replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    pub part: Part,
    /// The volumes that hold it.
    pub replicas: Vec<VolumeId>,
}

/// Returns the header that marks a volume's record as a part: a rebuild must not take it for a version of its key.
pub fn part_note(upload: BlobId, number: u16) -> (String, String) {
    (PART_HEADER.to_owned(), format!("{upload}.{number}"))
}

/// Returns the header that marks a volume's record as a manifest.
pub fn manifest_note() -> (String, String) {
    (MANIFEST_HEADER.to_owned(), "1".to_owned())
}

fn upload_path(key: &Key, upload: BlobId) -> Vec<u8> {
    [key.as_str().as_bytes(), &[0], upload.as_bytes()].concat()
}

fn part_path(upload: BlobId, number: u16) -> Vec<u8> {
    [&upload.as_bytes()[..], &number.to_be_bytes()].concat()
}

/// Returns key and id in the path of an upload.
fn parse(path: &[u8]) -> Option<(Key, BlobId)> {
    let (key, id) = path.split_at_checked(path.len().checked_sub(16)?)?;
    let key = std::str::from_utf8(key.strip_suffix(&[0])?).ok()?;
    Some((Key::new(key).ok()?, BlobId::from_bytes(id.try_into().ok()?).ok()?))
}

/// Reads an upload.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn read(records: &impl Read, key: &Key, upload: BlobId) -> Result<Option<UploadRecord>, TableError> {
    let path = upload_path(key, upload);
    records.get(Kind::Upload, &path)
}

/// Iterates over the uploads of keys that begin with `prefix`, ordered by key and id, after `after`.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn after(
    tree: &sled::Tree,
    prefix: &str,
    after: Option<(&str, Option<BlobId>)>,
) -> impl Iterator<Item = Result<(Key, BlobId, UploadRecord), TableError>> + use<> {
    // Without an id: after all uploads of that key.
    let after = after.map(|(key, id)| {
        let id = id.map_or([0xff; 16], |id| *id.as_bytes());
        [key.as_bytes(), &[0], &id].concat()
    });
    scan::<UploadRecord>(tree, Kind::Upload, prefix.as_bytes(), after.as_deref()).map(|item| {
        let (path, upload) = item?;
        let (key, id) = parse(&path).ok_or(TableError::Corrupt { kind: Kind::Upload, bytes: path.len() })?;
        Ok((key, id, upload))
    })
}

/// Iterates over the parts of an upload, or of the object it became, after number `after`, in order.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn parts(
    tree: &sled::Tree,
    upload: BlobId,
    after: u16,
) -> impl Iterator<Item = Result<PartRecord, TableError>> + use<> {
    let after = part_path(upload, after);
    scan::<PartRecord>(tree, Kind::Part, upload.as_bytes(), Some(&after)).map(|r| r.map(|(_, part)| part))
}

/// Reads a part.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn part(records: &impl Read, upload: BlobId, number: u16) -> Result<Option<PartRecord>, TableError> {
    let path = part_path(upload, number);
    records.get(Kind::Part, &path)
}

/// Finds the part with this blob in `key`'s object and uploads; returns it with its upload.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn part_of(
    tree: &sled::Tree,
    key: &Key,
    blob: BlobId,
) -> Result<Option<(BlobId, PartRecord)>, TableError> {
    let object = super::object::read_stored(tree, key)?.and_then(|o| o.parts).map(|p| Ok(p.upload));
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

/// Iterates over the uploads of `key` in progress.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn of_key(tree: &sled::Tree, key: &Key) -> impl Iterator<Item = Result<BlobId, TableError>> + use<> {
    let begun = [key.as_str().as_bytes(), &[0]].concat();
    scan::<UploadRecord>(tree, Kind::Upload, &begun, None).map(|item| {
        let path = item?.0;
        let corrupt = TableError::Corrupt { kind: Kind::Upload, bytes: path.len() };
        parse(&path).map(|(_, id)| id).ok_or(corrupt)
    })
}

/// Returns at most `limit` uploads whose parts are to be removed.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn unreferenced_parts(tree: &sled::Tree, limit: usize) -> Result<Vec<BlobId>, TableError> {
    let id = |path: Vec<u8>| path.try_into().ok().and_then(|id| BlobId::from_bytes(id).ok());
    scan::<()>(tree, Kind::UnreferencedParts, b"", None)
        .take(limit)
        .filter_map(|r| r.map(|(path, ())| id(path)).transpose())
        .collect()
}

/// Returns the first `limit` parts of an upload, and those of a batch where `records` is one.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn first_parts(records: &impl Read, upload: BlobId, limit: usize) -> Result<Vec<PartRecord>, TableError> {
    records.first(Kind::Part, upload.as_bytes(), limit)
}

/// Whether the parts of an upload are to be removed.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn has_unreferenced_parts(records: &impl Read, upload: BlobId) -> Result<bool, TableError> {
    Ok(records.get::<()>(Kind::UnreferencedParts, upload.as_bytes())?.is_some())
}

impl Tables<'_> {
    pub fn put_upload(&mut self, key: &Key, id: BlobId, upload: &UploadRecord) {
        self.put(Kind::Upload, &upload_path(key, id), upload);
    }

    /// Removes an upload; its parts stay.
    pub fn remove_upload(&mut self, key: &Key, id: BlobId) {
        self.remove(Kind::Upload, &upload_path(key, id));
    }

    pub fn put_part(&mut self, upload: BlobId, part: &PartRecord) {
        self.put(Kind::Part, &part_path(upload, part.part.number), part);
    }

    pub fn remove_part(&mut self, upload: BlobId, number: u16) {
        self.remove(Kind::Part, &part_path(upload, number));
    }

    /// Records that the parts of an upload are to be removed.
    pub fn put_unreferenced_parts(&mut self, upload: BlobId) {
        self.put(Kind::UnreferencedParts, upload.as_bytes(), &());
    }

    /// Records that they have been removed.
    pub fn remove_unreferenced_parts(&mut self, upload: BlobId) {
        self.remove(Kind::UnreferencedParts, upload.as_bytes());
    }
}
