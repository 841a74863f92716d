//! The metadata directory: the tables in sled, who may use it, and how all of it is replaced at once.
//!
//! The replicated log stands in front of the tables: what is applied is durable already, and a checkpoint makes the
//! tables durable before the log is cut. After a crash the log is applied over what the tables have.

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

/// The tables in use.
const CURRENT: &str = "sled";

/// Says who uses the directory.
pub(crate) const LOCK: &str = "lock";

/// The log beside the tables.
pub(crate) const LOG: &str = "raft";

/// Is in a directory as long as a rebuild of its metadata is not finished.
pub(crate) const REBUILDING: &str = "rebuilding";

/// Is in a directory whose tables are not those of the other masters, until they are replaced.
const DISTRUSTED: &str = "distrusted";

#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    files: RwLock<Arc<Files>>,
    /// Snapshots and proofs under way: they follow what is committed.
    walks: Mutex<Walks>,
    /// One snapshot at a time.
    snapshotting: Mutex<()>,
    /// How far the tables were at the last checkpoint.
    mark: Mark,
    // Held for as long as the database is open; the operating system lets go of it with the process.
    _lock: File,
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

    /// Writes the changes of `tables` as one batch; it is durable after the next checkpoint. Returns the digest of the tables.
    ///
    /// # Errors
    /// After an error nothing may be acknowledged by this process any more.
    pub fn commit(&self, tables: Tables<'_>) -> Result<Option<Content>, TableError> {
        let mut walks = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        let (changes, content) = tables.into_changes()?;
        walks.follow(&changes);
        self.files().db.apply_batch(batch(changes))?;
        Ok(content)
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

    /// Its records are not those of the other masters: it is not opened again before they are replaced.
    ///
    /// # Errors
    /// When that cannot be noted.
    pub fn distrust(&self) -> io::Result<()> {
        File::create(self.path.join(DISTRUSTED))?.sync_all()?;
        File::open(&self.path)?.sync_all()
    }

    /// Ends snapshots and proofs that are under way.
    pub fn end_walks(&self) {
        self.walks.lock().unwrap_or_else(PoisonError::into_inner).end();
    }

    /// Notes that all is durable and nothing is written after this: the next start need not read all records first.
    ///
    /// # Errors
    /// When that cannot be noted; the next start reads them.
    pub fn mark_closed(&self) -> io::Result<()> {
        let applied = meta::progress(&self.tree()).map_err(io::Error::other)?.applied;
        mark::set_closed(&self.path, applied)
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
            tree.apply_batch(tables.into_batch()?)?;
            reclaim::forget_moved(tree)?;
            Ok(())
        })
    }
}

/// The lock of the directory, held by this process.
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

/// Sees whether the tables are of a version that is read here, as far as they were, and what was written.
fn checked(path: &Path, files: &Files) -> Result<Mark, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let unreadable = |reason: String| OpenError::Unreadable { path: path.to_owned(), reason };
    let damaged = |e: TableError| unreadable(e.to_string());
    let identity = meta::identity(&files.db).map_err(damaged)?;
    if let Some(found) =
        identity.map(|i| i.format_version).filter(|v| !(FIRST_VERSION..=FORMAT_VERSION).contains(v))
    {
        return Err(OpenError::OtherVersion { path: path.to_owned(), found });
    }
    if path.join(DISTRUSTED).exists() {
        return Err(unreadable("its records are not those of the other masters".into()));
    }
    let applied = meta::progress(&files.db).map_err(damaged)?.applied;
    let (mark, before) = Mark::open(path).map_err(io)?;
    // Where there is a log, it makes up for what the tables lack, or finds that it cannot.
    if let Some(before) = before.filter(|before| applied < *before && !path.join(LOG).exists()) {
        return Err(unreadable(format!(
            "it ends after {applied} of {before} changes: a part of it is damaged or was cut off"
        )));
    }
    let closed = mark::take_closed(path).map_err(io)?;
    if closed != Some(applied) || content::read(&files.db).map_err(damaged)?.is_none() {
        match caught(|| content::prove(&files.db)) {
            // To a master that is alone it is an error for those who ask for that record, and for nobody else.
            Err(error @ TableError::Damaged { .. }) if OtherMasters::read(path).is_none() => {
                tracing::error!(%error, "a record of the metadata is damaged");
            }
            proved => proved.map_err(damaged)?,
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

    /// sled makes one when it is opened, and a process may be killed just then.
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
        // And the digest of them.
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
        // Before each step a record changes that was read, one that was not, one that comes and one that goes.
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
        let differs = |e| matches!(e, SnapshotError::Tables(TableError::Differs(_)));
        assert!(differs(proved().unwrap_err()));
        assert!(
            differs(db.write_snapshot(&dir.path().join("snapshot")).unwrap_err()),
            "no back-up of damage"
        );
    }
}
