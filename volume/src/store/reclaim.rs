//! Deletes and garbage collection (GC) by `delete` and `punch`: the only place where stored bytes are freed.
//!
//! The order is fixed: the delete's index entry becomes durable, the record leaves memory, its last reader ends, its
//! space is punched out. Punching earlier would lose data: after a power cut the blob could be back without its bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::ids::BlobId;
use shared::limits::PAGE_BYTES;
use shared::work::blocking;

use super::buffer::Aligned;
use super::catalog::{Dead, Slot};
use super::disk::Punched;
use super::error::{DeleteError, FailedStep, is_full, is_out_of_descriptors};
use super::index::{Entry, IndexFile};
use super::segment::{Extent, PunchError, Segment, SegmentNumber};
use super::{Inner, Store, lock};

/// The outcome of a delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Blobs that were here.
    pub found: usize,
    /// Blobs that were not here.
    pub missing: usize,
    /// Bytes that the records took: they are freed as soon as no reader is left.
    pub bytes: u64,
}

impl Store {
    /// Deletes blobs; those that are not here are only counted. When it returns, the deletes are durable, and the
    /// space is freed in the background (`punched` waits for it).
    ///
    /// If the future is dropped, the delete still runs to its end. After an error some of the blobs may be deleted.
    pub async fn delete(&self, blobs: Vec<BlobId>) -> Result<Deleted, DeleteError> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.delete(blobs)).await
    }
}

impl Inner {
    fn delete(self: &Arc<Self>, blobs: Vec<BlobId>) -> Result<Deleted, DeleteError> {
        let blobs: BTreeSet<_> = blobs.into_iter().collect();
        let (mut gone, mut bytes) = (BTreeSet::new(), 0);
        let (mut dead, mut failure) = (Vec::new(), None);
        // Repeat, since a concurrent rewrite may have moved a record to another segment.
        while failure.is_none() {
            let by_segment = self.segments_of(&blobs);
            if by_segment.is_empty() {
                break;
            }
            for (number, blobs) in by_segment {
                let Some(segment) = lock(&self.catalog).segment(number) else { continue };
                match self.delete_in(&segment, &blobs, &mut dead) {
                    Ok(deleted) => {
                        bytes += deleted.iter().map(|(_, extent)| extent.bytes()).sum::<u64>();
                        gone.extend(deleted.into_iter().map(|(blob, _)| blob));
                    }
                    Err(e) => failure = Some(e),
                }
            }
        }
        self.punch_later(dead);
        let deleted = Deleted { found: gone.len(), missing: blobs.len() - gone.len(), bytes };
        failure.map_or(Ok(deleted), Err)
    }

    fn segments_of(&self, blobs: &BTreeSet<BlobId>) -> BTreeMap<SegmentNumber, Vec<BlobId>> {
        let mut by_segment: BTreeMap<SegmentNumber, Vec<BlobId>> = BTreeMap::new();
        let catalog = lock(&self.catalog);
        for blob in blobs {
            // Duplicates first: if one cannot be deleted, the record that is read stays too.
            if let Some(extent) = catalog.records(*blob).last() {
                by_segment.entry(extent.segment).or_default().push(*blob);
            }
        }
        by_segment
    }

    /// Deletes blobs of one segment, with one sync.
    fn delete_in(
        &self,
        segment: &Segment,
        blobs: &[BlobId],
        dead: &mut Vec<Dead>,
    ) -> Result<Vec<(BlobId, Extent)>, DeleteError> {
        let mut index = lock(&segment.index);
        // Look again: another delete may have been faster; under the index's lock none can be.
        let here: Vec<(BlobId, Extent)> = {
            let catalog = lock(&self.catalog);
            let records = blobs.iter().flat_map(|blob| catalog.records(*blob).map(|e| (*blob, e)));
            records.filter(|(_, e)| e.segment == segment.number()).collect()
        };
        if here.is_empty() {
            return Ok(Vec::new());
        }
        let entries: Vec<_> =
            here.iter().map(|(blob, extent)| Entry::Delete { blob: *blob, extent: *extent }).collect();
        #[cfg(test)]
        if super::planted_bugs::is(super::planted_bugs::Bug::PunchFirst) {
            here.iter().for_each(|(b, e)| drop(segment.punch(*b, e, &mut Aligned::new(PAGE_BYTES))));
        }
        self.append_deletes(segment, &mut index, &entries)?;
        let mut catalog = lock(&self.catalog);
        dead.extend(here.iter().filter_map(|(blob, extent)| catalog.remove(*blob, *extent)));
        drop(catalog);
        self.release_index(segment, &mut index);
        Ok(here)
    }

    /// Makes deletes durable. After a failure, except a full disk, the outcome of these and of later deletes in this
    /// segment is unknown until the store is reopened.
    pub(super) fn append_deletes(
        &self,
        segment: &Segment,
        index: &mut IndexFile,
        entries: &[Entry],
    ) -> Result<(), DeleteError> {
        if index.is_poisoned() {
            return Err(DeleteError::Poisoned { segment: segment.number() });
        }
        let written = index.append(&*self.disk, entries).and_then(|()| index.sync(&*self.disk));
        written.map_err(|e| {
            if !(is_full(&e) || is_out_of_descriptors(&e)) || index.is_poisoned() {
                index.poison();
                self.go_read_only(segment.number(), FailedStep::Index, &e);
            }
            e.into()
        })
    }

    /// Closes the index of a sealed segment, to save descriptors.
    pub(super) fn release_index(&self, segment: &Segment, index: &mut IndexFile) {
        if lock(&self.catalog).slot(segment.number()).is_some_and(|s| s.sealed) {
            index.release();
        }
    }

    /// Frees space in the background.
    pub(super) fn punch_later(self: &Arc<Self>, dead: Vec<Dead>) {
        if !dead.is_empty() {
            let inner = Arc::clone(self);
            self.background(move || inner.punch(&dead));
        }
    }

    pub(super) fn punch(&self, dead: &[Dead]) {
        let mut page = Aligned::new(PAGE_BYTES);
        for Dead { blob, extent } in dead {
            self.drop_if_empty(extent.segment);
            let Some(segment) = lock(&self.catalog).segment(extent.segment) else { continue };
            // After a restart every deleted record gets here, and most of them are punched already.
            if matches!(segment.file.holds_data(extent.body(), extent.punchable()), Ok(false)) {
                lock(&self.catalog).punched(*extent);
                continue;
            }
            match segment.punch(*blob, extent, &mut page) {
                Ok(Punched::Done) => self.gave_back(extent),
                Ok(Punched::Unsupported) => {}
                Err(PunchError::Stranger) => {
                    tracing::warn!(segment = %segment.number(), %blob, "a deleted record has no valid header: its space is not freed");
                }
                Err(PunchError::Mark(e)) => {
                    self.gave_back(extent);
                    self.poison(&segment, FailedStep::Write, &e);
                }
                Err(PunchError::Punch(e)) => {
                    tracing::warn!(segment = %segment.number(), error = %e, "the space of a deleted record could not be freed");
                }
            }
        }
    }

    fn gave_back(&self, extent: &Extent) {
        lock(&self.catalog).punched(*extent);
        self.counters.punched.fetch_add(extent.punchable(), Ordering::Relaxed);
    }

    /// Removes a sealed segment without live records.
    pub(super) fn drop_if_empty(&self, number: SegmentNumber) {
        let empty = lock(&self.catalog).take_empty(number);
        if let Some(slot) = empty {
            self.remove_segment(&slot);
        }
    }

    /// Removes the files of a segment that was taken out of the catalog.
    ///
    /// The segment is removed first: the next opening removes an index without a segment, but would scan a segment
    /// without an index, which could bring deleted records back.
    pub(super) fn remove_segment(&self, slot: &Slot) {
        let number = slot.segment.number();
        let removed = self
            .disk
            .remove(&number.segment_name())
            .and_then(|()| self.disk.sync_dir())
            .and_then(|()| self.disk.remove(&number.index_name()));
        self.counters.punched.fetch_add(slot.dead_bytes, Ordering::Relaxed);
        if let Err(e) = removed {
            tracing::warn!(segment = %number, error = %e, "an empty segment could not be removed");
        }
    }
}
