//! The folder in which a rebuild works: inside the new metadata directory, which holds nothing else. Its name is the mark
//! that the metadata is not finished; `Database::open` refuses a directory that has it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use shared::durable::create_dir_all;

use super::RebuildError;
use crate::db::{OpenError, REBUILDING, mark};

/// The directory, held so that no master starts there.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    work: PathBuf,
    _lock: File,
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> RebuildError {
    let path = path.to_owned();
    move |source| RebuildError::Io { path, source }
}

impl Place {
    /// Takes a directory that is empty, or holds nothing but what an interrupted rebuild left.
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

    /// For what is collected.
    pub fn collecting(&self) -> PathBuf {
        self.work.join("collected")
    }

    /// For the new metadata directory, until it is whole.
    pub fn new_metadata(&self) -> PathBuf {
        self.work.join("new")
    }

    /// Puts the new metadata, closed by now, where a master finds it, durably. The mark goes last.
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
            tracing::warn!(path = %self.directory.display(), "what was begun could not be removed");
        }
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Makes every file and folder below durable.
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
        let place = Place::prepare(&path).unwrap();
        assert!(matches!(Place::prepare(&path), Err(RebuildError::Open(OpenError::InUse(_)))));
        drop(place);
        assert!(matches!(Database::open(&path), Err(OpenError::Unfinished(_))));
        let place = Place::prepare(&path).unwrap();
        let new = Database::open(&place.new_metadata()).unwrap();
        let cluster = shared::ids::ClusterId::random();
        let identity = crate::tables::meta::Identity { cluster, format_version: 1 };
        crate::tables::meta::write_identity(&new.tree(), &identity).unwrap();
        new.close().unwrap();
        place.finish().unwrap();
        assert_eq!(Database::open(&path).unwrap().identity().unwrap().unwrap().cluster, cluster);
        assert!(matches!(Place::prepare(&path), Err(RebuildError::InTheWay { .. })));
    }

    #[test]
    fn giving_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        Place::prepare(&path).unwrap().give_up();
        assert!(!path.exists());
    }
}
