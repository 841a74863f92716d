//! Scans a segment without its index for good, deleted and corrupt records. It only reads; `recovery` decides
//! what to do.
//!
//! A record counts only if every byte of it was verified, because without a sync between them a trailer can reach the
//! disk before its body.

use std::io;

use shared::clock::Timestamp;
use shared::ids::BlobId;
use shared::limits::{BLOCK_BYTES, PAGE_BYTES};

use super::disk::DiskFile;
use super::error::Corruption;
use super::format::{
    FormatError, HEADER_PAGES_MAX, PAGE, RecordHeader, SegmentHeader, Trailer, bad_block, blocks_of, index,
    is_zero, pages_of, sums_page, tombstone, trailer_pages,
};
use super::read::check_header_and_trailer;
use super::segment::Extent;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) blob: BlobId,
    pub(super) extent: Extent,
    pub(super) finished: Timestamp,
}

/// The results of a scan.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    pub(super) found: Vec<Found>,
    pub(super) deleted: Vec<(BlobId, Extent)>,
    /// Bad ranges with good records after them: offset and bytes.
    pub(super) aside: Vec<(u64, u64)>,
    /// Where the last good record ends.
    pub(super) end: u64,
    /// End of the last record after `end` with good header and trailer and a corrupt body: bit rot, if
    /// it ever counted.
    pub(super) rot_end: Option<u64>,
}

enum Examined {
    Good(Found),
    /// Deleted. If the length was never declared and the trailer is gone, the extent is unknown: `Err` is where the
    /// next record may begin.
    Deleted(BlobId, Result<Extent, u64>),
    /// A header with only zeros in place of body and trailer.
    Hollow(BlobId, Extent),
    /// Not usable, and why; with the end if header and trailer are good and the body is not.
    Bad(Corruption, Option<u64>),
}

/// How much of a record is read to verify it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Header and trailer only.
    Ends,
    Whole,
}

pub(super) struct Scanner<'a> {
    header: &'a SegmentHeader,
    pub(super) file: &'a dyn DiskFile,
    pub(super) length: u64,
    depth: Depth,
    /// Allocated with the first record that is examined: most segments are not scanned.
    memory: Vec<u8>,
}

const WINDOW: usize = 16 * BLOCK_BYTES;

impl<'a> Scanner<'a> {
    pub(super) fn new(header: &'a SegmentHeader, file: &'a dyn DiskFile, length: u64) -> Self {
        Self { header, file, length, depth: Depth::Whole, memory: Vec::new() }
    }

    pub(super) fn deep(self, depth: Depth) -> Self {
        Self { depth, ..self }
    }

    /// Scans all records from `from`, which must be the beginning of a record or the end.
    pub(super) fn scan(&mut self, from: u64) -> io::Result<Scanned> {
        let mut scanned = Scanned { end: from, ..Scanned::default() };
        let mut at = from;
        let mut bad: Option<u64> = None;
        let mut hollow = Vec::new();
        while at < self.length {
            let examined = self.examine(at)?;
            let end = match &examined {
                Examined::Good(found) => found.extent.end(),
                Examined::Deleted(_, Ok(extent)) | Examined::Hollow(_, extent) => extent.end(),
                Examined::Deleted(_, Err(next)) => *next,
                Examined::Bad(_, rot_end) => {
                    scanned.rot_end = scanned.rot_end.max(*rot_end);
                    bad.get_or_insert(at);
                    at = self.next_header(at + PAGE)?;
                    continue;
                }
            };
            match examined {
                Examined::Hollow(blob, extent) => hollow.push((blob, extent)),
                Examined::Deleted(_, Err(_)) => {}
                good => {
                    scanned.good(&good, at, end, &mut bad, &mut hollow);
                }
            }
            at = end;
        }
        Ok(scanned)
    }

    fn take_memory(&mut self) {
        if self.memory.is_empty() {
            self.memory = vec![0; WINDOW];
        }
    }

    fn examine(&mut self, at: u64) -> io::Result<Examined> {
        self.take_memory();
        let (header, head) = match self.header(at)? {
            Ok(found) => found,
            Err(e) => return Ok(Examined::Bad(Corruption::Header(e), None)),
        };
        let body = at + head.len() as u64;
        let (trailer, complete) = match header.declared {
            Some(length) => (body + pages_of(length) * PAGE, true),
            None => self.find_trailer(at, header.blob, body)?,
        };
        let mut extent = Extent {
            segment: self.header.number,
            page: u32::try_from(at / PAGE).unwrap_or(u32::MAX),
            length: header.declared.unwrap_or(trailer - body),
            finished_secs: 0,
            header_pages: u8::try_from(head.len() / PAGE_BYTES).unwrap_or(u8::MAX),
        };
        let deleted = tombstone::is_set(self.header, at, header.blob, &head);
        let mut page = vec![0; PAGE_BYTES];
        let whole = complete && self.file.read_at(&mut page, trailer)? == PAGE_BYTES;
        let decoded = Trailer::decode(self.header, at, header.blob, trailer, &page);
        if let (true, Ok((t, _))) = (whole, &decoded) {
            extent.length = t.length;
        }
        let known = header.declared.is_some() || (whole && decoded.is_ok());
        if deleted {
            return Ok(Examined::Deleted(header.blob, if known { Ok(extent) } else { Err(trailer) }));
        }
        match decoded {
            Ok((t, sums)) if whole && extent.trailer() == trailer && t.length == extent.length => {
                extent.finished_secs = u32::try_from(t.finished.unix_ms() / 1000).unwrap_or(u32::MAX);
                let found = Found { blob: header.blob, extent, finished: t.finished };
                #[cfg(test)]
                if super::planted_bugs::is(super::planted_bugs::Bug::TrustTornTrailer) {
                    return Ok(Examined::Good(found));
                }
                Ok(match self.verify_body(&found, &t, sums)? {
                    None => Examined::Good(found),
                    Some(corruption) => Examined::Bad(corruption, Some(extent.end())),
                })
            }
            _ if known && whole && self.is_zero(extent.body(), extent.end())? => {
                Ok(Examined::Hollow(header.blob, extent))
            }
            Ok(_) if whole => Ok(Examined::Bad(Corruption::Trailer(FormatError::Content), None)),
            Err(e) if whole => Ok(Examined::Bad(Corruption::Trailer(e), None)),
            _ => Ok(Examined::Bad(Corruption::CutOff, None)),
        }
    }

    /// Returns the header that begins at `at`, with its pages.
    pub(super) fn header(&self, at: u64) -> io::Result<Result<(RecordHeader, Vec<u8>), FormatError>> {
        let mut pages = vec![0; HEADER_PAGES_MAX * PAGE_BYTES];
        let read = self.file.read_at(&mut pages, at)?;
        let count = if read >= PAGE_BYTES { RecordHeader::probe(self.header, at, &pages) } else { None };
        let Some(bytes) = count.map(|n| n * PAGE_BYTES).filter(|n| *n <= read) else {
            return Ok(Err(FormatError::Marker));
        };
        pages.truncate(bytes);
        Ok(RecordHeader::decode(self.header, at, &pages).map(|header| (header, pages)))
    }

    /// Returns what is wrong with the record that begins at `at`, if that can be determined.
    pub(super) fn corruption_at(&mut self, at: u64) -> io::Result<Option<Corruption>> {
        Ok(if let Examined::Bad(corruption, _) = self.examine(at)? { Some(corruption) } else { None })
    }

    /// Whether all of an indexed record is good.
    pub(super) fn is_whole(&mut self, extent: &Extent) -> io::Result<bool> {
        Ok(
            matches!(self.examine(extent.offset())?, Examined::Good(found) if found.extent.end() == extent.end()),
        )
    }

    /// Verifies an indexed record. Returns its header, if that is good, and what is wrong with the record.
    pub(super) fn verify(
        &mut self,
        blob: BlobId,
        extent: &Extent,
    ) -> io::Result<(Option<RecordHeader>, Option<Corruption>)> {
        self.take_memory();
        let mut pages = vec![0; extent.header_bytes() + PAGE_BYTES];
        let (head, tail) = pages.split_at_mut(extent.header_bytes());
        if self.file.read_at(head, extent.offset())? < head.len() {
            return Ok((None, Some(Corruption::CutOff)));
        }
        let header = RecordHeader::decode(self.header, extent.offset(), head).ok().filter(|h| h.blob == blob);
        let whole = self.file.read_at(tail, extent.trailer())? == PAGE_BYTES;
        let corruption = match check_header_and_trailer(self.header, blob, extent, &pages) {
            Err(Corruption::Trailer(_)) if !whole => Some(Corruption::CutOff),
            Err(corruption) => Some(corruption),
            Ok((_, trailer, sums)) => {
                let found = Found { blob, extent: *extent, finished: trailer.finished };
                self.verify_body(&found, &trailer, sums)?
            }
        };
        Ok((header, corruption))
    }

    /// Whether an indexed record is marked as deleted, or is a header followed by a hole.
    pub(super) fn is_deleted(&self, blob: BlobId, extent: &Extent) -> io::Result<bool> {
        let mut page = vec![0; PAGE_BYTES];
        // Past the end of the file there is no data either, but that is no hole.
        let whole =
            extent.end() <= self.length && self.file.read_at(&mut page, extent.offset())? == PAGE_BYTES;
        let ours = whole && RecordHeader::probe(self.header, extent.offset(), &page).is_some();
        if ours && tombstone::is_set(self.header, extent.offset(), blob, &page) {
            return Ok(true);
        }
        Ok(ours && !self.file.holds_data(extent.body(), extent.punchable())?)
    }

    /// Finds the trailer of a record of unknown length (`true`), or else the beginning of the next record (`false`).
    fn find_trailer(&mut self, record: u64, blob: BlobId, from: u64) -> io::Result<(u64, bool)> {
        let header = self.header;
        let found = self.find(from, |at, page| {
            if Trailer::probe(header, record, blob, page) {
                return Some((at, true));
            }
            RecordHeader::probe(header, at, page).map(|_| (at, false))
        })?;
        Ok(found.unwrap_or((self.length.next_multiple_of(PAGE).max(from), false)))
    }

    /// Finds the next header, or the end of the file.
    pub(super) fn next_header(&mut self, from: u64) -> io::Result<u64> {
        let header = self.header;
        let found = self.find(from, |at, page| RecordHeader::probe(header, at, page).map(|_| at))?;
        Ok(found.unwrap_or(self.length))
    }

    fn find<T>(&mut self, from: u64, mut test: impl FnMut(u64, &[u8]) -> Option<T>) -> io::Result<Option<T>> {
        let mut at = from;
        while at < self.length {
            let read = self.file.read_at(&mut self.memory, at)?;
            let pages = (0..).map(|n| at + n * PAGE).zip(self.memory[..read].chunks_exact(PAGE_BYTES));
            if let Some(found) = pages.into_iter().find_map(|(at, page)| test(at, page)) {
                return Ok(Some(found));
            }
            at += WINDOW as u64;
        }
        Ok(None)
    }

    fn is_zero(&mut self, from: u64, to: u64) -> io::Result<bool> {
        let mut at = from;
        while at < to {
            let want = index((to - at).min(WINDOW as u64));
            let read = self.file.read_at(&mut self.memory[..want], at)?;
            if read < want || !is_zero(&self.memory[..read]) {
                return Ok(false);
            }
            at += read as u64;
        }
        Ok(true)
    }

    fn verify_body(
        &mut self,
        found: &Found,
        trailer: &Trailer,
        first: Vec<u32>,
    ) -> io::Result<Option<Corruption>> {
        if self.depth == Depth::Ends {
            return Ok(None);
        }
        let extent = &found.extent;
        let mut sums = first;
        let mut page = vec![0; PAGE_BYTES];
        for number in 1..trailer_pages(extent.length) {
            let at = extent.trailer() + number * PAGE;
            let whole = self.file.read_at(&mut page, at)? == PAGE_BYTES;
            let further = trailer.decode_further(self.header, extent.offset(), at, number, &page);
            match further {
                Ok(further) if whole => sums.extend(further),
                Ok(_) => return Ok(Some(Corruption::CutOff)),
                Err(e) => return Ok(Some(Corruption::Trailer(e))),
            }
        }
        if sums.len() as u64 != blocks_of(extent.length) {
            return Ok(Some(Corruption::Trailer(FormatError::Content)));
        }
        let mut hasher = blake3::Hasher::new();
        let (mut at, mut block) = (0, 0);
        while at < extent.length {
            let want = index((extent.length - at).min(WINDOW as u64));
            if self.file.read_at(&mut self.memory[..want], extent.body() + at)? < want {
                return Ok(Some(Corruption::CutOff));
            }
            if let Some(bad) = bad_block(&self.memory[..want], &sums[index(block)..]) {
                return Ok(Some(Corruption::Block(block + bad)));
            }
            hasher.update(&self.memory[..want]);
            at += want as u64;
            block += (WINDOW / BLOCK_BYTES) as u64;
        }
        debug_assert_eq!(sums_page(0).0, 0, "the first page's sums come first");
        let same = shared::digest::Digest::from(hasher.finalize()) == trailer.digest;
        Ok((!same).then_some(Corruption::Digest))
    }
}

impl Scanned {
    /// Adds a good or deleted record at `at`, which decides about the doubtful ranges before it.
    fn good(
        &mut self,
        record: &Examined,
        at: u64,
        end: u64,
        bad: &mut Option<u64>,
        hollow: &mut Vec<(BlobId, Extent)>,
    ) {
        if let Some(from) = bad.take() {
            self.aside.push((from, at - from));
            hollow.retain(|(_, e)| e.offset() < from);
        }
        self.deleted.append(hollow);
        match record {
            Examined::Good(found) => self.found.push(*found),
            Examined::Deleted(blob, Ok(extent)) => self.deleted.push((*blob, *extent)),
            _ => {}
        }
        self.end = end;
        self.rot_end = None;
    }
}
