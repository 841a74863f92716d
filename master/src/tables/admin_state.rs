//! Admin states of volumes (drain, decommission), except the default: `volume id` → admin state, since when.

use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;
use shared::ids::VolumeId;

use super::{Kind, Read, TableError, Tables, scan};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdminState {
    /// It accepts and serves values. The default: has no record.
    InService,
    /// Its replicas move to other volumes; then it stays in the cluster, empty.
    Draining,
    /// Like `Draining`, but then it leaves the cluster.
    Decommissioning,
    /// It has left for good: it holds no replicas and cannot join again.
    Decommissioned,
}

/// An admin state, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminStateRecord {
    pub state: AdminState,
    /// Since when, by the clock of the master that took the request.
    pub since: Timestamp,
}

/// Returns the admin states of all volumes that are not in service.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn all(tree: &sled::Tree) -> Result<Vec<(VolumeId, AdminStateRecord)>, TableError> {
    scan::<AdminStateRecord>(tree, Kind::AdminState, b"", None)
        .filter_map(|r| r.map(|(id, s)| Some((VolumeId::from_bytes(id.try_into().ok()?), s))).transpose())
        .collect()
}

/// Reads the admin state of a volume; `None` if it is in service.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn read(records: &impl Read, volume: VolumeId) -> Result<Option<AdminStateRecord>, TableError> {
    records.get(Kind::AdminState, volume.as_bytes())
}

/// Whether a volume has left the cluster for good.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn is_decommissioned(records: &impl Read, volume: VolumeId) -> Result<bool, TableError> {
    Ok(read(records, volume)?.is_some_and(|record| record.state == AdminState::Decommissioned))
}

/// Whether anything references a blob on a volume.
///
/// # Errors
/// When sled fails.
pub fn has_replicas(records: &impl Read, volume: VolumeId) -> Result<bool, TableError> {
    records.any(Kind::Replica, volume.as_bytes())
}

impl Tables<'_> {
    pub fn put_admin_state(&mut self, volume: VolumeId, record: AdminStateRecord) {
        match record.state {
            AdminState::InService => self.remove(Kind::AdminState, volume.as_bytes()),
            _ => self.put(Kind::AdminState, volume.as_bytes(), &record),
        }
    }
}
