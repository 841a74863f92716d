//! Inventories: the blobs in order, a page at a time, and the location of each. From memory alone; the catalog is
//! locked for one page at a time.

use std::ops::Bound;

use shared::clock::Timestamp;
use shared::ids::BlobId;

use super::catalog::InventoryEntry;
use super::segment::SegmentNumber;
use super::{Store, lock};

/// Blobs listed per lock of the catalog.
const PAGE: usize = 4096;

/// The location of a blob's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLocation {
    pub segment: SegmentNumber,
    /// Offset in the segment, in bytes.
    pub offset: u64,
    /// Length of the body in bytes.
    pub length: u64,
    /// When it was last known to be good: when it became durable, or when the last full scrub of its segment began.
    pub verified: Timestamp,
}

impl Store {
    /// Whether the blob is here.
    pub fn has(&self, blob: BlobId) -> bool {
        lock(&self.0.catalog).get(blob).is_some()
    }

    /// Returns the blobs after `after`, in order, at most `limit` of them.
    pub fn inventory(&self, after: Option<BlobId>, limit: usize) -> Vec<InventoryEntry> {
        self.inventory_before(after, None, limit)
    }

    /// Like `inventory`, for the blobs before `until`.
    pub fn inventory_before(
        &self,
        after: Option<BlobId>,
        until: Option<BlobId>,
        limit: usize,
    ) -> Vec<InventoryEntry> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        lock(&self.0.catalog).inventory(from, before(until), limit)
    }

    /// Iterates over the blobs in `from..until`, in order: those that are here when their page is read.
    pub fn blobs(&self, from: Option<BlobId>, until: Option<BlobId>) -> impl Iterator<Item = BlobId> {
        let mut next = Some(from.map_or(Bound::Unbounded, Bound::Included));
        let pages = std::iter::from_fn(move || {
            let page = lock(&self.0.catalog).inventory(next?, before(until), PAGE);
            next = page.last().filter(|_| page.len() == PAGE).map(|e| Bound::Excluded(e.blob));
            Some(page)
        });
        pages.flatten().map(|entry| entry.blob)
    }

    /// Returns the location of each blob, `None` for one that is not here. Blocks while the scrub selects a record.
    pub fn locations(&self, blobs: &[BlobId]) -> Vec<Option<RecordLocation>> {
        let scrub = lock(&self.0.scrub);
        let catalog = lock(&self.0.catalog);
        let place = |blob: &BlobId| {
            let extent = catalog.get(*blob)?;
            let segment = catalog.segment(extent.segment)?;
            let finished = Timestamp::from_unix_ms(u64::from(extent.finished_secs) * 1000);
            Some(RecordLocation {
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
