//! Atomic replacement of all tables: new ones are built beside the current ones, made durable, and only then renamed.
//!
//! Tables received from another master are *staged* first: complete and durable beside the current ones before
//! the log discards the entries that they cover. If a start finds the log ahead of the current tables, it uses
//! the staged ones.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use super::files::{self, Files};
use super::{CURRENT, DISTRUSTED, Database};
use crate::snapshot::{self, SnapshotError};
use crate::tables::meta::{self, Applied};
use crate::tables::{TableError, caught, content};

/// Tables being written.
const BUILDING: &str = "sled.building";
/// Complete and durable tables that may replace the current ones.
const STAGED: &str = "sled.staged";
/// Complete and durable tables that will replace the current ones.
const INCOMING: &str = "sled.incoming";
/// Corrupt tables that were replaced by those of another master.
const CORRUPT: &str = "sled.damaged";
/// Replaced tables, about to be deleted.
const OLD: &str = "sled.old";

impl Database {
    /// Replaces all records by those of the snapshot `from`, atomically with respect to crashes.
    ///
    /// # Errors
    /// When the snapshot is incomplete or corrupt, or the disk fails.
    pub fn replace(&self, from: &Path) -> Result<(), SnapshotError> {
        self.put_in_place(from, |_| Ok(()))
    }

    /// Builds complete, durable tables from the snapshot `from`, for `use_staged`. Does not touch the current ones.
    ///
    /// # Errors
    /// The errors of `replace`.
    pub fn stage(&self, from: &Path) -> Result<(), SnapshotError> {
        self.build_to(STAGED, from, |_| Ok(()))
    }

    /// Returns the log position of the staged tables; `None` if there are none.
    ///
    /// # Errors
    /// When they cannot be opened.
    pub fn staged(&self) -> Result<Option<Applied>, SnapshotError> {
        let folder = self.path.join(STAGED);
        if !folder.exists() {
            return Ok(None);
        }
        let files = Files::open(&folder)?;
        let applied = meta::applied(&files.db)?;
        drop(files);
        files::released(&folder).map_err(SnapshotError::io(&folder))?;
        Ok(applied)
    }

    /// Replaces the current tables by the staged ones.
    ///
    /// # Errors
    /// When there are none, or the disk fails.
    pub fn use_staged(&self) -> Result<(), SnapshotError> {
        let staged = self.path.join(STAGED);
        fs::rename(&staged, self.path.join(INCOMING)).map_err(SnapshotError::io(&staged))?;
        self.take_in()
    }

    /// Deletes the staged tables.
    ///
    /// # Errors
    /// When they cannot be deleted.
    pub fn drop_staged(&self) -> io::Result<()> {
        remove(&self.path.join(STAGED))
    }

    /// Like `replace`, for a directory whose tables are corrupt, even if they cannot be opened.
    ///
    /// # Errors
    /// When the directory is in use, the snapshot is incomplete or corrupt, or the disk fails.
    pub fn heal(path: &Path, from: &Path) -> Result<(), SnapshotError> {
        let _lock = super::locked(path).map_err(|e| SnapshotError::Unwritable { reason: e.to_string() })?;
        let current = path.join(CURRENT);
        if current.join("db").exists() {
            // Threads of the sled instance that found the corruption may still have it open.
            files::released(&current).map_err(SnapshotError::io(&current))?;
        }
        let (building, incoming) = (path.join(BUILDING), path.join(INCOMING));
        build(&building, from, |_| Ok(()))?;
        remove(&incoming).map_err(SnapshotError::io(&incoming))?;
        fs::rename(&building, &incoming).map_err(SnapshotError::io(&incoming))?;
        File::open(path).and_then(|f| f.sync_all()).map_err(SnapshotError::io(path))?;
        // Keep the corrupt tables for analysis; delete those of an earlier incident.
        let corrupt = path.join(CORRUPT);
        remove(&corrupt).map_err(SnapshotError::io(&corrupt))?;
        if current.exists() {
            fs::rename(&current, &corrupt).map_err(SnapshotError::io(&corrupt))?;
        }
        finish_replacing(path).map_err(SnapshotError::io(path))?;
        match fs::remove_file(path.join(DISTRUSTED)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(SnapshotError::io(path)(e)),
            _ => Ok(()),
        }
    }

    pub(super) fn put_in_place(
        &self,
        from: &Path,
        finish: impl Fn(&sled::Tree) -> Result<(), TableError>,
    ) -> Result<(), SnapshotError> {
        self.build_to(INCOMING, from, finish)?;
        self.take_in()
    }

    fn build_to(
        &self,
        name: &str,
        from: &Path,
        finish: impl Fn(&sled::Tree) -> Result<(), TableError>,
    ) -> Result<(), SnapshotError> {
        let (building, to) = (self.path.join(BUILDING), self.path.join(name));
        build(&building, from, finish)?;
        remove(&to).map_err(SnapshotError::io(&to))?;
        fs::rename(&building, &to).map_err(SnapshotError::io(&to))?;
        self.sync_folder()
    }

    /// Replaces the current tables by those named `INCOMING`. Aborts snapshots in progress, which would mix both.
    fn take_in(&self) -> Result<(), SnapshotError> {
        self.sync_folder()?;
        let mut walks = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        walks.end();
        finish_replacing(&self.path).map_err(SnapshotError::io(&self.path))?;
        let files = reopen(&self.path.join(CURRENT))?;
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(files);
        Ok(())
    }

    fn sync_folder(&self) -> Result<(), SnapshotError> {
        File::open(&self.path).and_then(|f| f.sync_all()).map_err(SnapshotError::io(&self.path))
    }
}

/// Builds tables from a snapshot; they are durable when this returns.
fn build(
    folder: &Path,
    from: &Path,
    finish: impl Fn(&sled::Tree) -> Result<(), TableError>,
) -> Result<(), SnapshotError> {
    remove(folder).map_err(SnapshotError::io(folder))?;
    let files = Files::open(folder).map_err(SnapshotError::from)?;
    for frame in snapshot::Reader::open(from)? {
        let mut batch = sled::Batch::default();
        for (path, value) in frame? {
            match value {
                Some(value) => batch.insert(path, value),
                None => batch.remove(path),
            }
        }
        files.db.apply_batch(batch).map_err(TableError::from)?;
    }
    // The tables of the master that sent it may be corrupt without its knowledge.
    caught(|| content::prove(&files.db))?;
    finish(&files.db)?;
    files.sync()?;
    drop(files);
    files::released(folder).map_err(SnapshotError::io(folder))?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(SnapshotError::io(folder))
}

/// Opens tables that were just closed.
fn reopen(folder: &Path) -> Result<Files, SnapshotError> {
    files::released(folder).map_err(SnapshotError::io(folder))?;
    Ok(Files::open(folder)?)
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Finishes an interrupted replacement. Tables named `INCOMING` are complete.
pub(super) fn finish_replacing(path: &Path) -> io::Result<()> {
    let [current, building, incoming, old]: [PathBuf; 4] =
        [CURRENT, BUILDING, INCOMING, OLD].map(|name| path.join(name));
    if incoming.exists() {
        if current.exists() {
            remove(&old)?;
            fs::rename(&current, &old)?;
        }
        fs::rename(&incoming, &current)?;
        File::open(path)?.sync_all()?;
    }
    remove(&building)?;
    remove(&old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{Kind, Tables};
    use openraft::{CommittedLeaderId, LogId};

    fn put(db: &Database, name: &str, value: u64) {
        let tree = db.tree();
        let mut tables = Tables::new(&tree);
        tables.put(Kind::Meta, name.as_bytes(), &value);
        db.commit(tables).unwrap();
    }

    fn get(db: &Database, name: &str) -> Option<u64> {
        crate::tables::Read::get(&db.tree(), Kind::Meta, name.as_bytes()).unwrap()
    }

    #[test]
    fn a_replacement_goes_on_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        let db = Database::open(&path).unwrap();
        put(&db, "old", 1);
        db.checkpoint().unwrap();
        db.close().unwrap();
        // Half built: discarded.
        fs::create_dir(path.join(BUILDING)).unwrap();
        fs::write(path.join(BUILDING).join("db"), b"half").unwrap();
        let db = Database::open(&path).unwrap();
        assert_eq!(get(&db, "old"), Some(1));
        let file = dir.path().join("snapshot");
        put(&db, "new", 2);
        db.write_snapshot(&file).unwrap();
        put(&db, "newer", 3);
        db.close().unwrap();
        // Complete, and the current ones already renamed.
        build(&path.join(BUILDING), &file, |_| Ok(())).unwrap();
        fs::rename(path.join(BUILDING), path.join(INCOMING)).unwrap();
        fs::rename(path.join(CURRENT), path.join(OLD)).unwrap();
        let db = Database::open(&path).unwrap();
        assert_eq!((get(&db, "new"), get(&db, "newer")), (Some(2), None));
        assert!(!path.join(OLD).exists());
    }

    #[test]
    fn staged_tables_wait_until_they_are_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let (from, path) = (dir.path().join("from"), dir.path().join("meta"));
        let other = Database::open(&from).unwrap();
        let applied =
            Applied { last: Some(LogId::new(CommittedLeaderId::new(3, 1), 40)), ..Applied::default() };
        let tree = other.tree();
        let mut tables = Tables::new(&tree);
        tables.put_applied(&applied);
        other.commit(tables).unwrap();
        let file = dir.path().join("snapshot");
        other.write_snapshot(&file).unwrap();

        let db = Database::open(&path).unwrap();
        put(&db, "ours", 1);
        db.checkpoint().unwrap();
        assert_eq!(db.staged().unwrap(), None);
        db.stage(&file).unwrap();
        db.stage(&file).unwrap();
        db.close().unwrap();
        let db = Database::open(&path).unwrap();
        assert_eq!(get(&db, "ours"), Some(1), "the staged tables are not in use yet");
        assert_eq!(db.staged().unwrap(), Some(applied));
        db.use_staged().unwrap();
        assert_eq!((get(&db, "ours"), db.staged().unwrap()), (None, None));
        db.stage(&file).unwrap();
        db.drop_staged().unwrap();
        assert!(db.use_staged().is_err());
    }

    #[test]
    fn a_snapshot_does_not_outlive_the_tables() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("meta")).unwrap();
        for n in 0..20_000 {
            put(&db, &format!("{n:05}"), n);
        }
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        db.write_snapshot(&first).unwrap();
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| db.write_snapshot(&second));
            while db.walks.lock().unwrap().none() && !writing.is_finished() {
                std::thread::yield_now();
            }
            db.replace(&first).unwrap();
            assert!(db.walks.lock().unwrap().none(), "commits would still go into it");
            // It finished before, or was aborted.
            let written = writing.join().unwrap();
            assert!(written.is_ok() || matches!(written, Err(SnapshotError::Interrupted)), "{written:?}");
        });
    }
}
