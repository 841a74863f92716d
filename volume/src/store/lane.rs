//! The lease of a lane: the right of one upload to append to one segment, with the space set aside
//! for it. However the upload ends, the lease sees to it that the lane, the space and the claim on the blob
//! are given back, and that what was written of an upload that failed is cut off.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::digest::Digest;
use shared::ids::BlobId;
use shared::limits::LANES_MAX;
use uuid::Uuid;

use super::catalog::{Lane, Slot};
use super::error::{FailedStep, WriteError, is_full, is_out_of_descriptors};
use super::format::SegmentHeader;
use super::segment::{Extent, Segment, SegmentNumber};
use super::space::{Bounds, Space};
use super::{Inner, index, lock};

/// The right to append one record to one segment.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) store: Arc<Inner>,
    pub(super) segment: Arc<Segment>,
    /// Where the record begins.
    pub(super) start: u64,
    pub(super) purpose: Purpose,
    blob: BlobId,
    space: Space,
    written: bool,
    over: bool,
}

/// What a record is written for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// A blob that is not here yet.
    New,
    /// To take the place of the record that stands there, of bytes with this digest. It may use most of the reserve,
    /// and pass the capacity.
    Instead { from: Extent, digest: Digest },
}

/// A claim on a blob, until a lease holds it.
struct Claim<'a>(&'a Inner, Option<BlobId>, Purpose);

impl Lease {
    /// Claims the blob, sets the space aside and leases a lane. Blocks.
    pub(super) fn take(store: &Arc<Inner>, blob: BlobId, length: Option<u64>) -> Result<Self, WriteError> {
        if !lock(&store.catalog).claim(blob) {
            return Err(WriteError::Exists { blob });
        }
        Self::claimed(store, blob, length, Purpose::New)
    }

    /// The same for a record that is to take the place of the one that is here.
    pub(super) fn take_again(
        store: &Arc<Inner>,
        blob: BlobId,
        length: u64,
        digest: Digest,
    ) -> Result<Self, WriteError> {
        let from = lock(&store.catalog).claim_move(blob).ok_or(WriteError::Gone { blob })?;
        Self::claimed(store, blob, Some(length), Purpose::Instead { from, digest })
    }

    fn claimed(
        store: &Arc<Inner>,
        blob: BlobId,
        length: Option<u64>,
        purpose: Purpose,
    ) -> Result<Self, WriteError> {
        let mut claim = Claim(store, Some(blob), purpose);
        let space = match (purpose, length) {
            (Purpose::Instead { .. }, Some(length)) => {
                Space::set_aside(store, length, Bounds { reserve: store.reserve_floor(), capacity: None })
            }
            (Purpose::Instead { .. } | Purpose::New, length) => {
                let capacity = store.options.capacity_bytes;
                Space::promised(store, length, Bounds { reserve: store.reserve_bytes, capacity })
            }
        }?;
        let segment = lane(store)?;
        claim.1 = None;
        let start = segment.end();
        let store = Arc::clone(store);
        let lease = Self { store, segment, start, purpose, blob, space, written: false, over: false };
        lease.room_in_index()?;
        Ok(lease)
    }

    /// Room for this put, and for a delete of everything that lives in the segment: see `IndexFile::reserve`.
    fn room_in_index(&self) -> Result<(), WriteError> {
        let live = lock(&self.store.catalog).slot(self.segment.number()).map_or(0, |s| s.live);
        let reserved = lock(&self.segment.index).reserve(&*self.store.disk, live + 2);
        reserved.map_err(|e| self.store.failed(&e, index::ENTRY_BYTES as u64).unwrap_or(WriteError::Io(e)))
    }

    /// These bytes are about to be written: they leave what is set aside.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), WriteError> {
        self.written |= bytes > 0;
        self.space.spend(bytes)
    }

    /// The record is visible: the lane goes back, or its segment is sealed when it is full.
    pub(super) fn finished(mut self) {
        self.over = true;
        let (store, segment) = (Arc::clone(&self.store), Arc::clone(&self.segment));
        drop(self);
        if segment.is_poisoned() {
            lock(&store.catalog).retire();
        } else if segment.end() >= store.options.segment_bytes {
            // The client does not wait for it.
            let inner = Arc::clone(&store);
            store.background(move || {
                let _ = inner.seal(&segment);
            });
        } else {
            lock(&store.catalog).give_back(segment.number());
        }
    }

    /// Cuts the record off and gives everything back. Blocks.
    pub(super) fn abort(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        abort(&self.store, &self.segment, self.blob, self.purpose, self.written);
    }

    /// Leaves all as it is: the process is going down.
    pub(super) fn abandon(mut self) {
        self.over = true;
    }
}

fn abort(store: &Inner, segment: &Segment, blob: BlobId, purpose: Purpose, written: bool) {
    if written
        && !segment.is_poisoned()
        && let Err(e) = segment.file.truncate(segment.end())
    {
        store.poison(segment, FailedStep::Truncate, &e);
    }
    unclaim(store, blob, purpose);
    let mut catalog = lock(&store.catalog);
    if segment.is_poisoned() { catalog.retire() } else { catalog.give_back(segment.number()) }
}

fn unclaim(store: &Inner, blob: BlobId, purpose: Purpose) {
    let mut catalog = lock(&store.catalog);
    match purpose {
        Purpose::New => catalog.unclaim(blob),
        Purpose::Instead { .. } => catalog.unclaim_move(blob),
    }
}

impl Drop for Lease {
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

/// An idle segment, or a new one.
fn lane(store: &Inner) -> Result<Arc<Segment>, WriteError> {
    let lane = lock(&store.catalog).lease(LANES_MAX);
    match lane {
        None => Err(WriteError::Busy { lanes: LANES_MAX }),
        Some(Lane::Idle(segment)) => Ok(segment),
        Some(Lane::New(number)) => create(store, number).inspect_err(|_| lock(&store.catalog).retire()),
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
            // Best effort: what stays is found empty, and removed, when the store is opened.
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
    /// A full disk as the refusal it is.
    fn failed(&self, error: &std::io::Error, needed: u64) -> Option<WriteError> {
        is_full(error).then(|| WriteError::NoSpace { needed, available: self.available().unwrap_or(0) })
    }

    /// Writes the sorted index of a leased segment and retires its lane. If that fails the segment
    /// stays unsealed, without a lane, until the store is opened again.
    pub(super) fn seal(&self, segment: &Segment) -> Result<(), WriteError> {
        let sealed = self.write_sealed_index(segment);
        let mut catalog = lock(&self.catalog);
        catalog.retire();
        if let (Ok(()), Some(slot)) = (&sealed, catalog.slot(segment.number())) {
            slot.sealed = true;
        }
        drop(catalog);
        if let Err(e) = &sealed {
            tracing::warn!(segment = %segment.number(), error = %e, "sealing failed");
        } else {
            segment.file.settle();
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
