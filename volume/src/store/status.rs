//! The status of the store: figures, counted when they are queried.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Inner, catalog, lock};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    pub blobs: u64,
    /// Bytes their records take.
    pub live_bytes: u64,
    /// Bytes of deleted records that were not freed yet.
    pub dead_bytes: u64,
    /// Bytes freed since the store was opened.
    pub punched_bytes: u64,
    /// Records moved by compactions since the store was opened.
    pub moved: u64,
    /// Bytes of their bodies.
    pub moved_bytes: u64,
    /// Bytes of bodies that the scrub verified since the store was opened.
    pub verified_bytes: u64,
    /// Age of the oldest verification of live bytes.
    pub unverified_for: Duration,
    /// Segments open for writes.
    pub segments_open: u64,
    /// Segments closed for writes.
    pub segments_sealed: u64,
    pub lanes_busy: u64,
    /// Uploads under way.
    pub uploads: u64,
    /// Bytes reserved for them, and for uploads of other volumes of this process on the same disk.
    pub reserved_bytes: u64,
    /// Free bytes of the file system.
    pub free_bytes: u64,
    /// Bytes available to uploads; 0 when read-only.
    pub available_bytes: u64,
    /// Why no upload is accepted, if so.
    pub read_only: Option<String>,
    /// Quarantined ranges: no valid record was found in them.
    pub quarantined: u64,
    /// Corrupt records and blocks that readers and the scrub have found.
    pub corrupt_blocks: u64,
    /// Write buffers in use, of `WRITE_BUFFERS`.
    pub write_buffers: u64,
    /// Read buffers in use, of `READ_BUFFERS`.
    pub read_buffers: u64,
}

impl Inner {
    pub(super) fn status(&self) -> StoreStatus {
        let free_bytes = self.disk.free_bytes().unwrap_or(0);
        let available_bytes = self.available().unwrap_or(0);
        let reserved_bytes = *lock(&self.reserved);
        let unverified_for = self.unverified_for();
        let catalog = lock(&self.catalog);
        let sum = |f: fn(&catalog::Slot) -> u64| catalog.slots().map(f).sum();
        let sealed = sum(|s| u64::from(s.sealed));
        StoreStatus {
            blobs: catalog.blob_count() as u64,
            live_bytes: sum(|s| s.live_bytes),
            dead_bytes: sum(|s| s.dead_bytes),
            punched_bytes: self.counters.punched.load(Ordering::Relaxed),
            moved: self.counters.moved.load(Ordering::Relaxed),
            moved_bytes: self.counters.moved_bytes.load(Ordering::Relaxed),
            verified_bytes: self.counters.verified.load(Ordering::Relaxed),
            unverified_for,
            segments_open: sum(|s| u64::from(!s.sealed)),
            segments_sealed: sealed,
            lanes_busy: catalog.busy() as u64,
            uploads: catalog.upload_count() as u64,
            reserved_bytes,
            free_bytes,
            available_bytes,
            read_only: self.read_only.get().map(ToString::to_string),
            quarantined: self.counters.set_aside.load(Ordering::Relaxed),
            corrupt_blocks: self.counters.corrupt.load(Ordering::Relaxed),
            write_buffers: self.write_pool.lent() as u64,
            read_buffers: self.read_pool.lent() as u64,
        }
    }
}
