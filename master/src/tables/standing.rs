//! What is to become of a volume, where that is not simply to serve: `volume id` → its duty, since when.

use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;
use shared::ids::VolumeId;

use super::{Kind, Read, TableError, Tables, scan};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Duty {
    /// It takes and serves values. Not kept: that is what every volume does.
    Serve,
    /// Its copies go to other volumes; afterwards it stays, empty.
    Drain,
    /// As `Drain`, and then it leaves the cluster.
    Leave,
    /// It has left: it holds nothing, and is not let in again.
    Gone,
}

/// A duty, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What it is to do.
    pub duty: Duty,
    /// Since when, by the clock of the master that was asked.
    pub since: Timestamp,
}

/// All volumes that have a duty of their own.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn all(tree: &sled::Tree) -> Result<Vec<(VolumeId, Standing)>, TableError> {
    scan::<Standing>(tree, Kind::Standing, b"", None)
        .filter_map(|r| r.map(|(id, s)| Some((VolumeId::from_bytes(id.try_into().ok()?), s))).transpose())
        .collect()
}

/// What a volume is to do; none: to serve.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn read(records: &impl Read, volume: VolumeId) -> Result<Option<Standing>, TableError> {
    records.get(Kind::Standing, volume.as_bytes())
}

/// Whether a volume has left for good.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn has_left(records: &impl Read, volume: VolumeId) -> Result<bool, TableError> {
    Ok(read(records, volume)?.is_some_and(|standing| standing.duty == Duty::Gone))
}

/// Whether an object refers to any blob on a volume.
///
/// # Errors
/// When sled fails.
pub fn holds_any(records: &impl Read, volume: VolumeId) -> Result<bool, TableError> {
    records.any(Kind::Replica, volume.as_bytes())
}

impl Tables<'_> {
    /// Writes what a volume is to do.
    pub fn put_standing(&mut self, volume: VolumeId, standing: Standing) {
        match standing.duty {
            Duty::Serve => self.remove(Kind::Standing, volume.as_bytes()),
            _ => self.put(Kind::Standing, volume.as_bytes(), &standing),
        }
    }
}
