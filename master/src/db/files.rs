//! The files of sled: all of them are read before sled opens them, sled flushes only when told to, and each flush is
//! followed by our own fsync.
//!
//! sled 0.34's `flush` is `sync_file_range` on Linux, which survives kill -9 but not a power cut:
//! acknowledged keys were lost in 39 of 40 rounds without the fsync on its `db` file, and in none with it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use shared::limits::{SLED_CACHE_BYTES, SLED_SEGMENT_BYTES};

use crate::snapshot::SnapshotError;
use crate::tables::TableError;

/// Read size of `read_through`.
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
    /// The disk returned an error at this path.
    Io(PathBuf, io::Error),
    /// sled returned an error that is not the disk's.
    Sled { reason: String },
    /// The disk returned an error to sled, or is full.
    Failed { reason: String },
}

impl FilesError {
    fn of_sled(error: &sled::Error) -> Self {
        match error {
            // sled's own errors of this kind carry no OS error code.
            sled::Error::Io(e) if e.raw_os_error().is_some() => Self::Failed { reason: error.to_string() },
            _ => Self::Sled { reason: error.to_string() },
        }
    }
}

impl From<FilesError> for SnapshotError {
    fn from(e: FilesError) -> Self {
        match e {
            FilesError::Io(path, source) => Self::Io { path, source },
            FilesError::Sled { reason } | FilesError::Failed { reason } => Self::Unwritable { reason },
        }
    }
}

impl Files {
    /// Opens the database in the folder `path`, or creates it durably.
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
            e => FilesError::Sled { reason: e.to_string() },
        })?;
        File::open(path).and_then(|f| f.sync_all()).map_err(io(path))?;
        Ok(files)
    }

    /// Makes everything written so far durable.
    pub(super) fn sync(&self) -> Result<(), TableError> {
        self.db.flush()?;
        self.file.sync_all().map_err(sled::Error::Io)?;
        self.sync_large().map_err(sled::Error::Io)?;
        Ok(())
    }

    /// sled keeps nodes larger than a quarter of its segment size in separate files, and never syncs them. Our
    /// records are far too small for that; if there is one nevertheless, this makes it durable.
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

/// Reads every byte below `folder` before sled does: sled takes a read error for the end of its log, and overwrites
/// what follows. sled's own reads right after this come from the page cache.
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

/// Returns when no sled instance of this process has the database in `folder` open. Threads of sled hold the file
/// slightly longer than its handles live, and sled's own open fails at once if the lock is taken.
pub(crate) fn released(folder: &Path) -> io::Result<()> {
    let file = File::open(folder.join("db"))?;
    file.lock()?;
    file.unlock()
}

/// Removes unfinished sled snapshots of a killed process: sled would take one for its newest snapshot and refuse to
/// open. The previous snapshot exists until the new one has its final name.
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

/// Opens sled; turns its panics on some kinds of corruption into errors.
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
        Err(panic) => Err(FilesError::Sled {
            reason: panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("corruption that its reader does not survive")
                .to_owned(),
        }),
    }
}
