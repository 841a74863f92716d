//! Objects, ordered by key, so that a listing is a range scan.

use serde::{Deserialize, Serialize};
use shared::attributes::Attributes;
use shared::clock::Timestamp;
use shared::condition::WriteCondition;
use shared::digest::Digest;
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::ticket::or_default;

use super::{Kind, Read, TableError, Tables, meta, scan};

/// The metadata of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// The blob id of this version.
    pub generation: BlobId,
    /// Length of the value in bytes.
    pub size: u64,
    /// BLAKE3 of the value.
    pub digest: Digest,
    pub content_type: Option<String>,
    /// User metadata headers: name in lower case, value.
    pub metadata: Vec<(String, String)>,
    /// Replication factor when it was written.
    pub wanted: u8,
    /// Exactly one blob: the value, or the manifest of a multipart object.
    pub blobs: Vec<Blob>,
    /// Attributes of S3. Records of the first version end before this field.
    #[serde(default, deserialize_with = "or_default")]
    pub attributes: Attributes,
    /// Of a multipart object: its parts.
    #[serde(default, deserialize_with = "or_default")]
    pub parts: Option<Parts>,
    #[serde(default, deserialize_with = "or_default")]
    pub expiry: Expiry,
}

/// When an object expires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// By the group's time; `None` if it does not.
    pub at: Option<Timestamp>,
    /// How often it was set for this generation: the volumes keep the expiry with the greatest one.
    pub revision: u32,
}

/// The parts of a multipart object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// The upload under which they are stored.
    pub upload: BlobId,
    pub count: u16,
    /// Whether one of them is under-replicated.
    pub under_replicated: bool,
    /// Volumes that hold the manifest and all parts.
    pub full_replicas: Vec<VolumeId>,
}

/// One blob of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    pub id: BlobId,
    /// Its length in bytes.
    pub length: u64,
    /// The volumes that hold it.
    pub replicas: Vec<VolumeId>,
}

impl Object {
    /// Whether a blob or part of it is under-replicated.
    pub fn is_under_replicated(&self) -> bool {
        let under_replicated = self.blobs.iter().any(|b| b.replicas.len() < usize::from(self.wanted));
        under_replicated || self.parts.as_ref().is_some_and(|p| p.under_replicated)
    }

    /// Whether it has expired by this time.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expiry.at.is_some_and(|at| at <= now)
    }

    /// Returns its entity tag in the native API, without quotes: BLAKE3 of the value, or of the manifest and
    /// the part count.
    pub fn native_tag(&self) -> String {
        self.parts
            .as_ref()
            .map_or_else(|| self.digest.to_string(), |p| format!("{}-{}", self.digest, p.count))
    }

    /// Returns its entity tag in the S3 API, without quotes.
    pub fn tag(&self) -> String {
        self.attributes.etag.map_or_else(|| self.native_tag(), |etag| etag.to_string())
    }
}

/// Whether the condition of a write holds for the current object, `None` if there is none.
pub fn condition_holds(condition: &WriteCondition, current: Option<&Object>) -> bool {
    condition.holds(current.map(|o| &o.digest), || current.map(Object::tag).unwrap_or_default())
}

/// Reads the object of a key, unless it has expired by the group's time.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn read(records: &impl Read, key: &Key) -> Result<Option<Object>, TableError> {
    let Some(object) = read_stored(records, key)? else { return Ok(None) };
    let expired = object.expiry.at.is_some() && object.is_expired(meta::time(records)?);
    Ok(Some(object).filter(|_| !expired))
}

/// Reads the object of a key, even if it has expired: its blobs are referenced until it is removed.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn read_stored(records: &impl Read, key: &Key) -> Result<Option<Object>, TableError> {
    records.get(Kind::Object, key.as_str().as_bytes())
}

/// Iterates over the objects after this key, in order; also over expired ones.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn after(
    tree: &sled::Tree,
    after: Option<&Key>,
) -> impl Iterator<Item = Result<(Key, Object), TableError>> + use<> {
    scan::<Object>(tree, Kind::Object, b"", after.map(|key| key.as_str().as_bytes())).map(|item| {
        let (path, object) = item?;
        let corrupt = TableError::Corrupt { kind: Kind::Object, bytes: path.len() };
        let key = String::from_utf8(path).ok().and_then(|text| Key::new(&text).ok()).ok_or(corrupt)?;
        Ok((key, object))
    })
}

/// Whether this object of a key was written with a condition.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn is_conditional(records: &impl Read, key: &Key, object: &Object) -> Result<bool, TableError> {
    Ok(records.get(Kind::Conditional, key.as_str().as_bytes())? == Some(object.generation))
}

impl Tables<'_> {
    pub fn put_object(&mut self, key: &Key, object: &Object) {
        self.put(Kind::Object, key.as_str().as_bytes(), object);
    }

    /// Removes the object of a key.
    ///
    /// # Errors
    /// When sled fails or the record is corrupt.
    pub fn remove_object(&mut self, key: &Key) -> Result<(), TableError> {
        let key = key.as_str().as_bytes();
        self.remove(Kind::Object, key);
        if self.get::<BlobId>(Kind::Conditional, key)?.is_some() {
            self.remove(Kind::Conditional, key);
        }
        Ok(())
    }

    /// Records that this generation of a key was written with a condition; replaces the record of
    /// an older generation.
    pub fn put_conditional(&mut self, key: &Key, generation: BlobId) {
        self.put(Kind::Conditional, key.as_str().as_bytes(), &generation);
    }
}
