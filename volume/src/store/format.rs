//! The layout of a segment on disk, known to this file (and `trailer`) alone. Little endian throughout.
//!
//! ```text
//! segment   page 0 │ record │ record │ …                         every part begins at a page (4 KiB)
//! page 0    0 "BARGESEG" 8 │ 8 version u32 │ 12 zero u32 │ 16 volume 16 │ 32 number u64 │ 40 created ms u64
//!           48 salt 32 │ 80 zeros │ 4092 CRC32C of 0..4092
//! record    header pages 1..=3 │ body, zeros up to a page │ trailer pages 1..
//! header    0 marker 16 │ 16 blob 16 │ 32 declared length u64 or MAX │ 40 created ms u64 │ 48 pages u16
//!           50 zero u16 │ 52 key bytes u16 │ 54 content type bytes u16 or MAX │ 56 metadata entries u16
//!           58 zero u16 │ 60 CRC32C │ 64 key, content type, {name bytes u16, value bytes u16, name, value}…
//!           3584..4096 of the first page: the tombstone, zeros or a marker 16; the text skips it
//! trailer   0 marker 16 │ 16 blob 16 │ 32 length u64 │ 40 BLAKE3 32 │ 72 block bytes u32 │ 76 blocks u32
//!           80 pages u32 │ 84 zero u32 │ 88 finished ms u64 │ 96 block CRC32C u32 × 999 │ 4092 CRC32C
//! further   0 marker 16 │ 16 page u32 │ 20 zero u32 │ 24 block CRC32C u32 × 1017 │ 4092 CRC32C
//! ```
//!
//! Reasons. The marker comes first, so that a scan reads 16 bytes of a page; it is keyed with the segment's salt,
//! which no client ever sees, so that no uploaded bytes can pass for a record. A header's CRC covers all its pages
//! except itself and the tombstone, which is written later in place and therefore has its own 512-byte sector, the
//! unit that disks write atomically. Each CRC begins with volume, segment number and offset, which are not stored: a
//! displaced page fails its checksum. Each trailer page has its own checksum, so that a range read needs only the
//! page of its blocks. Assumptions about the disk: sectors of 512 bytes are written entirely or not at all; nothing
//! is durable before a sync.

mod trailer;

use shared::clock::Timestamp;
use shared::crc32c::{Crc32c, crc32c};
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::limits::{BLOCK_BYTES, PAGE_BYTES};

use super::segment::SegmentNumber;
pub(super) use trailer::{Trailer, sums_page, trailer_pages};

pub(super) const VERSION: u32 = 1;
/// Bytes of a page, as `u64` for offsets.
pub(super) const PAGE: u64 = PAGE_BYTES as u64;
/// Bytes of a block, as `u64` for lengths.
pub(super) const BLOCK: u64 = BLOCK_BYTES as u64;

const MAGIC: &[u8; 8] = b"BARGESEG";
const CRC_AT: usize = PAGE_BYTES - 4;
const HEADER_FIXED: usize = 64;
const HEADER_CRC_AT: usize = 60;
const TOMBSTONE_AT: usize = PAGE_BYTES - 512;
/// Most pages of a header: key, content type and metadata fit at their limits, with their lengths.
pub(super) const HEADER_PAGES_MAX: usize = 3;

const _: () = {
    use shared::limits::{CONTENT_TYPE_BYTES_MAX, KEY_BYTES_MAX, METADATA_BYTES_MAX, METADATA_ENTRIES_MAX};
    // Internal metadata of servers.
    let note = 4 + 128;
    let text = KEY_BYTES_MAX + CONTENT_TYPE_BYTES_MAX + METADATA_BYTES_MAX + 4 * METADATA_ENTRIES_MAX + note;
    assert!(HEADER_FIXED + text <= HEADER_PAGES_MAX * PAGE_BYTES - 512);
};

/// Why bytes were rejected.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum FormatError {
    #[error("no segment")]
    Magic,
    /// Written by another version.
    #[error("format version {0}")]
    Version(u32),
    /// Not the marker of this place: never written, displaced, or another blob's.
    #[error("wrong marker")]
    Marker,
    /// Changed or displaced bytes.
    #[error("wrong checksum")]
    Checksum,
    /// The checksum matches, but the content is impossible.
    #[error("impossible content")]
    Content,
    #[error("wrong blob")]
    Blob,
    #[error("another volume's")]
    Volume,
    #[error("another segment's")]
    Number,
}

/// Whether all bytes are zeros.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
    bytes.chunks(PAGE_BYTES).all(|piece| *piece == ZEROS[..piece.len()])
}

/// Converts a length or offset into an index into memory.
pub(super) fn index(n: u64) -> usize {
    usize::try_from(n).expect("a 64-bit machine")
}

/// Number of pages for that many bytes.
pub(super) fn pages_of(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE)
}

/// Number of blocks of a body of this length.
pub(super) fn blocks_of(length: u64) -> u64 {
    length.div_ceil(BLOCK)
}

fn put(page: &mut [u8], at: usize, bytes: &[u8]) {
    page[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Reads a fixed field. Callers pass whole pages and entries, so it is always present.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has that length")
}
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(bytes, at))
}
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}

/// Page 0 of a segment, which markers and checksums in the segment depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) volume: VolumeId,
    pub(super) number: SegmentNumber,
    pub(super) created: Timestamp,
    pub(super) salt: [u8; 32],
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE_BYTES];
        put(&mut page, 0, MAGIC);
        put(&mut page, 8, &VERSION.to_le_bytes());
        put(&mut page, 16, self.volume.as_bytes());
        put(&mut page, 32, &u64::from(self.number.0).to_le_bytes());
        put(&mut page, 40, &self.created.unix_ms().to_le_bytes());
        put(&mut page, 48, &self.salt);
        let sum = crc32c(&page[..CRC_AT]);
        put(&mut page, CRC_AT, &sum.to_le_bytes());
        page
    }

    /// Decodes page 0 of this segment of this volume.
    pub(super) fn decode(page: &[u8], volume: VolumeId, number: SegmentNumber) -> Result<Self, FormatError> {
        let header = Self::decode_any(page, number)?;
        if header.volume == volume { Ok(header) } else { Err(FormatError::Volume) }
    }

    /// Decodes page 0 of this segment of any volume.
    pub(super) fn decode_any(page: &[u8], number: SegmentNumber) -> Result<Self, FormatError> {
        if &page[..8] != MAGIC {
            return Err(FormatError::Magic);
        }
        if u32_at(page, CRC_AT) != crc32c(&page[..CRC_AT]) {
            return Err(FormatError::Checksum);
        }
        if u32_at(page, 8) != VERSION {
            return Err(FormatError::Version(u32_at(page, 8)));
        }
        if u64_at(page, 32) != u64::from(number.0) {
            return Err(FormatError::Number);
        }
        let volume = VolumeId::from_bytes(field(page, 16));
        let created = Timestamp::from_unix_ms(u64_at(page, 40));
        Ok(Self { volume, number, created, salt: field(page, 48) })
    }

    /// Ties an index file to this segment without disclosing the salt.
    pub(super) fn fingerprint(&self) -> [u8; 16] {
        self.keyed(&[b"index"])
    }

    fn keyed(&self, pieces: &[&[u8]]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.salt);
        for piece in pieces {
            hasher.update(piece);
        }
        field(hasher.finalize().as_bytes(), 0)
    }

    fn header_marker(&self, offset: u64) -> [u8; 16] {
        self.keyed(&[b"header", &u64::from(self.number.0).to_le_bytes(), &offset.to_le_bytes()])
    }

    fn record_marker(&self, kind: &[u8], offset: u64, blob: BlobId, page: u64) -> [u8; 16] {
        let number = u64::from(self.number.0).to_le_bytes();
        self.keyed(&[kind, &number, &offset.to_le_bytes(), blob.as_bytes(), &page.to_le_bytes()])
    }

    /// CRC of pages at `offset` of this segment of this volume.
    fn crc_at(&self, offset: u64, pieces: &[&[u8]]) -> u32 {
        let mut crc = Crc32c::default();
        crc.update(self.volume.as_bytes());
        crc.update(&u64::from(self.number.0).to_le_bytes());
        crc.update(&offset.to_le_bytes());
        pieces.iter().for_each(|p| crc.update(p));
        crc.finish()
    }
}

/// The header pages of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) blob: BlobId,
    pub(super) key: Key,
    pub(super) content_type: Option<String>,
    pub(super) metadata: Vec<(String, String)>,
    /// `None` if the length was unknown when the upload began.
    pub(super) declared: Option<u64>,
    pub(super) created: Timestamp,
}

/// Key, content type and metadata exceed a header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HeaderTooLarge;

impl RecordHeader {
    /// Encodes the pages of a header at `offset`.
    pub(super) fn encode(&self, segment: &SegmentHeader, offset: u64) -> Result<Vec<u8>, HeaderTooLarge> {
        let short = |n: usize| u16::try_from(n).map_err(|_| HeaderTooLarge);
        let mut text = self.key.as_str().as_bytes().to_vec();
        text.extend_from_slice(self.content_type.as_deref().unwrap_or_default().as_bytes());
        for (name, value) in &self.metadata {
            text.extend_from_slice(&short(name.len())?.to_le_bytes());
            text.extend_from_slice(&short(value.len())?.to_le_bytes());
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(value.as_bytes());
        }
        let first = text.len().min(TOMBSTONE_AT - HEADER_FIXED);
        let pages = 1 + (text.len() - first).div_ceil(PAGE_BYTES);
        if pages > HEADER_PAGES_MAX {
            return Err(HeaderTooLarge);
        }
        let content_type = match &self.content_type {
            Some(t) => short(t.len()).ok().filter(|n| *n != u16::MAX).ok_or(HeaderTooLarge)?,
            None => u16::MAX,
        };
        let mut out = vec![0; pages * PAGE_BYTES];
        put(&mut out, 0, &segment.header_marker(offset));
        put(&mut out, 16, self.blob.as_bytes());
        put(&mut out, 32, &self.declared.unwrap_or(u64::MAX).to_le_bytes());
        put(&mut out, 40, &self.created.unix_ms().to_le_bytes());
        put(&mut out, 48, &short(pages)?.to_le_bytes());
        put(&mut out, 52, &short(self.key.as_str().len())?.to_le_bytes());
        put(&mut out, 54, &content_type.to_le_bytes());
        put(&mut out, 56, &short(self.metadata.len())?.to_le_bytes());
        put(&mut out, HEADER_FIXED, &text[..first]);
        put(&mut out, PAGE_BYTES, &text[first..]);
        let sum = Self::crc(segment, offset, &out);
        put(&mut out, HEADER_CRC_AT, &sum.to_le_bytes());
        Ok(out)
    }

    fn crc(segment: &SegmentHeader, offset: u64, pages: &[u8]) -> u32 {
        let (before, text) = (&pages[..HEADER_CRC_AT], &pages[HEADER_FIXED..TOMBSTONE_AT]);
        segment.crc_at(offset, &[before, text, &pages[PAGE_BYTES..]])
    }

    /// Returns the number of pages of the header that begins in this page, if one does.
    pub(super) fn probe(segment: &SegmentHeader, offset: u64, page: &[u8]) -> Option<usize> {
        let pages = usize::from(u16_at(page, 48));
        let here = page[..16] == segment.header_marker(offset) && (1..=HEADER_PAGES_MAX).contains(&pages);
        here.then_some(pages)
    }

    /// Decodes all pages of a header read at `offset`.
    pub(super) fn decode(segment: &SegmentHeader, offset: u64, pages: &[u8]) -> Result<Self, FormatError> {
        let count = Self::probe(segment, offset, pages).ok_or(FormatError::Marker)?;
        if count * PAGE_BYTES != pages.len() {
            return Err(FormatError::Content);
        }
        if u32_at(pages, HEADER_CRC_AT) != Self::crc(segment, offset, pages) {
            return Err(FormatError::Checksum);
        }
        let text = [&pages[HEADER_FIXED..TOMBSTONE_AT], &pages[PAGE_BYTES..]].concat();
        let mut text = Text { rest: &text };
        let key = text.take(usize::from(u16_at(pages, 52)))?;
        let content_type = match u16_at(pages, 54) {
            u16::MAX => None,
            n => Some(text.take(usize::from(n))?.to_owned()),
        };
        let mut metadata = Vec::new();
        for _ in 0..u16_at(pages, 56) {
            let (name, value) = (usize::from(text.u16()?), usize::from(text.u16()?));
            metadata.push((text.take(name)?.to_owned(), text.take(value)?.to_owned()));
        }
        Ok(Self {
            blob: BlobId::from_bytes(field(pages, 16)).map_err(|_| FormatError::Content)?,
            key: Key::new(key).map_err(|_| FormatError::Content)?,
            content_type,
            metadata,
            declared: Some(u64_at(pages, 32)).filter(|n| *n != u64::MAX),
            created: Timestamp::from_unix_ms(u64_at(pages, 40)),
        })
    }
}

struct Text<'a> {
    rest: &'a [u8],
}

impl<'a> Text<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a str, FormatError> {
        let (text, rest) = self.rest.split_at_checked(bytes).ok_or(FormatError::Content)?;
        self.rest = rest;
        std::str::from_utf8(text).map_err(|_| FormatError::Content)
    }
    fn u16(&mut self) -> Result<u16, FormatError> {
        let (number, rest) = self.rest.split_first_chunk().ok_or(FormatError::Content)?;
        self.rest = rest;
        Ok(u16::from_le_bytes(*number))
    }
}

/// The mark in the first header page of a deleted record. It helps a scan when the index is lost; the index entry is
/// what makes a delete durable.
pub(super) mod tombstone {
    use super::*;

    /// Marks a first header page.
    pub(in crate::store) fn set(segment: &SegmentHeader, offset: u64, blob: BlobId, page: &mut [u8]) {
        put(page, TOMBSTONE_AT, &segment.record_marker(b"deleted", offset, blob, 0));
    }

    /// Whether the page is marked. A corrupt mark does not count.
    pub(in crate::store) fn is_set(segment: &SegmentHeader, offset: u64, blob: BlobId, page: &[u8]) -> bool {
        page[TOMBSTONE_AT..TOMBSTONE_AT + 16] == segment.record_marker(b"deleted", offset, blob, 0)
    }
}

/// Returns the index of the first block that does not match its checksum, or has none.
pub(super) fn bad_block(bytes: &[u8], sums: &[u32]) -> Option<u64> {
    let bad = |(n, block): (usize, &[u8])| sums.get(n) != Some(&crc32c(block));
    bytes.chunks(BLOCK_BYTES).enumerate().position(bad).map(|n| n as u64)
}

#[cfg(test)]
mod tests;
