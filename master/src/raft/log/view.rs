//! The log in memory, for readers: the location of each entry, and the newest entries themselves. The
//! files are authoritative.
//!
//! A change is made here when it is requested, in the order in which changes go to the writer thread, so an entry can
//! be read as soon as `append` returns. An entry that is not in a file yet is always cached; when the cache is full,
//! the oldest of the others are evicted.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use openraft::{LogId, NodeId, Vote};

use super::disk::DiskFile;
use super::error::Poisoned;
use super::format::{FRAME_HEADER_BYTES, Salt};

/// An open segment file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) salt: Salt,
    pub(super) file: Arc<dyn DiskFile>,
}

/// The location of a frame.
#[derive(Debug, Clone)]
pub(super) struct EntryLocation {
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u64,
    pub(super) length: u32,
}

#[derive(Debug)]
enum Home {
    /// Not written yet: the number of its append.
    Pending(u64),
    Stored(EntryLocation),
}

#[derive(Debug)]
struct Slot<N: NodeId> {
    log_id: LogId<N>,
    home: Home,
}

impl<N: NodeId> Slot<N> {
    fn stored_bytes(&self) -> u64 {
        match &self.home {
            Home::Pending(_) => 0,
            Home::Stored(place) => place.frame_bytes() as u64,
        }
    }
}

/// The place where a reader finds an entry.
#[derive(Debug)]
pub(super) enum Source<N: NodeId> {
    Cached(Bytes),
    Stored(EntryLocation, LogId<N>),
}

/// The log in memory.
#[derive(Debug)]
pub(super) struct View<N: NodeId> {
    pub(super) vote: Option<Vote<N>>,
    pub(super) purged: Option<LogId<N>>,
    pub(super) poisoned: Option<Arc<Poisoned>>,
    /// The index of the first slot.
    first: u64,
    slots: VecDeque<Slot<N>>,
    /// The encoded entries of the last slots.
    cache: VecDeque<Bytes>,
    cached_bytes: usize,
    cache_bytes_max: usize,
    appends: u64,
}

impl<N: NodeId> View<N> {
    /// The view of an opened log: `stored` has its entries, in order from `first` on.
    pub(super) fn new(
        vote: Option<Vote<N>>,
        purged: Option<LogId<N>>,
        first: u64,
        stored: impl IntoIterator<Item = (LogId<N>, EntryLocation)>,
        cache_bytes_max: usize,
    ) -> Self {
        let slots =
            stored.into_iter().map(|(log_id, place)| Slot { log_id, home: Home::Stored(place) }).collect();
        Self {
            vote,
            purged,
            poisoned: None,
            first,
            slots,
            cache: VecDeque::new(),
            cached_bytes: 0,
            cache_bytes_max,
            appends: 0,
        }
    }

    /// The index of the first entry, or of the next one if the log is empty.
    pub(super) fn first_index(&self) -> u64 {
        self.first
    }

    /// The index that the next entry must have.
    pub(super) fn next_index(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// The last entry, or the last purged one.
    pub(super) fn last_log_id(&self) -> Option<&LogId<N>> {
        self.slots.back().map_or(self.purged.as_ref(), |s| Some(&s.log_id))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The log id at an index, also of the last purged entry.
    pub(super) fn log_id_at(&self, index: u64) -> Option<&LogId<N>> {
        match self.slot(index) {
            Some(at) => Some(&self.slots[at].log_id),
            None => self.purged.as_ref().filter(|p| p.index == index),
        }
    }

    /// The bytes of the entries after `index` that are in their files.
    pub(super) fn bytes_after(&self, index: u64) -> u64 {
        let behind = self.slots.iter().rev().take_while(|slot| slot.log_id.index > index);
        behind.map(Slot::stored_bytes).sum()
    }

    /// The newest entry to purge, so that the entries after it have at most `bytes` bytes.
    pub(super) fn last_beyond(&self, bytes: u64) -> Option<u64> {
        let mut kept = 0;
        let mut slots = self.slots.iter().rev();
        slots.find_map(|slot| {
            kept += slot.stored_bytes();
            (kept > bytes).then_some(slot.log_id.index)
        })
    }

    /// Adds entries that continue the log, and returns the number of this append.
    pub(super) fn append(&mut self, entries: &[(LogId<N>, Bytes)]) -> u64 {
        self.appends += 1;
        for (log_id, body) in entries {
            self.slots.push_back(Slot { log_id: log_id.clone(), home: Home::Pending(self.appends) });
            self.cached_bytes += body.len();
            self.cache.push_back(body.clone());
        }
        self.appends
    }

    /// Records the location of an entry once it is in its file. If it was truncated meanwhile, nothing happens.
    pub(super) fn place(&mut self, index: u64, append: u64, place: EntryLocation) {
        if let Some(at) = self.slot(index)
            && matches!(self.slots[at].home, Home::Pending(number) if number == append)
        {
            self.slots[at].home = Home::Stored(place);
        }
    }

    /// Evicts the oldest cached entries that are in their files.
    pub(super) fn shrink_cache(&mut self) {
        while self.cached_bytes > self.cache_bytes_max {
            let oldest = self.slots.len() - self.cache.len();
            match self.slots.get(oldest) {
                Some(Slot { home: Home::Stored(_), .. }) => self.uncache_oldest(),
                _ => return,
            }
        }
    }

    /// Removes this entry and all after it.
    pub(super) fn truncate(&mut self, index: u64) {
        while self.next_index() > index && self.slots.pop_back().is_some() {
            if let Some(body) = self.cache.pop_back() {
                self.cached_bytes -= body.len();
            }
        }
    }

    /// Removes all entries up to this one. Past the last entry, the log becomes empty and continues after `upto`.
    pub(super) fn purge(&mut self, upto: LogId<N>) {
        while self.first <= upto.index && !self.slots.is_empty() {
            if self.cache.len() == self.slots.len() {
                self.uncache_oldest();
            }
            self.slots.pop_front();
            self.first += 1;
        }
        self.first = self.first.max(upto.index + 1);
        self.purged = Some(upto);
    }

    /// Returns where the existing entries of a range are. `bytes_max` limits their bytes, but never below one entry.
    pub(super) fn sources(&self, range: Range<u64>, bytes_max: Option<usize>) -> Vec<Source<N>> {
        let (start, end) = (range.start.max(self.first), range.end.min(self.next_index()));
        let mut found = Vec::new();
        let mut bytes = 0;
        for at in (start..end).filter_map(|index| self.slot(index)) {
            let (source, length) = self.source(at);
            bytes += length;
            if bytes_max.is_some_and(|max| bytes > max) && !found.is_empty() {
                break;
            }
            found.push(source);
        }
        found
    }

    fn source(&self, at: usize) -> (Source<N>, usize) {
        let slot = &self.slots[at];
        let cached = at.checked_sub(self.slots.len() - self.cache.len()).map(|i| &self.cache[i]);
        match (cached, &slot.home) {
            (Some(body), _) => (Source::Cached(body.clone()), body.len()),
            (None, Home::Stored(place)) => {
                let length = usize::try_from(place.length).unwrap_or(usize::MAX);
                (Source::Stored(place.clone(), slot.log_id.clone()), length)
            }
            (None, Home::Pending(_)) => unreachable!("a pending entry is in the cache"),
        }
    }

    fn slot(&self, index: u64) -> Option<usize> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        (at < self.slots.len()).then_some(at)
    }

    fn uncache_oldest(&mut self) {
        if let Some(body) = self.cache.pop_front() {
            self.cached_bytes -= body.len();
        }
    }
}

impl EntryLocation {
    /// The length of the frame, header included.
    pub(super) fn frame_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + usize::try_from(self.length).unwrap_or(usize::MAX - FRAME_HEADER_BYTES)
    }
}
