//! Volumes, by id: the members of the cluster, whether or not they are up.

use serde::{Deserialize, Serialize};
use shared::ids::VolumeId;
use shared::ring::Zone;

use super::{Kind, Read, TableError, Tables, scan};

/// What the tables keep of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    pub volume: VolumeId,
    /// Where peers reach it, as a base URL.
    pub address: String,
    /// Where clients reach it, as a base URL.
    pub public_url: String,
    /// Its failure domain.
    pub zone: Option<Zone>,
    /// Size of its file system in bytes: its weight on the ring.
    pub capacity_bytes: u64,
}

/// Returns all volumes.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn all(tree: &sled::Tree) -> Result<Vec<VolumeRecord>, TableError> {
    scan(tree, Kind::Volume, b"", None).map(|r| r.map(|(_, record)| record)).collect()
}

/// Reads the record of a volume.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn read(records: &impl Read, volume: VolumeId) -> Result<Option<VolumeRecord>, TableError> {
    let key = volume.as_bytes();
    records.get(Kind::Volume, key)
}

impl Tables<'_> {
    pub fn put_volume(&mut self, record: &VolumeRecord) {
        self.put(Kind::Volume, record.volume.as_bytes(), record);
    }
}
