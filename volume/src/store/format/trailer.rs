//! The trailer pages of a record; for their layout see `format`.

use shared::clock::Timestamp;
use shared::digest::Digest;
use shared::ids::BlobId;
use shared::limits::PAGE_BYTES;

use super::{BLOCK, CRC_AT, FormatError, PAGE, SegmentHeader, blocks_of, field, index, put, u32_at, u64_at};

const TRAILER_FIXED: usize = 96;
const FURTHER_FIXED: usize = 24;
pub(super) const FIRST_SUMS: u64 = ((CRC_AT - TRAILER_FIXED) / 4) as u64;
pub(super) const FURTHER_SUMS: u64 = ((CRC_AT - FURTHER_FIXED) / 4) as u64;

/// Number of trailer pages for a body of this length.
pub(in crate::store) fn trailer_pages(length: u64) -> u64 {
    1 + blocks_of(length).saturating_sub(FIRST_SUMS).div_ceil(FURTHER_SUMS)
}

/// Returns the trailer page with the checksum of a block, and the blocks of that page.
pub(in crate::store) fn sums_page(block: u64) -> (u64, std::ops::Range<u64>) {
    if block < FIRST_SUMS {
        return (0, 0..FIRST_SUMS);
    }
    let further = (block - FIRST_SUMS) / FURTHER_SUMS;
    let first = FIRST_SUMS + further * FURTHER_SUMS;
    (1 + further, first..first + FURTHER_SUMS)
}

/// The trailer of a record, without the block checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Trailer {
    pub(in crate::store) blob: BlobId,
    pub(in crate::store) length: u64,
    pub(in crate::store) digest: Digest,
    pub(in crate::store) finished: Timestamp,
}

impl Trailer {
    /// Encodes the pages at `at`, for the record at `record`.
    pub(in crate::store) fn encode(
        &self,
        segment: &SegmentHeader,
        record: u64,
        at: u64,
        sums: &[u32],
    ) -> Vec<u8> {
        let pages = trailer_pages(self.length);
        let mut out = vec![0; index(pages) * PAGE_BYTES];
        put(&mut out, 16, self.blob.as_bytes());
        put(&mut out, 32, &self.length.to_le_bytes());
        put(&mut out, 40, self.digest.as_bytes());
        let short = |n: u64| u32::try_from(n).expect("BLOB_BYTES_MAX bounds it");
        put(&mut out, 72, &short(BLOCK).to_le_bytes());
        put(&mut out, 76, &short(blocks_of(self.length)).to_le_bytes());
        put(&mut out, 80, &short(pages).to_le_bytes());
        put(&mut out, 88, &self.finished.unix_ms().to_le_bytes());
        for (block, sum) in (0..).zip(sums) {
            let (page, blocks) = sums_page(block);
            let fixed = if page == 0 { TRAILER_FIXED } else { FURTHER_FIXED };
            let spot = index(page) * PAGE_BYTES + fixed + index(block - blocks.start) * 4;
            put(&mut out, spot, &sum.to_le_bytes());
        }
        for (number, page) in (0..).zip(out.chunks_exact_mut(PAGE_BYTES)) {
            put(page, 0, &segment.record_marker(b"trailer", record, self.blob, number));
            if number > 0 {
                put(page, 16, &short(number).to_le_bytes());
            }
            let sum = segment.crc_at(at + number * PAGE, &[&page[..CRC_AT]]);
            put(page, CRC_AT, &sum.to_le_bytes());
        }
        out
    }

    /// Decodes the first page, read at `at`, with the block checksums in it.
    pub(in crate::store) fn decode(
        segment: &SegmentHeader,
        record: u64,
        blob: BlobId,
        at: u64,
        page: &[u8],
    ) -> Result<(Self, Vec<u32>), FormatError> {
        check_trailer_page(segment, record, blob, at, 0, page)?;
        if field(page, 16) != *blob.as_bytes() {
            return Err(FormatError::Blob);
        }
        let length = u64_at(page, 32);
        let blocks = blocks_of(length);
        let fits = u64::from(u32_at(page, 72)) == BLOCK
            && u64::from(u32_at(page, 76)) == blocks
            && u64::from(u32_at(page, 80)) == trailer_pages(length);
        if !fits {
            return Err(FormatError::Content);
        }
        let digest = Digest::from_bytes(field(page, 40));
        let finished = Timestamp::from_unix_ms(u64_at(page, 88));
        let sums = sums_in(&page[TRAILER_FIXED..CRC_AT], blocks.min(FIRST_SUMS));
        Ok((Self { blob, length, digest, finished }, sums))
    }

    /// Whether this is the first trailer page of the record.
    pub(in crate::store) fn probe(segment: &SegmentHeader, record: u64, blob: BlobId, page: &[u8]) -> bool {
        page[..16] == segment.record_marker(b"trailer", record, blob, 0)
    }

    /// Decodes the block checksums of a further page (1 or more), read at `at`.
    pub(in crate::store) fn decode_further(
        &self,
        segment: &SegmentHeader,
        record: u64,
        at: u64,
        number: u64,
        page: &[u8],
    ) -> Result<Vec<u32>, FormatError> {
        check_trailer_page(segment, record, self.blob, at, number, page)?;
        if u64::from(u32_at(page, 16)) != number {
            return Err(FormatError::Content);
        }
        let before = FIRST_SUMS + (number - 1) * FURTHER_SUMS;
        let count = blocks_of(self.length).saturating_sub(before).min(FURTHER_SUMS);
        Ok(sums_in(&page[FURTHER_FIXED..CRC_AT], count))
    }
}

fn check_trailer_page(
    segment: &SegmentHeader,
    record: u64,
    blob: BlobId,
    at: u64,
    number: u64,
    page: &[u8],
) -> Result<(), FormatError> {
    if page[..16] != segment.record_marker(b"trailer", record, blob, number) {
        return Err(FormatError::Marker);
    }
    if u32_at(page, CRC_AT) != segment.crc_at(at, &[&page[..CRC_AT]]) {
        return Err(FormatError::Checksum);
    }
    Ok(())
}

fn sums_in(bytes: &[u8], count: u64) -> Vec<u32> {
    bytes.chunks_exact(4).take(index(count)).map(|b| u32_at(b, 0)).collect()
}
