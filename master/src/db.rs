//! The metadata directory: the tables in sled, who may use it, and how all of it is replaced at once.
//!
//! The replicated log stands in front of the tables: what is applied is durable already, and a checkpoint makes the
//! tables durable before the log is cut. After a crash the log is applied over what the tables have.

pub(crate) mod files;

pub(crate) mod mark;

mod replace;

use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use shared::clock::Timestamp;
use shared::durable::create_dir_all;
use shared::limits::SNAPSHOT_STEP;

use self::files::Files;
pub(crate) use self::files::FilesError;
use self::mark::Mark;
use self::replace::finish_replacing;
use crate::snapshot::{self, SnapshotError, Summary};
use crate::tables::meta::{self, Applied, FIRST_VERSION, FORMAT_VERSION, Identity};
use crate::tables::{TableError, Tables, check, reclaim};

/// The tables in use.
const CURRENT: &str = "sled";

/// Says who uses the directory.
pub(crate) const LOCK: &str = "lock";

/// The log beside the tables.
pub(crate) const LOG: &str = "raft";

/// Is in a directory as long as a rebuild of its metadata is not finished.
pub(crate) const REBUILDING: &str = "rebuilding";

/// The metadata directory.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    files: RwLock<Arc<Files>>,
    /// A snapshot that is being written: commits are written into it too.
    tap: Mutex<Option<snapshot::Writer>>,
    /// One snapshot at a time.
    snapshotting: Mutex<()>,
    /// How far the tables were at the last checkpoint.
    mark: Mark,
    // Held for as long as the database is open; the operating system lets go of it with the process.
    _lock: File,
}

/// Takes the tap away at the end, however that comes: nothing is written behind it.
struct Closed<'a>(&'a Mutex<Option<snapshot::Writer>>);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
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
        let lock_path = path.join(LOCK);
        let lock = File::options().create(true).append(true).open(&lock_path).map_err(io(&lock_path))?;
        lock.try_lock().map_err(|e| match e {
            fs::TryLockError::WouldBlock => OpenError::InUse(path.to_owned()),
            fs::TryLockError::Error(source) => OpenError::Io { path: lock_path.clone(), source },
        })?;
        if path.join(REBUILDING).exists() {
            return Err(OpenError::Unfinished(path.to_owned()));
        }
        finish_replacing(path).map_err(io(path))?;
        let unreadable = |reason: String| OpenError::Unreadable { path: path.to_owned(), reason };
        let files = Files::open(&path.join(CURRENT)).map_err(|e| match e {
            FilesError::Io(path, source) => OpenError::Io { path, source },
            FilesError::Sled(reason) => unreadable(reason),
        })?;
        let identity = meta::identity(&files.db).map_err(|e| unreadable(e.to_string()))?;
        if let Some(found) =
            identity.map(|i| i.format_version).filter(|v| !(FIRST_VERSION..=FORMAT_VERSION).contains(v))
        {
            return Err(OpenError::OtherVersion { path: path.to_owned(), found });
        }
        let applied = meta::progress(&files.db).map_err(|e| unreadable(e.to_string()))?.applied;
        let (mark, before) = Mark::open(path).map_err(io(path))?;
        // Where there is a log, it makes up for what the tables lack, or finds that it cannot.
        if let Some(before) = before.filter(|before| applied < *before && !path.join(LOG).exists()) {
            let reason = format!(
                "it ends after {applied} of {before} changes: a part of it is damaged or was cut off"
            );
            return Err(unreadable(reason));
        }
        mark.set(applied);
        File::open(path).and_then(|f| f.sync_all()).map_err(io(path))?;
        Ok(Self {
            path: path.to_owned(),
            mark,
            files: RwLock::new(Arc::new(files)),
            tap: Mutex::new(None),
            snapshotting: Mutex::new(()),
            _lock: lock,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tree of all tables, for readers. Who keeps it over a replacement goes on reading the old one.
    pub fn tree(&self) -> sled::Tree {
        (*self.files().db).clone()
    }

    fn files(&self) -> Arc<Files> {
        Arc::clone(&self.files.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whose directory it is; none before it belongs to a cluster.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn identity(&self) -> Result<Option<Identity>, TableError> {
        meta::identity(&self.tree())
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.files().db.size_on_disk().unwrap_or(0)
    }

    /// Writes the changes of `tables` as one batch; it is durable after the next checkpoint.
    ///
    /// # Errors
    /// After an error nothing may be acknowledged by this process any more.
    pub fn commit(&self, tables: Tables<'_>) -> Result<(), TableError> {
        let mut tap = self.tap.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = tap.as_mut()
            && let Err(error) = writer.changes(tables.changes())
        {
            tracing::warn!(%error, "the snapshot under way cannot be written");
            *tap = None;
        }
        self.files().db.apply_batch(tables.into_batch())?;
        Ok(())
    }

    /// Makes everything durable that was committed before the call.
    ///
    /// # Errors
    /// As `commit`.
    pub fn checkpoint(&self) -> Result<(), TableError> {
        let files = self.files();
        let covered = meta::progress(&files.db)?.applied;
        files.sync()?;
        self.mark.set(covered);
        Ok(())
    }

    /// Closes it, and returns when sled has let go of its file.
    ///
    /// # Errors
    /// When the file is gone.
    pub fn close(self) -> io::Result<()> {
        let folder = self.path.join(CURRENT);
        drop(self);
        files::released(&folder)
    }

    /// Writes all records into the file `to`: a consistent picture of the moment in which this returns.
    ///
    /// Records are read in key order, some at a time; what is committed meanwhile is appended as it comes, so that reading
    /// the file from front to end gives the state at its end.
    ///
    /// # Errors
    /// When tables or file fail; the tables are not affected.
    pub fn write_snapshot(&self, to: &Path) -> Result<(Summary, Applied), SnapshotError> {
        let _alone = self.snapshotting.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = || self.tap.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = snapshot::Writer::create(to)?;
        let (tree, _closed) = {
            // Tables that are replaced end this: the tree must be the one that commits go to from now on.
            let mut tap = lock();
            *tap = Some(writer);
            (self.tree(), Closed(&self.tap))
        };
        let mut after: Option<Vec<u8>> = None;
        loop {
            let mut tap = lock();
            let writer = tap.as_mut().ok_or(SnapshotError::Interrupted)?;
            let records = match &after {
                None => tree.iter(),
                Some(last) => tree.range::<&[u8], _>((Bound::Excluded(last.as_slice()), Bound::Unbounded)),
            };
            let step: Vec<_> =
                records.take(SNAPSHOT_STEP).collect::<Result<_, _>>().map_err(TableError::from)?;
            for (path, value) in &step {
                check(path, value)?;
            }
            writer.changes(step.iter().map(|(path, value)| (&path[..], Some(&value[..]))))?;
            match step.last() {
                Some((last, _)) if step.len() == SNAPSHOT_STEP => after = Some(last.to_vec()),
                _ => {
                    let writer = tap.take().ok_or(SnapshotError::Interrupted)?;
                    let applied = meta::applied(&tree)?.unwrap_or_default();
                    drop(tap);
                    return Ok((writer.finish()?, applied));
                }
            }
        }
    }

    /// As `replace`, for a directory of its own: without the place in the log of those who wrote the snapshot, and with a
    /// note that records of a later time are not known here.
    ///
    /// # Errors
    /// As `replace`.
    pub fn restore(&self, from: &Path, now: Timestamp) -> Result<(), SnapshotError> {
        self.put_in_place(from, |tree| {
            let mut tables = Tables::new(tree);
            tables.remove_applied();
            tables.begin_again(now)?;
            tree.apply_batch(tables.into_batch())?;
            reclaim::forget_moved(tree)?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::ids::ClusterId;

    fn found(db: &Database, version: u32) -> ClusterId {
        let cluster = ClusterId::random();
        meta::write_identity(&db.tree(), &Identity { cluster, format_version: version }).unwrap();
        db.checkpoint().unwrap();
        cluster
    }

    #[test]
    fn one_process_and_one_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        let first = Database::open(&path).unwrap();
        assert_eq!(first.identity().unwrap(), None);
        let cluster = found(&first, FORMAT_VERSION);
        assert!(matches!(Database::open(&path), Err(OpenError::InUse(_))));
        first.close().unwrap();
        assert_eq!(Database::open(&path).unwrap().identity().unwrap().unwrap().cluster, cluster);
    }

    #[test]
    fn damage_and_other_versions_are_messages() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        let db = Database::open(&path).unwrap();
        found(&db, 99);
        db.close().unwrap();
        assert!(matches!(Database::open(&path), Err(OpenError::OtherVersion { found: 99, .. })));
        files::released(&path.join(CURRENT)).unwrap();
        fs::write(path.join("sled/db"), b"not a database at all").unwrap();
        fs::write(path.join("sled/conf"), b"nor a configuration").unwrap();
        assert!(matches!(Database::open(&path), Err(OpenError::Unreadable { .. })));
    }

    fn put(db: &Database, name: &str, value: u64) {
        let tree = db.tree();
        let mut tables = Tables::new(&tree);
        tables.put(crate::tables::Kind::Meta, name.as_bytes(), &value);
        db.commit(tables).unwrap();
    }

    fn get(db: &Database, name: &str) -> Option<u64> {
        Tables::new(&db.tree()).get(crate::tables::Kind::Meta, name.as_bytes()).unwrap()
    }

    #[test]
    fn a_snapshot_is_the_moment_it_was_finished_in() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) =
            (Database::open(&dir.path().join("a")).unwrap(), Database::open(&dir.path().join("b")).unwrap());
        for n in 0..5000 {
            put(&a, &format!("{n:05}"), 0);
        }
        put(&b, "of b alone", 1);
        let file = dir.path().join("snapshot");
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| a.write_snapshot(&file).unwrap());
            // Both ends change together, all the time: a snapshot with one and not the other is no moment.
            let mut n = 1;
            while !writing.is_finished() || n < 3 {
                let tree = a.tree();
                let mut tables = Tables::new(&tree);
                tables.put(crate::tables::Kind::Meta, b"00000", &n);
                tables.put(crate::tables::Kind::Meta, b"04999", &n);
                a.commit(tables).unwrap();
                n += 1;
            }
        });
        b.replace(&file).unwrap();
        assert_eq!(get(&b, "of b alone"), None);
        assert_eq!(get(&b, "00000"), get(&b, "04999"));
        assert_eq!(b.tree().len(), 5000);
        b.close().unwrap();
        let b = Database::open(&dir.path().join("b")).unwrap();
        assert_eq!(b.tree().len(), 5000);
    }
}
