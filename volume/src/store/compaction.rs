//! Compaction (segment GC, vacuum): moves the live records of a segment to another one and removes the file, if
//! its dead space could not be punched out or little but holes is left. One segment at a time, record by record,
//! at a given rate.
//!
//! A move is a rewrite (`begin_rewrite`): the record is read verified, written, synced, read back, and only then the
//! blob points to it. It works within the reserve and never blocks readers or writers. A crash at any step leaves
//! each blob with one record, or with a duplicate that the next opening resolves.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use shared::ids::BlobId;
use shared::limits::READ_BUFFER_BYTES;
use shared::work::blocking;

use super::catalog::Slot;
use super::error::{ReadError, WriteError};
use super::format::PAGE;
use super::segment::SegmentNumber;
use super::throttle::Throttle;
use super::write::NewRecord;
use super::{Inner, Store, lock};

/// A record that was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The segment it was moved out of.
    pub segment: SegmentNumber,
    pub blob: BlobId,
    /// Bytes of its body.
    pub bytes: u64,
}

/// A record could not be moved. Its segment is skipped until the store is reopened, or one of its records is
/// deleted or healed.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The record cannot be read.
    #[error("segment {segment} cannot be compacted: {source}")]
    Read {
        segment: SegmentNumber,
        blob: BlobId,
        #[source]
        source: ReadError,
    },
    /// The record cannot be written.
    #[error("segment {segment} cannot be compacted: {source}")]
    Write {
        segment: SegmentNumber,
        #[source]
        source: WriteError,
    },
}

/// The compaction under way, if any.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    victim: Option<SegmentNumber>,
    /// Blobs that were live when the segment was chosen and are still to be moved.
    left: VecDeque<BlobId>,
    /// Segments that could not be compacted, with their live bytes then: skipped until that changes.
    stuck: BTreeSet<(SegmentNumber, u64)>,
}

/// The figures by which a segment is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    number: SegmentNumber,
    /// Bytes to copy.
    live: u64,
    /// Bytes freed beyond those.
    gain: u64,
}

/// Most bytes to copy per byte freed: with hole punching there is little to gain; without it, a segment that is a
/// quarter dead is worth a compaction.
const MOVED_PER_GAIN_PUNCHED: u64 = 1;
const MOVED_PER_GAIN_UNPUNCHED: u64 = 3;
/// A gain below this fraction of a segment is not worth a compaction.
const GAIN_MIN_PART: u64 = 256;
/// Blobs examined per lock of the catalog.
const LOOK: usize = 4096;

/// Returns the segment with the highest gain per byte to copy, among those whose live bytes fit into `free`.
fn choose_candidate(
    candidates: &[Candidate],
    free: u64,
    copies_per_gain: u64,
    gain_min: u64,
) -> Option<Candidate> {
    let worth = |c: &&Candidate| {
        c.gain >= gain_min && c.live <= c.gain.saturating_mul(copies_per_gain) && c.live <= free
    };
    let cost = |c: &&Candidate| (u128::from(c.live) << 32) / u128::from(c.gain.max(1));
    candidates.iter().filter(worth).min_by_key(cost).copied()
}

impl Store {
    /// Moves one record out of a segment that is worth a compaction; `None` if there is none, or no space.
    ///
    /// If the future is dropped half way, the record stays where it was.
    pub async fn compact(&self, throttle: &Throttle) -> Result<Option<Compacted>, CompactError> {
        loop {
            let inner = Arc::clone(&self.0);
            let Some((segment, blob)) = blocking(move || inner.next_to_move()).await else { return Ok(None) };
            match self.relocate(segment, blob, throttle).await {
                // Being healed, which moves it to another segment.
                Ok(None) if self.0.is_in(blob, segment) => return Ok(None),
                // Deleted or rewritten meanwhile.
                Ok(None) => {}
                Ok(moved) => return Ok(moved),
                // Not now.
                Err(CompactError::Write {
                    source: WriteError::Busy { .. } | WriteError::NoSpace { .. },
                    ..
                }) => return Ok(None),
                Err(error) => {
                    self.0.give_up(segment);
                    return Err(error);
                }
            }
        }
    }

    async fn relocate(
        &self,
        segment: SegmentNumber,
        blob: BlobId,
        throttle: &Throttle,
    ) -> Result<Option<Compacted>, CompactError> {
        let unreadable = |source| CompactError::Read { segment, blob, source };
        let unwritable = |source| CompactError::Write { segment, source };
        let mut reader = match self.reader_past_cache(blob).await {
            Err(ReadError::NotFound { .. }) => return Ok(None),
            reader => reader.map_err(unreadable)?,
        };
        if reader.extent().segment != segment {
            return Ok(None);
        }
        let record = NewRecord {
            blob,
            key: reader.key().clone(),
            content_type: reader.content_type().map(str::to_owned),
            metadata: reader.metadata().to_vec(),
            length: Some(reader.length()),
        };
        let mut upload = match self.begin_rewrite(record, reader.digest()).await {
            Err(WriteError::Gone { .. }) => return Ok(None),
            upload => upload.map_err(unwritable)?,
        };
        while upload.length() < reader.length() {
            let piece = reader.read(upload.length(), READ_BUFFER_BYTES).await.map_err(unreadable)?;
            upload.write(&piece).await.map_err(unwritable)?;
            upload.meanwhile(throttle.spend(piece.len())).await.map_err(unwritable)?;
        }
        match upload.finish().await {
            Err(WriteError::Gone { .. }) => Ok(None),
            Err(e) => Err(unwritable(e)),
            Ok(stored) => {
                self.0.counters.compacted(stored.length);
                Ok(Some(Compacted { segment, blob, bytes: stored.length }))
            }
        }
    }
}

impl Inner {
    /// Returns the next record of the segment under compaction, or of a newly chosen one.
    fn next_to_move(&self) -> Option<(SegmentNumber, BlobId)> {
        if self.read_only.get().is_some() {
            return None;
        }
        let mut compaction = lock(&self.compaction);
        if let (Some(segment), Some(blob)) = (compaction.victim, compaction.left.pop_front()) {
            return Some((segment, blob));
        }
        compaction.victim = None;
        let chosen = self.choose_victim(&compaction.stuck)?;
        self.seal_if_idle(chosen);
        // If an upload took the lane first, moved records could return to the same file.
        if !lock(&self.catalog).slot(chosen).is_some_and(|s| s.sealed) {
            return None;
        }
        compaction.left = self.blobs_in(chosen).into();
        let Some(blob) = compaction.left.pop_front() else {
            // Its only live records are duplicates that could not be deleted.
            let live = lock(&self.catalog).slot(chosen).map_or(0, |s| s.live_bytes);
            compaction.stuck.insert((chosen, live));
            return None;
        };
        compaction.victim = Some(chosen);
        Some((chosen, blob))
    }

    fn choose_victim(&self, stuck: &BTreeSet<(SegmentNumber, u64)>) -> Option<SegmentNumber> {
        let punches = self.disk.punches();
        let sources = if punches { MOVED_PER_GAIN_PUNCHED } else { MOVED_PER_GAIN_UNPUNCHED };
        // Preselect by the figures in memory, then ask the file system.
        let worth_asking = |s: &&Slot| {
            let span = s.segment.end() - PAGE;
            let dead = span.saturating_sub(s.live_bytes);
            s.live > 0
                && s.quarantined_ranges == 0
                && dead > 0
                && s.live_bytes <= dead.saturating_mul(sources)
                && !s.segment.is_poisoned()
                && !stuck.contains(&(s.segment.number(), s.live_bytes))
        };
        let asked: Vec<_> = {
            let catalog = lock(&self.catalog);
            let idle = catalog.idle();
            let resting = |s: &&Slot| s.sealed || idle.binary_search(&s.segment.number()).is_ok();
            let slots = catalog.slots().filter(resting).filter(worth_asking);
            // Space that is about to be punched is freed without a copy.
            let punchable = |s: &Slot| if punches { s.dead_bytes } else { 0 };
            slots.map(|s| (Arc::clone(&s.segment), s.live_bytes, punchable(s))).collect()
        };
        let candidates: Vec<_> = asked
            .into_iter()
            .map(|(segment, live, punchable)| {
                let taken = segment.file.allocated().unwrap_or(0);
                let gain = taken.saturating_sub(live).saturating_sub(punchable);
                Candidate { number: segment.number(), live, gain }
            })
            .collect();
        let taken = self.reserve_floor() + *lock(&self.reserved);
        let free = self.disk.free_bytes().unwrap_or(0).saturating_sub(taken);
        choose_candidate(&candidates, free, sources, self.options.segment_bytes / GAIN_MIN_PART)
            .map(|c| c.number)
    }

    fn is_in(&self, blob: BlobId, segment: SegmentNumber) -> bool {
        lock(&self.catalog).get(blob).is_some_and(|e| e.segment == segment)
    }

    fn seal_if_idle(&self, number: SegmentNumber) {
        let leased = lock(&self.catalog).take_idle_lane(number);
        if let Some(segment) = leased {
            // If that fails the segment has no lane either, which is enough.
            let _ = self.seal(&segment);
        }
    }

    /// Returns the live blobs of a segment, in order.
    pub(super) fn blobs_in(&self, number: SegmentNumber) -> Vec<BlobId> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (found, next) = lock(&self.catalog).blobs_in(number, after, LOOK);
            all.extend(found.into_iter().map(|(blob, _)| blob));
            after = next;
            if after.is_none() {
                return all;
            }
        }
    }

    fn give_up(&self, segment: SegmentNumber) {
        let live = lock(&self.catalog).slot(segment).map_or(0, |s| s.live_bytes);
        let mut compaction = lock(&self.compaction);
        compaction.stuck.retain(|(number, _)| *number != segment);
        compaction.stuck.insert((segment, live));
        compaction.victim = None;
        compaction.left.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(number: u32, live: u64, gain: u64) -> Candidate {
        Candidate { number: SegmentNumber(number), live, gain }
    }

    #[test]
    fn the_cheapest_gain_that_fits_is_chosen() {
        let all =
            [candidate(0, 500, 500), candidate(1, 100, 900), candidate(2, 900, 100), candidate(3, 90, 5)];
        assert_eq!(choose_candidate(&all, 1000, 3, 10), Some(all[1]));
        assert_eq!(choose_candidate(&all, 99, 3, 10), None, "no space for the live bytes");
        assert_eq!(choose_candidate(&all[2..], 1000, 3, 10), None, "too much to copy, too little to gain");
        assert_eq!(choose_candidate(&all[..1], 1000, 1, 10), Some(all[0]));
        assert_eq!(choose_candidate(&all[..1], 1000, 1, 501), None);
        assert_eq!(choose_candidate(&[], 1000, 3, 0), None);
    }
}
