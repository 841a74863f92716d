//! The working folder of a rebuild, inside the new metadata directory, which holds nothing else. As long as it
//! exists, the metadata is unfinished and `Database::open` refuses the directory.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use shared::durable::create_dir_all;

use super::RebuildError;
use crate::db::{OpenError, REBUILDING, mark};

/// The directory, locked so that no master starts there.
#[derive(Debug)]
pub struct WorkDirectory {
    directory: PathBuf,
    work: PathBuf,
    _lock: File,
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> RebuildError {
    let path = path.to_owned();
    move |source| RebuildError::Io { path, source }
}

impl WorkDirectory {
    /// Locks a directory that is empty, or holds only the remains of an interrupted rebuild.
    pub fn prepare(directory: &Path) -> Result<Self, RebuildError> {
        create_dir_all(directory).map_err(io_at(directory))?;
        let unfinished = directory.join(REBUILDING).exists();
        for entry in fs::read_dir(directory).map_err(io_at(directory))? {
            let name = entry.map_err(io_at(directory))?.file_name();
            if name != "lock" && name != REBUILDING && !(name == mark::FILE && unfinished) {
                let (path, found) = (directory.to_owned(), name.to_string_lossy().into_owned());
                return Err(RebuildError::InTheWay { path, found });
            }
        }
        let lock_path = directory.join("lock");
        let lock = File::options().create(true).append(true).open(&lock_path).map_err(io_at(&lock_path))?;
        lock.try_lock().map_err(|e| match e {
            fs::TryLockError::WouldBlock => OpenError::InUse(directory.to_owned()).into(),
            fs::TryLockError::Error(source) => RebuildError::Io { path: lock_path, source },
        })?;
        let work = directory.join(REBUILDING);
        remove(&work).map_err(io_at(&work))?;
        create_dir_all(&work).map_err(io_at(&work))?;
        Ok(Self { directory: directory.to_owned(), work, _lock: lock })
    }

    /// The folder of the collected answers.
    pub fn collecting(&self) -> PathBuf {
        self.work.join("collected")
    }

    /// The folder of the new metadata, until it is complete.
    pub fn new_metadata(&self) -> PathBuf {
        self.work.join("new")
    }

    /// Moves the new metadata, which must be closed, to its final place, durably. The working folder is removed last.
    pub fn finish(self) -> Result<(), RebuildError> {
        let (from, to) = (self.new_metadata().join("sled"), self.directory.join("sled"));
        sync_all(&from).map_err(io_at(&from))?;
        fs::rename(self.new_metadata().join(mark::FILE), self.directory.join(mark::FILE))
            .map_err(io_at(&self.directory))?;
        fs::rename(&from, &to).map_err(io_at(&to))?;
        let sync = || File::open(&self.directory)?.sync_all();
        sync().map_err(io_at(&self.directory))?;
        remove(&self.work).map_err(io_at(&self.work))?;
        sync().map_err(io_at(&self.directory))
    }

    /// Leaves the directory as it was found.
    pub fn give_up(self) {
        let empty = remove(&self.work).and_then(|()| fs::remove_file(self.directory.join("lock")));
        if empty.and_then(|()| fs::remove_dir(&self.directory)).is_err() {
            tracing::warn!(path = %self.directory.display(), "the remains of a failed rebuild could not be removed");
        }
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Syncs every file and folder below.
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Database;

    #[test]
    fn what_is_not_finished_is_no_metadata() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        let place = WorkDirectory::prepare(&path).unwrap();
        assert!(matches!(WorkDirectory::prepare(&path), Err(RebuildError::Open(OpenError::InUse(_)))));
        drop(place);
        assert!(matches!(Database::open(&path), Err(OpenError::Unfinished(_))));
        let place = WorkDirectory::prepare(&path).unwrap();
        let new = Database::open(&place.new_metadata()).unwrap();
        let cluster = shared::ids::ClusterId::random();
        let identity = crate::tables::meta::Identity { cluster, format_version: 1 };
        crate::tables::meta::write_identity(&new.tree(), &identity).unwrap();
        new.close().unwrap();
        place.finish().unwrap();
        assert_eq!(Database::open(&path).unwrap().identity().unwrap().unwrap().cluster, cluster);
        assert!(matches!(WorkDirectory::prepare(&path), Err(RebuildError::InTheWay { .. })));
    }

    #[test]
    fn giving_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        WorkDirectory::prepare(&path).unwrap().give_up();
        assert!(!path.exists());
    }
}
