//! The metadata directory: the tables in sled, the lock of the directory, and atomic replacement of all tables.
//!
//! The replicated log precedes the tables: whatever is applied is already durable there. A checkpoint makes the
//! tables durable before the log is truncated. After a crash the log is replayed onto the tables.

pub(crate) mod files;

pub(crate) mod mark;
pub(crate) mod other_masters;

mod error;

mod replace;

pub(crate) mod walk;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use shared::clock::Timestamp;
use shared::durable::create_dir_all;

pub use self::error::OpenError;
use self::files::Files;
pub(crate) use self::files::FilesError;
use self::mark::Mark;
use self::other_masters::OtherMasters;
use self::replace::finish_replacing;
use self::walk::Walks;
use crate::snapshot::SnapshotError;
use crate::tables::content::{self, Content};
use crate::tables::meta::{self, FIRST_VERSION, FORMAT_VERSION, Identity};
use crate::tables::{TableError, Tables, batch, caught, reclaim};

/// Directory of the current tables.
const CURRENT: &str = "sled";

/// Locks the directory.
pub(crate) const LOCK: &str = "lock";

/// Directory of the Raft log.
pub(crate) const LOG: &str = "raft";

/// Marks a directory whose rebuild is not finished.
pub(crate) const REBUILDING: &str = "rebuilding";

/// Marks a directory whose tables differ from those of the other masters, until they are replaced.
const DISTRUSTED: &str = "distrusted";

#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    files: RwLock<Arc<Files>>,
    /// Snapshots and proofs in progress; each commit is passed to them.
    walks: Mutex<Walks>,
    /// Allows one snapshot at a time.
    snapshotting: Mutex<()>,
    /// The applied index of the last checkpoint.
    mark: Mark,
    // Held while the database is open; the operating system releases it with the process.
    _lock: File,
}

impl Database {
    /// Opens the metadata directory at `path`, or creates it.
    ///
    /// # Errors
    /// When it is in use, unreadable or of another version. Nothing is changed then.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |at: &Path| {
            let at = at.to_owned();
            move |source| OpenError::Io { path: at, source }
        };
        create_dir_all(path).map_err(io(path))?;
        let lock = locked(path)?;
        if path.join(REBUILDING).exists() {
            return Err(OpenError::Unfinished(path.to_owned()));
        }
        finish_replacing(path).map_err(io(path))?;
        let files = Files::open(&path.join(CURRENT)).map_err(OpenError::of_files(path))?;
        let mark = checked(path, &files)?;
        File::open(path).and_then(|f| f.sync_all()).map_err(io(path))?;
        Ok(Self {
            path: path.to_owned(),
            mark,
            files: RwLock::new(Arc::new(files)),
            walks: Mutex::default(),
            snapshotting: Mutex::default(),
            _lock: lock,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the tree of all tables, for readers. One kept across a replacement still reads the old tables.
    pub fn tree(&self) -> sled::Tree {
        (*self.files().db).clone()
    }

    fn files(&self) -> Arc<Files> {
        Arc::clone(&self.files.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the cluster of this directory; `None` before it belongs to one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn identity(&self) -> Result<Option<Identity>, TableError> {
        meta::identity(&self.tree())
    }

    pub fn disk_bytes(&self) -> u64 {
        self.files().db.size_on_disk().unwrap_or(0)
    }

    /// Writes the changes of `tables` as one batch; it is durable after the next checkpoint. Returns
    /// the tables' digest.
    ///
    /// # Errors
    /// When sled fails. After an error this process must acknowledge nothing more.
    pub fn commit(&self, tables: Tables<'_>) -> Result<Option<Content>, TableError> {
        let mut walks = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        let (changes, content) = tables.into_changes()?;
        walks.follow(&changes);
        self.files().db.apply_batch(batch(changes))?;
        Ok(content)
    }

    /// Makes everything committed before the call durable.
    ///
    /// # Errors
    /// The errors of `commit`.
    pub fn checkpoint(&self) -> Result<(), TableError> {
        let files = self.files();
        let covered = meta::counters(&files.db)?.applied;
        files.sync()?;
        self.mark.set(covered);
        Ok(())
    }

    /// Marks the tables as different from those of the other masters: they are not opened again until replaced.
    ///
    /// # Errors
    /// When the mark cannot be written.
    pub fn distrust(&self) -> io::Result<()> {
        File::create(self.path.join(DISTRUSTED))?.sync_all()?;
        File::open(&self.path)?.sync_all()
    }

    /// Aborts snapshots and proofs in progress.
    pub fn end_walks(&self) {
        self.walks.lock().unwrap_or_else(PoisonError::into_inner).end();
    }

    /// Marks a clean shutdown: everything is durable and nothing is written after this, so the next start need not
    /// verify all records.
    ///
    /// # Errors
    /// When the mark cannot be written; the next start verifies them.
    pub fn mark_closed(&self) -> io::Result<()> {
        let applied = meta::counters(&self.tree()).map_err(io::Error::other)?.applied;
        mark::set_closed(&self.path, applied)
    }

    /// Closes the database; returns when sled has released its file.
    ///
    /// # Errors
    /// When the file is missing.
    pub fn close(self) -> io::Result<()> {
        let folder = self.path.join(CURRENT);
        drop(self);
        files::released(&folder)
    }

    /// Like `replace`, for a cluster that starts from this snapshot: drops the log position of its writers, and notes
    /// that records written after it are unknown here.
    ///
    /// # Errors
    /// The errors of `replace`.
    pub fn restore(&self, from: &Path, now: Timestamp) -> Result<(), SnapshotError> {
        self.put_in_place(from, |tree| {
            let mut tables = Tables::new(tree);
            tables.remove_applied();
            tables.begin_again(now)?;
            tree.apply_batch(tables.into_batch()?)?;
            reclaim::remove_still_referenced(tree)?;
            Ok(())
        })
    }
}

/// Takes the lock of the directory.
fn locked(path: &Path) -> Result<File, OpenError> {
    let path_of_lock = path.join(LOCK);
    let io = |source| OpenError::Io { path: path_of_lock.clone(), source };
    let lock = File::options().create(true).append(true).open(&path_of_lock).map_err(io)?;
    lock.try_lock().map_err(|e| match e {
        fs::TryLockError::WouldBlock => OpenError::InUse(path.to_owned()),
        fs::TryLockError::Error(source) => io(source),
    })?;
    Ok(lock)
}

/// Verifies the tables: the format version, that they reach the last checkpoint, and, after an unclean
/// stop, the digest.
fn checked(path: &Path, files: &Files) -> Result<Mark, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let unreadable = |reason: String| OpenError::Unreadable { path: path.to_owned(), reason };
    let corrupt = |e: TableError| unreadable(e.to_string());
    let identity = meta::identity(&files.db).map_err(corrupt)?;
    if let Some(found) =
        identity.map(|i| i.format_version).filter(|v| !(FIRST_VERSION..=FORMAT_VERSION).contains(v))
    {
        return Err(OpenError::OtherVersion { path: path.to_owned(), found });
    }
    if path.join(DISTRUSTED).exists() {
        return Err(unreadable("its records differ from those of the other masters".into()));
    }
    let applied = meta::counters(&files.db).map_err(corrupt)?.applied;
    let (mark, before) = Mark::open(path).map_err(io)?;
    // If there is a log, replaying it restores what the tables lack, or fails with its own error.
    if let Some(before) = before.filter(|before| applied < *before && !path.join(LOG).exists()) {
        return Err(unreadable(format!(
            "it ends after {applied} of {before} changes: a part of it is corrupt or was cut off"
        )));
    }
    let closed = mark::take_closed(path).map_err(io)?;
    if closed != Some(applied) || content::read(&files.db).map_err(corrupt)?.is_none() {
        match caught(|| content::prove(&files.db)) {
            // A single master has nobody to recover from: only commands that need this record fail.
            Err(error @ TableError::Corrupt { .. }) if OtherMasters::read(path).is_none() => {
                tracing::error!(%error, "a record of the metadata is corrupt");
            }
            proved => proved.map_err(corrupt)?,
        }
    }
    mark.set(applied);
    Ok(mark)
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

    /// sled writes one when it is opened, and the process may be killed at that moment.
    #[test]
    fn a_snapshot_of_sled_that_was_not_finished_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        let mut cluster = None;
        for unfinished in [None, Some(""), Some("a part of one"), None] {
            let db = Database::open(&path).unwrap();
            match cluster {
                None => cluster = Some(found(&db, FORMAT_VERSION)),
                some => assert_eq!(db.identity().unwrap().map(|i| i.cluster), some),
            }
            db.close().unwrap();
            if let Some(bytes) = unfinished {
                let name = path.join(CURRENT).join("snap.7FFFFFFFFFFFFFFF.generating");
                std::fs::write(name, bytes).unwrap();
            }
        }
    }

    #[test]
    fn corruption_and_other_versions_are_messages() {
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
        crate::tables::Read::get(&db.tree(), crate::tables::Kind::Meta, name.as_bytes()).unwrap()
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
            // Both ends always change together: a snapshot with only one change is inconsistent.
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
        // 5000 records and their digest.
        assert_eq!(b.tree().len(), 5001);
        b.close().unwrap();
        let b = Database::open(&dir.path().join("b")).unwrap();
        assert_eq!(b.tree().len(), 5001);
    }

    #[test]
    fn a_proof_goes_on_beside_commits_and_finds_what_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let db = Arc::new(Database::open(&dir.path().join("meta")).unwrap());
        for n in 0..3000 {
            put(&db, &format!("{n:05}"), 0);
        }
        // Before each step, change a record already read and one not yet read, insert one and remove one.
        let (proof, mut step) = (db.begin_proof(), 0);
        while proof.step().unwrap() {
            step += 1;
            put(&db, "00000", step);
            put(&db, "02999", step);
            put(&db, &format!("0000{step}x"), step);
            let tree = db.tree();
            let mut tables = Tables::new(&tree);
            tables.remove(crate::tables::Kind::Meta, format!("{:05}", step * 200).as_bytes());
            db.commit(tables).unwrap();
        }
        assert!(step > 5, "{step} steps");
        let old = db.tree().get(b"m00100").unwrap().unwrap();
        put(&db, "00100", 7);
        let proved = || {
            let proof = db.begin_proof();
            while proof.step()? {}
            Ok(())
        };
        proved().unwrap();
        db.tree().insert(b"m00100", old).unwrap();
        let differs = |e| matches!(e, SnapshotError::Tables(TableError::Differs { kinds: _ }));
        assert!(differs(proved().unwrap_err()));
        assert!(
            differs(db.write_snapshot(&dir.path().join("snapshot")).unwrap_err()),
            "corrupt tables give no snapshot"
        );
    }
}
