//! Objects, ordered by key: listing is a range scan.

use serde::{Deserialize, Deserializer, Serialize};
use shared::attributes::Attributes;
use shared::condition::WriteCondition;
use shared::digest::Digest;
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;

use super::{Kind, Read, TableError, Tables, scan};

/// What the master knows of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Which version it is.
    pub generation: BlobId,
    /// Length of the value in bytes.
    pub size: u64,
    /// BLAKE3 of the value.
    pub digest: Digest,
    /// Content type, where one was given.
    pub content_type: Option<String>,
    /// User metadata headers: name in lower case, value.
    pub metadata: Vec<(String, String)>,
    /// Copies wanted of each blob when it was written.
    pub wanted: u8,
    /// The blobs: one. Of a value in parts it is the manifest.
    pub blobs: Vec<Blob>,
    /// What S3 adds. Records of the first version end before it.
    #[serde(default, deserialize_with = "or_default")]
    pub attributes: Attributes,
    /// Of a value in parts: where they are.
    #[serde(default, deserialize_with = "or_default")]
    pub parts: Option<Parts>,
}

/// Where the parts of a value are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Under which upload.
    pub upload: BlobId,
    pub count: u16,
    /// Whether one of them lacks a copy.
    pub degraded: bool,
    /// Volumes that hold the manifest and all parts.
    pub whole: Vec<VolumeId>,
}

/// The last fields of a record that was written when there were none: postcard ends before them. (A record is never cut:
/// its checksum has been looked at.)
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(T::deserialize(d).unwrap_or_default())
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
    /// Whether a copy is owed.
    pub fn degraded(&self) -> bool {
        let owed = self.blobs.iter().any(|b| b.replicas.len() < usize::from(self.wanted));
        owed || self.parts.as_ref().is_some_and(|p| p.degraded)
    }

    /// Its entity tag as the native face has it, without quotes: BLAKE3, of the manifest where it has parts.
    pub fn native_tag(&self) -> String {
        self.parts
            .as_ref()
            .map_or_else(|| self.digest.to_string(), |p| format!("{}-{}", self.digest, p.count))
    }

    /// Its entity tag as S3 clients see it, without quotes.
    pub fn tag(&self) -> String {
        self.attributes.etag.map_or_else(|| self.native_tag(), |etag| etag.to_string())
    }
}

/// Whether a write may happen on top of this object, or of none.
pub fn holds(condition: &WriteCondition, current: Option<&Object>) -> bool {
    condition.holds(current.map(|o| &o.digest), || current.map(Object::tag).unwrap_or_default())
}

/// The object of a key, as a reader sees it.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn read(records: &impl Read, key: &Key) -> Result<Option<Object>, TableError> {
    let key = key.as_str().as_bytes();
    records.get(Kind::Object, key)
}

/// Objects after this key, in order.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn after(
    tree: &sled::Tree,
    after: Option<&Key>,
) -> impl Iterator<Item = Result<(Key, Object), TableError>> + use<> {
    scan::<Object>(tree, Kind::Object, b"", after.map(|key| key.as_str().as_bytes())).map(|item| {
        let (path, object) = item?;
        let damaged = TableError::Damaged { kind: Kind::Object, bytes: path.len() };
        let key = String::from_utf8(path).ok().and_then(|text| Key::new(&text).ok()).ok_or(damaged)?;
        Ok((key, object))
    })
}

/// Whether this object of a key was written under a condition.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn is_conditional(records: &impl Read, key: &Key, object: &Object) -> Result<bool, TableError> {
    Ok(records.get(Kind::Conditional, key.as_str().as_bytes())? == Some(object.generation))
}

impl Tables<'_> {
    /// Writes the object of a key.
    pub fn put_object(&mut self, key: &Key, object: &Object) {
        self.put(Kind::Object, key.as_str().as_bytes(), object);
    }

    /// Removes the object of a key.
    ///
    /// # Errors
    /// When sled fails or the record is damaged.
    pub fn remove_object(&mut self, key: &Key) -> Result<(), TableError> {
        let key = key.as_str().as_bytes();
        self.remove(Kind::Object, key);
        if self.get::<BlobId>(Kind::Conditional, key)?.is_some() {
            self.remove(Kind::Conditional, key);
        }
        Ok(())
    }

    /// Remembers that this generation of a key was written under a condition. What an older generation left says
    /// nothing any more.
    pub fn put_conditional(&mut self, key: &Key, generation: BlobId) {
        self.put(Kind::Conditional, key.as_str().as_bytes(), &generation);
    }
}
