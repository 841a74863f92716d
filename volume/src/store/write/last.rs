//! The end of an upload: the last bytes, the trailer, the sync, and only then the record counts.
//!
//! Nothing here may succeed after a write or sync of the same segment failed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use shared::clock::Timestamp;
use shared::ids::BlobId;

use super::sums::Sums;
use super::{Filling, Stored};
use crate::store::error::{FailedStep, WriteError, is_full};
use crate::store::format::{PAGE, Trailer};
use crate::store::index::Entry;
use crate::store::lane::Lease;
use crate::store::segment::{Extent, Segment};
use crate::store::{Inner, lock};

/// The end of a record: what is left of the body, the trailer, the sync.
pub(super) struct Last {
    pub(super) filling: Filling,
    pub(super) sums: Sums,
    pub(super) position: u64,
    pub(super) blob: BlobId,
    pub(super) length: u64,
    pub(super) header_pages: usize,
}

impl Last {
    /// Blocks; the caller ends the lease as the result says.
    pub(super) fn write(mut self, lease: &mut Lease) -> Result<Stored, WriteError> {
        let store = Arc::clone(&lease.store);
        let segment = Arc::clone(&lease.segment);
        self.sums.update(&self.filling.buffer.as_slice()[self.filling.fresh..self.filling.used]);
        self.filling.pad();
        let (digest, blocks) = self.sums.finish();
        let finished = store.options.clock.now();
        let trailer = Trailer { blob: self.blob, length: self.length, digest, finished };
        let at = self.position + self.filling.used as u64;
        let pages = trailer.encode(&segment.header, lease.start, at, &blocks);
        let mut rest = pages.as_slice();
        loop {
            rest = &rest[self.filling.push(rest)..];
            let used = self.filling.used;
            lease.spend(used as u64)?;
            write_at(&store, &segment, &self.filling.buffer.as_slice()[..used], self.position)?;
            self.position += used as u64;
            self.filling.used = 0;
            if rest.is_empty() {
                break;
            }
        }
        sync(&store, &segment)?;
        let extent = extent(lease, self.length, self.header_pages, finished);
        debug_assert_eq!(extent.end(), self.position, "the record ends where its extent says");
        commit(&store, &segment, self.blob, extent, finished);
        Ok(Stored { blob: self.blob, length: self.length, digest })
    }
}

fn extent(lease: &Lease, length: u64, header_pages: usize, finished: Timestamp) -> Extent {
    Extent {
        segment: lease.segment.number(),
        page: u32::try_from(lease.start / PAGE).expect("the lease is of a segment with room for the record"),
        length,
        finished_secs: u32::try_from(finished.unix_ms() / 1000).unwrap_or(u32::MAX),
        header_pages: u8::try_from(header_pages).expect("HEADER_PAGES_MAX is small"),
    }
}

/// The record is durable: from here on it counts, whatever becomes of its index entry. The entry comes
/// before the record is visible, so that no delete's entry can stand in front of it.
fn commit(store: &Arc<Inner>, segment: &Arc<Segment>, blob: BlobId, extent: Extent, finished: Timestamp) {
    segment.end.store(extent.end(), Ordering::Release);
    let appended = lock(&segment.index).append(&*store.disk, &[Entry::Put { blob, extent, finished }]);
    if let Err(e) = appended {
        // A later entry would hide this record from the scan that finds it when the store is opened.
        tracing::error!(segment = %segment.number(), error = %e, "an index entry could not be written");
        store.poison(segment, FailedStep::Index, &e);
    }
    lock(&store.catalog).insert(blob, extent);
}

/// Writes to a segment; any failure but a full disk poisons it.
pub(super) fn write_at(
    store: &Inner,
    segment: &Segment,
    bytes: &[u8],
    offset: u64,
) -> Result<(), WriteError> {
    if segment.is_poisoned() {
        return Err(WriteError::Aborted);
    }
    segment.file.write_at(bytes, offset).map_err(|e| {
        if is_full(&e) {
            let available = store.available().unwrap_or(0);
            return WriteError::NoSpace { needed: bytes.len() as u64, available };
        }
        store.poison(segment, FailedStep::Write, &e);
        WriteError::Io(e)
    })
}

fn sync(store: &Inner, segment: &Segment) -> Result<(), WriteError> {
    #[cfg(test)]
    if crate::store::planted::is(crate::store::planted::Bug::SkipSync) {
        return Ok(());
    }
    let began = Instant::now();
    let synced = segment.file.sync_data();
    store.counters.synced(began.elapsed());
    synced.map_err(|e| {
        if is_full(&e) {
            tracing::error!(segment = %segment.number(), "the disk filled up during a sync");
        }
        store.poison(segment, FailedStep::Sync, &e);
        WriteError::Io(e)
    })
}
