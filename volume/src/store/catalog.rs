//! What the store knows in memory: which blob is where, which are being written or read, which
//! segments are free for the next upload. Pure bookkeeping under one lock: it never touches the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use shared::clock::Timestamp;
use shared::ids::BlobId;

use super::segment::{Extent, Segment, SegmentNumber};

/// A deleted record whose space is still to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dead {
    pub(super) blob: BlobId,
    pub(super) extent: Extent,
}

/// One line of an inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InventoryEntry {
    pub blob: BlobId,
    /// Its length in bytes.
    pub length: u64,
    /// When it became durable here, or when recovery found it, to the second.
    pub finished: Timestamp,
}

/// A segment and what is in it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) segment: Arc<Segment>,
    pub(super) sealed: bool,
    pub(super) live: u64,
    pub(super) live_bytes: u64,
    pub(super) dead_bytes: u64,
    pub(super) readers: u64,
    /// Ranges set aside for repair: a segment that has any is not thrown away.
    pub(super) set_aside: u64,
}

impl Slot {
    pub(super) fn new(segment: Arc<Segment>, sealed: bool) -> Self {
        Self { segment, sealed, live: 0, live_bytes: 0, dead_bytes: 0, readers: 0, set_aside: 0 }
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
    /// Further copies of blobs, which could not be deleted yet: a delete must not forget them.
    shadows: BTreeMap<BlobId, Vec<Extent>>,
    uploading: HashSet<BlobId>,
    /// Blobs whose record is being written anew.
    moving: HashSet<BlobId>,
    pins: HashMap<(SegmentNumber, u32), Pin>,
    slots: BTreeMap<SegmentNumber, Slot>,
    idle: BTreeSet<SegmentNumber>,
    busy: usize,
    next: u32,
}

/// A lane for an upload.
pub(super) enum Lane {
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

    /// Makes all records of a store that is being opened visible at once: a tree that is built of what is in order
    /// takes half the memory of one that grows. Of a blob that is there twice the first counts; the others come
    /// back, in the order of segments.
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

    /// Claims a blob that is here for writing its record anew; `None` if it is not here, or being moved already.
    pub(super) fn claim_move(&mut self, blob: BlobId) -> Option<Extent> {
        let extent = self.get(blob)?;
        self.moving.insert(blob).then_some(extent)
    }
    pub(super) fn unclaim_move(&mut self, blob: BlobId) {
        self.moving.remove(&blob);
    }

    /// Points a blob to its new record; as `remove` for the old one.
    pub(super) fn repoint(&mut self, blob: BlobId, from: Extent, to: Extent) -> Option<Dead> {
        self.moving.remove(&blob);
        let dead = self.remove(blob, from);
        self.insert(blob, to);
        dead
    }

    /// Points a blob to its new record while the old one could not be deleted: it stays as a second copy.
    pub(super) fn repoint_beside(&mut self, blob: BlobId, from: Extent, to: Extent) {
        self.moving.remove(&blob);
        self.insert(blob, to);
        self.shadows.entry(blob).or_default().push(from);
    }

    /// Notes a second copy that is still on the disk and should not be.
    pub(super) fn add_shadow(&mut self, blob: BlobId, extent: Extent) {
        self.shadows.entry(blob).or_default().push(extent);
        if let Some(slot) = self.slots.get_mut(&extent.segment) {
            slot.live += 1;
            slot.live_bytes += extent.bytes();
        }
    }

    /// All records of a blob: the one that is read, and copies that could not be deleted yet.
    pub(super) fn records(&self, blob: BlobId) -> impl Iterator<Item = Extent> {
        self.get(blob).into_iter().chain(self.shadows.get(&blob).into_iter().flatten().copied())
    }

    /// The blobs after `after` that are in a segment, in order, found among the next `look` blobs; and where to go on.
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

    /// Makes a record invisible. What comes back can be punched now; if nothing does, a reader
    /// holds it and the last one's `unpin` says so.
    pub(super) fn remove(&mut self, blob: BlobId, extent: Extent) -> Option<Dead> {
        if self.get(blob) == Some(extent) {
            self.blobs.remove(&blob);
        } else if let Some(shadows) = self.shadows.get_mut(&blob) {
            shadows.retain(|e| *e != extent);
            if shadows.is_empty() {
                self.shadows.remove(&blob);
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

    /// A record that was dead when the store was opened.
    pub(super) fn add_dead(&mut self, extent: Extent) {
        if let Some(slot) = self.slots.get_mut(&extent.segment) {
            slot.dead_bytes += extent.punchable();
        }
    }

    /// Its space was given back.
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
        // Bounds that leave nothing between them the tree does not take.
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

    /// Holds a record against punching.
    pub(super) fn pin(&mut self, blob: BlobId) -> Option<(Arc<Segment>, Extent)> {
        let extent = self.get(blob)?;
        let slot = self.slots.get_mut(&extent.segment)?;
        slot.readers += 1;
        self.pins.entry((extent.segment, extent.page)).or_default().readers += 1;
        Some((Arc::clone(&slot.segment), extent))
    }

    /// Lets go of it; what comes back was deleted meanwhile and can be punched now.
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

    /// The oldest idle lane, or leave to open a new one; `None` when `lanes_max` are busy.
    pub(super) fn lease(&mut self, lanes_max: usize) -> Option<Lane> {
        if self.busy >= lanes_max {
            return None;
        }
        self.busy += 1;
        if let Some(slot) = self.idle.pop_first().and_then(|n| self.slots.get(&n)) {
            return Some(Lane::Idle(Arc::clone(&slot.segment)));
        }
        let number = SegmentNumber(self.next);
        self.next += 1;
        Some(Lane::New(number))
    }

    /// This lane, if it is idle.
    pub(super) fn lease_idle(&mut self, number: SegmentNumber) -> Option<Arc<Segment>> {
        let segment = self.idle.remove(&number).then(|| self.segment(number)).flatten()?;
        self.busy += 1;
        Some(segment)
    }

    /// Gives a lane back for the next upload.
    pub(super) fn give_back(&mut self, number: SegmentNumber) {
        self.busy -= 1;
        self.idle.insert(number);
    }

    /// Gives a lane back that nobody shall have again.
    pub(super) fn retire(&mut self) {
        self.busy -= 1;
    }

    /// A lane found when the store was opened.
    pub(super) fn add_idle(&mut self, number: SegmentNumber) {
        self.idle.insert(number);
    }
    pub(super) fn idle(&self) -> Vec<SegmentNumber> {
        self.idle.iter().copied().collect()
    }

    /// Takes a segment out if nothing in it is needed any more: sealed, nothing alive, no reader,
    /// nothing set aside, and not the newest (whose number must not be given out twice).
    pub(super) fn take_empty(&mut self, number: SegmentNumber) -> Option<Slot> {
        let newest = self.slots.last_key_value().is_some_and(|(n, _)| *n == number);
        let slot = self.slots.get(&number)?;
        let needed = !slot.sealed || slot.live > 0 || slot.readers > 0 || slot.set_aside > 0;
        if newest || needed {
            return None;
        }
        self.slots.remove(&number)
    }
}
