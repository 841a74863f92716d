//! What opening a store does: read the indexes, scan what they do not cover, repair what a crash left.
//! Several threads read, one puts into service, in the order of the segments.
//!
//! It may cut only bytes after the last record that is known to have counted; a bad record with good
//! ones after it is rot: set aside, never cut. A segment that is not ours, or whose first page is bad, is reported
//! and left as it is. One bad segment never keeps the others from being served.

mod in_order;
pub(super) mod load;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::clock::Timestamp;
use shared::ids::BlobId;
use shared::limits::TICKET_MEMORY;

use super::catalog::{Catalog, Dead, Slot};
use super::disk::Disk;
use super::error::{FailedStep, OpenError, is_full, is_out_of_descriptors};
use super::format::FormatError;
use super::index::Entry;
use super::scan::{Depth, Scanner};
use super::segment::{Extent, SegmentNumber};
use super::{Inner, Options, lock};
use in_order::in_order;
use load::{Loaded, Outcome, load};

/// What was found when a store was opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Segments in service.
    pub segments: usize,
    /// Blobs in them.
    pub blobs: usize,
    /// Bytes their records take.
    pub bytes: u64,
    /// Indexes that were lost, another's, or bad, and were made anew from their segments.
    pub indexes_rebuilt: usize,
    /// Records that no index entry named, found whole by scanning.
    pub records_recovered: usize,
    /// Bytes of unfinished records that were cut off.
    pub torn_bytes: u64,
    /// Bad ranges set aside for repair, those of earlier openings included.
    pub quarantined: usize,
    /// Blobs found twice; the second copy goes once the first is verified.
    pub duplicates: usize,
    #[cfg(test)]
    pub(super) twice: Vec<BlobId>,
    /// Segments left by a crash right after their creation, removed.
    pub unborn: usize,
    /// Segments that are not served, and why.
    pub refused: Vec<Refused>,
    /// Blobs that were deleted while a ticket to write them could still be shown.
    pub lately_deleted: Vec<BlobId>,
    /// Names in the directory that are not ours, left alone.
    pub foreign: Vec<String>,
}

/// A segment that is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub segment: SegmentNumber,
    pub why: Refusal,
}

/// Why a segment is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its first page is bad, or says that it belongs elsewhere.
    #[error("its first page: {0}")]
    Header(FormatError),
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(io::ErrorKind),
}

/// A store on its way into service.
struct Opening {
    catalog: Catalog,
    report: OpenReport,
    blobs: Vec<(BlobId, Extent)>,
    dead: Vec<Dead>,
    /// The first segment that could not be repaired.
    failure: Option<(SegmentNumber, FailedStep, io::Error)>,
    now: Timestamp,
}

/// Opens the store: whatever the threads, the outcome is that of one segment after the other.
pub(super) fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Arc<Inner>, OpenReport), OpenError> {
    let directory = |step| move |source| OpenError::Directory { step, source };
    let names = disk.names().map_err(directory("listing it"))?;
    // A process that was killed may have left names that only the cache has: records will count in them.
    disk.sync_dir().map_err(directory("syncing it"))?;
    let mut report = OpenReport::default();
    let (segments, next) = sweep(&*disk, &names, &mut report).map_err(directory("removing left-overs"))?;
    let mut opening = Opening {
        catalog: Catalog::new(next),
        report,
        blobs: Vec::new(),
        dead: Vec::new(),
        failure: None,
        now: options.clock.now(),
    };
    let read = |number: &SegmentNumber| load(&*disk, options.volume, *number, Depth::Whole);
    in_order(&segments, options.open_threads, read, |number, outcome| {
        opening.take(&*disk, *number, outcome)
    })?;
    let Opening { mut catalog, mut report, blobs, mut dead, failure, .. } = opening;
    let duplicates = catalog.fill(blobs);
    let inner = Arc::new(Inner::new(disk, options, catalog));
    if let Some((number, step, e)) = failure {
        inner.go_read_only(number, step, &e);
    }
    resolve(&inner, &duplicates, &mut dead, &mut report);
    settle(&inner, dead);
    let catalog = lock(&inner.catalog);
    report.segments = catalog.slots().count();
    report.blobs = catalog.blob_count();
    report.bytes = catalog.slots().map(|s| s.live_bytes).sum();
    drop(catalog);
    inner.counters.set_aside.store(report.quarantined as u64, Ordering::Relaxed);
    Ok((inner, report))
}

/// Removes what a crash left of our own temporary files, and indexes whose segment is gone. Returns the segments, and
/// the first number that was never used.
fn sweep(
    disk: &dyn Disk,
    names: &[String],
    report: &mut OpenReport,
) -> io::Result<(Vec<SegmentNumber>, u32)> {
    let mut segments = BTreeSet::new();
    let mut indexes = BTreeSet::new();
    for name in names {
        if let Some(number) = SegmentNumber::from_name(name, ".seg") {
            segments.insert(number);
        } else if let Some(number) = SegmentNumber::from_name(name, ".idx") {
            indexes.insert(number);
        } else if is_left_over(name) {
            disk.remove(name)?;
        } else if !is_ours(name) {
            report.foreign.push(name.clone());
        }
    }
    report.foreign.sort();
    for orphan in indexes.difference(&segments) {
        tracing::info!(segment = %orphan, "an index without its segment is removed");
        disk.remove(&orphan.index_name())?;
    }
    let last = segments.last().max(indexes.last());
    let next = last.map_or(0, |n| n.0.saturating_add(1));
    Ok((segments.into_iter().collect(), next))
}

/// A file that only a crash leaves.
fn is_left_over(name: &str) -> bool {
    SegmentNumber::from_name(name, ".idx.tmp").is_some()
        || name == super::disk::PROBE
        || name == super::disk::TRIAL
        || name == super::scrub::TEMPORARY
}

/// Whether a file that is neither a segment nor an index belongs to the store.
pub(super) fn is_ours(name: &str) -> bool {
    is_left_over(name) || name == super::scrub::FILE
}

fn remove(disk: &dyn Disk, number: SegmentNumber) -> io::Result<()> {
    disk.remove(&number.segment_name())?;
    disk.sync_dir()?;
    disk.remove(&number.index_name())
}

impl Opening {
    fn take(
        &mut self,
        disk: &dyn Disk,
        number: SegmentNumber,
        outcome: io::Result<Outcome>,
    ) -> Result<(), OpenError> {
        match outcome {
            Ok(Outcome::Loaded(loaded)) => self.adopt(*loaded),
            Ok(Outcome::Refused(why)) => {
                self.report.refused.push(Refused { segment: number, why: Refusal::Header(why) });
            }
            Ok(Outcome::Unborn) => {
                let step = "removing an unborn segment";
                remove(disk, number).map_err(|source| OpenError::Directory { step, source })?;
                self.report.unborn += 1;
            }
            Err(source) if is_out_of_descriptors(&source) => {
                return Err(OpenError::Segment { segment: number, step: "opening it", source });
            }
            Err(e) => {
                self.report.refused.push(Refused { segment: number, why: Refusal::Unreadable(e.kind()) });
            }
        }
        Ok(())
    }

    /// Puts a segment into service.
    fn adopt(&mut self, loaded: Loaded) {
        let Loaded {
            segment, mut puts, deletes, aside, sealed, recovered, index, torn_bytes, failure, ..
        } = loaded;
        let number = segment.number();
        self.report.indexes_rebuilt += usize::from(index.is_rebuilt());
        self.report.records_recovered += recovered;
        self.report.torn_bytes += torn_bytes;
        self.report.quarantined += aside.len();
        if index.is_rebuilt() {
            tracing::warn!(segment = %number, records = puts.len(), "an index was lost or bad: rebuilt");
        }
        if !aside.is_empty() {
            tracing::warn!(segment = %number, ranges = aside.len(), "damaged ranges are set aside for repair");
        }
        // On a disk that fails nobody knows whether a delete is durable: nothing is punched.
        let failed = failure.as_ref().is_some_and(|(_, e)| !is_full(e));
        if let Some((step, e)) = failure {
            if is_full(&e) {
                tracing::warn!(segment = %number, error = %e, "no space to repair a segment: it is read as it is");
            } else {
                self.failure.get_or_insert((number, step, e));
            }
        }
        if !sealed && !segment.is_poisoned() {
            self.catalog.add_idle(number);
        }
        let mut slot = Slot::new(Arc::new(segment), sealed);
        slot.set_aside = aside.len() as u64;
        slot.dead_bytes = deletes.iter().map(|d| d.extent.punchable()).sum();
        self.catalog.add(slot);
        self.blobs.append(&mut puts);
        let lately = |d: &&Dead| self.now.since(d.blob.created()) < TICKET_MEMORY;
        self.report.lately_deleted.extend(deletes.iter().filter(lately).map(|d| d.blob));
        if !failed {
            self.dead.extend(deletes);
        }
    }
}

/// A blob that stands here twice: the one copy goes when the other was verified whole, and not
/// before. If neither is whole both stay, and readers get what the first one gives.
fn resolve(inner: &Inner, duplicates: &[(BlobId, Extent)], dead: &mut Vec<Dead>, report: &mut OpenReport) {
    for (blob, second) in duplicates {
        report.duplicates += 1;
        #[cfg(test)]
        report.twice.push(*blob);
        let Some(first) = lock(&inner.catalog).get(*blob) else { continue };
        let (keep, free) = if is_whole(inner, &first) { (first, *second) } else { (*second, first) };
        let whole = keep == first || is_whole(inner, second);
        if !whole {
            tracing::error!(%blob, "a blob is here twice and damaged twice");
        }
        if !(whole && forget(inner, *blob, &free)) {
            lock(&inner.catalog).add_shadow(*blob, *second);
            continue;
        }
        let mut catalog = lock(&inner.catalog);
        if keep == *second {
            let _ = catalog.remove(*blob, first);
            catalog.insert(*blob, keep);
        } else {
            catalog.add_dead(free);
        }
        dead.push(Dead { blob: *blob, extent: free });
    }
}

/// Deletes one of two copies.
fn forget(inner: &Inner, blob: BlobId, extent: &Extent) -> bool {
    let Some(segment) = lock(&inner.catalog).segment(extent.segment) else { return false };
    let entry = Entry::Delete { blob, extent: *extent };
    let deleted = inner.append_deletes(&segment, &mut lock(&segment.index), &[entry]);
    if let Err(error) = &deleted {
        tracing::warn!(%blob, %error, "the second copy of a blob could not be deleted");
    }
    deleted.is_ok()
}

fn is_whole(inner: &Inner, extent: &Extent) -> bool {
    let Some(segment) = lock(&inner.catalog).segment(extent.segment) else { return false };
    // What could not be synced may be gone after a power cut.
    if segment.is_poisoned() {
        return false;
    }
    let length = segment.file.length().unwrap_or(0);
    Scanner::new(&segment.header, &*segment.file, length).is_whole(extent).unwrap_or(false)
}

/// Takes sealed segments in which nothing is alive out of service. Their removal, the punches that a crash may have
/// prevented and the seals that are due are done behind the back of the first requests.
fn settle(inner: &Arc<Inner>, dead: Vec<Dead>) {
    let (full, empty) = {
        let mut catalog = lock(&inner.catalog);
        let numbers = |test: &dyn Fn(&Slot) -> bool| {
            catalog.slots().filter(|s| test(s)).map(|s| s.segment.number()).collect::<Vec<_>>()
        };
        let full = numbers(&|s| !s.sealed && s.segment.end() >= inner.options.segment_bytes);
        let sealed = numbers(&|s| s.sealed && !s.segment.is_poisoned());
        let empty: Vec<_> = sealed.into_iter().filter_map(|n| catalog.take_empty(n)).collect();
        (full, empty)
    };
    if dead.is_empty() && full.is_empty() && empty.is_empty() {
        return;
    }
    let store = Arc::clone(inner);
    inner.background(move || {
        empty.iter().for_each(|slot| store.remove_segment(slot));
        store.punch(&dead);
        for number in full {
            let segment = lock(&store.catalog).lease_idle(number);
            if let Some(segment) = segment {
                let _ = store.seal(&segment);
            }
        }
    });
}
