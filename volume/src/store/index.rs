//! The offset index beside a segment (`<n>.idx`); its layout is known to this file alone. Little endian.
//!
//! ```text
//! header    0 "BARGEIDX" 8 │ 8 version u32 │ 12 zero u32 │ 16 volume 16 │ 32 number u64 │ 40 fingerprint 16
//!           56 zero u32 │ 60 CRC32C of 0..60
//! entry     0 kind u8 │ 1 header pages u8 │ 2 zero u16 │ 4 CRC32C │ 8 offset u64 │ 16 blob 16 │ 32 length u64
//!           40 finished ms u64 │ 48 zeros
//! ```
//!
//! Kinds: 1 put, 2 delete, 3 quarantine (a corrupt range: offset and length), 4 seal (offset: end of the
//! segment, length: number of entries before it, blob: CRC32C of them all). Entries are 64 bytes, so
//! none crosses a sector; an entry's CRC begins with the fingerprint (derived from the segment's salt) and
//! its own number, so an entry of another index, or of another place in this one, fails its checksum.
//!
//! The index can be rebuilt, with one temporary exception: a delete is durable once its entry is synced here, before
//! the segment is marked. It is never updated in place: entries are appended, and a whole index is replaced by rename.

use std::io;
use std::sync::Arc;

use shared::clock::Timestamp;
use shared::crc32c::{Crc32c, crc32c, crc32c_of};
use shared::ids::{BlobId, VolumeId};
use shared::limits::INDEX_ROOM_BYTES;

use super::disk::{Access, Disk, DiskFile};
use super::format::{FormatError, PAGE, SegmentHeader, VERSION, field, index, u32_at, u64_at};
use super::segment::{Extent, SegmentNumber};

const MAGIC: &[u8; 8] = b"BARGEIDX";
const HEADER_BYTES: usize = 64;
pub(super) const ENTRY_BYTES: usize = 64;
const ENTRY: u64 = ENTRY_BYTES as u64;

/// An entry of an index; a later one overrides earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The blob's record is durable here.
    Put { blob: BlobId, extent: Extent, finished: Timestamp },
    /// The record was deleted.
    Delete { blob: BlobId, extent: Extent },
    /// A range without a valid record, but with good records after it.
    Quarantined { offset: u64, bytes: u64 },
    /// The segment is closed for writes.
    Seal { end: u64, count: u64, crc: u32 },
}

impl Entry {
    fn encode(&self, fingerprint: &[u8; 16], number: u64) -> [u8; ENTRY_BYTES] {
        let (kind, pages, offset, blob, length, time) = match self {
            Self::Put { blob, extent: e, finished } => {
                (1, e.header_pages, e.offset(), *blob.as_bytes(), e.length, finished.unix_ms())
            }
            Self::Delete { blob, extent: e } => {
                (2, e.header_pages, e.offset(), *blob.as_bytes(), e.length, u64::from(e.finished_secs) * 1000)
            }
            Self::Quarantined { offset, bytes } => (3, 0, *offset, [0; 16], *bytes, 0),
            Self::Seal { end, count, crc } => {
                let mut all = [0; 16];
                all[..4].copy_from_slice(&crc.to_le_bytes());
                (4, 0, *end, all, *count, 0)
            }
        };
        let mut out = [0; ENTRY_BYTES];
        (out[0], out[1]) = (kind, pages);
        out[8..16].copy_from_slice(&offset.to_le_bytes());
        out[16..32].copy_from_slice(&blob);
        out[32..40].copy_from_slice(&length.to_le_bytes());
        out[40..48].copy_from_slice(&time.to_le_bytes());
        let sum = Self::crc(fingerprint, number, &out);
        out[4..8].copy_from_slice(&sum.to_le_bytes());
        out
    }

    fn crc(fingerprint: &[u8; 16], number: u64, entry: &[u8]) -> u32 {
        crc32c_of(&[fingerprint, &number.to_le_bytes(), &entry[..4], &entry[8..]])
    }

    /// `None` if the entry is torn, corrupt, or from elsewhere.
    fn decode(fingerprint: &[u8; 16], number: u64, segment: SegmentNumber, entry: &[u8]) -> Option<Self> {
        if u32_at(entry, 4) != Self::crc(fingerprint, number, entry) {
            return None;
        }
        let (offset, length, finished) = (u64_at(entry, 8), u64_at(entry, 32), u64_at(entry, 40));
        match entry[0] {
            kind @ (1 | 2) => {
                let blob = BlobId::from_bytes(field(entry, 16)).ok()?;
                let page = u32::try_from(offset / PAGE).ok()?;
                let finished_secs = u32::try_from(finished / 1000).unwrap_or(u32::MAX);
                let extent = Extent { segment, page, length, finished_secs, header_pages: entry[1] };
                let finished = Timestamp::from_unix_ms(finished);
                Some(if kind == 1 {
                    Self::Put { blob, extent, finished }
                } else {
                    Self::Delete { blob, extent }
                })
            }
            3 => Some(Self::Quarantined { offset, bytes: length }),
            4 => Some(Self::Seal { end: offset, count: length, crc: u32_at(entry, 16) }),
            _ => None,
        }
    }

    /// End offset of the record or range.
    pub(super) fn end(&self) -> u64 {
        match self {
            Self::Put { extent, .. } | Self::Delete { extent, .. } => extent.end(),
            Self::Quarantined { offset, bytes } => offset + bytes,
            Self::Seal { end, .. } => *end,
        }
    }
}

fn encode_header(segment: &SegmentHeader) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[16..32].copy_from_slice(segment.volume.as_bytes());
    out[32..40].copy_from_slice(&u64::from(segment.number.0).to_le_bytes());
    out[40..56].copy_from_slice(&segment.fingerprint());
    let sum = crc32c(&out[..60]);
    out[60..].copy_from_slice(&sum.to_le_bytes());
    out
}

fn check_header(bytes: &[u8], segment: &SegmentHeader) -> Result<(), FormatError> {
    if bytes.len() < HEADER_BYTES || &bytes[..8] != MAGIC {
        return Err(FormatError::Magic);
    }
    if u32_at(bytes, 60) != crc32c(&bytes[..60]) {
        return Err(FormatError::Checksum);
    }
    if u32_at(bytes, 8) != VERSION {
        return Err(FormatError::Version(u32_at(bytes, 8)));
    }
    if VolumeId::from_bytes(field(bytes, 16)) != segment.volume {
        return Err(FormatError::Volume);
    }
    let ours = u64_at(bytes, 32) == u64::from(segment.number.0) && field(bytes, 40) == segment.fingerprint();
    if ours { Ok(()) } else { Err(FormatError::Number) }
}

/// The contents of an index file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Every good entry, in order.
    pub(super) entries: Vec<Entry>,
    /// Bytes up to the end of the last good entry.
    pub(super) good_bytes: u64,
    /// Bytes after it.
    pub(super) torn_bytes: u64,
    /// A bad entry has good ones after it, or the seal does not match: entries may be missing.
    pub(super) rotten: bool,
    /// The segment is sealed.
    pub(super) sealed: bool,
}

/// Decodes the index file of this segment. Fails if the file belongs to another segment or its header is corrupt.
pub(super) fn decode(bytes: &[u8], segment: &SegmentHeader) -> Result<Contents, FormatError> {
    check_header(bytes, segment)?;
    let fingerprint = segment.fingerprint();
    let entries = Vec::with_capacity((bytes.len() - HEADER_BYTES) / ENTRY_BYTES);
    let mut contents = Contents { entries, good_bytes: HEADER_BYTES as u64, ..Contents::default() };
    let mut before = Crc32c::default();
    let mut gap = false;
    for (number, raw) in (0..).zip(bytes[HEADER_BYTES..].chunks_exact(ENTRY_BYTES)) {
        let Some(entry) = Entry::decode(&fingerprint, number, segment.number, raw) else {
            gap = true;
            continue;
        };
        if let Entry::Seal { count, crc, .. } = entry {
            contents.sealed = true;
            contents.rotten |= count != number || crc != before.finish();
        }
        contents.rotten |= gap;
        contents.good_bytes = (HEADER_BYTES + ENTRY_BYTES) as u64 + number * ENTRY;
        contents.entries.push(entry);
        before.update(raw);
    }
    contents.torn_bytes = bytes.len() as u64 - contents.good_bytes;
    Ok(contents)
}

fn encode(entries: &[Entry], segment: &SegmentHeader) -> Vec<u8> {
    let fingerprint = segment.fingerprint();
    let mut out = encode_header(segment).to_vec();
    for (number, entry) in (0..).zip(entries) {
        out.extend_from_slice(&entry.encode(&fingerprint, number));
    }
    out
}

/// The index file of one segment, open for appends.
#[derive(Debug)]
pub(super) struct IndexFile {
    segment: SegmentNumber,
    fingerprint: [u8; 16],
    /// Opened when needed: a sealed segment keeps no descriptor for its index.
    file: Option<Arc<dyn DiskFile>>,
    end: u64,
    /// Preallocated space, from the beginning of the file.
    room: u64,
    poisoned: bool,
}

impl IndexFile {
    /// Creates an empty index; the caller syncs the directory.
    pub(super) fn create(disk: &dyn Disk, segment: &SegmentHeader) -> io::Result<Self> {
        let file = disk.create(&segment.number.index_name(), Access::Cached)?;
        file.allocate(0, INDEX_ROOM_BYTES)?;
        file.write_at(&encode_header(segment), 0)?;
        file.sync_data()?;
        let mut index = Self::existing(segment, HEADER_BYTES as u64);
        index.file = Some(file);
        index.room = INDEX_ROOM_BYTES;
        Ok(index)
    }

    /// An index on the disk whose entries end at `end`.
    pub(super) fn existing(segment: &SegmentHeader, end: u64) -> Self {
        let fingerprint = segment.fingerprint();
        Self { segment: segment.number, fingerprint, file: None, end, room: 0, poisoned: false }
    }

    /// Replaces the index with these entries and room for `more`; durable when it returns.
    ///
    /// On `ReplaceError::Before` the old index is still valid. After `After` a power cut may leave either of the two,
    /// so nothing may be appended.
    pub(super) fn replace(
        disk: &dyn Disk,
        segment: &SegmentHeader,
        entries: &[Entry],
        more: u64,
    ) -> Result<Self, ReplaceError> {
        let bytes = encode(entries, segment);
        let room = (bytes.len() as u64 + more * ENTRY).next_multiple_of(PAGE);
        let temporary = segment.number.index_temporary();
        let write = || {
            disk.remove(&temporary)?;
            let file = disk.create(&temporary, Access::Cached)?;
            file.allocate(0, room)?;
            file.write_at(&bytes, 0)?;
            file.sync_data()
        };
        if let Err(e) = write() {
            let _ = disk.remove(&temporary);
            return Err(ReplaceError::Before(e));
        }
        disk.rename(&temporary, &segment.number.index_name()).map_err(ReplaceError::Before)?;
        disk.sync_dir().map_err(ReplaceError::After)?;
        let mut index = Self::existing(segment, bytes.len() as u64);
        index.room = room;
        Ok(index)
    }

    fn file(&mut self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        let file = disk.open(&self.segment.index_name(), Access::Cached)?;
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Closes the descriptor.
    pub(super) fn release(&mut self) {
        self.file = None;
    }

    pub(super) fn is_poisoned(&self) -> bool {
        #[cfg(test)]
        if super::planted_bugs::is(super::planted_bugs::Bug::ForgetFailedSync) {
            return false;
        }
        self.poisoned
    }
    pub(super) fn poison(&mut self) {
        self.poisoned = true;
    }

    /// Preallocates space for that many more entries: deletes must work on a full disk, and their entries are all
    /// that they need space for.
    pub(super) fn reserve(&mut self, disk: &dyn Disk, entries: u64) -> io::Result<()> {
        let needed = self.end + entries * ENTRY;
        if needed <= self.room {
            return Ok(());
        }
        let room = needed.next_multiple_of(INDEX_ROOM_BYTES);
        self.file(disk)?.allocate(0, room)?;
        self.room = room;
        Ok(())
    }

    /// Appends without a sync. The next append overwrites a failed one.
    pub(super) fn append(&mut self, disk: &dyn Disk, entries: &[Entry]) -> io::Result<()> {
        let first = (self.end - HEADER_BYTES as u64) / ENTRY;
        let bytes: Vec<u8> =
            (first..).zip(entries).flat_map(|(n, e)| e.encode(&self.fingerprint, n)).collect();
        self.file(disk)?.write_at(&bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Makes all appended entries durable. After a failure nothing appended later could be trusted.
    pub(super) fn sync(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let synced = self.file(disk).and_then(|f| f.sync_data());
        self.poisoned |= synced.is_err();
        synced
    }

    /// Syncs the index if this process has it open.
    pub(super) fn sync_if_open(&mut self) -> io::Result<()> {
        let synced = self.file.as_ref().map_or(Ok(()), |f| f.sync_data());
        self.poisoned |= synced.is_err();
        synced
    }

    /// Cuts off everything after the last good entry.
    pub(super) fn cut_tail(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let end = self.end;
        self.file(disk)?.truncate(end)
    }
}

/// Why an index could not be replaced.
#[derive(Debug)]
pub(super) enum ReplaceError {
    /// The old index is still in place.
    Before(io::Error),
    /// Either index may be in place after a power cut.
    After(io::Error),
}

/// Returns the entries of a sealed index: live records sorted by blob, then quarantined ranges, then deletes (a
/// crash may have left a deleted record unpunched), then the seal.
pub(super) fn sealed(segment: &SegmentHeader, mut entries: Vec<Entry>, end: u64) -> Vec<Entry> {
    entries.retain(|e| !matches!(e, Entry::Seal { .. }));
    entries.sort_by_key(|e| match e {
        Entry::Put { blob, .. } => (0, *blob.as_bytes(), 0),
        Entry::Quarantined { offset, .. } => (1, [0; 16], *offset),
        Entry::Delete { extent, .. } => (2, [0; 16], extent.offset()),
        Entry::Seal { .. } => (3, [0; 16], 0),
    });
    let bytes = encode(&entries, segment);
    let crc = crc32c(&bytes[HEADER_BYTES..]);
    entries.push(Entry::Seal { end, count: entries.len() as u64, crc });
    entries
}

/// Reads a whole index file.
pub(super) fn read_all(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    file.drop_cache();
    let mut bytes = vec![0; index(file.length()?)];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

#[cfg(test)]
mod tests;
