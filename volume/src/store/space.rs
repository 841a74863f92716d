//! Space accounting: what is available to uploads, and what is reserved for those under way.
//!
//! An upload that declares more than is available is refused before a byte of it is accepted. Otherwise its
//! reservation grows as it sends: a little at first, then as much again as it has sent, at most `RESERVE_STEP_BYTES`
//! in advance. So a request that declares gigabytes and sends nothing blocks nobody; uploads that together declare
//! more than is available may all begin, and those that find the disk full are refused in the middle.
//!
//! Two limits apply at once. The file system's free bytes, less a reserve, are shared with whatever else is on the
//! disk and with the other volumes of this process. The capacity, if there is one, is this volume's own: it covers
//! records, deleted ones that were not freed yet, and all reservations of uploads, written or not. It does not cover
//! indexes and the first pages that deleted records leave behind.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::limits::{RESERVE_FIRST_BYTES, RESERVE_STEP_BYTES};

use super::error::WriteError;
use super::write::overhead;
use super::{Inner, lock};

/// The space reserved for an upload.
#[derive(Debug)]
pub(super) struct SpaceReservation {
    store: Arc<Inner>,
    /// Reserved and not written yet.
    left: u64,
    /// All of the reservation: until the upload ends, no other figure includes what it has written.
    claimed: u64,
    /// The most that the record may take; `None` if its length is unknown.
    most: Option<u64>,
    bounds: Bounds,
}

/// The limits of a reservation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes that must stay free.
    pub(super) reserve: u64,
    /// Bytes of the whole volume.
    pub(super) capacity: Option<u64>,
}

impl Inner {
    /// The part of the reserve that even a rewrite must leave free: indexes, and whatever else is on this disk, must
    /// be able to grow meanwhile.
    pub(super) fn reserve_floor(&self) -> u64 {
        self.reserve_bytes / 4
    }

    /// Returns the bytes available to uploads.
    pub(super) fn available(&self) -> io::Result<u64> {
        if self.read_only.get().is_some() {
            return Ok(0);
        }
        let bounds = Bounds { reserve: self.reserve_bytes, capacity: self.options.capacity_bytes };
        let reserved = lock(&self.reserved);
        self.available_within(bounds, *reserved)
    }

    /// The caller holds the lock of `reserved`.
    fn available_within(&self, bounds: Bounds, reserved: u64) -> io::Result<u64> {
        let free = self.disk.free_bytes()?.saturating_sub(bounds.reserve).saturating_sub(reserved);
        let Some(capacity) = bounds.capacity else { return Ok(free) };
        let records: u64 = lock(&self.catalog).slots().map(|s| s.live_bytes + s.dead_bytes).sum();
        let used = records + self.claimed.load(Ordering::Relaxed);
        Ok(free.min(capacity.saturating_sub(used)))
    }
}

impl SpaceReservation {
    /// Begins a reservation for an upload, refused if less than its length (if known) is available.
    pub(super) fn promised(
        store: &Arc<Inner>,
        length: Option<u64>,
        bounds: Bounds,
    ) -> Result<Self, WriteError> {
        let most = length.map(|n| n + overhead(n));
        let first = most.map_or(RESERVE_FIRST_BYTES, |n| n.min(RESERVE_FIRST_BYTES));
        let mut space = Self { store: Arc::clone(store), left: 0, claimed: 0, most, bounds };
        space.grow(first, first, most.unwrap_or(first))?;
        Ok(space)
    }

    /// Reserves everything at once, for the rewrite of a record.
    pub(super) fn reserve(store: &Arc<Inner>, length: u64, bounds: Bounds) -> Result<Self, WriteError> {
        let most = length + overhead(length);
        let mut space = Self { store: Arc::clone(store), left: 0, claimed: 0, most: Some(most), bounds };
        space.grow(most, most, most)?;
        Ok(space)
    }

    /// Takes bytes that are about to be written out of the reservation.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), WriteError> {
        if bytes > self.left {
            let lacking = bytes - self.left;
            let step = self.claimed.min(RESERVE_STEP_BYTES);
            let step = self.most.map_or(step, |most| step.min(most.saturating_sub(self.claimed)));
            self.grow(step.max(lacking), lacking, lacking)?;
        }
        *lock(&self.store.reserved) -= bytes;
        self.left -= bytes;
        Ok(())
    }

    /// Reserves `wanted` bytes or as many as are available; refused if fewer than `least` or `all` are.
    fn grow(&mut self, wanted: u64, least: u64, all: u64) -> Result<(), WriteError> {
        let mut reserved = lock(&self.store.reserved);
        let available = self.store.available_within(self.bounds, *reserved)?;
        if least.max(all) > available {
            return Err(WriteError::NoSpace { needed: least.max(all), available });
        }
        let bytes = wanted.min(available);
        *reserved += bytes;
        self.store.claimed.fetch_add(bytes, Ordering::Relaxed);
        self.left += bytes;
        self.claimed += bytes;
        Ok(())
    }
}

impl Drop for SpaceReservation {
    fn drop(&mut self) {
        *lock(&self.store.reserved) -= self.left;
        self.store.claimed.fetch_sub(self.claimed, Ordering::Relaxed);
    }
}
