//! What opening a store does: read the indexes, scan what they do not cover, repair what a crash left.
//!
//! It may cut only bytes after the last record that is known to have counted; a bad record with good
//! ones after it is rot: set aside, never cut. A segment that is not ours, or whose first page is bad, is reported
//! and left as it is. One bad segment never keeps the others from being served.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::clock::Timestamp;
use shared::ids::BlobId;
use shared::limits::PAGE_BYTES;

use super::catalog::{Catalog, Dead, Slot};
use super::disk::{Access, Disk, DiskFile};
use super::error::{FailedStep, OpenError, is_full};
use super::format::{FormatError, PAGE, SegmentHeader};
use super::index::{self, Contents, Entry, IndexFile, ReplaceError};
use super::scan::{Scanned, Scanner};
use super::segment::{Extent, Segment, SegmentNumber};
use super::{Inner, Options, lock};

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

/// What is known of one segment.
struct Loaded {
    segment: Segment,
    facts: Facts,
    sealed: bool,
    recovered: usize,
    rebuilt: bool,
    torn_bytes: u64,
    failure: Option<(FailedStep, io::Error)>,
}

enum Outcome {
    Loaded(Box<Loaded>),
    Refused(FormatError),
    Unborn,
}

/// An index and a scan, put together.
#[derive(Default)]
struct Facts {
    puts: BTreeMap<u64, (BlobId, Extent, Timestamp)>,
    deletes: BTreeMap<u64, (BlobId, Extent)>,
    aside: BTreeMap<u64, u64>,
}

/// Opens the store.
pub(super) fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Arc<Inner>, OpenReport), OpenError> {
    let directory = |step| move |source| OpenError::Directory { step, source };
    let names = disk.names().map_err(directory("listing it"))?;
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
            Err(source) if is_our_own(&source) => {
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

/// Descriptors are exhausted: our doing, not the segment's, and others would fail as well.
fn is_our_own(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
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
        } else if SegmentNumber::from_name(name, ".idx.tmp").is_some() || name == super::disk::PROBE {
            disk.remove(name)?;
        } else {
            report.foreign.push(name.clone());
        }
    }
    report.foreign.sort();
    for orphan in indexes.difference(&segments) {
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

/// Reads one segment. An error is one of reading; failing to repair is kept in `Loaded::failure`.
fn load(disk: &dyn Disk, options: &Options, number: SegmentNumber) -> io::Result<Outcome> {
    let file = disk.open(&number.segment_name(), Access::Direct)?;
    let length = file.length()?;
    let mut page = vec![0; PAGE_BYTES];
    let read = file.read_at(&mut page, 0)?;
    let header = match SegmentHeader::decode(&page, options.volume, number) {
        Ok(header) => header,
        // Nothing is written behind the first page before that is durable: so nothing ever counted here.
        Err(FormatError::Magic | FormatError::Checksum) if length <= PAGE && read <= PAGE_BYTES => {
            return Ok(Outcome::Unborn);
        }
        Err(why) => return Ok(Outcome::Refused(why)),
    };
    let contents = read_index(disk, &header)?;
    let rebuilt = contents.as_ref().is_none_or(|c| c.rotten);
    let contents = contents.unwrap_or_default();
    let mut facts = Facts::default();
    contents.entries.iter().for_each(|e| facts.learn(e));
    let mut scanner = Scanner::new(&header, &*file, length);
    let (from, dirty) = facts.doubt(&mut scanner, &*file, &contents, rebuilt, length)?;
    let scanned = match from {
        Some(from) => {
            file.drop_cache();
            scanner.scan(from)?
        }
        None => Scanned {
            end: contents.entries.iter().map(Entry::end).max().unwrap_or(PAGE),
            ..Scanned::default()
        },
    };
    let plan = Plan { rebuilt, dirty, scanned: from.is_some(), length };
    plan.carry_out(disk, header, file, &contents, facts, scanned).map(|l| Outcome::Loaded(Box::new(l)))
}

/// The index of a segment; `None` if it is missing, another's, or has a bad header.
fn read_index(disk: &dyn Disk, header: &SegmentHeader) -> io::Result<Option<Contents>> {
    match disk.open(&header.number.index_name(), Access::Cached) {
        Ok(file) => Ok(index::decode(&index::read_all(&*file)?, header).ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

impl Facts {
    fn learn(&mut self, entry: &Entry) {
        match entry {
            Entry::Put { blob, extent, finished } => {
                self.deletes.remove(&extent.offset());
                self.puts.insert(extent.offset(), (*blob, *extent, *finished));
            }
            Entry::Delete { blob, extent } => {
                self.puts.remove(&extent.offset());
                self.deletes.insert(extent.offset(), (*blob, *extent));
            }
            Entry::SetAside { offset, bytes } => {
                self.aside.insert(*offset, *bytes);
            }
            Entry::Seal { .. } => {}
        }
    }

    /// How far the index can be believed: from where the segment has to be scanned, if at all, and
    /// whether entries were dropped.
    fn doubt(
        &mut self,
        scanner: &mut Scanner<'_>,
        file: &dyn DiskFile,
        contents: &Contents,
        rebuilt: bool,
        length: u64,
    ) -> io::Result<(Option<u64>, bool)> {
        if rebuilt {
            // Deletes that are known stay known; puts are found again.
            self.puts.clear();
            self.aside.clear();
            return Ok((Some(PAGE), true));
        }
        let mut dirty = false;
        // More was punched than the index knows of: it is older than the segment.
        let expected: u64 = self.puts.values().map(|(_, e, _)| e.bytes()).sum();
        if contents.torn_bytes > 0 || file.allocated()? < expected {
            dirty |= self.bury(scanner)?;
        }
        if contents.sealed {
            return Ok((None, dirty));
        }
        // An entry is written after its record was synced. So a record that does not check is rot, for
        // its readers to find, and only one that the file is too short for does not count.
        let ends = contents.entries.iter().map(Entry::end).filter(|end| *end <= length);
        let mut from = ends.max().unwrap_or(PAGE);
        let cut: Vec<u64> =
            self.puts.iter().filter(|(_, (_, e, _))| e.end() > length).map(|(at, _)| *at).collect();
        for at in cut {
            self.puts.remove(&at);
            (from, dirty) = (from.min(at), true);
        }
        Ok((Some(from), dirty))
    }

    /// Finds puts whose record says it was deleted.
    fn bury(&mut self, scanner: &Scanner<'_>) -> io::Result<bool> {
        let mut gone = Vec::new();
        for (blob, extent, _) in self.puts.values() {
            if scanner.is_deleted(*blob, extent)? {
                gone.push(Entry::Delete { blob: *blob, extent: *extent });
            }
        }
        gone.iter().for_each(|e| self.learn(e));
        Ok(!gone.is_empty())
    }

    /// Forgets what lies behind the end of the segment: new records will stand there, and a delete
    /// that is still believed would punch them.
    fn forget_behind(&mut self, end: u64) -> bool {
        let before = self.deletes.len() + self.aside.len();
        self.deletes.retain(|_, (_, extent)| extent.end() <= end);
        self.aside.retain(|offset, bytes| *offset + *bytes <= end);
        before > self.deletes.len() + self.aside.len()
    }

    /// Takes in what a scan found; returns it as entries.
    fn absorb(&mut self, scanned: &Scanned) -> Vec<Entry> {
        let known = |at: u64, s: &Self| s.deletes.contains_key(&at);
        let found = scanned.found.iter().filter(|f| !known(f.extent.offset(), self));
        let puts = found.map(|f| Entry::Put { blob: f.blob, extent: f.extent, finished: f.finished });
        let deleted = scanned.deleted.iter().filter(|(_, e)| !known(e.offset(), self));
        let deletes = deleted.map(|(blob, extent)| Entry::Delete { blob: *blob, extent: *extent });
        let aside =
            scanned.aside.iter().map(|(offset, bytes)| Entry::SetAside { offset: *offset, bytes: *bytes });
        let mut entries: Vec<_> = puts.chain(deletes).chain(aside).collect();
        entries.sort_by_key(Entry::end);
        entries.iter().for_each(|e| self.learn(e));
        entries
    }

    fn entries(&self) -> Vec<Entry> {
        let puts = self.puts.values().map(|(blob, extent, finished)| Entry::Put {
            blob: *blob,
            extent: *extent,
            finished: *finished,
        });
        let aside =
            self.aside.iter().map(|(offset, bytes)| Entry::SetAside { offset: *offset, bytes: *bytes });
        let deletes =
            self.deletes.values().map(|(blob, extent)| Entry::Delete { blob: *blob, extent: *extent });
        puts.chain(aside).chain(deletes).collect()
    }
}

/// What is to be done to a segment after it was read.
struct Plan {
    rebuilt: bool,
    dirty: bool,
    scanned: bool,
    length: u64,
}

impl Plan {
    fn carry_out(
        &self,
        disk: &dyn Disk,
        header: SegmentHeader,
        file: Arc<dyn DiskFile>,
        contents: &Contents,
        mut facts: Facts,
        mut scanned: Scanned,
    ) -> io::Result<Loaded> {
        if let Some(rot_end) = scanned.rot_end.filter(|_| self.rebuilt) {
            // Without its index nobody can tell a torn record from one that counted and rotted: keep it.
            scanned.aside.push((scanned.end, rot_end - scanned.end));
            scanned.end = rot_end;
        }
        let mut failure = None;
        let mut torn_bytes = 0;
        if self.scanned && scanned.end < self.length {
            torn_bytes = self.length - scanned.end;
            tracing::info!(segment = %header.number, at = scanned.end, bytes = torn_bytes, "cutting an unfinished record off");
            failure = file.truncate(scanned.end).err().map(|e| (FailedStep::Truncate, e));
        }
        let found_before = facts.puts.len();
        let new = facts.absorb(&scanned);
        let recovered = if self.rebuilt { 0 } else { facts.puts.len().saturating_sub(found_before) };
        let mut dirty = self.dirty | facts.forget_behind(scanned.end);
        if recovered > 0 {
            // An index that lags may have lost more than its last entries.
            dirty |= facts.bury(&Scanner::new(&header, &*file, self.length))?;
        }
        if !new.is_empty() && failure.is_none() {
            // They were read, perhaps from the page cache; now they count, so now they must be durable.
            failure = file.sync_data().err().map(|e| (FailedStep::Sync, e));
        }
        let written = if self.rebuilt || dirty {
            let entries = if contents.sealed {
                index::sealed(&header, facts.entries(), scanned.end)
            } else {
                facts.entries()
            };
            let room = facts.puts.len() as u64 + 2;
            IndexFile::replace(disk, &header, &entries, room).map_err(|e| match e {
                ReplaceError::Before(e) | ReplaceError::After(e) => e,
            })
        } else {
            let mut file = IndexFile::existing(&header, contents.good_bytes);
            extend(disk, &mut file, contents.torn_bytes, &new).map(|()| file)
        };
        let index = written.unwrap_or_else(|e| {
            failure = Some((FailedStep::Index, e));
            let mut index = IndexFile::existing(&header, contents.good_bytes);
            index.poison();
            index
        });
        let segment = Segment::new(header, file, index, scanned.end);
        if failure.is_some() {
            segment.poison();
        }
        let (rebuilt, sealed) = (self.rebuilt, contents.sealed);
        Ok(Loaded { segment, facts, sealed, recovered, rebuilt, torn_bytes, failure })
    }
}

fn extend(disk: &dyn Disk, index: &mut IndexFile, torn_bytes: u64, new: &[Entry]) -> io::Result<()> {
    if torn_bytes > 0 {
        index.cut_tail(disk)?;
    }
    if !new.is_empty() {
        index.append(disk, new)?;
        index.sync(disk)?;
    }
    Ok(())
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
    for (blob, extent) in facts.deletes.into_values() {
        catalog.add_dead(extent);
        dead.push(Dead { blob, extent });
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
        if keep == *second && !is_whole(inner, second) {
            tracing::error!(%blob, "a blob is here twice and damaged twice");
            continue;
        }
        let Some(segment) = lock(&inner.catalog).segment(free.segment) else { continue };
        let entry = Entry::Delete { blob: *blob, extent: free };
        let mut index = lock(&segment.index);
        if let Err(e) = index.append(&*inner.disk, &[entry]).and_then(|()| index.sync(&*inner.disk)) {
            tracing::warn!(%blob, error = %e, "the second copy of a blob could not be deleted");
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
