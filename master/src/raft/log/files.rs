//! Changes the files step by step. Crash safety depends on the order of these steps.
//!
//! - A state file (`vote`, `purged`, `begin`) is replaced whole: temporary file, sync, rename, sync of the directory.
//! - A segment gets its name after its header is durable: no crash leaves a `.log` file without a header.
//! - A vote is written before the first segment or `purged`, so a vote that is missing beside them was lost. openraft
//!   writes the first entry of a new group before its first vote; then its implicit vote is written first.
//! - Segment names rise in the order of creation, so names alone give the order of reading.
//!
//! After the first error the caller must not call again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use openraft::{LogId, NodeId, Vote};
use serde::Serialize;
use uuid::Uuid;

use super::disk::{Disk, DiskFile};
use super::format::{Frame, Kind, SegmentHeader, StateFile};
use super::view::{EntryLocation, Segment};

const SEGMENT_TEMPORARY: &str = "segment.tmp";

/// The files of an open log.
#[derive(Debug)]
pub(super) struct Files<N: NodeId> {
    pub(super) disk: Arc<dyn Disk>,
    /// Oldest first; the last one receives appends.
    pub(super) segments: Vec<Arc<Segment>>,
    /// The end of the last segment.
    pub(super) end: u64,
    pub(super) next_batch: u64,
    /// The last entry, or the last purged one.
    pub(super) last: Option<LogId<N>>,
    pub(super) has_vote: bool,
    pub(super) segment_bytes_max: u64,
    pub(super) bytes: Arc<AtomicU64>,
}

impl<N: NodeId> Files<N> {
    /// Appends entries that continue the log, with one write and one sync.
    pub(super) fn append(&mut self, entries: &[(LogId<N>, Bytes)]) -> io::Result<Vec<EntryLocation>> {
        let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) else {
            return Ok(Vec::new());
        };
        self.ensure_vote()?;
        let segment = self.segment_for(first.index)?;
        let mut batch = Vec::with_capacity(entries.iter().map(|(_, body)| body.len() + 64).sum());
        let mut places = Vec::with_capacity(entries.len());
        for (log_id, body) in entries {
            let offset = self.end + batch.len() as u64;
            let length = u32::try_from(body.len()).map_err(io::Error::other)?;
            self.frame(Kind::Entry, log_id.index, batch.len())?.encode(
                &mut batch,
                &segment.salt,
                offset,
                length,
                body,
            );
            places.push(EntryLocation { segment: Arc::clone(&segment), offset, length });
        }
        self.write(&segment, &batch)?;
        self.last = Some(last.clone());
        Ok(places)
    }

    /// Voids this entry and all after it; `previous` is the one before.
    pub(super) fn truncate(&mut self, index: u64, previous: Option<LogId<N>>) -> io::Result<()> {
        if let Some(segment) = self.segments.last().cloned() {
            let mut batch = Vec::new();
            self.frame(Kind::Truncate, index, 0)?.encode(&mut batch, &segment.salt, self.end, 0, &[]);
            self.write(&segment, &batch)?;
        }
        self.last = previous;
        Ok(())
    }

    /// Voids all entries up to this one and removes segments that are no longer needed. `restart`: no entry is left,
    /// and the next one does not continue the segments.
    pub(super) fn purge(&mut self, upto: &LogId<N>, restart: bool) -> io::Result<()> {
        self.ensure_vote()?;
        replace(&*self.disk, StateFile::Purged, upto)?;
        if restart {
            self.last = Some(upto.clone());
            return self.remove_all();
        }
        self.remove_segments(purgeable(&self.segments, upto.index))
    }

    pub(super) fn save_vote(&mut self, vote: &Vote<N>) -> io::Result<()> {
        replace(&*self.disk, StateFile::Vote, vote)?;
        self.has_vote = true;
        Ok(())
    }

    /// Begins an empty log after `log_id`. The rename of `begin` is the commit point; after a crash, opening
    /// does the rest.
    pub(super) fn begin(&mut self, log_id: &LogId<N>, vote: &Vote<N>) -> io::Result<()> {
        self.remove_all()?;
        replace(&*self.disk, StateFile::Begin, &(log_id, vote))?;
        finish_beginning(&*self.disk, log_id, vote)?;
        self.has_vote = true;
        self.last = Some(log_id.clone());
        Ok(())
    }

    /// Removes every segment. The last one may void entries of earlier ones, so it is removed after them.
    pub(super) fn remove_all(&mut self) -> io::Result<()> {
        self.remove_segments(self.segments.len().saturating_sub(1))?;
        self.remove_segments(self.segments.len())
    }

    /// Removes the oldest segments, durably.
    pub(super) fn remove_segments(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        for segment in self.segments.drain(..count) {
            self.bytes.fetch_sub(segment.file.length()?, Ordering::Relaxed);
            self.disk.remove(&segment_name(segment.first))?;
        }
        self.disk.sync_dir()
    }

    fn ensure_vote(&mut self) -> io::Result<()> {
        if self.has_vote { Ok(()) } else { self.save_vote(&Vote::default()) }
    }

    /// Returns the segment for a batch that begins with this entry. After a truncation the entry may be older
    /// than the first of the current segment, which is then used at any length, because the name of a new one
    /// would not rise.
    fn segment_for(&mut self, index: u64) -> io::Result<Arc<Segment>> {
        match self.segments.last() {
            Some(last) if self.end < self.segment_bytes_max || index <= last.first => Ok(Arc::clone(last)),
            _ => self.create_segment(index),
        }
    }

    fn create_segment(&mut self, first: u64) -> io::Result<Arc<Segment>> {
        let salt = *Uuid::new_v4().as_bytes();
        let header = SegmentHeader { salt, first, previous: self.last.clone() };
        let header = header.encode().map_err(io::Error::other)?;
        let file = write_whole(&*self.disk, SEGMENT_TEMPORARY, &header)?;
        self.disk.rename(SEGMENT_TEMPORARY, &segment_name(first))?;
        self.disk.sync_dir()?;
        self.end = header.len() as u64;
        self.bytes.fetch_add(self.end, Ordering::Relaxed);
        let segment = Arc::new(Segment { first, salt, file });
        self.segments.push(Arc::clone(&segment));
        Ok(segment)
    }

    fn frame(&self, kind: Kind, index: u64, since: usize) -> io::Result<Frame> {
        let since = u32::try_from(since).map_err(io::Error::other)?;
        Ok(Frame { kind, index, batch: self.next_batch, since })
    }

    /// Writes a batch and syncs it (fsync): from here on its entries are durable.
    fn write(&mut self, segment: &Segment, batch: &[u8]) -> io::Result<()> {
        segment.file.write_at(batch, self.end)?;
        segment.file.sync()?;
        self.end += batch.len() as u64;
        self.bytes.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.next_batch += 1;
        Ok(())
    }
}

impl StateFile {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Vote => "vote",
            Self::Purged => "purged",
            Self::Begin => "begin",
        }
    }

    /// The name of the temporary file.
    const fn temporary(self) -> &'static str {
        match self {
            Self::Vote => "vote.tmp",
            Self::Purged => "purged.tmp",
            Self::Begin => "begin.tmp",
        }
    }
}

/// Whether a file of this name may be the remains of a crash.
pub(super) fn is_temporary(name: &str) -> bool {
    name == SEGMENT_TEMPORARY
        || [StateFile::Vote, StateFile::Purged, StateFile::Begin].iter().any(|s| s.temporary() == name)
}

/// The name of the segment that begins with this entry.
pub(super) fn segment_name(first: u64) -> String {
    format!("{first:020}.log")
}

/// The first entry of the segment with this name.
pub(super) fn parse_segment_name(name: &str) -> Option<u64> {
    let first = name.strip_suffix(".log")?.parse().ok()?;
    (segment_name(first) == name).then_some(first)
}

/// Counts the oldest segments without an entry above `purged`: all entries of a segment are older than the first of
/// the next one.
pub(super) fn purgeable(segments: &[Arc<Segment>], purged: u64) -> usize {
    segments.windows(2).take_while(|pair| pair[1].first <= purged.saturating_add(1)).count()
}

/// Finishes `begin_at` once `begin` is durable.
pub(super) fn finish_beginning<N: NodeId>(
    disk: &dyn Disk,
    log_id: &LogId<N>,
    vote: &Vote<N>,
) -> io::Result<()> {
    replace(disk, StateFile::Vote, vote)?;
    replace(disk, StateFile::Purged, log_id)?;
    disk.remove(StateFile::Begin.name())?;
    disk.sync_dir()
}

fn replace(disk: &dyn Disk, state: StateFile, value: &impl Serialize) -> io::Result<()> {
    let bytes = state.encode(value).map_err(io::Error::other)?;
    write_whole(disk, state.temporary(), &bytes)?;
    disk.rename(state.temporary(), state.name())?;
    disk.sync_dir()
}

fn write_whole(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.create(name)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    Ok(file)
}
