//! The files of sled, handled with care: all of them readable before sled looks, nothing flushed behind our back,
//! and our own fsync after each flush.
//!
//! sled 0.34's `flush` is `sync_file_range` on Linux, which survives kill -9 and not a power cut:
//! acknowledged keys were lost in 39 of 40 rounds without the fsync on its `db` file, and in none with it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use shared::limits::{SLED_CACHE_BYTES, SLED_SEGMENT_BYTES};

use crate::snapshot::SnapshotError;
use crate::tables::TableError;

/// So much is read at a time to see whether it can be read.
const READ_THROUGH_BYTES: usize = 1 << 20;

/// An open sled database and its file.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) db: sled::Db,
    file: File,
    path: PathBuf,
}

/// sled could not be opened.
#[derive(Debug)]
pub(crate) enum FilesError {
    /// The disk says no, at this path.
    Io(PathBuf, io::Error),
    /// sled says no, and it is not the disk.
    Sled(String),
    /// The disk says no to sled: full, or an error.
    Failed(String),
}

impl FilesError {
    fn of_sled(error: &sled::Error) -> Self {
        match error {
            // Its own errors of this kind have no number of the system.
            sled::Error::Io(e) if e.raw_os_error().is_some() => Self::Failed(error.to_string()),
            _ => Self::Sled(error.to_string()),
        }
    }
}

impl From<FilesError> for SnapshotError {
    fn from(e: FilesError) -> Self {
        match e {
            FilesError::Io(path, source) => Self::Io { path, source },
            FilesError::Sled(reason) | FilesError::Failed(reason) => Self::Unwritable(reason),
        }
    }
}

impl Files {
    /// Opens or makes the database in the folder `path`, durably.
    pub(super) fn open(path: &Path) -> Result<Self, FilesError> {
        let io = |at: &Path| {
            let at = at.to_owned();
            move |source| FilesError::Io(at, source)
        };
        read_through(path).map_err(io(path))?;
        let db = open_sled(path)?;
        let file_path = path.join("db");
        let file = File::options().read(true).write(true).open(&file_path).map_err(io(&file_path))?;
        let files = Self { db, file, path: path.to_owned() };
        files.sync().map_err(|e| match e {
            TableError::Sled(e) => FilesError::of_sled(&e),
            e => FilesError::Sled(e.to_string()),
        })?;
        File::open(path).and_then(|f| f.sync_all()).map_err(io(path))?;
        Ok(files)
    }

    /// Makes durable what was written so far.
    pub(super) fn sync(&self) -> Result<(), TableError> {
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

/// Returns when no sled of this process has the database in `folder` open any more: threads of sled hold its file a little
/// longer than its handles live, and it only tries for the lock.
pub(crate) fn released(folder: &Path) -> io::Result<()> {
    let file = File::open(folder.join("db"))?;
    file.lock()?;
    file.unlock()
}

/// Removes what a process that was killed had not finished: sled would take that for its newest snapshot, and refuse to open.
/// The one before is there until the new one has its name.
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Opens sled; it panics on some damage, which is a message like any other to us.
pub(crate) fn open_sled(path: &Path) -> Result<sled::Db, FilesError> {
    remove_unfinished(path).map_err(|e| FilesError::Io(path.to_owned(), e))?;
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(SLED_CACHE_BYTES)
        .segment_size(SLED_SEGMENT_BYTES)
        .flush_every_ms(None);
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(e)) => Err(FilesError::of_sled(&e)),
        Err(panic) => Err(FilesError::Sled(
            panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("damage that its reader does not survive")
                .to_owned(),
        )),
    }
}
