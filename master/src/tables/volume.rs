//! Volumes, by id: who belongs to the cluster, whether or not it is up.

use serde::{Deserialize, Serialize};
use shared::ids::VolumeId;
use shared::ring::Zone;

use super::{Kind, Read, TableError, Tables, scan};

/// What is kept of a volume over restarts of the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    pub volume: VolumeId,
    /// Where peers reach it, as a base URL.
    pub address: String,
    /// Where clients reach it, as a base URL.
    pub public_url: String,
    /// What it shares its fate with.
    pub zone: Option<Zone>,
    /// Size of its file system in bytes: its weight on the ring.
    pub capacity_bytes: u64,
}

/// All volumes.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn all(tree: &sled::Tree) -> Result<Vec<VolumeRecord>, TableError> {
    scan(tree, Kind::Volume, b"", None).map(|r| r.map(|(_, record)| record)).collect()
}

/// What is kept of a volume, as a reader sees it.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn read(records: &impl Read, volume: VolumeId) -> Result<Option<VolumeRecord>, TableError> {
    let key = volume.as_bytes();
    records.get(Kind::Volume, key)
}

impl Tables<'_> {
    /// Writes what is known of a volume.
    pub fn put_volume(&mut self, record: &VolumeRecord) {
        self.put(Kind::Volume, record.volume.as_bytes(), record);
    }
}
