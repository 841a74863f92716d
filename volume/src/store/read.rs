//! Reads: verified bytes of one blob in a pooled buffer, from the page cache on the async thread if they are there,
//! otherwise from the disk on the blocking pool.
//!
//! A reader pins its record against hole punching: a blob deleted meanwhile can be read to its end. Only bytes of
//! verified blocks are returned, and only of a record whose header and trailer belong to this blob at this place.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use shared::digest::Digest;
use shared::ids::BlobId;
use shared::key::Key;
use shared::limits::{BLOCK_BYTES, PAGE_BYTES, READ_BUFFER_BYTES};
use shared::work::blocking;

use super::buffer::{Aligned, Buffer};
use super::disk::{MappedPart, Mapping};
use super::error::{Corruption, ReadError};
use super::format::{
    BLOCK, FormatError, PAGE, RecordHeader, SegmentHeader, Trailer, bad_block, blocks_of, index, sums_page,
};
use super::segment::{Extent, Segment};
use super::{Inner, Store, lock};

#[derive(Debug)]
pub struct Reader {
    pin: Arc<Pin>,
    header: RecordHeader,
    trailer: Trailer,
    sums: SumsPage,
    past_cache: bool,
    /// `None` until it is needed; `Some(None)` if the file cannot be mapped.
    mapping: Option<Option<Mapping>>,
}

/// The block checksums of one trailer page, for the blocks read last.
#[derive(Debug)]
struct SumsPage {
    page: u64,
    first_block: u64,
    sums: Vec<u32>,
}

/// Most bytes returned at once from a mapped record: large enough to make the cost of a system call negligible.
const MAPPED_BYTES: usize = 1 << 20;

/// A part of a mapped record that keeps the record pinned until its bytes are dropped.
#[derive(Debug)]
struct BufferSlice {
    part: MappedPart,
    _pin: Arc<Pin>,
}

impl AsRef<[u8]> for BufferSlice {
    fn as_ref(&self) -> &[u8] {
        self.part.as_ref()
    }
}

/// Pins a record against hole punching until it is dropped.
#[derive(Debug)]
struct Pin {
    store: Arc<Inner>,
    segment: Arc<Segment>,
    extent: Extent,
    blob: BlobId,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let dead = lock(&self.store.catalog).unpin(self.blob, self.extent);
        if let Some(dead) = dead {
            self.store.punch_later(vec![dead]);
        }
    }
}

/// The whole blocks to read, and the part of them to return.
#[derive(Debug, PartialEq, Eq)]
struct Window {
    first_block: u64,
    /// From the beginning of the first block.
    bytes: usize,
    skip: usize,
    take: usize,
}

/// Returns `None` at the end. At most a buffer, and at most the blocks of one trailer page.
fn window(length: u64, offset: u64, max: usize) -> Option<Window> {
    if offset >= length || max == 0 {
        return None;
    }
    let first_block = offset / BLOCK;
    let start = first_block * BLOCK;
    let (_, blocks) = sums_page(first_block);
    let end = (offset.saturating_add(max as u64))
        .min(length)
        .min(start + READ_BUFFER_BYTES as u64)
        .min(blocks.end.saturating_mul(BLOCK));
    let bytes = index(end.next_multiple_of(BLOCK).min(length) - start);
    Some(Window { first_block, bytes, skip: index(offset - start), take: index(end - offset) })
}

/// A pinned record that was not opened yet: it can be read while this lives, even if the blob is deleted meanwhile.
#[derive(Debug)]
pub struct PinnedRecord {
    pin: Pin,
}

impl Store {
    /// Pins a blob.
    ///
    /// # Errors
    /// When it is not here.
    pub fn pin(&self, blob: BlobId) -> Result<PinnedRecord, ReadError> {
        let pinned = lock(&self.0.catalog).pin(blob);
        let (segment, extent) = pinned.ok_or(ReadError::NotFound { blob })?;
        Ok(PinnedRecord { pin: Pin { store: Arc::clone(&self.0), segment, extent, blob } })
    }

    /// Opens a blob: reads and verifies its header and first trailer page.
    pub async fn reader(&self, blob: BlobId) -> Result<Reader, ReadError> {
        self.pin(blob)?.reader().await
    }

    /// Like `reader`, but past the page cache: to verify the disk itself, and to leave the cache to others.
    pub(super) async fn reader_past_cache(&self, blob: BlobId) -> Result<Reader, ReadError> {
        self.pin(blob)?.open(true).await
    }
}

impl PinnedRecord {
    /// Opens the pinned record.
    ///
    /// # Errors
    /// When it cannot be read or is corrupt.
    pub async fn reader(self) -> Result<Reader, ReadError> {
        self.open(false).await
    }

    async fn open(self, past_cache: bool) -> Result<Reader, ReadError> {
        let pin = self.pin;
        let pages = pin.read_header_and_trailer(past_cache).await?;
        let (header, trailer, sums) = pin.check(&pages).map_err(|what| pin.corrupt(what))?;
        Ok(Reader {
            pin: Arc::new(pin),
            header,
            trailer,
            sums: SumsPage { page: 0, first_block: 0, sums },
            past_cache,
            mapping: None,
        })
    }
}

impl Reader {
    pub fn blob(&self) -> BlobId {
        self.header.blob
    }
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.trailer.length
    }
    pub fn digest(&self) -> Digest {
        self.trailer.digest
    }
    pub fn key(&self) -> &Key {
        &self.header.key
    }
    pub fn content_type(&self) -> Option<&str> {
        self.header.content_type.as_deref()
    }
    pub fn metadata(&self) -> &[(String, String)] {
        &self.header.metadata
    }

    /// Returns verified bytes from `offset`: at least one and at most `max` or a buffer full; none at the end.
    ///
    /// Fastest from block boundaries with `max` a whole buffer. The buffer returns to its pool with the last clone of
    /// the result. The future is cancel-safe.
    pub async fn read(&mut self, offset: u64, max: usize) -> Result<Bytes, ReadError> {
        // Slow clients may hold the whole pool: then this read allocates one block of its own instead of waiting. The
        // number of connections bounds that memory.
        let (mut buffer, max) = match self.pin.store.read_pool.try_take() {
            Some(buffer) => (buffer, max),
            None => (Buffer::single(BLOCK_BYTES), max.min(BLOCK_BYTES - index(offset % BLOCK))),
        };
        let Some(window) = window(self.trailer.length, offset, max) else { return Ok(Bytes::new()) };
        self.load_sums(window.first_block).await?;
        let at = self.pin.extent.body() + window.first_block * BLOCK;
        let file = &self.pin.segment.file;
        if self.past_cache {
            buffer = self.pin.read_disk(buffer, window.bytes, at).await?;
        } else {
            let cached = file.read_cached_at(&mut buffer.as_mut_slice()[..window.bytes], at);
            if cached < window.bytes {
                buffer = self.pin.read_rest(buffer, cached, window.bytes, at).await?;
            }
        }
        let sums = &self.sums.sums[index(window.first_block - self.sums.first_block)..];
        let mut end = window.skip + window.take;
        match bad_block(&buffer.as_slice()[..window.bytes], sums) {
            Some(0) => return Err(self.pin.corrupt(Corruption::Block(window.first_block))),
            // The good bytes before it are returned first.
            Some(bad) => end = end.min(index(bad) * BLOCK_BYTES),
            None => {}
        }
        Ok(Bytes::from_owner(buffer).slice(window.skip..end))
    }

    /// Like `read`, but the bytes come from the page cache without a copy and are **not verified**, for volumes that
    /// rely on the scrub. Falls back to `read` if the file cannot be mapped.
    pub async fn read_unverified(&mut self, offset: u64, max: usize) -> Result<Bytes, ReadError> {
        let (length, body) = (self.trailer.length, self.pin.extent.body());
        if offset >= length {
            return Ok(Bytes::new());
        }
        let file = &self.pin.segment.file;
        let mapping = self.mapping.get_or_insert_with(|| file.map(body, length));
        let Some(mapping) = mapping.clone() else { return self.read(offset, max).await };
        let end = offset.saturating_add(max.min(MAPPED_BYTES) as u64).min(length);
        let (from, to) = (index(offset), index(end));
        if mapping.is_resident(from, to) {
            mapping.load(from, to)?;
        } else {
            let ahead = to + MAPPED_BYTES;
            let mapping = mapping.clone();
            blocking(move || mapping.load(from, ahead)).await?;
        }
        // Bytes on their way to a socket must not be punched either.
        Ok(Bytes::from_owner(BufferSlice { part: mapping.part(from, to), _pin: Arc::clone(&self.pin) }))
    }

    /// Whether these bytes match the checksum of this block, which must be one of those read last.
    pub fn is_block(&self, block: u64, bytes: &[u8]) -> bool {
        let sums = block.checked_sub(self.sums.first_block).and_then(|n| self.sums.sums.get(index(n)..));
        bytes.len() <= BLOCK_BYTES && sums.is_some_and(|sums| bad_block(bytes, sums).is_none())
    }

    /// Counts corruption and returns it as an error.
    pub(super) fn corrupt(&self, what: Corruption) -> ReadError {
        self.pin.corrupt(what)
    }

    /// The location of the record; a rewrite gives the blob another one.
    pub(super) fn extent(&self) -> Extent {
        self.pin.extent
    }

    /// Loads the trailer page with the checksum of this block.
    async fn load_sums(&mut self, block: u64) -> Result<(), ReadError> {
        let (number, blocks) = sums_page(block);
        if number == self.sums.page {
            return Ok(());
        }
        let at = self.pin.extent.trailer() + number * PAGE;
        let page = self.pin.pages(vec![(at, PAGE_BYTES)], self.past_cache).await?;
        let (header, record) = (&self.pin.segment.header, self.pin.extent.offset());
        let sums = if number == 0 {
            Trailer::decode(header, record, self.pin.blob, at, &page).map(|(_, sums)| sums)
        } else {
            self.trailer.decode_further(header, record, at, number, &page)
        };
        let sums = sums.map_err(|e| self.pin.corrupt(Corruption::Trailer(e)))?;
        self.sums = SumsPage { page: number, first_block: blocks.start, sums };
        Ok(())
    }
}

impl Pin {
    async fn read_header_and_trailer(&self, past_cache: bool) -> Result<Vec<u8>, ReadError> {
        let header = (self.extent.offset(), self.extent.header_bytes());
        self.pages(vec![header, (self.extent.trailer(), PAGE_BYTES)], past_cache).await
    }

    /// Reads ranges of whole pages of the segment, into one vector.
    async fn pages(&self, ranges: Vec<(u64, usize)>, past_cache: bool) -> Result<Vec<u8>, ReadError> {
        let mut pages = vec![0; ranges.iter().map(|(_, bytes)| bytes).sum()];
        let cached = |piece: &mut [u8], at| Ok(self.segment.file.read_cached_at(piece, at));
        if !past_cache && each(&ranges, &mut pages, cached)? {
            return Ok(pages);
        }
        let segment = Arc::clone(&self.segment);
        let read = blocking(move || {
            if !past_cache {
                let whole = each(&ranges, &mut pages, |piece, at| segment.file.read_at(piece, at));
                return whole.map(|whole| (whole, pages));
            }
            let mut memory = Aligned::new(pages.len());
            let from_disk = |piece: &mut [u8], at| segment.file.read_disk_at(piece, at);
            let whole = each(&ranges, memory.as_mut_slice(), from_disk);
            whole.map(|whole| (whole, memory.as_slice().to_vec()))
        });
        let (whole, pages) = read.await?;
        if whole { Ok(pages) } else { Err(self.corrupt(Corruption::CutOff)) }
    }

    async fn read_rest(
        &self,
        mut buffer: Buffer,
        from: usize,
        to: usize,
        at: u64,
    ) -> Result<Buffer, ReadError> {
        let segment = Arc::clone(&self.segment);
        let read = blocking(move || {
            let rest = &mut buffer.as_mut_slice()[from..to];
            segment.file.read_at(rest, at + from as u64).map(|n| (n == to - from, buffer))
        });
        let (whole, buffer) = read.await?;
        if whole { Ok(buffer) } else { Err(self.corrupt(Corruption::CutOff)) }
    }

    async fn read_disk(&self, mut buffer: Buffer, bytes: usize, at: u64) -> Result<Buffer, ReadError> {
        let segment = Arc::clone(&self.segment);
        let read = blocking(move || {
            let pages = bytes.next_multiple_of(PAGE_BYTES);
            segment.file.read_disk_at(&mut buffer.as_mut_slice()[..pages], at).map(|n| (n >= bytes, buffer))
        });
        let (whole, buffer) = read.await?;
        if whole { Ok(buffer) } else { Err(self.corrupt(Corruption::CutOff)) }
    }

    fn check(&self, pages: &[u8]) -> Result<(RecordHeader, Trailer, Vec<u32>), Corruption> {
        check_header_and_trailer(&self.segment.header, self.blob, &self.extent, pages)
    }

    fn corrupt(&self, what: Corruption) -> ReadError {
        self.store.counters.corrupt.fetch_add(1, Ordering::Relaxed);
        ReadError::Corrupt { blob: self.blob, what }
    }
}

/// Verifies that header pages and first trailer page, concatenated, belong to this blob at this place.
pub(super) fn check_header_and_trailer(
    segment: &SegmentHeader,
    blob: BlobId,
    extent: &Extent,
    pages: &[u8],
) -> Result<(RecordHeader, Trailer, Vec<u32>), Corruption> {
    let (head, tail) = pages.split_at(pages.len() - PAGE_BYTES);
    let header = RecordHeader::decode(segment, extent.offset(), head).map_err(Corruption::Header)?;
    if header.blob != blob {
        return Err(Corruption::Header(FormatError::Blob));
    }
    let (trailer, sums) = Trailer::decode(segment, extent.offset(), blob, extent.trailer(), tail)
        .map_err(Corruption::Trailer)?;
    let declared = header.declared.unwrap_or(trailer.length);
    if trailer.length != extent.length || declared != extent.length {
        return Err(Corruption::Trailer(FormatError::Content));
    }
    debug_assert!(
        sums.len() as u64 <= blocks_of(trailer.length),
        "a page has no more sums than the body blocks"
    );
    Ok((header, trailer, sums))
}

/// Reads each range into its part of `pages`; returns whether all were complete.
fn each(
    ranges: &[(u64, usize)],
    pages: &mut [u8],
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<bool> {
    let mut rest = pages;
    for (at, bytes) in ranges {
        let (piece, after) = rest.split_at_mut(*bytes);
        if read(piece, *at)? < *bytes {
            return Ok(false);
        }
        rest = after;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_whole_blocks_within_a_buffer_and_a_trailer_page() {
        let block = index(BLOCK);
        assert_eq!(window(0, 0, 10), None);
        assert_eq!(window(10, 10, 10), None);
        assert_eq!(window(10, 0, 0), None);
        assert_eq!(window(10, 3, 100), Some(Window { first_block: 0, bytes: 10, skip: 3, take: 7 }));
        let long = 10_000 * BLOCK;
        let w = window(long, BLOCK + 5, 10).unwrap();
        assert_eq!(w, Window { first_block: 1, bytes: block, skip: 5, take: 10 });
        let w = window(long, BLOCK - 1, usize::MAX).unwrap();
        assert_eq!((w.bytes, w.skip, w.take), (4 * block, block - 1, 3 * block + 1));
        // Block 998 is the last one in the first trailer page.
        let w = window(long, 998 * BLOCK, usize::MAX).unwrap();
        assert_eq!((w.bytes, w.take), (block, block));
        assert_eq!(window(long, 999 * BLOCK, usize::MAX).unwrap().bytes, 4 * block);
    }
}
