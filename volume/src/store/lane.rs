//! Append lanes (write streams): the exclusive right of one upload to append to one segment, with the space reserved
//! for it. However the upload ends, the lane, the space and the claim on the blob are released, and what a failed
//! upload has written is cut off.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::digest::Digest;
use shared::ids::BlobId;
use shared::limits::LANES_MAX;
use uuid::Uuid;

use super::catalog::{LaneSegment, Slot};
use super::error::{FailedStep, WriteError, is_full, is_out_of_descriptors};
use super::format::SegmentHeader;
use super::segment::{Extent, Segment, SegmentNumber};
use super::space::{Bounds, SpaceReservation};
use super::{Inner, index, lock};

/// An append lane in use: the right to append one record to one segment.
#[derive(Debug)]
pub(super) struct AppendLane {
    pub(super) store: Arc<Inner>,
    pub(super) segment: Arc<Segment>,
    /// Offset of the record.
    pub(super) start: u64,
    pub(super) purpose: WriteKind,
    blob: BlobId,
    space: SpaceReservation,
    written: bool,
    over: bool,
}

/// The purpose of a write.
#[derive(Clone, Copy, Debug)]
pub(super) enum WriteKind {
    /// A blob that is not here yet.
    New,
    /// Replaces the record at `from`, whose body has this digest. It may use most of the reserve and
    /// exceed the capacity.
    Replace { from: Extent, digest: Digest },
}

/// A claim on a blob, released on drop unless a lane has taken it over.
struct Claim<'a>(&'a Inner, Option<BlobId>, WriteKind);

impl AppendLane {
    /// Claims the blob, reserves space and takes a lane. Blocks.
    pub(super) fn acquire(store: &Arc<Inner>, blob: BlobId, length: Option<u64>) -> Result<Self, WriteError> {
        if !lock(&store.catalog).claim(blob) {
            return Err(WriteError::Exists { blob });
        }
        Self::claimed(store, blob, length, WriteKind::New)
    }

    /// The same for a record that replaces the one that is here.
    pub(super) fn acquire_for_rewrite(
        store: &Arc<Inner>,
        blob: BlobId,
        length: u64,
        digest: Digest,
    ) -> Result<Self, WriteError> {
        let from = lock(&store.catalog).claim_move(blob).ok_or(WriteError::Gone { blob })?;
        Self::claimed(store, blob, Some(length), WriteKind::Replace { from, digest })
    }

    fn claimed(
        store: &Arc<Inner>,
        blob: BlobId,
        length: Option<u64>,
        purpose: WriteKind,
    ) -> Result<Self, WriteError> {
        let mut claim = Claim(store, Some(blob), purpose);
        let space = match (purpose, length) {
            (WriteKind::Replace { .. }, Some(length)) => SpaceReservation::reserve(
                store,
                length,
                Bounds { reserve: store.reserve_floor(), capacity: None },
            ),
            (WriteKind::Replace { .. } | WriteKind::New, length) => {
                let capacity = store.options.capacity_bytes;
                SpaceReservation::promised(store, length, Bounds { reserve: store.reserve_bytes, capacity })
            }
        }?;
        let segment = segment_for_lane(store)?;
        claim.1 = None;
        let start = segment.end();
        let store = Arc::clone(store);
        let lane = Self { store, segment, start, purpose, blob, space, written: false, over: false };
        lane.room_in_index()?;
        Ok(lane)
    }

    /// Reserves index space for this put and for deletes of all the segment's live records: see `IndexFile::reserve`.
    fn room_in_index(&self) -> Result<(), WriteError> {
        let live = lock(&self.store.catalog).slot(self.segment.number()).map_or(0, |s| s.live);
        let reserved = lock(&self.segment.index).reserve(&*self.store.disk, live + 2);
        reserved.map_err(|e| self.store.failed(&e, index::ENTRY_BYTES as u64).unwrap_or(WriteError::Io(e)))
    }

    /// Takes bytes that are about to be written out of the reservation.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), WriteError> {
        self.written |= bytes > 0;
        self.space.spend(bytes)
    }

    /// Releases the lane after the record is visible; seals the segment if it is full.
    pub(super) fn finished(mut self) {
        self.over = true;
        let (store, segment) = (Arc::clone(&self.store), Arc::clone(&self.segment));
        drop(self);
        if segment.is_poisoned() {
            lock(&store.catalog).close_lane();
        } else if segment.end() >= store.options.segment_bytes {
            // In the background: the client does not wait for the seal.
            let inner = Arc::clone(&store);
            store.background(move || {
                let _ = inner.seal(&segment);
            });
        } else {
            lock(&store.catalog).return_lane(segment.number());
        }
    }

    /// Cuts the record off and releases everything. Blocks.
    pub(super) fn abort(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        abort(&self.store, &self.segment, self.blob, self.purpose, self.written);
    }

    /// Leaves everything as it is: the process is shutting down.
    pub(super) fn abandon(mut self) {
        self.over = true;
    }
}

fn abort(store: &Inner, segment: &Segment, blob: BlobId, purpose: WriteKind, written: bool) {
    if written
        && !segment.is_poisoned()
        && let Err(e) = segment.file.truncate(segment.end())
    {
        store.poison(segment, FailedStep::Truncate, &e);
    }
    unclaim(store, blob, purpose);
    let mut catalog = lock(&store.catalog);
    if segment.is_poisoned() { catalog.close_lane() } else { catalog.return_lane(segment.number()) }
}

fn unclaim(store: &Inner, blob: BlobId, purpose: WriteKind) {
    let mut catalog = lock(&store.catalog);
    match purpose {
        WriteKind::New => catalog.unclaim(blob),
        WriteKind::Replace { .. } => catalog.unclaim_move(blob),
    }
}

impl Drop for AppendLane {
    fn drop(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let (store, segment) = (Arc::clone(&self.store), Arc::clone(&self.segment));
        let (blob, purpose, written) = (self.blob, self.purpose, self.written);
        self.store.background(move || abort(&store, &segment, blob, purpose, written));
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(blob) = self.1 {
            unclaim(self.0, blob, self.2);
        }
    }
}

/// Returns an idle segment, or a new one.
fn segment_for_lane(store: &Inner) -> Result<Arc<Segment>, WriteError> {
    let lane = lock(&store.catalog).take_lane(LANES_MAX);
    match lane {
        None => Err(WriteError::Busy { lanes: LANES_MAX }),
        Some(LaneSegment::Idle(segment)) => Ok(segment),
        Some(LaneSegment::New(number)) => {
            create(store, number).inspect_err(|_| lock(&store.catalog).close_lane())
        }
    }
}

fn create(store: &Inner, number: SegmentNumber) -> Result<Arc<Segment>, WriteError> {
    let mut salt = [0; 32];
    salt[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    salt[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    let created = store.options.clock.now();
    let header = SegmentHeader { volume: store.options.volume, number, created, salt };
    match Segment::create(&*store.disk, header) {
        Ok(segment) => {
            let segment = Arc::new(segment);
            lock(&store.catalog).add(Slot::new(Arc::clone(&segment), false));
            Ok(segment)
        }
        Err(e) => {
            // Best effort: what remains is found empty and removed when the store is opened.
            let _ = store.disk.remove(&number.segment_name());
            let _ = store.disk.remove(&number.index_name());
            if !is_full(&e) && !is_out_of_descriptors(&e) {
                store.go_read_only(number, FailedStep::Create, &e);
            }
            Err(store.failed(&e, super::format::PAGE).unwrap_or(WriteError::Io(e)))
        }
    }
}

impl Inner {
    /// Converts the error of a full disk into a refusal.
    fn failed(&self, error: &std::io::Error, needed: u64) -> Option<WriteError> {
        is_full(error).then(|| WriteError::NoSpace { needed, available: self.available().unwrap_or(0) })
    }

    /// Writes the sorted index of a segment whose lane is taken, and closes the lane. If that fails the segment
    /// stays unsealed, without a lane, until the store is reopened.
    pub(super) fn seal(&self, segment: &Segment) -> Result<(), WriteError> {
        let sealed = self.write_sealed_index(segment);
        let mut catalog = lock(&self.catalog);
        catalog.close_lane();
        if let (Ok(()), Some(slot)) = (&sealed, catalog.slot(segment.number())) {
            slot.sealed = true;
        }
        drop(catalog);
        if let Err(e) = &sealed {
            tracing::warn!(segment = %segment.number(), error = %e, "a segment could not be sealed; it takes no records until the volume is restarted");
        } else {
            segment.file.release_preallocation();
            self.drop_if_empty(segment.number());
        }
        sealed
    }

    fn write_sealed_index(&self, segment: &Segment) -> Result<(), WriteError> {
        let mut file = lock(&segment.index);
        if file.is_poisoned() {
            return Err(WriteError::Aborted);
        }
        let name = segment.number().index_name();
        let old = self.disk.open(&name, super::disk::Access::Cached)?;
        let mut bytes = vec![0; super::format::index(old.length()?)];
        old.read_at(&mut bytes, 0)?;
        let contents = index::decode(&bytes, &segment.header)
            .map_err(|_| WriteError::Io(std::io::ErrorKind::InvalidData.into()))?;
        if contents.rotten || contents.torn_bytes > 0 {
            return Err(WriteError::Io(std::io::ErrorKind::InvalidData.into()));
        }
        let deleted: std::collections::HashSet<u64> = contents
            .entries
            .iter()
            .filter_map(|e| {
                if let index::Entry::Delete { extent, .. } = e { Some(extent.offset()) } else { None }
            })
            .collect();
        let mut entries = contents.entries;
        entries
            .retain(|e| !matches!(e, index::Entry::Put { extent, .. } if deleted.contains(&extent.offset())));
        let live = entries.len() as u64;
        let entries = index::sealed(&segment.header, entries, segment.end.load(Ordering::Acquire));
        match index::IndexFile::replace(&*self.disk, &segment.header, &entries, live) {
            Ok(new) => {
                *file = new;
                Ok(())
            }
            Err(index::ReplaceError::Before(e)) => Err(self.failed(&e, 0).unwrap_or(WriteError::Io(e))),
            Err(index::ReplaceError::After(e)) => {
                file.poison();
                self.go_read_only(segment.number(), FailedStep::Directory, &e);
                Err(WriteError::Io(e))
            }
        }
    }
}
