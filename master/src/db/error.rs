//! Why a metadata directory cannot be opened, and what to do about it.

use std::io;
use std::path::PathBuf;

use super::FilesError;
use crate::tables::meta::FORMAT_VERSION;

/// The metadata directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the metadata directory {path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the metadata directory {0} is in use by another process: stop that master, or give this one a directory of \
         its own"
    )]
    InUse(PathBuf),
    /// sled cannot read its files, or their contents are wrong.
    #[error(
        "the metadata in {path} cannot be opened: {reason}. The values on the volumes are not affected: move this \
         directory away, start all volumes, and rebuild it with `barge cluster rebuild {path} --volumes \
         HOST:PORT,HOST:PORT,...`. Do not start a master on an older copy of it: that master would delete all \
         newer values as orphans"
    )]
    Unreadable { path: PathBuf, reason: String },
    /// The disk returned an error to sled.
    #[error(
        "the metadata in {path} cannot be opened: {reason}. The disk returned this error; the files may be intact. \
         Check whether the disk is full or failing, then restart the master"
    )]
    Failed { path: PathBuf, reason: String },
    /// A rebuild was interrupted.
    #[error(
        "the metadata in {0} is not finished: run `barge cluster rebuild {0} --volumes HOST:PORT,HOST:PORT,...` \
         again, with all volumes"
    )]
    Unfinished(PathBuf),
    #[error(
        "the metadata in {path} has format version {found}, but this master reads version {FORMAT_VERSION}: use the \
         Barge version that wrote it"
    )]
    OtherVersion { path: PathBuf, found: u32 },
}

impl OpenError {
    /// Wraps errors of the files in the directory `path`.
    pub(crate) fn of_files(path: &std::path::Path) -> impl Fn(FilesError) -> Self + use<> {
        let path = path.to_owned();
        move |e| match e {
            FilesError::Io(path, source) => Self::Io { path, source },
            FilesError::Sled { reason } => Self::Unreadable { path: path.clone(), reason },
            FilesError::Failed { reason } => Self::Failed { path: path.clone(), reason },
        }
    }

    /// Whether the tables must be recovered from other masters or rebuilt from the volumes.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }
}
