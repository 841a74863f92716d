//! Looking at the segments of a volume that does not run: what is in them, whether it is whole, and what the next
//! start would make of them. For people with a disk in their hands.
//!
//! It never changes anything. What it says of indexes and unfinished records is what opening the store would find,
//! since it is an opening, on a disk that throws away what is written to it.

mod read_only;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::limits::PAGE_BYTES;

use super::disk::{Access, Disk};
use super::error::Damage;
use super::format::SegmentHeader;
use super::recovery::load::{IndexState, Loaded, Outcome, load};
use super::recovery::{self, Refusal};
use super::scan::{Depth, Scanner};
use super::segment::{Extent, SegmentNumber};
use read_only::ReadOnly;

/// The segments of one volume.
#[derive(Debug)]
pub struct Inspector {
    disk: ReadOnly,
    volume: VolumeId,
    segments: Vec<(SegmentNumber, u64)>,
    orphans: Vec<SegmentNumber>,
    foreign: Vec<String>,
}

/// How closely a segment is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closeness {
    /// Its index; headers where that has gaps.
    Index,
    /// The header of every record as well.
    Records,
    Bytes,
}

/// Some records, and the bytes they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub records: u64,
    /// Their bytes in the segment.
    pub bytes: u64,
}

/// What is in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Nothing is appended to it any more.
    pub sealed: bool,
    /// Length of its file.
    pub bytes: u64,
    /// Records that are served.
    pub live: Count,
    /// Deleted records; their bytes are those that deleting gives back.
    pub dead: Count,
    /// Those of them whose space is still taken.
    pub kept: Count,
    /// Bytes of an upload that did not end, which the next start cuts off: no damage.
    pub torn_bytes: u64,
    /// What its index is worth.
    pub index: IndexState,
    pub bad: Vec<BadRecord>,
    /// All its records, by offset, if they were asked for.
    pub records: Vec<Record>,
}

/// A segment that cannot be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// A crash left it before anything was in it; the next start removes it.
    Unborn,
    /// It is not served, and why.
    Refused(Refusal),
}

/// One record of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it begins.
    pub offset: u64,
    pub blob: BlobId,
    /// Its key, if the header can be read.
    pub key: Option<Key>,
    /// Length of the value.
    pub length: u64,
    /// What has become of it.
    pub state: RecordState,
}

/// What has become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    Live,
    /// It was deleted, and its space given back.
    Dead,
    /// It was deleted, and its space is still taken.
    Kept,
}

/// A record that is not what was written, or a range in which none can be made out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// Where it begins.
    pub offset: u64,
    /// The bytes it takes.
    pub bytes: u64,
    /// The blob, if that is known.
    pub blob: Option<BlobId>,
    /// Its key, if the header can be read.
    pub key: Option<Key>,
    pub flaw: Flaw,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The bytes are not those that were written.
    #[error("{0} is not what was written")]
    Damaged(Damage),
    /// The disk does not give them.
    #[error("it cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    /// An earlier start could make out no whole record here.
    #[error("it was set aside: no whole record could be made out")]
    SetAside,
}

impl Inspector {
    /// Of a volume's directory. A volume that is not known is the one that most segments name.
    ///
    /// # Errors
    /// When there are no segments to look at, or none names a volume.
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

    /// The volume that its segments belong to.
    pub fn volume(&self) -> VolumeId {
        self.volume
    }

    /// The segments and the lengths of their files, in order.
    pub fn segments(&self) -> &[(SegmentNumber, u64)] {
        &self.segments
    }

    /// Indexes without a segment: a crash interrupted its removal, or its file was lost.
    pub fn orphans(&self) -> &[SegmentNumber] {
        &self.orphans
    }

    /// Names in the directory that are neither segments nor what belongs to them.
    pub fn foreign(&self) -> &[String] {
        &self.foreign
    }

    /// Looks at one segment; `progress` hears how many of its bytes have been looked at.
    pub fn segment(
        &self,
        number: SegmentNumber,
        closeness: Closeness,
        progress: impl FnMut(u64),
    ) -> Result<Inspection, Closed> {
        let depth = if closeness == Closeness::Bytes { Depth::Whole } else { Depth::Ends };
        let unreadable = |e: io::Error| Closed::Refused(Refusal::Unreadable(e.kind()));
        match load(&self.disk, self.volume, number, depth).map_err(unreadable)? {
            Outcome::Loaded(loaded) => Look::at(&loaded, depth).and_then(|l| l.all(closeness, progress)),
            Outcome::Refused(why) => return Err(Closed::Refused(Refusal::Header(why))),
            Outcome::Unborn => return Err(Closed::Unborn),
        }
        .map_err(unreadable)
    }
}

const NO_VOLUME: &str = "there is no segment that names a volume";

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

/// One segment being looked at.
struct Look<'a> {
    loaded: &'a Loaded,
    scanner: Scanner<'a>,
    seen: Inspection,
}

impl<'a> Look<'a> {
    fn at(loaded: &'a Loaded, depth: Depth) -> io::Result<Self> {
        let file = &*loaded.segment.file;
        let bytes = file.length()?;
        let seen = Inspection {
            sealed: loaded.sealed,
            bytes,
            live: Count::default(),
            dead: Count::default(),
            kept: Count::default(),
            torn_bytes: loaded.torn_bytes,
            index: loaded.index,
            bad: Vec::new(),
            records: Vec::new(),
        };
        // What is behind the end is cut off at the next start, and none of the segment.
        let length = bytes - loaded.torn_bytes;
        Ok(Self { loaded, scanner: Scanner::new(&loaded.segment.header, file, length).deep(depth), seen })
    }

    fn all(mut self, closeness: Closeness, mut progress: impl FnMut(u64)) -> io::Result<Inspection> {
        for dead in &self.loaded.deletes {
            self.dead(dead.blob, &dead.extent, closeness)?;
        }
        if closeness == Closeness::Bytes {
            self.scanner.file.drop_cache();
        }
        for (blob, extent) in &self.loaded.puts {
            self.seen.live.add(extent.bytes());
            // What the scan found was read to its end just now.
            let scanned = self.loaded.scanned.is_some_and(|from| extent.offset() >= from);
            match closeness {
                Closeness::Records => self.record(*blob, extent, RecordState::Live)?,
                Closeness::Bytes if !scanned => self.verify(*blob, extent),
                _ => {}
            }
            progress(extent.end());
        }
        for (blob, extent) in &self.loaded.cut {
            self.bad(*blob, extent, None, Flaw::Damaged(Damage::CutOff));
        }
        for (offset, bytes) in &self.loaded.aside {
            self.aside(*offset, *bytes)?;
        }
        self.seen.bad.sort_by_key(|b| b.offset);
        self.seen.records.sort_by_key(|r| r.offset);
        progress(self.seen.bytes);
        Ok(self.seen)
    }

    fn dead(&mut self, blob: BlobId, extent: &Extent, closeness: Closeness) -> io::Result<()> {
        let kept = self.scanner.file.holds_data(extent.body(), extent.punchable())?;
        self.seen.dead.add(extent.punchable());
        if kept {
            self.seen.kept.add(extent.punchable());
        }
        if closeness == Closeness::Records {
            let state = if kept { RecordState::Kept } else { RecordState::Dead };
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
            Ok((header, Some(damage))) => {
                self.bad(blob, extent, header.map(|h| h.key), Flaw::Damaged(damage));
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

    /// A range that a scan set aside: the records in it whose headers can be read, or the whole of it.
    fn aside(&mut self, from: u64, bytes: u64) -> io::Result<()> {
        let (mut at, end) = (from, from + bytes);
        while at < end {
            let damage = self.scanner.damage_at(at)?;
            let next = self.scanner.next_header(at + PAGE_BYTES as u64)?.min(end);
            let header = self.scanner.header(at)?.ok().map(|(header, _)| header);
            self.seen.bad.push(BadRecord {
                offset: at,
                bytes: next - at,
                blob: header.as_ref().map(|h| h.blob),
                key: header.map(|h| h.key),
                flaw: damage.map_or(Flaw::SetAside, Flaw::Damaged),
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
