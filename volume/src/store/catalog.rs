//! The store's state in memory: where each blob is, which ones are being written or read, which segments are free for
//! the next upload. Pure bookkeeping under one lock: it never accesses the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use shared::clock::Timestamp;
use shared::ids::BlobId;

use super::segment::{Extent, Segment, SegmentNumber};

/// A deleted record whose space is still to be freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dead {
    pub(super) blob: BlobId,
    pub(super) extent: Extent,
}

/// One entry of an inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InventoryEntry {
    pub blob: BlobId,
    /// Length in bytes.
    pub length: u64,
    /// When it became durable here, to the second.
    pub finished: Timestamp,
}

/// A segment with its counters.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) segment: Arc<Segment>,
    pub(super) sealed: bool,
    pub(super) live: u64,
    pub(super) live_bytes: u64,
    pub(super) dead_bytes: u64,
    pub(super) readers: u64,
    /// A segment with quarantined ranges is never removed.
    pub(super) quarantined_ranges: u64,
}

impl Slot {
    pub(super) fn new(segment: Arc<Segment>, sealed: bool) -> Self {
        Self { segment, sealed, live: 0, live_bytes: 0, dead_bytes: 0, readers: 0, quarantined_ranges: 0 }
    }
}

#[derive(Debug, Default)]
struct Pin {
    readers: u64,
    dead: bool,
}

#[derive(Debug, Default)]
pub(super) struct Catalog {
    blobs: BTreeMap<BlobId, Extent>,
    /// Further records of blobs, which could not be deleted yet: a delete of the blob must include them.
    duplicates: BTreeMap<BlobId, Vec<Extent>>,
    uploading: HashSet<BlobId>,
    /// Blobs whose record is being rewritten.
    moving: HashSet<BlobId>,
    pins: HashMap<(SegmentNumber, u32), Pin>,
    slots: BTreeMap<SegmentNumber, Slot>,
    idle: BTreeSet<SegmentNumber>,
    busy: usize,
    next: u32,
}

/// A lane for an upload.
pub(super) enum LaneSegment {
    Idle(Arc<Segment>),
    /// A segment of this number, to be created.
    New(SegmentNumber),
}

impl Catalog {
    pub(super) fn new(next: u32) -> Self {
        Self { next, ..Self::default() }
    }

    // Blobs.

    pub(super) fn get(&self, blob: BlobId) -> Option<Extent> {
        self.blobs.get(&blob).copied()
    }

    /// Claims a blob for an upload; `false` if it is stored or being stored.
    pub(super) fn claim(&mut self, blob: BlobId) -> bool {
        !self.blobs.contains_key(&blob) && self.uploading.insert(blob)
    }
    pub(super) fn unclaim(&mut self, blob: BlobId) {
        self.uploading.remove(&blob);
    }

    /// Makes a record visible.
    pub(super) fn insert(&mut self, blob: BlobId, extent: Extent) {
        self.uploading.remove(&blob);
        self.blobs.insert(blob, extent);
        if let Some(slot) = self.slots.get_mut(&extent.segment) {
            slot.live += 1;
            slot.live_bytes += extent.bytes();
        }
    }

    /// Makes all records of a store that is being opened visible at once: a tree built from sorted items takes half
    /// the memory of one that grows. Of several records of a blob the first counts; the others are returned, in the
    /// order of segments.
    pub(super) fn fill(&mut self, mut blobs: Vec<(BlobId, Extent)>) -> Vec<(BlobId, Extent)> {
        let place = |(_, e): &(BlobId, Extent)| (e.segment, e.page);
        blobs.sort_unstable_by_key(|b| (b.0, place(b)));
        let mut again = Vec::new();
        blobs.dedup_by(|later, first| {
            let same = later.0 == first.0;
            again.extend(same.then_some(*later));
            same
        });
        again.sort_unstable_by_key(place);
        for (_, extent) in &blobs {
            if let Some(slot) = self.slots.get_mut(&extent.segment) {
                slot.live += 1;
                slot.live_bytes += extent.bytes();
            }
        }
        self.blobs = blobs.into_iter().collect();
        again
    }

    /// Claims a blob that is here for a rewrite of its record; `None` if it is not here, or already being rewritten.
    pub(super) fn claim_move(&mut self, blob: BlobId) -> Option<Extent> {
        let extent = self.get(blob)?;
        self.moving.insert(blob).then_some(extent)
    }
    pub(super) fn unclaim_move(&mut self, blob: BlobId) {
        self.moving.remove(&blob);
    }

    /// Points a blob to its new record; like `remove` for the old one.
    pub(super) fn repoint(&mut self, blob: BlobId, from: Extent, to: Extent) -> Option<Dead> {
        self.moving.remove(&blob);
        let dead = self.remove(blob, from);
        self.insert(blob, to);
        dead
    }

    /// Points a blob to its new record; the old one could not be deleted and stays as a duplicate.
    pub(super) fn repoint_beside(&mut self, blob: BlobId, from: Extent, to: Extent) {
        self.moving.remove(&blob);
        self.insert(blob, to);
        self.duplicates.entry(blob).or_default().push(from);
    }

    /// Adds a duplicate that should not be on the disk, but is.
    pub(super) fn add_duplicate(&mut self, blob: BlobId, extent: Extent) {
        self.duplicates.entry(blob).or_default().push(extent);
        if let Some(slot) = self.slots.get_mut(&extent.segment) {
            slot.live += 1;
            slot.live_bytes += extent.bytes();
        }
    }

    /// Returns all records of a blob: the one that is read, and duplicates that could not be deleted yet.
    pub(super) fn records(&self, blob: BlobId) -> impl Iterator<Item = Extent> {
        self.get(blob).into_iter().chain(self.duplicates.get(&blob).into_iter().flatten().copied())
    }

    /// Returns the blobs of a segment among the next `look` blobs after `after`, in order; and where to continue.
    pub(super) fn blobs_in(
        &self,
        number: SegmentNumber,
        after: Option<BlobId>,
        look: usize,
    ) -> (Vec<(BlobId, Extent)>, Option<BlobId>) {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let mut last = None;
        let mut seen = 0;
        let looked = self.blobs.range((from, Unbounded)).take(look).inspect(|(blob, _)| {
            last = Some(**blob);
            seen += 1;
        });
        let found = looked.filter(|(_, e)| e.segment == number).map(|(b, e)| (*b, *e)).collect();
        (found, last.filter(|_| seen == look))
    }

    /// Makes a record invisible. Returns it if it can be punched now; otherwise a reader pins it, and the last
    /// `unpin` returns it.
    pub(super) fn remove(&mut self, blob: BlobId, extent: Extent) -> Option<Dead> {
        if self.get(blob) == Some(extent) {
            self.blobs.remove(&blob);
        } else if let Some(shadows) = self.duplicates.get_mut(&blob) {
            shadows.retain(|e| *e != extent);
            if shadows.is_empty() {
                self.duplicates.remove(&blob);
            }
        }
        if let Some(slot) = self.slots.get_mut(&extent.segment) {
            slot.live -= 1;
            slot.live_bytes -= extent.bytes();
            slot.dead_bytes += extent.punchable();
        }
        match self.pins.get_mut(&(extent.segment, extent.page)) {
            Some(pin) => {
                pin.dead = true;
                None
            }
            None => Some(Dead { blob, extent }),
        }
    }

    /// Counts a record that was dead when the store was opened.
    pub(super) fn add_dead(&mut self, extent: Extent) {
        if let Some(slot) = self.slots.get_mut(&extent.segment) {
            slot.dead_bytes += extent.punchable();
        }
    }

    /// Counts the freed space of a record.
    pub(super) fn punched(&mut self, extent: Extent) {
        if let Some(slot) = self.slots.get_mut(&extent.segment) {
            slot.dead_bytes = slot.dead_bytes.saturating_sub(extent.punchable());
        }
    }

    pub(super) fn inventory(
        &self,
        from: Bound<BlobId>,
        until: Bound<BlobId>,
        limit: usize,
    ) -> Vec<InventoryEntry> {
        let line = |(blob, e): (&BlobId, &Extent)| InventoryEntry {
            blob: *blob,
            length: e.length,
            finished: Timestamp::from_unix_ms(u64::from(e.finished_secs) * 1000),
        };
        // The tree panics on bounds with nothing between them.
        if let (Bound::Included(a) | Bound::Excluded(a), Bound::Excluded(b)) = (from, until)
            && a >= b
        {
            return Vec::new();
        }
        self.blobs.range((from, until)).take(limit).map(line).collect()
    }

    pub(super) fn blob_count(&self) -> usize {
        self.blobs.len()
    }
    pub(super) fn upload_count(&self) -> usize {
        self.uploading.len()
    }

    // Readers.

    /// Pins a record against hole punching.
    pub(super) fn pin(&mut self, blob: BlobId) -> Option<(Arc<Segment>, Extent)> {
        let extent = self.get(blob)?;
        let slot = self.slots.get_mut(&extent.segment)?;
        slot.readers += 1;
        self.pins.entry((extent.segment, extent.page)).or_default().readers += 1;
        Some((Arc::clone(&slot.segment), extent))
    }

    /// Releases a pin; returns the record if it was deleted meanwhile and can be punched now.
    pub(super) fn unpin(&mut self, blob: BlobId, extent: Extent) -> Option<Dead> {
        if let Some(slot) = self.slots.get_mut(&extent.segment) {
            slot.readers -= 1;
        }
        let place = (extent.segment, extent.page);
        let pin = self.pins.get_mut(&place)?;
        pin.readers -= 1;
        if pin.readers > 0 {
            return None;
        }
        let dead = pin.dead;
        self.pins.remove(&place);
        dead.then_some(Dead { blob, extent })
    }

    // Segments and lanes.

    pub(super) fn add(&mut self, slot: Slot) {
        self.slots.insert(slot.segment.number(), slot);
    }
    pub(super) fn slot(&mut self, number: SegmentNumber) -> Option<&mut Slot> {
        self.slots.get_mut(&number)
    }
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values()
    }
    pub(super) fn segment(&self, number: SegmentNumber) -> Option<Arc<Segment>> {
        self.slots.get(&number).map(|s| Arc::clone(&s.segment))
    }
    pub(super) fn busy(&self) -> usize {
        self.busy
    }

    /// Takes the oldest idle lane, or the number for a new one; `None` if `lanes_max` are busy.
    pub(super) fn take_lane(&mut self, lanes_max: usize) -> Option<LaneSegment> {
        if self.busy >= lanes_max {
            return None;
        }
        self.busy += 1;
        if let Some(slot) = self.idle.pop_first().and_then(|n| self.slots.get(&n)) {
            return Some(LaneSegment::Idle(Arc::clone(&slot.segment)));
        }
        let number = SegmentNumber(self.next);
        self.next += 1;
        Some(LaneSegment::New(number))
    }

    /// Takes this lane, if it is idle.
    pub(super) fn take_idle_lane(&mut self, number: SegmentNumber) -> Option<Arc<Segment>> {
        let segment = self.idle.remove(&number).then(|| self.segment(number)).flatten()?;
        self.busy += 1;
        Some(segment)
    }

    /// Returns a lane for the next upload.
    pub(super) fn return_lane(&mut self, number: SegmentNumber) {
        self.busy -= 1;
        self.idle.insert(number);
    }

    /// Closes a lane in use: its segment takes no more records.
    pub(super) fn close_lane(&mut self) {
        self.busy -= 1;
    }

    /// Adds an idle lane when the store is opened.
    pub(super) fn add_idle(&mut self, number: SegmentNumber) {
        self.idle.insert(number);
    }
    pub(super) fn idle(&self) -> Vec<SegmentNumber> {
        self.idle.iter().copied().collect()
    }

    /// Removes a segment that is no longer needed: sealed, without live records, readers or quarantined ranges, and
    /// not the newest (whose number must not be reused).
    pub(super) fn take_empty(&mut self, number: SegmentNumber) -> Option<Slot> {
        let newest = self.slots.last_key_value().is_some_and(|(n, _)| *n == number);
        let slot = self.slots.get(&number)?;
        let needed = !slot.sealed || slot.live > 0 || slot.readers > 0 || slot.quarantined_ranges > 0;
        if newest || needed {
            return None;
        }
        self.slots.remove(&number)
    }
}
