//! What this volume knows to be deleted or refused, beside its store: a file that is appended to and synced before the
//! blobs go, and read when the metadata is rebuilt. In memory there is nothing of it but a few numbers.
//!
//! ```text
//! header  0 "BARGETMB" 8 │ 8 version u32 │ 12 zero u32 │ 16 volume 16 │ 32 edition u64 │ 40 zeros │ 60 CRC32C of 0..60
//! entry   0 kind u8: 1 deleted, 2 refused │ 1 zeros │ 4 key's hash 16, or zeros │ 20 blob 16 │ 36 CRC32C of volume,
//!         the entry's number u64 and 0..36
//! ```
//! Faults: a crash tears the end, which nobody was told of: cut off when opened. Rot in the middle costs the entries it
//! hits: they are passed over with a warning. After a failed sync the kernel may have thrown bytes away: nothing is added
//! on top of it until the volume starts again, so nothing with a tombstone is deleted, and reads go on. A full disk is no
//! such failure, and space is set aside ahead. A rewrite is a new file, synced, renamed, and the folder synced.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};
use shared::clock::Timestamp;
use shared::ids::{BlobId, VolumeId};
use shared::limits::{INDEX_ROOM_BYTES, TOMBSTONES_BYTES, TOMBSTONES_PAGE};
use shared::tombstone::{KeyHash, Tombstone};
use shared::wire::volume::{TombstonesPage, TombstonesPlace};

const FILE: &str = "tombstones";
const DRAFT: &str = ".tombstones.new";
const MAGIC: &[u8; 8] = b"BARGETMB";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 40;
const HEADER: u64 = HEADER_BYTES as u64;
const ENTRY: u64 = ENTRY_BYTES as u64;
/// Entries read at once.
const READ_ENTRIES: u64 = 4096;

/// A volume's tombstones.
#[derive(Debug)]
pub struct Tombstones {
    folder: PathBuf,
    volume: VolumeId,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// None before the first tombstone.
    file: Option<File>,
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
        /// The file.
        path: PathBuf,
        /// Why.
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
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Of another volume.
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
        let opened = match File::options().read(true).write(true).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            file => Some(file.map_err(|source| TombstoneError::Io { path: path.clone(), source })?),
        };
        let mut state = State { look_at: limit_entries(), ..State::default() };
        if let Some(file) = opened {
            state.edition = check_header(&file, volume, &path, now)?;
            state.load(&file, volume).map_err(|source| TombstoneError::Io { path, source })?;
            state.file = Some(file);
        }
        Ok(Self { folder: folder.to_owned(), volume, state: Mutex::new(state) })
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
            self.replace(&mut state, &[], now)?;
        }
        let (first, end) = (state.count, HEADER + state.count * ENTRY);
        let bytes: Vec<u8> =
            (first..).zip(tombstones).flat_map(|(number, t)| encode(t, self.volume, number)).collect();
        let Some(file) = &state.file else { return Err(TombstoneError::Failed(io::ErrorKind::NotFound)) };
        let room = set_aside(file, state.room, end + bytes.len() as u64);
        let written = file.write_all_at(&bytes, end);
        let synced = written.and_then(|()| file.sync_data());
        if let Err(source) = synced {
            // What was written of it is written over by the next, unless the sync itself has failed.
            if !matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                tracing::error!(error = %source, "the tombstones cannot be kept: nothing is deleted until the volume is started again");
                state.failed = Some(source.kind());
            }
            return Err(TombstoneError::Io { path: self.folder.join(FILE), source });
        }
        state.room = room;
        state.count += tombstones.len() as u64;
        state.newest = state.newest.max(tombstones.iter().map(Tombstone::newest).max());
        Ok(())
    }

    /// No blob below `before` waits anywhere: forgets the tombstones below it, when that is worth a rewrite. Blocks.
    pub fn settle(&self, before: BlobId, now: Timestamp) {
        let mut state = self.state();
        let all = state.newest.is_some_and(|newest| newest < before);
        let due = state.count > limit_entries() && (all || state.count >= state.look_at);
        if !due || state.failed.is_some() {
            return;
        }
        let kept = match self.still_of_use(&state, before) {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(%error, "the tombstones cannot be read; none is forgotten");
                return;
            }
        };
        let (count, left) = (state.count, kept.len() as u64);
        if left * 2 < count {
            if let Err(error) = self.replace(&mut state, &kept, now) {
                tracing::warn!(%error, "the tombstones could not be rewritten");
                return;
            }
            tracing::debug!(count, left, "tombstones rewritten");
        }
        state.look_at = limit_entries().max(state.count + state.count / 4);
    }

    /// Whether anything may be added.
    pub fn failed(&self) -> bool {
        self.state().failed.is_some()
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
        each(file, self.volume, from, end, |_, t| tombstones.extend(t))
            .map_err(|source| TombstoneError::Io { path: self.folder.join(FILE), source })?;
        let next = (end < state.count).then_some(TombstonesPlace { edition: state.edition, count: end });
        Ok(TombstonesPage { tombstones, next })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn still_of_use(&self, state: &State, before: BlobId) -> io::Result<Vec<Tombstone>> {
        let mut kept = Vec::new();
        if let Some(file) = &state.file {
            each(file, self.volume, 0, state.count, |_, t| kept.extend(t.filter(|t| t.newest() >= before)))?;
        }
        Ok(kept)
    }

    /// A new file with these tombstones in the place of the old one.
    fn replace(&self, state: &mut State, kept: &[Tombstone], now: Timestamp) -> Result<(), TombstoneError> {
        let draft = self.folder.join(DRAFT);
        let edition = (state.edition + 1).max(now.unix_ms());
        let write = || {
            let mut bytes = header(self.volume, edition);
            bytes.extend((0..).zip(kept).flat_map(|(number, t)| encode(t, self.volume, number)));
            let file = File::options().read(true).write(true).create(true).truncate(true).open(&draft)?;
            let room = set_aside(&file, 0, bytes.len() as u64);
            file.write_all_at(&bytes, 0)?;
            file.sync_all()?;
            fs::rename(&draft, self.folder.join(FILE))?;
            Ok((file, room))
        };
        let (file, room) = write().map_err(|source| TombstoneError::Io { path: draft.clone(), source })?;
        *state = State {
            edition,
            count: kept.len() as u64,
            newest: kept.iter().map(Tombstone::newest).max(),
            look_at: state.look_at,
            room,
            failed: state.failed,
            file: Some(file),
        };
        File::open(&self.folder).and_then(|f| f.sync_all()).map_err(|source| {
            // Which of the two a power cut would leave, nobody knows.
            state.failed = Some(source.kind());
            TombstoneError::Io { path: self.folder.clone(), source }
        })
    }
}

impl State {
    fn load(&mut self, file: &File, volume: VolumeId) -> io::Result<()> {
        let length = file.metadata()?.len();
        let slots = length.saturating_sub(HEADER) / ENTRY;
        let (mut good, mut end, mut newest) = (0, 0, None);
        each(file, volume, 0, slots, |number, tombstone| {
            if let Some(tombstone) = tombstone {
                (good, end, newest) = (good + 1, number + 1, newest.max(Some(tombstone.newest())));
            }
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

fn crc(pieces: &[&[u8]]) -> [u8; 4] {
    let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    pieces.iter().for_each(|piece| crc.update(piece));
    u32::try_from(crc.finalize()).expect("a CRC32 has 32 bits").to_le_bytes()
}

fn header(volume: VolumeId, edition: u64) -> Vec<u8> {
    let mut out = [&MAGIC[..], &VERSION.to_le_bytes(), &[0; 4], volume.as_bytes()].concat();
    out.extend(edition.to_le_bytes());
    out.resize(HEADER_BYTES - 4, 0);
    let sum = crc(&[&out]);
    out.extend(sum);
    out
}

/// The edition. A header that rotted is written anew: the entries check by themselves.
fn check_header(file: &File, volume: VolumeId, path: &Path, now: Timestamp) -> Result<u64, TombstoneError> {
    let io = |source| TombstoneError::Io { path: path.to_owned(), source };
    let mut bytes = [0; HEADER_BYTES];
    let read = file.read_exact_at(&mut bytes, 0);
    let whole = read.is_ok()
        && bytes[..8] == *MAGIC
        && bytes[HEADER_BYTES - 4..] == crc(&[&bytes[..HEADER_BYTES - 4]]);
    if !whole {
        match read {
            Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => return Err(io(e)),
            _ => tracing::warn!("the header of the tombstones was bad: written anew"),
        }
        let edition = now.unix_ms();
        file.write_all_at(&header(volume, edition), 0).and_then(|()| file.sync_all()).map_err(io)?;
        return Ok(edition);
    }
    let found = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    if found != VERSION {
        return Err(TombstoneError::OtherVersion { path: path.to_owned(), found });
    }
    if bytes[16..32] != volume.as_bytes()[..] {
        return Err(TombstoneError::Stranger(path.to_owned()));
    }
    let mut edition = [0; 8];
    edition.copy_from_slice(&bytes[32..40]);
    Ok(u64::from_le_bytes(edition))
}

fn encode(tombstone: &Tombstone, volume: VolumeId, number: u64) -> [u8; ENTRY_BYTES] {
    let mut out = [0; ENTRY_BYTES];
    match tombstone {
        Tombstone::Deleted { key, generation } => {
            out[0] = 1;
            out[4..20].copy_from_slice(key.as_bytes());
            out[20..36].copy_from_slice(generation.as_bytes());
        }
        Tombstone::Refused { blob } => {
            out[0] = 2;
            out[20..36].copy_from_slice(blob.as_bytes());
        }
    }
    let sum = crc(&[volume.as_bytes(), &number.to_le_bytes(), &out[..36]]);
    out[36..].copy_from_slice(&sum);
    out
}

fn decode(bytes: &[u8], volume: VolumeId, number: u64) -> Option<Tombstone> {
    if bytes[36..] != crc(&[volume.as_bytes(), &number.to_le_bytes(), &bytes[..36]]) {
        return None;
    }
    let blob = BlobId::from_bytes(bytes[20..36].try_into().ok()?).ok()?;
    match bytes[0] {
        1 => Some(Tombstone::Deleted {
            key: KeyHash::from_bytes(bytes[4..20].try_into().ok()?),
            generation: blob,
        }),
        2 => Some(Tombstone::Refused { blob }),
        _ => None,
    }
}

/// Entries `from..to`, each with its number; none for one that is damaged.
fn each(
    file: &File,
    volume: VolumeId,
    from: u64,
    to: u64,
    mut tell: impl FnMut(u64, Option<Tombstone>),
) -> io::Result<()> {
    let mut next = from;
    let mut bytes = Vec::new();
    while next < to {
        let end = to.min(next + READ_ENTRIES);
        bytes.resize(usize::try_from((end - next) * ENTRY).unwrap_or(0), 0);
        file.read_exact_at(&mut bytes, HEADER + next * ENTRY)?;
        for (number, entry) in (next..).zip(bytes.chunks_exact(ENTRY_BYTES)) {
            tell(number, decode(entry, volume, number));
        }
        next = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
