//! Why a metadata directory is not opened, and what to do then.

use std::io;
use std::path::PathBuf;

use super::FilesError;
use crate::tables::meta::FORMAT_VERSION;

/// The metadata directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or folder says no.
    #[error("the metadata directory {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "the metadata directory {0} is in use by another process: stop that master, or give this one a directory of its own"
    )]
    InUse(PathBuf),
    /// sled cannot read what is there.
    #[error(
        "the metadata in {path} cannot be opened: {reason}. The values on the volumes are not affected: move this \
         directory away, start all volumes, and rebuild it with `barge cluster rebuild {path} --volumes \
         HOST:PORT,HOST:PORT,...`. Do not start a master on an older copy of it: to that one all newer values \
         look like leftovers"
    )]
    Unreadable { path: PathBuf, reason: String },
    /// The disk says no to sled.
    #[error(
        "the metadata in {path} cannot be opened: {reason}. That is the disk, and not what is on it: see whether it is full or \
         fails, then start the master again"
    )]
    Failed {
        path: PathBuf,
        /// What the disk said.
        reason: String,
    },
    /// A rebuild was interrupted.
    #[error(
        "the metadata in {0} is not finished: run `barge cluster rebuild {0} --volumes HOST:PORT,HOST:PORT,...` again, \
         with all volumes"
    )]
    Unfinished(PathBuf),
    /// Written by another version.
    #[error(
        "the metadata in {path} has format version {found}; this master reads version {FORMAT_VERSION}: use the version of Barge that wrote it"
    )]
    OtherVersion {
        path: PathBuf,
        /// The format version that its identity names.
        found: u32,
    },
}

impl OpenError {
    /// Of the files in the directory `path`.
    pub(crate) fn of_files(path: &std::path::Path) -> impl Fn(FilesError) -> Self + use<> {
        let path = path.to_owned();
        move |e| match e {
            FilesError::Io(path, source) => Self::Io { path, source },
            FilesError::Sled(reason) => Self::Unreadable { path: path.clone(), reason },
            FilesError::Failed(reason) => Self::Failed { path: path.clone(), reason },
        }
    }

    /// Whether the tables are to be made again, from other masters or from the volumes.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }
}
