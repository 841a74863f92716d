//! What opening a store does: read the indexes, scan what they do not cover, repair what a crash left.
//!
//! It may cut only bytes after the last record that is known to have counted; a bad record with good
//! ones after it is rot: set aside, never cut. A segment that is not ours, or whose first page is bad, is reported
//! and left as it is. One bad segment never keeps the others from being served.

mod load;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::ids::BlobId;
use shared::limits::TICKET_MEMORY;

use super::catalog::{Catalog, Dead, Slot};
use super::disk::Disk;
use super::error::is_out_of_descriptors;
use super::error::{OpenError, is_full};
use super::format::FormatError;
use super::index::Entry;
use super::scan::Scanner;
use super::segment::{Extent, SegmentNumber};
use super::{Inner, Options, lock};
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
    /// Which.
    pub segment: SegmentNumber,
    /// Why.
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

/// Opens the store.
pub(super) fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Arc<Inner>, OpenReport), OpenError> {
    let directory = |step| move |source| OpenError::Directory { step, source };
    let names = disk.names().map_err(directory("listing it"))?;
    // A process that was killed may have left names that only the cache has: records will count in them.
    disk.sync_dir().map_err(directory("syncing it"))?;
    let mut report = OpenReport::default();
    let (segments, next) = sweep(&*disk, &names, &mut report).map_err(directory("removing left-overs"))?;
    let mut inner = Inner::new(disk, options, Catalog::new(next));
    let (mut dead, mut duplicates) = (Vec::new(), Vec::new());
    for number in segments {
        match load(&*inner.disk, &inner.options, number) {
            Ok(Outcome::Loaded(loaded)) => {
                adopt(&mut inner, *loaded, &mut report, &mut dead, &mut duplicates);
            }
            Ok(Outcome::Refused(why)) => {
                report.refused.push(Refused { segment: number, why: Refusal::Header(why) });
            }
            Ok(Outcome::Unborn) => {
                remove(&*inner.disk, number).map_err(directory("removing an unborn segment"))?;
                report.unborn += 1;
            }
            Err(source) if is_out_of_descriptors(&source) => {
                return Err(OpenError::Segment { segment: number, step: "opening it", source });
            }
            Err(e) => {
                report.refused.push(Refused { segment: number, why: Refusal::Unreadable(e.kind()) });
            }
        }
    }
    let inner = Arc::new(inner);
    resolve(&inner, &duplicates, &mut dead, &mut report);
    inner.punch_later(dead);
    settle(&inner);
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
) -> io::Result<(BTreeSet<SegmentNumber>, u32)> {
    let mut segments = BTreeSet::new();
    let mut indexes = BTreeSet::new();
    for name in names {
        if let Some(number) = SegmentNumber::from_name(name, ".seg") {
            segments.insert(number);
        } else if let Some(number) = SegmentNumber::from_name(name, ".idx") {
            indexes.insert(number);
        } else if SegmentNumber::from_name(name, ".idx.tmp").is_some()
            || name == super::disk::PROBE
            || name == super::scrub::TEMPORARY
        {
            disk.remove(name)?;
        } else if name == super::scrub::FILE {
            continue;
        } else {
            report.foreign.push(name.clone());
        }
    }
    report.foreign.sort();
    for orphan in indexes.difference(&segments) {
        tracing::info!(segment = %orphan, "an index without its segment is removed");
        disk.remove(&orphan.index_name())?;
    }
    let last = segments.last().max(indexes.last());
    Ok((segments.clone(), last.map_or(0, |n| n.0.saturating_add(1))))
}

fn remove(disk: &dyn Disk, number: SegmentNumber) -> io::Result<()> {
    disk.remove(&number.segment_name())?;
    disk.sync_dir()?;
    disk.remove(&number.index_name())
}

/// Puts a segment into service.
fn adopt(
    inner: &mut Inner,
    loaded: Loaded,
    report: &mut OpenReport,
    dead: &mut Vec<Dead>,
    duplicates: &mut Vec<(BlobId, Extent)>,
) {
    let Loaded { segment, facts, sealed, recovered, rebuilt, torn_bytes, failure } = loaded;
    let number = segment.number();
    report.indexes_rebuilt += usize::from(rebuilt);
    report.records_recovered += recovered;
    report.torn_bytes += torn_bytes;
    report.quarantined += facts.aside.len();
    if rebuilt {
        tracing::warn!(segment = %number, records = facts.puts.len(), "an index was lost or bad: rebuilt");
    }
    if !facts.aside.is_empty() {
        tracing::warn!(segment = %number, ranges = facts.aside.len(), "damaged ranges are set aside for repair");
    }
    if let Some((step, e)) = &failure {
        if is_full(e) {
            tracing::warn!(segment = %number, error = %e, "no space to repair a segment: it is read as it is");
        } else {
            inner.go_read_only(number, *step, e);
        }
    }
    let idle = !sealed && !segment.is_poisoned();
    let mut slot = Slot::new(Arc::new(segment), sealed);
    slot.set_aside = facts.aside.len() as u64;
    let catalog = inner.catalog.get_mut().expect("nobody else has it yet");
    catalog.add(slot);
    for (blob, extent, _) in facts.puts.into_values() {
        if catalog.get(blob).is_some() {
            duplicates.push((blob, extent));
        } else {
            catalog.insert(blob, extent);
        }
    }
    let now = inner.options.clock.now();
    // On a disk that fails nobody knows whether a delete is durable: nothing is punched.
    let failed = failure.is_some_and(|(_, e)| !is_full(&e));
    for (blob, extent) in facts.deletes.into_values() {
        if now.since(blob.created()) < TICKET_MEMORY {
            report.lately_deleted.push(blob);
        }
        catalog.add_dead(extent);
        if !failed {
            dead.push(Dead { blob, extent });
        }
    }
    if idle {
        catalog.add_idle(number);
    }
}

/// A blob that stands here twice: the one copy goes when the other was verified whole, and not
/// before. If neither is whole both stay, and readers get what the first one gives.
fn resolve(inner: &Inner, duplicates: &[(BlobId, Extent)], dead: &mut Vec<Dead>, report: &mut OpenReport) {
    for (blob, second) in duplicates {
        report.duplicates += 1;
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
    let length = segment.file.length().unwrap_or(0);
    Scanner::new(&segment.header, &*segment.file, length).is_whole(extent).unwrap_or(false)
}

/// Seals what should have been sealed, and removes sealed segments in which nothing is alive.
fn settle(inner: &Arc<Inner>) {
    let full = |s: &Slot| !s.sealed && s.segment.end() >= inner.options.segment_bytes;
    let (full, sealed): (Vec<_>, Vec<_>) = {
        let catalog = lock(&inner.catalog);
        let numbers = |test: &dyn Fn(&Slot) -> bool| {
            catalog.slots().filter(|s| test(s)).map(|s| s.segment.number()).collect::<Vec<_>>()
        };
        (numbers(&full), numbers(&|s| s.sealed))
    };
    for number in full {
        let Some(segment) = lock(&inner.catalog).lease_idle(number) else { continue };
        let store = Arc::clone(inner);
        inner.background(move || {
            let _ = store.seal(&segment);
        });
    }
    sealed.into_iter().for_each(|number| inner.drop_if_empty(number));
}
