//! Offline inspection (fsck) of the segments of a volume that does not run: what is in them, whether it is good, and
//! what the next start would do, for `barge volume check` and `inspect`.
//!
//! It never changes anything. Its results for indexes and unfinished records are those of an opening of the store,
//! since it is one, on a disk that discards writes.

mod read_only;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::limits::PAGE_BYTES;

use super::disk::{Access, Disk};
use super::error::Corruption;
use super::format::SegmentHeader;
use super::recovery::load::{IndexState, Loaded, Outcome, load};
use super::recovery::{self, Refusal};
use super::scan::{Depth, Scanner};
use super::segment::{Extent, SegmentNumber};
use read_only::ReadOnly;

#[derive(Debug)]
pub struct Inspector {
    disk: ReadOnly,
    volume: VolumeId,
    segments: Vec<(SegmentNumber, u64)>,
    orphans: Vec<SegmentNumber>,
    foreign: Vec<String>,
}

/// How closely a segment is inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InspectDepth {
    /// Its index, and headers where the index has gaps.
    Index,
    /// Also the header of every record.
    Records,
    Bytes,
}

/// A number of records, and the bytes they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub records: u64,
    pub bytes: u64,
}

/// The contents of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    pub sealed: bool,
    /// Length of its file.
    pub bytes: u64,
    /// Records that are served.
    pub live: Count,
    /// Deleted records, and the bytes that their deletes free.
    pub dead: Count,
    /// Those of them whose space was not freed yet.
    pub unpunched: Count,
    /// Bytes of an unfinished upload, which the next start cuts off: no corruption.
    pub torn_bytes: u64,
    pub index: IndexState,
    pub bad: Vec<BadRecord>,
    /// All its records, by offset, if they were requested.
    pub records: Vec<Record>,
}

/// A segment that cannot be inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotInspected {
    /// A crash left it empty; the next start removes it.
    Uninitialized,
    /// Not served, and why.
    Refused(Refusal),
}

/// One record of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: u64,
    pub blob: BlobId,
    /// Its key, if the header can be read.
    pub key: Option<Key>,
    /// Length of the value.
    pub length: u64,
    pub state: RecordState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    Live,
    /// Deleted, and its space freed.
    Dead,
    /// Deleted, and its space not freed yet.
    Unpunched,
}

/// A corrupt record, or a range without a valid record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    pub offset: u64,
    /// The bytes it takes.
    pub bytes: u64,
    /// The blob, if known.
    pub blob: Option<BlobId>,
    /// Its key, if the header can be read.
    pub key: Option<Key>,
    pub flaw: Flaw,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A checksum does not match.
    #[error("corrupt ({0})")]
    Corrupt(Corruption),
    #[error("it cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    /// An earlier start found no valid record here.
    #[error("it is in quarantine: an earlier start found no valid record here")]
    Quarantined,
}

impl Inspector {
    /// Opens a volume's directory. If `volume` is `None`, it is the one that most segments name.
    ///
    /// # Errors
    /// When the directory cannot be read, or no segment names a volume.
    pub fn open(directory: &Path, volume: Option<VolumeId>) -> io::Result<Self> {
        let disk = ReadOnly::open(directory)?;
        let (mut segments, mut indexes, mut foreign) = (Vec::new(), BTreeSet::new(), Vec::new());
        for name in disk.names()? {
            if let Some(number) = SegmentNumber::from_name(&name, ".seg") {
                let length = disk.open(&name, Access::Cached).and_then(|file| file.length());
                segments.push((number, length.unwrap_or(0)));
            } else if let Some(number) = SegmentNumber::from_name(&name, ".idx") {
                indexes.insert(number);
            } else if !recovery::is_ours(&name) {
                foreign.push(name);
            }
        }
        let volume = volume.or_else(|| most_named(&disk, &segments));
        let volume = volume.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, NO_VOLUME))?;
        segments.iter().for_each(|(number, _)| {
            indexes.remove(number);
        });
        Ok(Self { disk, volume, segments, orphans: indexes.into_iter().collect(), foreign })
    }

    /// The volume that the segments belong to.
    pub fn volume(&self) -> VolumeId {
        self.volume
    }

    /// The segments and the lengths of their files, in order.
    pub fn segments(&self) -> &[(SegmentNumber, u64)] {
        &self.segments
    }

    /// Indexes without a segment: a crash interrupted the removal of the segment, or its file was lost.
    pub fn orphans(&self) -> &[SegmentNumber] {
        &self.orphans
    }

    /// Unknown names in the directory.
    pub fn foreign(&self) -> &[String] {
        &self.foreign
    }

    /// Inspects one segment; `progress` is called with the number of bytes inspected so far.
    pub fn segment(
        &self,
        number: SegmentNumber,
        closeness: InspectDepth,
        progress: impl FnMut(u64),
    ) -> Result<Inspection, NotInspected> {
        let depth = if closeness == InspectDepth::Bytes { Depth::Whole } else { Depth::Ends };
        let unreadable = |e: io::Error| NotInspected::Refused(Refusal::Unreadable(e.kind()));
        match load(&self.disk, self.volume, number, depth).map_err(unreadable)? {
            Outcome::Loaded(loaded) => {
                InspectionRun::at(&loaded, depth).and_then(|l| l.all(closeness, progress))
            }
            Outcome::Refused(why) => return Err(NotInspected::Refused(Refusal::Header(why))),
            Outcome::Uninitialized => return Err(NotInspected::Uninitialized),
        }
        .map_err(unreadable)
    }
}

const NO_VOLUME: &str = "no segment names a volume";

fn most_named(disk: &ReadOnly, segments: &[(SegmentNumber, u64)]) -> Option<VolumeId> {
    let mut named: BTreeMap<VolumeId, usize> = BTreeMap::new();
    for (number, _) in segments {
        let mut page = vec![0; PAGE_BYTES];
        let read = disk.open(&number.segment_name(), Access::Cached).and_then(|f| f.read_at(&mut page, 0));
        if let (Ok(_), Ok(header)) = (read, SegmentHeader::decode_any(&page, *number)) {
            *named.entry(header.volume).or_default() += 1;
        }
    }
    named.into_iter().max_by_key(|(_, count)| *count).map(|(volume, _)| volume)
}

/// The inspection of one segment.
struct InspectionRun<'a> {
    loaded: &'a Loaded,
    scanner: Scanner<'a>,
    seen: Inspection,
}

impl<'a> InspectionRun<'a> {
    fn at(loaded: &'a Loaded, depth: Depth) -> io::Result<Self> {
        let file = &*loaded.segment.file;
        let bytes = file.length()?;
        let seen = Inspection {
            sealed: loaded.sealed,
            bytes,
            live: Count::default(),
            dead: Count::default(),
            unpunched: Count::default(),
            torn_bytes: loaded.torn_bytes,
            index: loaded.index,
            bad: Vec::new(),
            records: Vec::new(),
        };
        // The torn bytes at the end are cut off at the next start, so they are not part of the segment.
        let length = bytes - loaded.torn_bytes;
        Ok(Self { loaded, scanner: Scanner::new(&loaded.segment.header, file, length).deep(depth), seen })
    }

    fn all(mut self, closeness: InspectDepth, mut progress: impl FnMut(u64)) -> io::Result<Inspection> {
        for dead in &self.loaded.deletes {
            self.dead(dead.blob, &dead.extent, closeness)?;
        }
        if closeness == InspectDepth::Bytes {
            self.scanner.file.drop_cache();
        }
        for (blob, extent) in &self.loaded.puts {
            self.seen.live.add(extent.bytes());
            // Records found by the scan were just read to their end.
            let scanned = self.loaded.scanned.is_some_and(|from| extent.offset() >= from);
            match closeness {
                InspectDepth::Records => self.record(*blob, extent, RecordState::Live)?,
                InspectDepth::Bytes if !scanned => self.verify(*blob, extent),
                _ => {}
            }
            progress(extent.end());
        }
        for (blob, extent) in &self.loaded.cut {
            self.bad(*blob, extent, None, Flaw::Corrupt(Corruption::CutOff));
        }
        for (offset, bytes) in &self.loaded.quarantined {
            self.quarantined(*offset, *bytes)?;
        }
        self.seen.bad.sort_by_key(|b| b.offset);
        self.seen.records.sort_by_key(|r| r.offset);
        progress(self.seen.bytes);
        Ok(self.seen)
    }

    fn dead(&mut self, blob: BlobId, extent: &Extent, closeness: InspectDepth) -> io::Result<()> {
        let kept = self.scanner.file.holds_data(extent.body(), extent.punchable())?;
        self.seen.dead.add(extent.punchable());
        if kept {
            self.seen.unpunched.add(extent.punchable());
        }
        if closeness == InspectDepth::Records {
            let state = if kept { RecordState::Unpunched } else { RecordState::Dead };
            self.record(blob, extent, state)?;
        }
        Ok(())
    }

    fn record(&mut self, blob: BlobId, extent: &Extent, state: RecordState) -> io::Result<()> {
        let (offset, length) = (extent.offset(), extent.length);
        let key = self.key_at(offset, blob)?;
        self.seen.records.push(Record { offset, blob, key, length, state });
        Ok(())
    }

    fn key_at(&self, offset: u64, blob: BlobId) -> io::Result<Option<Key>> {
        let header = self.scanner.header(offset)?.ok();
        Ok(header.filter(|(h, _)| h.blob == blob).map(|(h, _)| h.key))
    }

    fn verify(&mut self, blob: BlobId, extent: &Extent) {
        match self.scanner.verify(blob, extent) {
            Ok((_, None)) => {}
            Ok((header, Some(corruption))) => {
                self.bad(blob, extent, header.map(|h| h.key), Flaw::Corrupt(corruption));
            }
            Err(e) => {
                let key = self.key_at(extent.offset(), blob).unwrap_or(None);
                self.bad(blob, extent, key, Flaw::Unreadable(e.kind()));
            }
        }
    }

    fn bad(&mut self, blob: BlobId, extent: &Extent, key: Option<Key>, flaw: Flaw) {
        let (offset, bytes) = (extent.offset(), extent.bytes());
        self.seen.bad.push(BadRecord { offset, bytes, blob: Some(blob), key, flaw });
    }

    /// Reports a quarantined range: the records in it whose headers can be read, or all of it.
    fn quarantined(&mut self, from: u64, bytes: u64) -> io::Result<()> {
        let (mut at, end) = (from, from + bytes);
        while at < end {
            let corruption = self.scanner.corruption_at(at)?;
            let next = self.scanner.next_header(at + PAGE_BYTES as u64)?.min(end);
            let header = self.scanner.header(at)?.ok().map(|(header, _)| header);
            self.seen.bad.push(BadRecord {
                offset: at,
                bytes: next - at,
                blob: header.as_ref().map(|h| h.blob),
                key: header.map(|h| h.key),
                flaw: corruption.map_or(Flaw::Quarantined, Flaw::Corrupt),
            });
            at = next;
        }
        Ok(())
    }
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.records += 1;
        self.bytes += bytes;
    }
}
