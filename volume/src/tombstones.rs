//! Tombstones: durable notes of what was deleted or refused, and of when blobs expire. They are in a file beside the store, appended and synced
//! before the blobs are deleted, and read when the metadata is rebuilt. Only a few figures are kept in memory.
//! The layout is in `tombstones/format.rs`.
//!
//! Faults: a crash may tear the end, which was never acknowledged; opening cuts it off. Bit rot costs the entries it
//! hits; they are skipped with a warning. After a failed sync the kernel may have dropped bytes, so nothing is
//! appended until the volume restarts: deletes with tombstones fail, reads go on. A full disk is no such failure, and
//! space is preallocated from the first start on. A rewrite is a new file, synced, renamed, and the directory synced;
//! it runs beside appends, in steps of bounded memory.

mod format;
mod rewrite;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};
use shared::clock::Timestamp;
use shared::ids::{BlobId, VolumeId};
use shared::limits::{INDEX_ROOM_BYTES, TOMBSTONES_BYTES, TOMBSTONES_PAGE};
use shared::tombstone::Tombstone;
use shared::wire::volume::{TombstonesCursor, TombstonesPage};

use format::{ENTRY, HEADER, READ_ENTRIES, VERSION, check_header, each, encode};
use rewrite::TombstoneRewrite;

const FILE: &str = "tombstones";
#[derive(Debug)]
pub struct Tombstones {
    folder: PathBuf,
    volume: VolumeId,
    state: Mutex<TombstoneFile>,
    /// Held during an expiry.
    settling: Mutex<()>,
}

#[derive(Debug, Default)]
struct TombstoneFile {
    /// `None` until the disk has room for it.
    file: Option<Arc<File>>,
    /// Grows with each rewrite, so that cursors into an older file are detected.
    edition: u64,
    /// Entries, corrupt ones included.
    count: u64,
    /// The newest blob that any entry names.
    newest: Option<BlobId>,
    /// Number of entries from which on it is worth checking whether half of them have expired.
    look_at: u64,
    /// Where the preallocated space ends.
    room: u64,
    failed: Option<io::ErrorKind>,
}

/// Tombstones could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TombstoneError {
    #[error("the tombstones in {path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// An earlier sync failed.
    #[error(
        "an earlier sync of the tombstones failed ({0}): nothing is deleted here until the volume is restarted"
    )]
    Failed(io::ErrorKind),
    #[error(
        "the tombstones in {path} have format version {found}; this volume reads version {VERSION}: use the version of Barge that wrote them"
    )]
    OtherVersion { path: PathBuf, found: u32 },
    #[error("the tombstones in {0} belong to another volume: restore the right file, or move this one away")]
    Stranger(PathBuf),
}

impl Tombstones {
    /// Opens the tombstones of the volume in `folder`, and cuts off what a crash left unfinished. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read, or belongs to another volume or version.
    pub fn open(folder: &Path, volume: VolumeId, now: Timestamp) -> Result<Self, TombstoneError> {
        let path = folder.join(FILE);
        let io = |source| TombstoneError::Io { path: path.clone(), source };
        let mut state = TombstoneFile { look_at: limit_entries(), ..TombstoneFile::default() };
        match File::options().read(true).write(true).open(&path) {
            Ok(file) => {
                state.edition = check_header(&file, volume, &path, now)?;
                state.load(&file, volume).map_err(io)?;
                state.room = preallocate(&file, 0, HEADER + state.count * ENTRY);
                state.file = Some(Arc::new(file));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // Created now rather than by the first delete: by then the disk may be full.
                match state.begin(folder, volume, now) {
                    Err(error) if error.is_full() => {
                        tracing::warn!(%error, "no space for tombstones: nothing is deleted until there is; free some on this disk");
                    }
                    begun => begun?,
                }
            }
            Err(e) => return Err(io(e)),
        }
        Ok(Self { folder: folder.to_owned(), volume, state: Mutex::new(state), settling: Mutex::default() })
    }

    /// Appends tombstones; they are durable when this returns. Blocks.
    ///
    /// # Errors
    /// When they are not durable: then nothing may be deleted.
    pub fn add(&self, tombstones: &[Tombstone], now: Timestamp) -> Result<(), TombstoneError> {
        if tombstones.is_empty() {
            return Ok(());
        }
        let mut state = self.state();
        if let Some(kind) = state.failed {
            return Err(TombstoneError::Failed(kind));
        }
        if state.file.is_none() {
            state.begin(&self.folder, self.volume, now)?;
        }
        let (first, end) = (state.count, HEADER + state.count * ENTRY);
        let bytes: Vec<u8> =
            (first..).zip(tombstones).flat_map(|(number, t)| encode(t, self.volume, number)).collect();
        let Some(file) = &state.file else { return Err(TombstoneError::Failed(io::ErrorKind::NotFound)) };
        let room = preallocate(file, state.room, end + bytes.len() as u64);
        let written = file.write_all_at(&bytes, end);
        let synced = written.and_then(|()| file.sync_data());
        if let Err(source) = synced {
            let error = TombstoneError::Io { path: self.folder.join(FILE), source };
            // After a full disk the next append overwrites what was written; any other failure stops all appends.
            if let (TombstoneError::Io { source, .. }, false) = (&error, error.is_full()) {
                tracing::error!(error = %source, "the tombstones cannot be written: nothing is deleted until the volume is restarted");
                state.failed = Some(source.kind());
            }
            return Err(error);
        }
        state.room = room;
        state.count += tombstones.len() as u64;
        state.newest = state.newest.max(tombstones.iter().map(Tombstone::newest).max());
        Ok(())
    }

    /// Whether `expire` may have something to do. Blocks.
    pub fn is_expiry_due(&self, before: Option<BlobId>) -> bool {
        self.settling.try_lock().is_ok() && self.state().is_due(before)
    }

    /// Removes what is of no use, when that is worth a rewrite: tombstones of blobs below `before`, which no volume has
    /// yet to reclaim; all but the newest expiry of a blob, and that of blobs that this volume no longer `holds`. Does
    /// nothing while another call is at it. Blocks.
    pub fn expire(&self, before: Option<BlobId>, now: Timestamp, holds: impl Fn(BlobId) -> bool) {
        let Ok(_alone) = self.settling.try_lock() else { return };
        if let Err(error) = self.rewrite_unexpired(before, now, holds) {
            tracing::warn!(%error, "the tombstones could not be rewritten; all are kept");
        }
    }

    fn rewrite_unexpired(
        &self,
        before: Option<BlobId>,
        now: Timestamp,
        holds: impl Fn(BlobId) -> bool,
    ) -> Result<(), TombstoneError> {
        let (file, count) = {
            let state = self.state();
            let Some(file) = state.file.clone().filter(|_| state.is_due(before)) else { return Ok(()) };
            (file, state.count)
        };
        let io = |source| TombstoneError::Io { path: self.folder.join(FILE), source };
        let (mut left, mut newest) = (0, HashMap::new());
        each(&file, self.volume, 0, count, |_, t| {
            match t {
                Some(Tombstone::Expires(expiry)) if holds(expiry.blob) => {
                    let revision = newest.entry(expiry.blob).or_insert(expiry.revision);
                    *revision = expiry.revision.max(*revision);
                }
                None | Some(Tombstone::Expires(_)) => {}
                Some(t) => left += u64::from(before.is_none_or(|before| t.newest() >= before)),
            }
            Ok(())
        })
        .map_err(io)?;
        let keep = |t: &Tombstone| match t {
            Tombstone::Expires(expiry) => newest.get(&expiry.blob) == Some(&expiry.revision),
            t => before.is_none_or(|before| t.newest() >= before),
        };
        if (left + newest.len() as u64) * 2 < count {
            let draft = self.start_rewrite(&file, count, &keep, now)?;
            self.swap(draft, &file, count)?;
            tracing::debug!(count, left, expiring = newest.len(), "tombstones rewritten");
        }
        let mut state = self.state();
        state.look_at = limit_entries().max(state.count + state.count / 4);
        Ok(())
    }

    /// Copies what has not expired of the first `count` entries. They never change, so appends need not wait.
    fn start_rewrite(
        &self,
        file: &File,
        count: u64,
        keep: &impl Fn(&Tombstone) -> bool,
        now: Timestamp,
    ) -> Result<TombstoneRewrite, TombstoneError> {
        let edition = (self.state().edition + 1).max(now.unix_ms());
        let write = || {
            let mut draft = TombstoneRewrite::create(&self.folder, self.volume, edition)?;
            draft.copy(file, 0, count, keep)?;
            draft.sync()?;
            Ok(draft)
        };
        write().map_err(|source| TombstoneError::Io { path: self.folder.join(rewrite::NAME), source })
    }

    /// Replaces the file with the draft, after copying the entries appended since the first `copied`.
    fn swap(&self, mut draft: TombstoneRewrite, file: &File, mut copied: u64) -> Result<(), TombstoneError> {
        let io = |source| TombstoneError::Io { path: self.folder.join(rewrite::NAME), source };
        let mut state = self.state();
        // Appends wait for the last few entries only.
        while state.count - copied > READ_ENTRIES {
            let end = state.count;
            drop(state);
            draft.copy(file, copied, end, |_| true).map_err(io)?;
            copied = end;
            state = self.state();
        }
        if let Some(kind) = state.failed {
            return Err(TombstoneError::Failed(kind));
        }
        draft.copy(file, copied, state.count, |_| true).map_err(io)?;
        draft.sync().map_err(io)?;
        state.take(draft, &self.folder)
    }

    /// Returns a page of tombstones. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn page(&self, after: Option<TombstonesCursor>) -> Result<TombstonesPage, TombstoneError> {
        let state = self.state();
        let from = after.filter(|a| a.edition == state.edition).map_or(0, |a| a.count);
        let end = state.count.min(from.saturating_add(TOMBSTONES_PAGE as u64));
        let Some(file) = state.file.as_ref().filter(|_| from < end) else {
            return Ok(TombstonesPage { tombstones: Vec::new(), next: None });
        };
        let mut tombstones = Vec::new();
        let add = |_, t| {
            tombstones.extend(t);
            Ok(())
        };
        each(file, self.volume, from, end, add)
            .map_err(|source| TombstoneError::Io { path: self.folder.join(FILE), source })?;
        let next = (end < state.count).then_some(TombstonesCursor { edition: state.edition, count: end });
        Ok(TombstonesPage { tombstones, next })
    }

    /// Makes every later write fail.
    #[cfg(test)]
    pub(crate) fn pretend_read_only(&self) {
        self.state().file = Some(Arc::new(File::open(self.folder.join(FILE)).expect("it was made")));
    }

    fn state(&self) -> std::sync::MutexGuard<'_, TombstoneFile> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TombstoneError {
    /// Whether the disk is full rather than broken.
    pub fn is_full(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl TombstoneFile {
    /// Whether the file is large, and all or many of its tombstones may have expired.
    fn is_due(&self, before: Option<BlobId>) -> bool {
        let all = self.newest.zip(before).is_some_and(|(newest, before)| newest < before);
        self.failed.is_none() && self.count > limit_entries() && (all || self.count >= self.look_at)
    }

    fn begin(&mut self, folder: &Path, volume: VolumeId, now: Timestamp) -> Result<(), TombstoneError> {
        let write = || {
            let mut draft = TombstoneRewrite::create(folder, volume, now.unix_ms())?;
            draft.sync()?;
            Ok(draft)
        };
        let draft =
            write().map_err(|source| TombstoneError::Io { path: folder.join(rewrite::NAME), source })?;
        self.take(draft, folder)
    }

    /// Renames a synced draft into place.
    fn take(&mut self, draft: TombstoneRewrite, folder: &Path) -> Result<(), TombstoneError> {
        let io = |source| TombstoneError::Io { path: folder.join(FILE), source };
        std::fs::rename(folder.join(rewrite::NAME), folder.join(FILE)).map_err(io)?;
        (self.edition, self.count, self.newest, self.room) =
            (draft.edition, draft.count, draft.newest, draft.room);
        self.file = Some(Arc::new(draft.file));
        File::open(folder).and_then(|f| f.sync_all()).map_err(|source| {
            // A power cut may leave either file.
            self.failed = Some(source.kind());
            TombstoneError::Io { path: folder.to_owned(), source }
        })
    }

    fn load(&mut self, file: &File, volume: VolumeId) -> io::Result<()> {
        let length = file.metadata()?.len();
        let slots = length.saturating_sub(HEADER) / ENTRY;
        let (mut good, mut end, mut newest) = (0, 0, None);
        each(file, volume, 0, slots, |number, tombstone| {
            if let Some(tombstone) = tombstone {
                (good, end, newest) = (good + 1, number + 1, newest.max(Some(tombstone.newest())));
            }
            Ok(())
        })?;
        let (corrupt, torn_bytes) = (end - good, length - HEADER - end * ENTRY);
        if corrupt > 0 {
            tracing::warn!(
                corrupt,
                "corrupt tombstones: if the metadata is rebuilt, deleted values may come back unless another volume has their tombstones"
            );
        }
        if torn_bytes > 0 {
            tracing::warn!(torn_bytes, "unfinished tombstones were cut off");
            file.set_len(HEADER + end * ENTRY)?;
            file.sync_all()?;
        }
        (self.count, self.newest) = (end, newest);
        Ok(())
    }
}

fn limit_entries() -> u64 {
    TOMBSTONES_BYTES / ENTRY
}

/// Preallocates space up to `end` and one step more. Best effort: returns the end of the preallocated space.
fn preallocate(file: &File, room: u64, end: u64) -> u64 {
    if end + INDEX_ROOM_BYTES / 2 <= room {
        return room;
    }
    let wanted = (end + INDEX_ROOM_BYTES).next_multiple_of(INDEX_ROOM_BYTES);
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, wanted) {
        Ok(()) => wanted,
        Err(_) => room,
    }
}

#[cfg(test)]
mod tests;
