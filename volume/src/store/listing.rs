//! What is here: blobs in order, a page at a time, and where each of them stands. From memory alone; the lock of the catalog is held
//! for one page.

use std::ops::Bound;

use shared::clock::Timestamp;
use shared::ids::BlobId;

use super::catalog::InventoryEntry;
use super::segment::SegmentNumber;
use super::{Store, lock};

/// Blobs that are listed under one hold of the lock.
const PAGE: usize = 4096;

/// Where a blob's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub segment: SegmentNumber,
    /// Where it begins there, in bytes.
    pub offset: u64,
    /// Length of the body in bytes.
    pub length: u64,
    /// It was whole at that time: when it became durable, or when the last pass over its segment began that was finished.
    pub verified: Timestamp,
}

impl Store {
    /// Whether the blob is here.
    pub fn has(&self, blob: BlobId) -> bool {
        lock(&self.0.catalog).get(blob).is_some()
    }

    /// The blobs after `after`, in order, at most `limit` of them.
    pub fn inventory(&self, after: Option<BlobId>, limit: usize) -> Vec<InventoryEntry> {
        self.inventory_before(after, None, limit)
    }

    /// As `inventory`, of the blobs in front of `until`.
    pub fn inventory_before(
        &self,
        after: Option<BlobId>,
        until: Option<BlobId>,
        limit: usize,
    ) -> Vec<InventoryEntry> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        lock(&self.0.catalog).inventory(from, before(until), limit)
    }

    /// The blobs from `from` on and in front of `until`, in order: those that are here when their page is read.
    pub fn blobs(&self, from: Option<BlobId>, until: Option<BlobId>) -> impl Iterator<Item = BlobId> {
        let mut next = Some(from.map_or(Bound::Unbounded, Bound::Included));
        let pages = std::iter::from_fn(move || {
            let page = lock(&self.0.catalog).inventory(next?, before(until), PAGE);
            next = page.last().filter(|_| page.len() == PAGE).map(|e| Bound::Excluded(e.blob));
            Some(page)
        });
        pages.flatten().map(|entry| entry.blob)
    }

    /// Where these are, in their order; none for one that is not here. Blocks while the scrub looks for its next record.
    pub fn places(&self, blobs: &[BlobId]) -> Vec<Option<Place>> {
        let scrub = lock(&self.0.scrub);
        let catalog = lock(&self.0.catalog);
        let place = |blob: &BlobId| {
            let extent = catalog.get(*blob)?;
            let segment = catalog.segment(extent.segment)?;
            let finished = Timestamp::from_unix_ms(u64::from(extent.finished_secs) * 1000);
            Some(Place {
                segment: extent.segment,
                offset: extent.offset(),
                length: extent.length,
                verified: finished.max(scrub.since(&segment)),
            })
        };
        blobs.iter().map(place).collect()
    }
}

fn before(until: Option<BlobId>) -> Bound<BlobId> {
    until.map_or(Bound::Unbounded, Bound::Excluded)
}
