//! sled, handled with care: one database a process, nothing flushed behind our back, and our own
//! fsync after each flush.
//!
//! sled 0.34's `flush` is `sync_file_range` on Linux, which survives kill -9 and not a power cut:
//! acknowledged keys were lost in 39 of 40 rounds without the fsync on its `db` file, and in none with it.

pub(crate) mod mark;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use shared::durable::create_dir_all;
use shared::ids::ClusterId;
use shared::limits::{SLED_CACHE_BYTES, SLED_SEGMENT_BYTES};

use self::mark::Mark;
use crate::tables::meta::{self, FORMAT_VERSION, Identity};
use crate::tables::{TableError, Tables};

/// So much is read at a time to see whether it can be read.
const READ_THROUGH_BYTES: usize = 1 << 20;

/// Is in a directory as long as a rebuild of its metadata is not finished.
pub(crate) const REBUILDING: &str = "rebuilding";

/// The metadata directory.
#[derive(Debug)]
pub struct Database {
    db: sled::Db,
    file: File,
    path: PathBuf,
    identity: Identity,
    mark: Mark,
    // Held for as long as the database is open; the operating system lets go of it with the process.
    _lock: File,
}

/// The metadata directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or folder says no.
    #[error("the metadata directory {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
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
         directory away, start all volumes, and make it anew with `barge cluster rebuild {path} --volumes \
         HOST:PORT,HOST:PORT,...`. Do not start a master on an older copy of it: to that one all newer values \
         look like leftovers"
    )]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// What sled said.
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
        /// Where.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl Database {
    /// Opens or makes the metadata directory at `path`.
    ///
    /// # Errors
    /// When it is in use, unreadable or of another version. Nothing is changed then.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |at: &Path| {
            let at = at.to_owned();
            move |source| OpenError::Io { path: at, source }
        };
        create_dir_all(path).map_err(io(path))?;
        let lock_path = path.join("lock");
        let lock = File::options().create(true).append(true).open(&lock_path).map_err(io(&lock_path))?;
        lock.try_lock().map_err(|e| match e {
            fs::TryLockError::WouldBlock => OpenError::InUse(path.to_owned()),
            fs::TryLockError::Error(source) => OpenError::Io { path: lock_path.clone(), source },
        })?;
        if path.join(REBUILDING).exists() {
            return Err(OpenError::Unfinished(path.to_owned()));
        }
        let sled_path = path.join("sled");
        read_through(&sled_path).map_err(io(&sled_path))?;
        let db = open_sled(&sled_path)
            .map_err(|reason| OpenError::Unreadable { path: path.to_owned(), reason })?;
        let unreadable =
            |e: TableError| OpenError::Unreadable { path: path.to_owned(), reason: e.to_string() };
        let found = meta::identity(&db).map_err(unreadable)?;
        let applied = meta::progress(&db).map_err(unreadable)?.applied;
        let (mark, before) = Mark::open(path).map_err(io(path))?;
        if before.is_some_and(|before| applied < before || found.is_none()) {
            let before = before.unwrap_or(0);
            let reason = format!(
                "it ends after {applied} of {before} changes: a part of it is damaged or was cut off"
            );
            return Err(OpenError::Unreadable { path: path.to_owned(), reason });
        }
        let identity = match found {
            Some(identity) if identity.format_version == FORMAT_VERSION => identity,
            Some(other) => {
                return Err(OpenError::OtherVersion { path: path.to_owned(), found: other.format_version });
            }
            None => {
                let new = Identity { cluster: ClusterId::random(), format_version: FORMAT_VERSION };
                meta::write_identity(&db, &new).map_err(unreadable)?;
                new
            }
        };
        let file_path = sled_path.join("db");
        let file = File::options().read(true).write(true).open(&file_path).map_err(io(&file_path))?;
        let database = Self { db, file, path: sled_path.clone(), identity, mark, _lock: lock };
        database.sync().map_err(unreadable)?;
        database.mark.set(applied);
        for folder in [sled_path.as_path(), path] {
            File::open(folder).and_then(|f| f.sync_all()).map_err(io(folder))?;
        }
        Ok(database)
    }

    /// Closes it, and returns when sled has let go: its threads may live on for a moment, and hold the file.
    ///
    /// # Errors
    /// When the file is gone.
    pub fn close(self) -> io::Result<()> {
        let path = self.path.clone();
        drop(self);
        released(&path)
    }

    /// The tree of all tables, for readers.
    pub fn tree(&self) -> &sled::Tree {
        &self.db
    }

    /// Whose directory it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }

    /// Writes the changes of `tables` as one batch and makes it durable.
    ///
    /// # Errors
    /// After an error nothing may be acknowledged by this process any more: what reached the disk is unknown.
    pub fn commit(&self, tables: Tables<'_>) -> Result<(), TableError> {
        self.db.apply_batch(tables.into_batch())?;
        self.sync()?;
        self.mark.set(meta::progress(&self.db)?.applied);
        Ok(())
    }

    fn sync(&self) -> Result<(), TableError> {
        self.db.flush()?;
        self.file.sync_all().map_err(sled::Error::Io)?;
        self.sync_large().map_err(sled::Error::Io)?;
        Ok(())
    }

    /// sled keeps nodes of more than a quarter of its segment size in files of their own, and never syncs
    /// them. Our records are far too small for that; should there be one all the same, it is made durable.
    fn sync_large(&self) -> io::Result<()> {
        let folder = self.path.join("blobs");
        let mut any = false;
        for entry in fs::read_dir(&folder)? {
            File::open(entry?.path())?.sync_all()?;
            any = true;
        }
        if any { File::open(&folder)?.sync_all() } else { Ok(()) }
    }
}

/// Reads every byte below `folder`, before sled does: it takes an error of reading for the end of its log, and overwrites
/// what stands behind. What it reads again a moment later comes from memory.
fn read_through(folder: &Path) -> io::Result<()> {
    let mut buffer = vec![0; READ_THROUGH_BYTES];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let (file, mut at) = (File::open(entry.path())?, 0);
            loop {
                match file.read_at(&mut buffer, at) {
                    Ok(0) => break,
                    Ok(n) => at += n as u64,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
        }
    }
    Ok(())
}

/// Returns when no sled of this process has the database below `path` open any more.
pub(crate) fn released(path: &Path) -> io::Result<()> {
    File::open(path.join("db"))?.lock()
}

/// Opens sled; it panics on some damage, which is a message like any other to us.
pub(crate) fn open_sled(path: &Path) -> Result<sled::Db, String> {
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(SLED_CACHE_BYTES)
        .segment_size(SLED_SEGMENT_BYTES)
        .flush_every_ms(None);
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(e)) => Err(e.to_string()),
        Err(panic) => Err(panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("damage that its reader does not survive")
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_and_one_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        let first = Database::open(&path).unwrap();
        let cluster = first.identity().cluster;
        assert!(matches!(Database::open(&path), Err(OpenError::InUse(_))));
        drop(first);
        assert_eq!(Database::open(&path).unwrap().identity().cluster, cluster);
    }

    #[test]
    fn damage_and_other_versions_are_messages() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        let db = Database::open(&path).unwrap();
        meta::write_identity(db.tree(), &Identity { format_version: 99, ..db.identity() }).unwrap();
        db.sync().unwrap();
        drop(db);
        assert!(matches!(Database::open(&path), Err(OpenError::OtherVersion { found: 99, .. })));
        fs::write(path.join("sled/db"), b"not a database at all").unwrap();
        fs::write(path.join("sled/conf"), b"nor a configuration").unwrap();
        assert!(matches!(Database::open(&path), Err(OpenError::Unreadable { .. })));
    }
}
