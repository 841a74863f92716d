//! One segment: its file, its index, where the next record goes, and whether it may still be
//! written. The catalog decides which upload may write it (append lanes).

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use shared::ids::BlobId;
use shared::limits::PAGE_BYTES;

use super::buffer::Aligned;
use super::disk::{Access, Disk, DiskFile, Punched};
use super::format::{PAGE, RecordHeader, SegmentHeader, field, pages_of, tombstone, trailer_pages};
use super::index::IndexFile;

/// The number of a segment, unique in its volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNumber(pub(super) u32);

impl fmt::Display for SegmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}", self.0)
    }
}

impl SegmentNumber {
    pub fn get(self) -> u32 {
        self.0
    }
    /// Name of its segment file.
    pub(super) fn segment_name(self) -> String {
        format!("{self}.seg")
    }
    /// Name of its index file.
    pub(super) fn index_name(self) -> String {
        format!("{self}.idx")
    }
    /// Name of a new index until it replaces the old one.
    pub(super) fn index_temporary(self) -> String {
        format!("{self}.idx.tmp")
    }
    /// Parses a file name with this ending.
    pub(super) fn from_name(name: &str, ending: &str) -> Option<Self> {
        let digits = name.strip_suffix(ending)?;
        let ours = digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit());
        ours.then(|| digits.parse().ok().map(Self)).flatten()
    }
}

/// The location of a record. Everything else about it is in its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) segment: SegmentNumber,
    /// Number of its first page; `u32` is enough for a segment of 16 TiB.
    pub(super) page: u32,
    pub(super) length: u64,
    /// When it became durable, in seconds since 1970.
    pub(super) finished_secs: u32,
    pub(super) header_pages: u8,
}

impl Extent {
    pub(super) fn offset(&self) -> u64 {
        u64::from(self.page) * PAGE
    }
    pub(super) fn header_bytes(&self) -> usize {
        usize::from(self.header_pages) * PAGE_BYTES
    }
    pub(super) fn body(&self) -> u64 {
        self.offset() + u64::from(self.header_pages) * PAGE
    }
    pub(super) fn trailer(&self) -> u64 {
        self.body() + pages_of(self.length) * PAGE
    }
    pub(super) fn end(&self) -> u64 {
        self.trailer() + trailer_pages(self.length) * PAGE
    }
    /// Bytes that it takes in its segment.
    pub(super) fn bytes(&self) -> u64 {
        self.end() - self.offset()
    }
    /// Bytes that a punch frees: all but the header pages.
    pub(super) fn punchable(&self) -> u64 {
        self.end() - self.body()
    }
}

/// An open segment file with its index.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) index: Mutex<IndexFile>,
    /// Where the next record begins. Only the holder of the lane moves it.
    pub(super) end: AtomicU64,
    poisoned: AtomicBool,
}

impl Segment {
    pub(super) fn new(header: SegmentHeader, file: Arc<dyn DiskFile>, index: IndexFile, end: u64) -> Self {
        let (index, end) = (Mutex::new(index), AtomicU64::new(end));
        Self { header, file, index, end, poisoned: AtomicBool::new(false) }
    }

    /// Creates both files. The segment's first page, the index header and both names are durable before any record
    /// counts: so a segment without an index is never the result of a crash.
    pub(super) fn create(disk: &dyn Disk, header: SegmentHeader) -> io::Result<Self> {
        let number = header.number;
        let file = disk.create(&number.segment_name(), Access::Direct)?;
        let mut page = Aligned::new(PAGE_BYTES);
        page.as_mut_slice().copy_from_slice(&header.encode());
        file.write_at(page.as_slice(), 0)?;
        file.sync_data()?;
        let index = IndexFile::create(disk, &header)?;
        #[cfg(test)]
        if super::planted_bugs::is(super::planted_bugs::Bug::SkipDirectorySync) {
            return Ok(Self::new(header, file, index, PAGE));
        }
        disk.sync_dir()?;
        Ok(Self::new(header, file, index, PAGE))
    }

    pub(super) fn number(&self) -> SegmentNumber {
        self.header.number
    }
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }
    pub(super) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }
    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Marks a record's header page as deleted and frees the space of its body and trailer, if the header
    /// is this blob's.
    ///
    /// The index entry of the delete must be durable before: otherwise a power cut could undo the delete of a value
    /// whose body is gone.
    pub(super) fn punch(
        &self,
        blob: BlobId,
        extent: &Extent,
        page: &mut Aligned,
    ) -> Result<Punched, PunchError> {
        let bytes = page.as_mut_slice();
        let at = extent.offset();
        let read = self.file.read_at(bytes, at).map_err(PunchError::Punch)?;
        let ours = read == bytes.len() && RecordHeader::probe(&self.header, at, bytes).is_some();
        if !ours || field(bytes, 16) != *blob.as_bytes() || extent.end() > self.end() {
            return Err(PunchError::Stranger);
        }
        let mut marked = Ok(());
        if !tombstone::is_set(&self.header, at, blob, bytes) {
            tombstone::set(&self.header, at, blob, bytes);
            marked = self.file.write_at(page.as_slice(), at);
        }
        let punched = self.file.punch(extent.body(), extent.punchable()).map_err(PunchError::Punch)?;
        marked.map_err(PunchError::Mark)?;
        Ok(punched)
    }
}

/// The step of a punch that failed.
#[derive(Debug)]
pub(super) enum PunchError {
    /// Writing the mark in the header page; the space was freed all the same.
    Mark(io::Error),
    /// Freeing the space.
    Punch(io::Error),
    /// Something other than the deleted record is there; nothing was changed.
    Stranger,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let n = SegmentNumber(42);
        assert_eq!(n.segment_name(), "0000000042.seg");
        assert_eq!(SegmentNumber::from_name("0000000042.seg", ".seg"), Some(n));
        for other in ["42.seg", "0000000042.idx", "0000000042.seg~", "00000000x2.seg", "9999999999.seg"] {
            assert_eq!(SegmentNumber::from_name(other, ".seg"), None, "{other}");
        }
    }

    #[test]
    fn an_extent_is_small() {
        assert!(size_of::<Extent>() <= 24);
    }
}
