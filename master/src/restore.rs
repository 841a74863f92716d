//! A metadata directory from a back-up.
//!
//! What the volumes hold and the back-up does not know was written after it: such records are never taken for
//! orphans, so that a rebuild can still find them.

use std::path::Path;

use shared::clock::Clock;

use crate::db::{Database, LOCK, OpenError};
use crate::snapshot::{Reader, SnapshotError};
use crate::tables::TableError;
use crate::tables::meta::{self, Progress};

/// A back-up could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// What is in it.
    #[error(transparent)]
    Tables(#[from] TableError),
    /// There is something already.
    #[error(
        "{directory} is not empty, it holds {found}: name a directory that is new, or move this one away"
    )]
    NotEmpty {
        directory: String,
        /// What, for one.
        found: String,
    },
    /// It cannot be looked into.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// It is no cluster's.
    #[error("{0} holds no cluster's metadata")]
    Empty(String),
}

/// Reads a back-up from front to end.
///
/// # Errors
/// When it is not whole.
pub fn check(file: &Path) -> Result<(), RestoreError> {
    for frame in Reader::open(file)? {
        frame?;
    }
    Ok(())
}

/// Makes `directory` of the back-up `file`.
///
/// # Errors
/// When the back-up is not whole, or the directory is in use. Nothing is there then.
pub fn restore(file: &Path, directory: &Path) -> Result<Progress, RestoreError> {
    let name = || directory.display().to_string();
    // A log that is left of other metadata would be applied on top of the back-up.
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
    let progress = meta::progress(&database.tree())?;
    if database.identity()?.is_none() {
        return Err(RestoreError::Empty(file.display().to_string()));
    }
    Ok(progress)
}
