//! Restores a metadata directory from a backup.
//!
//! Records on the volumes that the backup does not know may have been written after it: they are never deleted as
//! orphans, so that a rebuild can still find them.

use std::path::Path;

use shared::clock::Clock;

use crate::db::{Database, LOCK, OpenError};
use crate::snapshot::{Reader, SnapshotError};
use crate::tables::TableError;
use crate::tables::meta::{self, Counters};

/// A backup could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Tables(#[from] TableError),
    #[error("{directory} is not empty: it contains {found}. Choose a new directory, or move this one away")]
    NotEmpty {
        directory: String,
        /// One of its entries.
        found: String,
    },
    /// The directory cannot be read.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    #[error("{path} contains no metadata of a cluster. Choose another backup")]
    Empty { path: String },
}

/// Verifies a backup by reading all of it.
///
/// # Errors
/// When it is incomplete or corrupt.
pub fn check(file: &Path) -> Result<(), RestoreError> {
    for frame in Reader::open(file)? {
        frame?;
    }
    Ok(())
}

/// Restores the backup `file` into `directory`.
///
/// # Errors
/// When the backup is incomplete or corrupt, or the directory is in use or not empty. No tables are installed then.
pub fn restore(file: &Path, directory: &Path) -> Result<Counters, RestoreError> {
    let name = || directory.display().to_string();
    // The log of other metadata would be replayed onto the backup.
    for entry in directory.read_dir().into_iter().flatten() {
        let found = entry.map_err(|e| RestoreError::Io(name(), e))?.file_name();
        if found != LOCK {
            return Err(RestoreError::NotEmpty {
                directory: name(),
                found: found.to_string_lossy().into_owned(),
            });
        }
    }
    let database = Database::open(directory)?;
    let now = Clock::System.now();
    database.restore(file, now)?;
    let progress = meta::counters(&database.tree())?;
    if database.identity()?.is_none() {
        return Err(RestoreError::Empty { path: file.display().to_string() });
    }
    Ok(progress)
}

#[cfg(test)]
mod tests {
    use shared::clock::Timestamp;
    use shared::ids::{BlobId, ClusterId, VolumeId};

    use super::*;
    use crate::tables::Tables;
    use crate::tables::meta::{FORMAT_VERSION, Identity};
    use crate::tables::reclaim;
    use crate::tables::volume::VolumeRecord;

    /// It was one too many when the backup was made, and may be the last one now.
    #[test]
    fn a_replica_of_a_value_that_stays_is_not_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let (volume, other) = (VolumeId::from_bytes([1; 16]), VolumeId::from_bytes([2; 16]));
        let blob = |n: u8| BlobId::next(None, Timestamp::from_unix_ms(1 << 40), [n; 10]);
        let before = Database::open(&folder.path().join("before")).unwrap();
        let tree = before.tree();
        let mut tables = Tables::new(&tree);
        tables.put_identity(&Identity { cluster: ClusterId::random(), format_version: FORMAT_VERSION });
        for volume in [volume, other] {
            let (address, public_url) = (String::new(), String::new());
            tables.put_volume(&VolumeRecord { volume, address, public_url, zone: None, capacity_bytes: 1 });
        }
        tables.put_replica(other, blob(1), &"k".parse().unwrap());
        tables.put_reclaim(volume, blob(1), 9);
        tables.put_reclaim(volume, blob(2), 9);
        tables.put_counters(&Counters { reclaim_pending: 2, ..Counters::default() });
        before.commit(tables).unwrap();
        let backup = folder.path().join("backup");
        before.write_snapshot(&backup).unwrap();
        let restored = folder.path().join("restored");
        assert_eq!(restore(&backup, &restored).unwrap().reclaim_pending, 1);
        let after = Database::open(&restored).unwrap();
        assert_eq!(reclaim::page(&after.tree(), volume, 9).unwrap(), [blob(2)]);
    }
}
