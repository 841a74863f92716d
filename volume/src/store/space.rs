//! Space: what uploads may have, and what is set aside for those under way.
//!
//! An upload that announces more than there is gets refused before a byte of it is accepted. Otherwise it is promised what it
//! has earned: a little at first, then as much again as it has sent, at most `RESERVE_STEP_BYTES` in advance. So a head
//! that announces gigabytes and sends nothing takes them from nobody; uploads that together announce more than there is
//! may all begin, and those that find the disk full are refused in the middle.
//!
//! Two bounds hold at once. The file system's free bytes, less a reserve, are shared with whatever else is on the disk and
//! with the other volumes of this process. The capacity, where there is one, is this volume's own: what its records take,
//! what of deleted ones was not given back yet, and all that its uploads were promised, written or not. Indexes and the first
//! pages that deleted records leave behind are not counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::limits::{RESERVE_FIRST_BYTES, RESERVE_STEP_BYTES};

use super::error::WriteError;
use super::write::overhead;
use super::{Inner, lock};

/// Space set aside for an upload.
#[derive(Debug)]
pub(super) struct Space {
    store: Arc<Inner>,
    /// Not written yet.
    left: u64,
    /// All of it: until the upload ends nothing else tells of what it has written.
    claimed: u64,
    /// All that it may come to take; none where its length is not known.
    most: Option<u64>,
    bounds: Bounds,
}

/// What an upload must leave alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes that it must leave free.
    pub(super) reserve: u64,
    /// Bytes that the volume has in all.
    pub(super) capacity: Option<u64>,
}

impl Inner {
    /// What is left of the reserve even to a record that takes another's place: indexes, and whatever else is on this disk,
    /// have to grow meanwhile.
    pub(super) fn reserve_floor(&self) -> u64 {
        self.reserve_bytes / 4
    }

    /// Bytes that uploads can have.
    pub(super) fn available(&self) -> io::Result<u64> {
        if self.read_only.get().is_some() {
            return Ok(0);
        }
        let bounds = Bounds { reserve: self.reserve_bytes, capacity: self.options.capacity_bytes };
        let reserved = lock(&self.reserved);
        self.available_within(bounds, *reserved)
    }

    /// The caller holds the lock of what is reserved.
    fn available_within(&self, bounds: Bounds, reserved: u64) -> io::Result<u64> {
        let free = self.disk.free_bytes()?.saturating_sub(bounds.reserve).saturating_sub(reserved);
        let Some(capacity) = bounds.capacity else { return Ok(free) };
        let records: u64 = lock(&self.catalog).slots().map(|s| s.live_bytes + s.dead_bytes).sum();
        let used = records + self.claimed.load(Ordering::Relaxed);
        Ok(free.min(capacity.saturating_sub(used)))
    }
}

impl Space {
    /// For an upload with a body of this length, or of one that is not known: refused when there is less than that.
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

    /// All of it at once, for a body of ours that is sure to come.
    pub(super) fn set_aside(store: &Arc<Inner>, length: u64, bounds: Bounds) -> Result<Self, WriteError> {
        let most = length + overhead(length);
        let mut space = Self { store: Arc::clone(store), left: 0, claimed: 0, most: Some(most), bounds };
        space.grow(most, most, most)?;
        Ok(space)
    }

    /// These bytes are about to be written.
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

    /// Sets `wanted` bytes aside, or what there is of them; refused below `least`, and when there are less than `all`.
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

impl Drop for Space {
    fn drop(&mut self) {
        *lock(&self.store.reserved) -= self.left;
        self.store.claimed.fetch_sub(self.claimed, Ordering::Relaxed);
    }
}
