//! Loads one segment at opening: merges its index with a scan, and repairs what they show.
//!
//! It truncates only after the last record that is known to have counted, and trusts an index only as far as its
//! checksums and the segment confirm.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use shared::clock::Timestamp;
use shared::ids::{BlobId, VolumeId};
use shared::limits::PAGE_BYTES;

use crate::store::catalog::Dead;
use crate::store::disk::{Access, Disk, DiskFile};
use crate::store::error::FailedStep;
use crate::store::format::{FormatError, PAGE, SegmentHeader};
use crate::store::index::{self, Contents, Entry, IndexFile, ReplaceError};
use crate::store::scan::{Depth, Scanned, Scanner};
use crate::store::segment::{Extent, Segment, SegmentNumber};

/// A loaded segment.
pub(in crate::store) struct Loaded {
    pub(in crate::store) segment: Segment,
    /// By offset, like the deletes.
    pub(in crate::store) puts: Vec<(BlobId, Extent)>,
    pub(in crate::store) deletes: Vec<Dead>,
    /// Quarantined ranges: offset and bytes.
    pub(in crate::store) quarantined: Vec<(u64, u64)>,
    /// Indexed records that end after the end of the file.
    pub(in crate::store) cut: Vec<(BlobId, Extent)>,
    pub(in crate::store) sealed: bool,
    pub(in crate::store) recovered: usize,
    pub(in crate::store) index: IndexState,
    /// Where the scan began, if there was one.
    pub(in crate::store) scanned: Option<u64>,
    pub(in crate::store) torn_bytes: u64,
    pub(in crate::store) failure: Option<Failure>,
}

/// The step of a repair that failed, and why.
type Failure = (FailedStep, io::Error);

/// The condition of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexState {
    Good,
    /// To be rebuilt from the segment.
    Missing,
    /// It ends in an unfinished entry, or is older than its segment: to be updated.
    Stale,
    /// Corrupt, or another segment's: to be rebuilt from the segment.
    Rotten,
}

pub(in crate::store) enum Outcome {
    Loaded(Box<Loaded>),
    Refused(FormatError),
    Uninitialized,
}

/// The merged contents of an index and a scan.
#[derive(Default)]
struct SegmentContents {
    puts: BTreeMap<u64, (BlobId, Extent, Timestamp)>,
    deletes: BTreeMap<u64, (BlobId, Extent)>,
    aside: BTreeMap<u64, u64>,
    cut: Vec<(BlobId, Extent)>,
}

/// Loads one segment. Errors are those of reads; a failed repair is returned in `Loaded::failure`.
pub(in crate::store) fn load(
    disk: &dyn Disk,
    volume: VolumeId,
    number: SegmentNumber,
    depth: Depth,
) -> io::Result<Outcome> {
    let mut file = disk.open(&number.segment_name(), Access::Cached)?;
    let length = file.length()?;
    let header = match first_page(&*file, volume, number, length)? {
        Ok(header) => header,
        Err(outcome) => return Ok(outcome),
    };
    let (mut contents, index, mut unsynced) = read_index(disk, &header)?;
    if !contents.sealed {
        // In a sealed segment only marks in header pages are written, which need no second descriptor.
        file = disk.open(&number.segment_name(), Access::Direct)?;
    }
    let entries = std::mem::take(&mut contents.entries);
    let ends = || entries.iter().map(Entry::end);
    let end = ends().max().unwrap_or(PAGE);
    let covered = ends().filter(|end| *end <= length).max().unwrap_or(PAGE);
    let mut facts = SegmentContents::default();
    entries.iter().for_each(|e| facts.learn(e));
    drop(entries);
    let mut scanner = Scanner::new(&header, &*file, length).deep(depth);
    let (from, dirty) = facts.validate_index(&scanner, &contents, index.is_rebuilt(), covered)?;
    let scanned = match from {
        Some(from) => {
            if from == PAGE {
                unsynced = unsynced.or(file.sync_data().err().map(|e| (FailedStep::Sync, e)));
            }
            file.drop_cache();
            // Check again: the first page may have been in the cache alone, before its sync or after a failed one.
            if let Err(outcome) = first_page(&*file, volume, number, length)? {
                return Ok(outcome);
            }
            scanner.scan(from)?
        }
        None => Scanned { end, ..Scanned::default() },
    };
    let plan = Plan { index, dirty, scanned: from, length, unsynced };
    plan.carry_out(disk, header, file, &contents, facts, scanned).map(|l| Outcome::Loaded(Box::new(l)))
}

/// Returns the segment's header, or the outcome of a bad one.
fn first_page(
    file: &dyn DiskFile,
    volume: VolumeId,
    number: SegmentNumber,
    length: u64,
) -> io::Result<Result<SegmentHeader, Outcome>> {
    let mut page = vec![0; PAGE_BYTES];
    file.read_at(&mut page, 0)?;
    Ok(SegmentHeader::decode(&page, volume, number).map_err(|why| match why {
        // No record is written before the first page is durable: so none ever counted here.
        FormatError::Magic | FormatError::Checksum if length <= PAGE => Outcome::Uninitialized,
        why => Outcome::Refused(why),
    }))
}

/// Returns the index of a segment, its condition, and why it could not be synced.
///
/// A killed process may have left entries that only the cache has, including deletes: they are made durable before
/// they are used, since deleted records are punched.
fn read_index(
    disk: &dyn Disk,
    header: &SegmentHeader,
) -> io::Result<(Contents, IndexState, Option<Failure>)> {
    let file = match disk.open(&header.number.index_name(), Access::Cached) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Ok((Contents::default(), IndexState::Missing, None));
        }
        file => file?,
    };
    let unsynced = file.sync_data().err().map(|e| (FailedStep::Index, e));
    let contents = index::decode(&index::read_all(&*file)?, header);
    let state = match &contents {
        Ok(contents) if contents.rotten => IndexState::Rotten,
        Ok(contents) if contents.torn_bytes > 0 => IndexState::Stale,
        Ok(_) => IndexState::Good,
        Err(_) => IndexState::Rotten,
    };
    Ok((contents.unwrap_or_default(), state, unsynced))
}

impl IndexState {
    /// Whether only the deletes of the index are used.
    pub(in crate::store) fn is_rebuilt(self) -> bool {
        matches!(self, Self::Missing | Self::Rotten)
    }
}

impl SegmentContents {
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
            Entry::Quarantined { offset, bytes } => {
                self.aside.insert(*offset, *bytes);
            }
            Entry::Seal { .. } => {}
        }
    }

    /// Validates the index, whose entries cover the segment up to `covered`. Returns from where the segment must be
    /// scanned, if at all, and whether entries changed.
    fn validate_index(
        &mut self,
        scanner: &Scanner<'_>,
        contents: &Contents,
        rebuilt: bool,
        covered: u64,
    ) -> io::Result<(Option<u64>, bool)> {
        if rebuilt {
            // Keep the deletes; the scan finds the puts again.
            self.puts.clear();
            self.aside.clear();
            return Ok((Some(PAGE), true));
        }
        let mut dirty = false;
        // More was punched than the index has deletes for: it is older than the segment.
        let expected: u64 = self.puts.values().map(|(_, e, _)| e.bytes()).sum();
        if contents.torn_bytes > 0 || scanner.file.allocated()? < expected {
            dirty |= self.bury(scanner)?;
        }
        if contents.sealed {
            return Ok((None, dirty));
        }
        // An entry is written after its record was synced. So a record that fails its checksum is bit rot, which its
        // readers will find; only a record that ends after the end of the file does not count.
        let mut from = covered;
        let behind = |(_, e, _): &(_, Extent, _)| e.end() > scanner.length;
        let cut: Vec<u64> = self.puts.iter().filter(|(_, put)| behind(put)).map(|(at, _)| *at).collect();
        for at in cut {
            self.cut.extend(self.puts.remove(&at).map(|(blob, extent, _)| (blob, extent)));
            (from, dirty) = (from.min(at), true);
        }
        Ok((Some(from), dirty))
    }

    /// Turns puts into deletes if their record is marked as deleted.
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

    /// Removes entries after the end of the segment: new records will be written there, and an old delete
    /// would punch them.
    fn forget_behind(&mut self, end: u64) -> bool {
        let before = self.deletes.len() + self.aside.len();
        self.deletes.retain(|_, (_, extent)| extent.end() <= end);
        self.aside.retain(|offset, bytes| *offset + *bytes <= end);
        before > self.deletes.len() + self.aside.len()
    }

    /// Adds the results of a scan; returns the new ones as entries.
    fn absorb(&mut self, scanned: &Scanned) -> Vec<Entry> {
        let known = |at: u64, s: &Self| s.deletes.contains_key(&at);
        let found = scanned.found.iter().filter(|f| !known(f.extent.offset(), self));
        let puts = found.map(|f| Entry::Put { blob: f.blob, extent: f.extent, finished: f.finished });
        let deleted = scanned.deleted.iter().filter(|(_, e)| !known(e.offset(), self));
        let deletes = deleted.map(|(blob, extent)| Entry::Delete { blob: *blob, extent: *extent });
        let aside =
            scanned.aside.iter().map(|(offset, bytes)| Entry::Quarantined { offset: *offset, bytes: *bytes });
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
            self.aside.iter().map(|(offset, bytes)| Entry::Quarantined { offset: *offset, bytes: *bytes });
        let deletes =
            self.deletes.values().map(|(blob, extent)| Entry::Delete { blob: *blob, extent: *extent });
        puts.chain(aside).chain(deletes).collect()
    }
}

/// The repair of a segment after it was read.
struct Plan {
    index: IndexState,
    dirty: bool,
    scanned: Option<u64>,
    length: u64,
    /// Why the files could not be synced before they were read.
    unsynced: Option<Failure>,
}

impl Plan {
    fn carry_out(
        self,
        disk: &dyn Disk,
        header: SegmentHeader,
        file: Arc<dyn DiskFile>,
        contents: &Contents,
        mut facts: SegmentContents,
        mut scanned: Scanned,
    ) -> io::Result<Loaded> {
        let rebuilt = self.index.is_rebuilt();
        if let Some(rot_end) = scanned.rot_end.filter(|_| rebuilt) {
            // Without its index a torn record cannot be told from one that counted and is corrupt: keep it.
            scanned.aside.push((scanned.end, rot_end - scanned.end));
            scanned.end = rot_end;
        }
        let mut failure = self.unsynced;
        let mut torn_bytes = 0;
        if self.scanned.is_some() && scanned.end < self.length {
            torn_bytes = self.length - scanned.end;
            tracing::info!(segment = %header.number, at = scanned.end, bytes = torn_bytes, "truncating an unfinished record");
            failure = failure.or(file.truncate(scanned.end).err().map(|e| (FailedStep::Truncate, e)));
        }
        let found_before = facts.puts.len();
        let new = facts.absorb(&scanned);
        let recovered = if rebuilt { 0 } else { facts.puts.len().saturating_sub(found_before) };
        let mut dirty = self.dirty | facts.forget_behind(scanned.end);
        if recovered > 0 {
            // A stale index may have lost more than its last entries.
            dirty |= facts.bury(&Scanner::new(&header, &*file, self.length))?;
        }
        if !new.is_empty() && failure.is_none() {
            // They may have been read from the page cache; they count from now on, so they must be durable.
            failure = file.sync_data().err().map(|e| (FailedStep::Sync, e));
        }
        // An entry must not become durable before its record: after a failure none is written.
        let mut index = None;
        if failure.is_none() {
            let replacement = (rebuilt || dirty).then_some(&facts);
            let written = write_index(disk, &header, contents, replacement, scanned.end, &new);
            index = written.map_err(|e| failure = Some((FailedStep::Index, e))).ok();
        }
        let index = index.unwrap_or_else(|| {
            let mut index = IndexFile::existing(&header, contents.good_bytes);
            index.poison();
            index
        });
        let segment = Segment::new(header, file, index, scanned.end);
        if failure.is_some() {
            segment.poison();
        }
        let stale = self.index == IndexState::Good && (dirty || !new.is_empty());
        Ok(Loaded {
            segment,
            quarantined: facts.aside.into_iter().collect(),
            cut: facts.cut,
            puts: facts.puts.into_values().map(|(blob, extent, _)| (blob, extent)).collect(),
            deletes: facts.deletes.into_values().map(|(blob, extent)| Dead { blob, extent }).collect(),
            sealed: contents.sealed,
            recovered,
            index: if stale { IndexState::Stale } else { self.index },
            scanned: self.scanned,
            torn_bytes,
            failure,
        })
    }
}

/// Writes the index: replaces it by the known contents if `replacement` is given, otherwise appends the `new` entries.
fn write_index(
    disk: &dyn Disk,
    header: &SegmentHeader,
    contents: &Contents,
    replacement: Option<&SegmentContents>,
    end: u64,
    new: &[Entry],
) -> io::Result<IndexFile> {
    let Some(facts) = replacement else {
        let mut file = IndexFile::existing(header, contents.good_bytes);
        return extend(disk, &mut file, contents.torn_bytes, new).map(|()| file);
    };
    let entries = facts.entries();
    let entries = if contents.sealed { index::sealed(header, entries, end) } else { entries };
    let room = facts.puts.len() as u64 + 2;
    IndexFile::replace(disk, header, &entries, room).map_err(|e| match e {
        ReplaceError::Before(e) | ReplaceError::After(e) => e,
    })
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
