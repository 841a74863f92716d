//! The end of an upload: the last bytes, the trailer, the sync, and only then the record counts.
//!
//! Nothing here may succeed after a write or sync of the same segment failed. A record that takes another's
//! place is read back from the disk before its trailer makes it one, and the old one is deleted last.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use shared::clock::Timestamp;
use shared::digest::Digest;
use shared::ids::BlobId;
use shared::limits::{BLOCK_BYTES, PAGE_BYTES};

use super::sums::Sums;
use super::{Filling, Stored};
use crate::store::catalog::Dead;
use crate::store::error::{FailedStep, WriteError, is_full};
use crate::store::format::{PAGE, Trailer, bad_block, index};
use crate::store::index::{Entry, IndexFile};
use crate::store::lane::{Lease, Purpose};
use crate::store::read::check_ends;
use crate::store::segment::{Extent, Segment};
use crate::store::{Inner, lock};

/// The end of a record: what is left of the body, the trailer, the sync.
pub(super) struct Last {
    pub(super) filling: Filling,
    pub(super) sums: Sums,
    pub(super) position: u64,
    pub(super) blob: BlobId,
    pub(super) length: u64,
    pub(super) header_pages: usize,
}

/// Digest and checksums of a whole body, and when it became durable.
struct Whole {
    digest: Digest,
    blocks: Vec<u32>,
    finished: Timestamp,
}

impl Last {
    /// Blocks; the caller ends the lease as the result says.
    pub(super) fn write(mut self, lease: &mut Lease) -> Result<Stored, WriteError> {
        let (store, segment) = (Arc::clone(&lease.store), Arc::clone(&lease.segment));
        self.sums.update(&self.filling.buffer.as_slice()[self.filling.fresh..self.filling.used]);
        self.filling.pad();
        let sums = std::mem::replace(&mut self.sums, Sums::new());
        let (digest, blocks) = sums.finish();
        match lease.purpose {
            Purpose::New => {
                let whole = Whole { digest, blocks, finished: store.options.clock.now() };
                let extent = self.write_trailer(lease, &store, &segment, &whole)?;
                put(&store, &segment, &mut lock(&segment.index), self.blob, extent, whole.finished);
                lock(&store.catalog).insert(self.blob, extent);
            }
            Purpose::Instead { from, digest: expected } => {
                let finished = Timestamp::from_unix_ms(u64::from(from.finished_secs) * 1000);
                let whole = Whole { digest, blocks, finished };
                if digest != expected || self.length != from.length {
                    return Err(WriteError::OtherBytes { blob: self.blob });
                }
                self.replace(lease, &store, &segment, from, &whole)?;
            }
        }
        Ok(Stored { blob: self.blob, length: self.length, digest })
    }

    /// What is left in the buffer, the trailer behind it, and the sync that makes them durable.
    fn write_trailer(
        &mut self,
        lease: &mut Lease,
        store: &Inner,
        segment: &Segment,
        whole: &Whole,
    ) -> Result<Extent, WriteError> {
        let trailer =
            Trailer { blob: self.blob, length: self.length, digest: whole.digest, finished: whole.finished };
        let at = self.position + self.filling.used as u64;
        let pages = trailer.encode(&segment.header, lease.start, at, &whole.blocks);
        let mut rest = pages.as_slice();
        while !rest.is_empty() {
            rest = &rest[self.filling.push(rest)..];
            self.write_out(lease, store, segment)?;
        }
        sync(store, segment)?;
        let extent = extent(lease, self.length, self.header_pages, whole.finished);
        debug_assert_eq!(extent.end(), self.position, "the record ends where its extent says");
        Ok(extent)
    }

    fn write_out(&mut self, lease: &mut Lease, store: &Inner, segment: &Segment) -> Result<(), WriteError> {
        let used = self.filling.used;
        lease.spend(used as u64)?;
        write_at(store, segment, &self.filling.buffer.as_slice()[..used], self.position)?;
        self.position += used as u64;
        self.filling.used = 0;
        Ok(())
    }

    /// The old record goes only when the new one was read back from the disk and is durable. A delete of the blob
    /// comes before all this, and finds the old record, or after it, and finds the new one: both hold the lock of the
    /// old record's index.
    fn replace(
        &mut self,
        lease: &mut Lease,
        store: &Arc<Inner>,
        segment: &Arc<Segment>,
        from: Extent,
        whole: &Whole,
    ) -> Result<(), WriteError> {
        self.write_out(lease, store, segment)?;
        sync(store, segment)?;
        self.read_back(lease, segment, whole)?;
        let gone = WriteError::Gone { blob: self.blob };
        let old = lock(&store.catalog).segment(from.segment);
        let Some(old) = old else { return Err(gone) };
        let _switching = lock(&store.switching);
        let mut old_index = lock(&old.index);
        if lock(&store.catalog).get(self.blob) != Some(from) {
            return Err(gone);
        }
        let written = self.write_trailer(lease, store, segment, whole);
        let written = written.and_then(|extent| self.check_ends(store, segment, &extent).map(|()| extent));
        if written.is_err() && segment.is_poisoned() {
            // The trailer may be on the disk all the same: a delete of the blob must not forget it.
            let extent = extent(lease, self.length, self.header_pages, whole.finished);
            lock(&store.catalog).add_shadow(self.blob, extent);
        }
        let extent = written?;
        if Arc::ptr_eq(&old, segment) {
            put(store, segment, &mut old_index, self.blob, extent, whole.finished);
        } else {
            put(store, segment, &mut lock(&segment.index), self.blob, extent, whole.finished);
        }
        let entry = Entry::Delete { blob: self.blob, extent: from };
        let deleted = store.append_deletes(&old, &mut old_index, &[entry]);
        if let Err(error) = deleted {
            // It stands there twice. A delete of the blob must not succeed before both are deleted.
            lock(&store.catalog).repoint_beside(self.blob, from, extent);
            tracing::warn!(blob = %self.blob, %error, "the old record of a blob could not be deleted");
            return Ok(());
        }
        let dead = lock(&store.catalog).repoint(self.blob, from, extent);
        store.release_index(&old, &mut old_index);
        store.punch_later(dead.into_iter().collect::<Vec<Dead>>());
        Ok(())
    }

    /// Whether the disk gives header and trailer back as well. If it does not it is not to be trusted with anything.
    fn check_ends(&mut self, store: &Inner, segment: &Segment, extent: &Extent) -> Result<(), WriteError> {
        let (head, memory) = (extent.header_bytes(), self.filling.buffer.as_mut_slice());
        let pages = &mut memory[..head + PAGE_BYTES];
        let header = segment.file.read_disk_at(&mut pages[..head], extent.offset());
        let trailer = segment.file.read_disk_at(&mut pages[head..], extent.trailer());
        let read = header.and_then(|n| trailer.map(|m| n + m));
        let whole = read.as_ref().is_ok_and(|n| *n == pages.len());
        if whole && check_ends(&segment.header, self.blob, extent, pages).is_ok() {
            return Ok(());
        }
        let error = read.err().unwrap_or_else(|| std::io::ErrorKind::InvalidData.into());
        store.poison(segment, FailedStep::Write, &error);
        Err(WriteError::OtherBytes { blob: self.blob })
    }

    /// Whether the disk gives back what was written.
    fn read_back(&mut self, lease: &Lease, segment: &Segment, whole: &Whole) -> Result<(), WriteError> {
        let body = lease.start + self.header_pages as u64 * PAGE;
        let memory = self.filling.buffer.as_mut_slice();
        let (mut at, mut block) = (0, 0);
        while at < self.length {
            let want = index((self.length - at).min(memory.len() as u64));
            let pages = want.next_multiple_of(PAGE_BYTES);
            let read = segment.file.read_disk_at(&mut memory[..pages], body + at)?;
            if read < want || bad_block(&memory[..want], &whole.blocks[block..]).is_some() {
                // What was given to it is known to be good.
                let what = "the disk does not give back what was written";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what).into());
            }
            at += want as u64;
            block += want.div_ceil(BLOCK_BYTES);
        }
        Ok(())
    }
}

fn extent(lease: &Lease, length: u64, header_pages: usize, finished: Timestamp) -> Extent {
    Extent {
        segment: lease.segment.number(),
        page: u32::try_from(lease.start / PAGE).expect("the lease is of a segment with room for the record"),
        length,
        finished_secs: u32::try_from(finished.unix_ms() / 1000).unwrap_or(u32::MAX),
        header_pages: u8::try_from(header_pages).expect("HEADER_PAGES_MAX is small"),
    }
}

/// The record is durable: from here on it counts, whatever becomes of its index entry. The entry comes
/// before the record is visible, so that no delete's entry can stand in front of it.
fn put(
    store: &Inner,
    segment: &Segment,
    index: &mut IndexFile,
    blob: BlobId,
    extent: Extent,
    finished: Timestamp,
) {
    segment.end.store(extent.end(), Ordering::Release);
    let appended = index.append(&*store.disk, &[Entry::Put { blob, extent, finished }]);
    if let Err(e) = appended {
        // A later entry would hide this record from the scan that finds it when the store is opened.
        tracing::error!(segment = %segment.number(), error = %e, "an index entry could not be written");
        store.poison(segment, FailedStep::Index, &e);
    }
}

/// Writes to a segment; any failure but a full disk poisons it.
pub(super) fn write_at(
    store: &Inner,
    segment: &Segment,
    bytes: &[u8],
    offset: u64,
) -> Result<(), WriteError> {
    if segment.is_poisoned() {
        return Err(WriteError::Aborted);
    }
    segment.file.write_at(bytes, offset).map_err(|e| {
        if is_full(&e) {
            let available = store.available().unwrap_or(0);
            return WriteError::NoSpace { needed: bytes.len() as u64, available };
        }
        store.poison(segment, FailedStep::Write, &e);
        WriteError::Io(e)
    })
}

fn sync(store: &Inner, segment: &Segment) -> Result<(), WriteError> {
    #[cfg(test)]
    if crate::store::planted::is(crate::store::planted::Bug::SkipSync) {
        return Ok(());
    }
    let began = Instant::now();
    let synced = segment.file.sync_data();
    store.counters.synced(began.elapsed());
    synced.map_err(|e| {
        if is_full(&e) {
            tracing::error!(segment = %segment.number(), "the disk filled up during a sync");
        }
        store.poison(segment, FailedStep::Sync, &e);
        WriteError::Io(e)
    })
}
