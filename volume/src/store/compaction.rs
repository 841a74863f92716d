//! Compaction: where space could not be punched out of a segment, or little else is left of it than holes, what
//! lives is moved to another segment, and the file goes. One segment at a time, record by record, at a given pace.
//!
//! A move is a record written anew (`begin_again`): read verified, written, synced, read back, and only then is the
//! blob pointed to it. It works within the reserve, never blocks readers or writers, and a crash at any step leaves
//! each blob in one place or, for a moment, in two, which the next opening settles.

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
pub struct Moved {
    /// Out of this segment.
    pub segment: SegmentNumber,
    pub blob: BlobId,
    /// Bytes of its body.
    pub bytes: u64,
}

/// A record could not be moved. Its segment is left alone until the store is opened again, or something of it
/// is deleted or healed.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// It cannot be read.
    #[error("segment {segment} cannot be compacted: {source}")]
    Read {
        segment: SegmentNumber,
        /// The blob that is in the way.
        blob: BlobId,
        #[source]
        source: ReadError,
    },
    /// It cannot be written.
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
    /// What lived in it when it was chosen and was not moved yet.
    left: VecDeque<BlobId>,
    /// Segments that could not be compacted, and what lived in them then: while that is so, they are passed over.
    stuck: BTreeSet<(SegmentNumber, u64)>,
}

/// What the choice is made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    number: SegmentNumber,
    /// Bytes that must be copied.
    live: u64,
    /// Bytes that come back beyond those.
    gain: u64,
}

/// Bytes copied are never more than so many times the bytes that come back: where holes can be punched little is
/// to be gained, and where they cannot, a segment that is a quarter dead is worth it.
const COPIES_PER_GAIN_PUNCHED: u64 = 1;
const COPIES_PER_GAIN_UNPUNCHED: u64 = 3;
/// And a gain below this part of a segment is not worth the trouble.
const GAIN_MIN_PART: u64 = 256;
/// Blobs looked at while the catalog is locked.
const LOOK: usize = 4096;

/// The segment with the most to gain for the bytes to be copied, among those whose living part fits into `free`.
fn choose(candidates: &[Candidate], free: u64, copies_per_gain: u64, gain_min: u64) -> Option<Candidate> {
    let worth = |c: &&Candidate| {
        c.gain >= gain_min && c.live <= c.gain.saturating_mul(copies_per_gain) && c.live <= free
    };
    let cost = |c: &&Candidate| (u128::from(c.live) << 32) / u128::from(c.gain.max(1));
    candidates.iter().filter(worth).min_by_key(cost).copied()
}

impl Store {
    /// Moves one record out of a segment that is worth compacting; `None` when there is none, or no room.
    ///
    /// A future dropped half way leaves the record where it was.
    pub async fn compact(&self, throttle: &Throttle) -> Result<Option<Moved>, CompactError> {
        loop {
            let inner = Arc::clone(&self.0);
            let Some((segment, blob)) = blocking(move || inner.next_to_move()).await else { return Ok(None) };
            match self.relocate(segment, blob, throttle).await {
                // Being healed: it will be elsewhere when that is done.
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
    ) -> Result<Option<Moved>, CompactError> {
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
        let mut upload = match self.begin_again(record, reader.digest()).await {
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
                Ok(Some(Moved { segment, blob, bytes: stored.length }))
            }
        }
    }
}

impl Inner {
    /// The next record of the segment that is being compacted, or of one newly chosen.
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
        // An upload was faster: what is moved must not come back into the same file.
        if !lock(&self.catalog).slot(chosen).is_some_and(|s| s.sealed) {
            return None;
        }
        compaction.left = self.blobs_in(chosen).into();
        let Some(blob) = compaction.left.pop_front() else {
            // Nothing lives in it but second copies that could not be deleted.
            let live = lock(&self.catalog).slot(chosen).map_or(0, |s| s.live_bytes);
            compaction.stuck.insert((chosen, live));
            return None;
        };
        compaction.victim = Some(chosen);
        Some((chosen, blob))
    }

    fn choose_victim(&self, stuck: &BTreeSet<(SegmentNumber, u64)>) -> Option<SegmentNumber> {
        let punches = self.disk.punches();
        let copies = if punches { COPIES_PER_GAIN_PUNCHED } else { COPIES_PER_GAIN_UNPUNCHED };
        // What may be worth it as far as memory knows; then the file system is asked.
        let worth_asking = |s: &&Slot| {
            let span = s.segment.end() - PAGE;
            let dead = span.saturating_sub(s.live_bytes);
            s.live > 0
                && s.set_aside == 0
                && dead > 0
                && s.live_bytes <= dead.saturating_mul(copies)
                && !s.segment.is_poisoned()
                && !stuck.contains(&(s.segment.number(), s.live_bytes))
        };
        let asked: Vec<_> = {
            let catalog = lock(&self.catalog);
            let idle = catalog.idle();
            let resting = |s: &&Slot| s.sealed || idle.binary_search(&s.segment.number()).is_ok();
            let slots = catalog.slots().filter(resting).filter(worth_asking);
            // What is about to be punched comes back without a copy.
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
        choose(&candidates, free, copies, self.options.segment_bytes / GAIN_MIN_PART).map(|c| c.number)
    }

    fn is_in(&self, blob: BlobId, segment: SegmentNumber) -> bool {
        lock(&self.catalog).get(blob).is_some_and(|e| e.segment == segment)
    }

    fn seal_if_idle(&self, number: SegmentNumber) {
        let leased = lock(&self.catalog).lease_idle(number);
        if let Some(segment) = leased {
            // If it fails it has no lane any more, which will do as well.
            let _ = self.seal(&segment);
        }
    }

    /// Everything that lives in a segment, in order of the blobs.
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
        assert_eq!(choose(&all, 1000, 3, 10), Some(all[1]));
        assert_eq!(choose(&all, 99, 3, 10), None, "no room for what lives");
        assert_eq!(choose(&all[2..], 1000, 3, 10), None, "too much to copy, too little to gain");
        assert_eq!(choose(&all[..1], 1000, 1, 10), Some(all[0]));
        assert_eq!(choose(&all[..1], 1000, 1, 501), None);
        assert_eq!(choose(&[], 1000, 3, 0), None);
    }
}
