//! Objects, ordered by key: listing is a range scan.

use serde::{Deserialize, Serialize};
use shared::digest::Digest;
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;

use super::{Kind, TableError, Tables, decode};

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
    /// The blobs, in the order of their bytes.
    pub blobs: Vec<Blob>,
}

/// One blob of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Which.
    pub id: BlobId,
    /// Its length in bytes.
    pub length: u64,
    /// The volumes that hold it.
    pub replicas: Vec<VolumeId>,
}

impl Object {
    /// Whether a copy is owed.
    pub fn degraded(&self) -> bool {
        self.blobs.iter().any(|b| b.replicas.len() < usize::from(self.wanted))
    }
}

/// The object of a key, as a reader sees it.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn read(tree: &sled::Tree, key: &Key) -> Result<Option<Object>, TableError> {
    let key = key.as_str().as_bytes();
    tree.get(super::path(Kind::Object, key))?.map(|b| decode(Kind::Object, key, &b)).transpose()
}

impl Tables<'_> {
    /// The object of a key.
    ///
    /// # Errors
    /// When sled fails or the record is damaged.
    pub fn object(&self, key: &Key) -> Result<Option<Object>, TableError> {
        self.get(Kind::Object, key.as_str().as_bytes())
    }

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

    /// Whether this object of a key was written under a condition.
    ///
    /// # Errors
    /// When sled fails or the record is damaged.
    pub fn conditional(&self, key: &Key, object: &Object) -> Result<bool, TableError> {
        Ok(self.get(Kind::Conditional, key.as_str().as_bytes())? == Some(object.generation))
    }

    /// Remembers that this generation of a key was written under a condition. What an older generation left says
    /// nothing any more.
    pub fn put_conditional(&mut self, key: &Key, generation: BlobId) {
        self.put(Kind::Conditional, key.as_str().as_bytes(), &generation);
    }
}
