//! Crash recovery, when a store is opened: reads the indexes, scans what they do not cover, repairs what a crash
//! left. Several threads read; one puts the segments into service, in their order.
//!
//! Only bytes after the last record that is known to have counted may be cut off; a bad record with good ones after
//! it is bit rot: quarantined, never cut off. A segment of another volume, or with a corrupt first page, is reported
//! and left unchanged. One bad segment never prevents the others from being served.

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

/// What the opening of a store found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Segments in service.
    pub segments: usize,
    /// Blobs in them.
    pub blobs: usize,
    /// Bytes their records take.
    pub bytes: u64,
    /// Indexes that were missing, foreign or corrupt, and were rebuilt from their segments.
    pub indexes_rebuilt: usize,
    /// Good records without an index entry, found by scanning.
    pub records_recovered: usize,
    /// Bytes of unfinished records that were cut off.
    pub torn_bytes: u64,
    /// Quarantined ranges, including those of earlier openings.
    pub quarantined: usize,
    /// Blobs with a duplicate record, which is deleted once the other one is verified.
    pub duplicates: usize,
    #[cfg(test)]
    pub(super) twice: Vec<BlobId>,
    /// Segments that a crash left right after their creation, removed.
    pub uninitialized: usize,
    /// Segments that are not served, and why.
    pub refused: Vec<Refused>,
    /// Deleted blobs whose write ticket may not have expired yet.
    pub lately_deleted: Vec<BlobId>,
    /// Unknown names in the directory, left alone.
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
    /// Its first page is corrupt, or belongs to another segment or volume.
    #[error("its first page: {0}")]
    Header(FormatError),
    #[error("it cannot be read: {0}")]
    Unreadable(io::ErrorKind),
}

/// A store that is being opened.
struct Opening {
    catalog: Catalog,
    report: OpenReport,
    blobs: Vec<(BlobId, Extent)>,
    dead: Vec<Dead>,
    /// The first segment that could not be repaired.
    failure: Option<(SegmentNumber, FailedStep, io::Error)>,
    now: Timestamp,
}

/// Opens the store. The number of threads does not change the outcome.
pub(super) fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Arc<Inner>, OpenReport), OpenError> {
    let directory = |step| move |source| OpenError::Directory { step, source };
    let names = disk.names().map_err(directory("listing it"))?;
    // A killed process may have left names that only the cache has; records will count on them.
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
    resolve_duplicates(&inner, &duplicates, &mut dead, &mut report);
    start_cleanup(&inner, dead);
    let catalog = lock(&inner.catalog);
    report.segments = catalog.slots().count();
    report.blobs = catalog.blob_count();
    report.bytes = catalog.slots().map(|s| s.live_bytes).sum();
    drop(catalog);
    inner.counters.set_aside.store(report.quarantined as u64, Ordering::Relaxed);
    Ok((inner, report))
}

/// Removes temporary files that a crash left, and indexes without a segment. Returns the segments, and the first
/// number that was never used.
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

/// Whether only a crash leaves a file of this name.
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
            Ok(Outcome::Uninitialized) => {
                let step = "removing a segment without a valid first page";
                remove(disk, number).map_err(|source| OpenError::Directory { step, source })?;
                self.report.uninitialized += 1;
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
            segment,
            mut puts,
            deletes,
            quarantined: aside,
            sealed,
            recovered,
            index,
            torn_bytes,
            failure,
            ..
        } = loaded;
        let number = segment.number();
        self.report.indexes_rebuilt += usize::from(index.is_rebuilt());
        self.report.records_recovered += recovered;
        self.report.torn_bytes += torn_bytes;
        self.report.quarantined += aside.len();
        if index.is_rebuilt() {
            tracing::warn!(segment = %number, records = puts.len(), "an index was missing or corrupt and has been rebuilt");
        }
        if !aside.is_empty() {
            tracing::warn!(segment = %number, ranges = aside.len(), "corrupt ranges are quarantined until they are repaired");
        }
        // On a failing disk it is unknown whether a delete is durable: nothing is punched.
        let failed = failure.as_ref().is_some_and(|(_, e)| !is_full(e));
        if let Some((step, e)) = failure {
            if is_full(&e) {
                tracing::warn!(segment = %number, error = %e, "no space to repair a segment: it is served read-only until the next start");
            } else {
                self.failure.get_or_insert((number, step, e));
            }
        }
        if !sealed && !segment.is_poisoned() {
            self.catalog.add_idle(number);
        }
        let mut slot = Slot::new(Arc::new(segment), sealed);
        slot.quarantined_ranges = aside.len() as u64;
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

/// Deletes one of two records of a blob after the other one was verified. If both are corrupt, both stay, and readers
/// use the first.
fn resolve_duplicates(
    inner: &Inner,
    duplicates: &[(BlobId, Extent)],
    dead: &mut Vec<Dead>,
    report: &mut OpenReport,
) {
    for (blob, second) in duplicates {
        report.duplicates += 1;
        #[cfg(test)]
        report.twice.push(*blob);
        let Some(first) = lock(&inner.catalog).get(*blob) else { continue };
        let (keep, free) = if is_whole(inner, &first) { (first, *second) } else { (*second, first) };
        let whole = keep == first || is_whole(inner, second);
        if !whole {
            tracing::error!(%blob, "both records of this blob on this volume are corrupt");
        }
        if !(whole && delete_duplicate(inner, *blob, &free)) {
            lock(&inner.catalog).add_duplicate(*blob, *second);
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

/// Deletes a duplicate record.
fn delete_duplicate(inner: &Inner, blob: BlobId, extent: &Extent) -> bool {
    let Some(segment) = lock(&inner.catalog).segment(extent.segment) else { return false };
    let entry = Entry::Delete { blob, extent: *extent };
    let deleted = inner.append_deletes(&segment, &mut lock(&segment.index), &[entry]);
    if let Err(error) = &deleted {
        tracing::warn!(%blob, %error, "the duplicate record of a blob could not be deleted");
    }
    deleted.is_ok()
}

fn is_whole(inner: &Inner, extent: &Extent) -> bool {
    let Some(segment) = lock(&inner.catalog).segment(extent.segment) else { return false };
    // Bytes that could not be synced may be gone after a power cut.
    if segment.is_poisoned() {
        return false;
    }
    let length = segment.file.length().unwrap_or(0);
    Scanner::new(&segment.header, &*segment.file, length).is_whole(extent).unwrap_or(false)
}

/// Takes sealed segments without live records out of service. Their removal, the punches that a crash may have
/// prevented and the due seals run in the background.
fn start_cleanup(inner: &Arc<Inner>, dead: Vec<Dead>) {
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
            let segment = lock(&store.catalog).take_idle_lane(number);
            if let Some(segment) = segment {
                let _ = store.seal(&segment);
            }
        }
    });
}
