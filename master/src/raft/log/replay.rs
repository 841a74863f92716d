//! Replays the frames of all segments in order into entries: an entry frame adds, a truncation removes, and purged
//! entries are skipped. Pure: it reports inconsistencies and repairs nothing.

use std::sync::Arc;

use openraft::{LogId, NodeId};

use super::error::Corruption;
use super::format::{Kind, SegmentHeader};
use super::scan::Found;
use super::view::{EntryLocation, Segment};

#[derive(Debug, Clone, Copy)]
pub(super) enum Wrong {
    Corrupt(u64, Corruption),
    Hole { expected: u64 },
}

/// A replay in progress.
#[derive(Debug)]
pub(super) struct Replay<N: NodeId> {
    purged: Option<LogId<N>>,
    segments: Vec<Arc<Segment>>,
    /// The index of the first of `entries`.
    first: u64,
    entries: Vec<(LogId<N>, EntryLocation)>,
    next_batch: u64,
    /// A hole before a segment: the first entry of the segment, and the entry expected. It does not matter if
    /// everything after it turns out to be void: an interrupted restart has removed the older segments first.
    hole: Option<(u64, u64)>,
}

/// A replayed log.
#[derive(Debug)]
pub(super) struct Log<N: NodeId> {
    pub(super) segments: Vec<Arc<Segment>>,
    /// The index of the first of `entries`.
    pub(super) first: u64,
    /// Without the purged ones.
    pub(super) entries: Vec<(LogId<N>, EntryLocation)>,
    pub(super) next_batch: u64,
    /// All entries are purged and the next one does not continue the segments: remove all of them.
    pub(super) restart: bool,
}

impl<N: NodeId> Replay<N> {
    pub(super) fn new(purged: Option<LogId<N>>) -> Self {
        Self { purged, segments: Vec::new(), first: 0, entries: Vec::new(), next_batch: 0, hole: None }
    }

    /// Adds the next segment. It must continue after the last entry or a purged one.
    pub(super) fn segment(&mut self, segment: &Arc<Segment>, header: &SegmentHeader<N>) -> Result<(), Wrong> {
        let order = Err(Wrong::Corrupt(32, Corruption::Order));
        let visible = self.visible();
        let next = self.next();
        let is_first = self.segments.is_empty();
        if !is_first && header.first < next {
            return order;
        }
        if (is_first || header.first > next) && header.first > visible {
            self.hole = self.hole.or(Some((header.first, if is_first { visible } else { next })));
        }
        // The purged log id is not compared: the entry before this segment may have been replaced by another one.
        let before = self.entries.last().filter(|_| header.first == next).map(|(log_id, _)| log_id);
        let starts_anew = header.first == 0 && header.previous.is_none();
        if before.is_some_and(|b| header.previous.as_ref() != Some(b))
            || !starts_anew && header.previous.as_ref().map(|p| p.index + 1) != Some(header.first)
        {
            return order;
        }
        if is_first || header.first > next {
            self.entries.clear();
            self.first = header.first;
        }
        self.segments.push(Arc::clone(segment));
        Ok(())
    }

    /// Adds the next frame of that segment.
    pub(super) fn frame(&mut self, segment: &Arc<Segment>, found: &Found, body: &[u8]) -> Result<(), Wrong> {
        let order = Wrong::Corrupt(found.offset, Corruption::Order);
        let (frame, next) = (&found.frame, self.next());
        self.next_batch = self.next_batch.max(frame.batch + 1);
        match frame.kind {
            Kind::Truncate if frame.index > next => return Err(order),
            Kind::Truncate => self.truncate(frame.index),
            Kind::Entry if frame.index != next => return Err(order),
            Kind::Entry => {
                let content = |_| Wrong::Corrupt(found.offset, Corruption::Content);
                // An entry begins with its log id.
                let (log_id, _) = postcard::take_from_bytes::<LogId<N>>(body).map_err(content)?;
                if log_id.index != frame.index {
                    return Err(order);
                }
                let length = u32::try_from(body.len()).map_err(|_| order)?;
                let place = EntryLocation { segment: Arc::clone(segment), offset: found.offset, length };
                self.entries.push((log_id, place));
            }
        }
        Ok(())
    }

    /// Finishes after the last segment. An error names the segment by its first entry.
    pub(super) fn finish(mut self) -> Result<Log<N>, (u64, Wrong)> {
        if let Some((first, expected)) = self.hole {
            return Err((first, Wrong::Hole { expected }));
        }
        let next = self.next();
        let mut log = Log {
            segments: self.segments,
            first: self.first,
            entries: Vec::new(),
            next_batch: self.next_batch,
            restart: false,
        };
        if let Some(purged) = &self.purged {
            let gone = usize::try_from((purged.index + 1).saturating_sub(self.first)).unwrap_or(usize::MAX);
            if let Some((last, place)) = gone.checked_sub(1).and_then(|at| self.entries.get(at))
                && last != purged
            {
                return Err((place.segment.first, Wrong::Corrupt(place.offset, Corruption::Beside)));
            }
            self.entries.drain(..gone.min(self.entries.len()));
            log.restart = next <= purged.index;
            log.first = purged.index + 1;
        }
        log.entries = self.entries;
        Ok(log)
    }

    fn truncate(&mut self, index: u64) {
        if index <= self.visible() {
            self.hole = None;
        }
        match index.checked_sub(self.first) {
            Some(keep) => self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX)),
            None => {
                self.entries.clear();
                self.first = index;
            }
        }
    }

    /// The first index that is not purged.
    fn visible(&self) -> u64 {
        self.purged.as_ref().map_or(0, |p| p.index + 1)
    }

    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
}
