//! What this volume knows to be deleted or refused, beside its store: a file that is appended to and synced before the
//! blobs go, and read when the metadata is rebuilt. In memory there is nothing of it but a few numbers.
//! The bytes are in `tombstones/format.rs`.
//!
//! Faults: a crash tears the end, which nobody was told of: cut off when opened. Rot in the middle costs the entries it
//! hits: they are passed over with a warning. After a failed sync the kernel may have thrown bytes away: nothing is added
//! on top of it until the volume starts again, so nothing with a tombstone is deleted, and reads go on. A full disk is no
//! such failure, and space is set aside ahead, from the first start on. A rewrite is a new file, synced, renamed, and the
//! folder synced; it goes on beside whoever adds, in steps of bounded memory.

mod draft;
mod format;

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
use shared::wire::volume::{TombstonesPage, TombstonesPlace};

use draft::Draft;
use format::{ENTRY, HEADER, READ_ENTRIES, VERSION, check_header, each, encode};

const FILE: &str = "tombstones";
#[derive(Debug)]
pub struct Tombstones {
    folder: PathBuf,
    volume: VolumeId,
    state: Mutex<State>,
    /// Held by the one who forgets.
    settling: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// None while the disk has had no room for it.
    file: Option<Arc<File>>,
    /// Which rewriting this is.
    edition: u64,
    /// Entries, damaged ones included.
    count: u64,
    /// The greatest blob any of them names.
    newest: Option<BlobId>,
    /// With so many entries it is worth looking whether half of them are of no use.
    look_at: u64,
    /// Where the space that was set aside ends.
    room: u64,
    failed: Option<io::ErrorKind>,
}

/// Tombstones could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum TombstoneError {
    /// The disk says no.
    #[error("the tombstones in {path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It said no before.
    #[error(
        "the tombstones could not be synced earlier ({0}): nothing is deleted here until the volume is started again"
    )]
    Failed(io::ErrorKind),
    /// Written by another version.
    #[error(
        "the tombstones in {path} have format version {found}; this volume reads version {VERSION}: use the version of Barge that wrote them"
    )]
    OtherVersion { path: PathBuf, found: u32 },
    #[error(
        "the tombstones in {0} are another volume's: put back the file that belongs there, or move this one away"
    )]
    Stranger(PathBuf),
}

impl Tombstones {
    /// Opens those of the volume in `folder`, and cuts off what a crash left unfinished. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read, or is not this volume's.
    pub fn open(folder: &Path, volume: VolumeId, now: Timestamp) -> Result<Self, TombstoneError> {
        let path = folder.join(FILE);
        let io = |source| TombstoneError::Io { path: path.clone(), source };
        let mut state = State { look_at: limit_entries(), ..State::default() };
        match File::options().read(true).write(true).open(&path) {
            Ok(file) => {
                state.edition = check_header(&file, volume, &path, now)?;
                state.load(&file, volume).map_err(io)?;
                state.room = set_aside(&file, 0, HEADER + state.count * ENTRY);
                state.file = Some(Arc::new(file));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // Now, and not with the first delete: by then the disk may be full.
                match state.begin(folder, volume, now) {
                    Err(error) if error.is_full() => {
                        tracing::warn!(%error, "no room for tombstones: nothing is deleted until there is");
                    }
                    begun => begun?,
                }
            }
            Err(e) => return Err(io(e)),
        }
        Ok(Self { folder: folder.to_owned(), volume, state: Mutex::new(state), settling: Mutex::default() })
    }

    /// Keeps tombstones; they are durable when this returns. Blocks.
    ///
    /// # Errors
    /// When they are not: nothing may be deleted then.
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
        let room = set_aside(file, state.room, end + bytes.len() as u64);
        let written = file.write_all_at(&bytes, end);
        let synced = written.and_then(|()| file.sync_data());
        if let Err(source) = synced {
            let error = TombstoneError::Io { path: self.folder.join(FILE), source };
            // What was written of it is written over by the next, unless the sync itself has failed.
            if let (TombstoneError::Io { source, .. }, false) = (&error, error.is_full()) {
                tracing::error!(error = %source, "the tombstones cannot be kept: nothing is deleted until the volume is started again");
                state.failed = Some(source.kind());
            }
            return Err(error);
        }
        state.room = room;
        state.count += tombstones.len() as u64;
        state.newest = state.newest.max(tombstones.iter().map(Tombstone::newest).max());
        Ok(())
    }

    /// Whether `settle` has something to look at. Blocks.
    pub fn is_settling_due(&self, before: BlobId) -> bool {
        self.settling.try_lock().is_ok() && self.state().is_due(before)
    }

    /// No blob below `before` waits anywhere: forgets the tombstones below it, when that is worth a rewrite. Whoever comes
    /// while another one is at it has nothing to do. Blocks.
    pub fn settle(&self, before: BlobId, now: Timestamp) {
        let Ok(_alone) = self.settling.try_lock() else { return };
        if let Err(error) = self.forget(before, now) {
            tracing::warn!(%error, "the tombstones could not be rewritten; none is forgotten");
        }
    }

    fn forget(&self, before: BlobId, now: Timestamp) -> Result<(), TombstoneError> {
        let (file, count) = {
            let state = self.state();
            let Some(file) = state.file.clone().filter(|_| state.is_due(before)) else { return Ok(()) };
            (file, state.count)
        };
        let mut left = 0;
        each(&file, self.volume, 0, count, |_, t| {
            left += u64::from(t.is_some_and(|t| t.newest() >= before));
            Ok(())
        })
        .map_err(|source| TombstoneError::Io { path: self.folder.join(FILE), source })?;
        if left * 2 < count {
            let draft = self.draft(&file, count, before, now)?;
            self.swap(draft, &file, count)?;
            tracing::debug!(count, left, "tombstones rewritten");
        }
        let mut state = self.state();
        state.look_at = limit_entries().max(state.count + state.count / 4);
        Ok(())
    }

    /// What is of use of the first `count`. What is written so far never changes, so nobody has to wait meanwhile.
    fn draft(
        &self,
        file: &File,
        count: u64,
        before: BlobId,
        now: Timestamp,
    ) -> Result<Draft, TombstoneError> {
        let edition = (self.state().edition + 1).max(now.unix_ms());
        let write = || {
            let mut draft = Draft::create(&self.folder, self.volume, edition)?;
            draft.copy(file, 0, count, |t| t.newest() >= before)?;
            draft.sync()?;
            Ok(draft)
        };
        write().map_err(|source| TombstoneError::Io { path: self.folder.join(draft::NAME), source })
    }

    /// Puts the draft in the place of the old file, with all that was added since there were `copied`.
    fn swap(&self, mut draft: Draft, file: &File, mut copied: u64) -> Result<(), TombstoneError> {
        let io = |source| TombstoneError::Io { path: self.folder.join(draft::NAME), source };
        let mut state = self.state();
        // Whoever adds waits for the last few only.
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

    /// A page of them. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn page(&self, after: Option<TombstonesPlace>) -> Result<TombstonesPage, TombstoneError> {
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
        let next = (end < state.count).then_some(TombstonesPlace { edition: state.edition, count: end });
        Ok(TombstonesPage { tombstones, next })
    }

    /// From now on nothing can be written.
    #[cfg(test)]
    pub(crate) fn pretend_read_only(&self) {
        self.state().file = Some(Arc::new(File::open(self.folder.join(FILE)).expect("it was made")));
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TombstoneError {
    /// Whether all it takes is room on the disk.
    pub fn is_full(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl State {
    /// With so many, and none or few of use, it is worth looking.
    fn is_due(&self, before: BlobId) -> bool {
        let all = self.newest.is_some_and(|newest| newest < before);
        self.failed.is_none() && self.count > limit_entries() && (all || self.count >= self.look_at)
    }

    fn begin(&mut self, folder: &Path, volume: VolumeId, now: Timestamp) -> Result<(), TombstoneError> {
        let write = || {
            let mut draft = Draft::create(folder, volume, now.unix_ms())?;
            draft.sync()?;
            Ok(draft)
        };
        let draft =
            write().map_err(|source| TombstoneError::Io { path: folder.join(draft::NAME), source })?;
        self.take(draft, folder)
    }

    /// A draft that is synced takes the place of the file.
    fn take(&mut self, draft: Draft, folder: &Path) -> Result<(), TombstoneError> {
        let io = |source| TombstoneError::Io { path: folder.join(FILE), source };
        std::fs::rename(folder.join(draft::NAME), folder.join(FILE)).map_err(io)?;
        (self.edition, self.count, self.newest, self.room) =
            (draft.edition, draft.count, draft.newest, draft.room);
        self.file = Some(Arc::new(draft.file));
        File::open(folder).and_then(|f| f.sync_all()).map_err(|source| {
            // Which of the two a power cut would leave, nobody knows.
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
        let (damaged, torn_bytes) = (end - good, length - HEADER - end * ENTRY);
        if damaged > 0 {
            tracing::warn!(
                damaged,
                "damaged tombstones: if the metadata is rebuilt, deleted values may come back unless another volume knows of them"
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

/// Sets space aside so that the file can grow to `end`, with a step to spare; where that cannot be done, nothing happens.
fn set_aside(file: &File, room: u64, end: u64) -> u64 {
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
