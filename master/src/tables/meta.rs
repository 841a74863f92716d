//! What there is once: the cluster's identity, the applied index, the last generation, counters.

use serde::{Deserialize, Serialize};
use shared::ids::{BlobId, ClusterId};

use super::{Kind, TableError, Tables, decode, encode};

const IDENTITY: &[u8] = b"identity";
const PROGRESS: &[u8] = b"progress";
const REBUILT: &[u8] = b"rebuilt";
/// Version of everything in this folder.
pub const FORMAT_VERSION: u32 = 1;

/// Written when the directory is made, never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Which cluster.
    pub cluster: ClusterId,
    /// In which format.
    pub format_version: u32,
}

/// Written with every batch of commands, in the same atomic write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Commands applied.
    pub applied: u64,
    /// The newest blob any command named: new ids come after it.
    pub last_blob: Option<BlobId>,
    /// Keys with a value.
    pub objects: u64,
    /// Bytes of their values, each counted once.
    pub bytes: u64,
    /// Objects with fewer copies than wanted.
    pub degraded: u64,
    /// Entries of the reclaim list.
    pub reclaim_pending: u64,
}

fn read<T: serde::de::DeserializeOwned>(tree: &sled::Tree, name: &[u8]) -> Result<Option<T>, TableError> {
    tree.get(super::path(Kind::Meta, name))?.map(|b| decode(Kind::Meta, name, &b)).transpose()
}

/// The identity; none in a new directory.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn identity(tree: &sled::Tree) -> Result<Option<Identity>, TableError> {
    read(tree, IDENTITY)
}

/// Writes the identity into a new directory.
///
/// # Errors
/// When sled fails.
pub fn write_identity(tree: &sled::Tree, identity: &Identity) -> Result<(), TableError> {
    tree.insert(super::path(Kind::Meta, IDENTITY), encode(Kind::Meta, IDENTITY, identity))?;
    Ok(())
}

/// How far the commands have come.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn progress(tree: &sled::Tree) -> Result<Progress, TableError> {
    Ok(read(tree, PROGRESS)?.unwrap_or_default())
}

/// Greater than every blob that there was when this metadata was made from the volumes; none when it never was. An older
/// blob that nothing refers to was not found then, or could not be read: nobody can tell that it is a leftover.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn rebuilt(tree: &sled::Tree) -> Result<Option<BlobId>, TableError> {
    read(tree, REBUILT)
}

impl Tables<'_> {
    /// Notes that this metadata was made from the volumes, and an id that none has reached by then.
    pub fn put_rebuilt(&mut self, until: BlobId) {
        self.put(Kind::Meta, REBUILT, &until);
    }

    /// How far the commands have come.
    ///
    /// # Errors
    /// When sled fails or the record is damaged.
    pub fn progress(&self) -> Result<Progress, TableError> {
        Ok(self.get(Kind::Meta, PROGRESS)?.unwrap_or_default())
    }

    /// Writes how far they have come.
    pub fn put_progress(&mut self, progress: &Progress) {
        self.put(Kind::Meta, PROGRESS, progress);
    }
}
