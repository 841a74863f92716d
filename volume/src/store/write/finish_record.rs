//! The end of an upload: writes the last bytes and the trailer, and syncs; only then the record counts.
//!
//! Nothing here may succeed after a write or sync of the same segment failed. A record that replaces another one is
//! read back from the disk before its trailer makes it valid, and the old one is deleted last.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use shared::clock::Timestamp;
use shared::digest::Digest;
use shared::ids::BlobId;
use shared::limits::{BLOCK_BYTES, PAGE_BYTES};

use super::sums::Sums;
use super::{DurableRecord, WriteBuffer};
use crate::store::catalog::Dead;
use crate::store::error::{FailedStep, WriteError, is_full};
use crate::store::format::{PAGE, Trailer, bad_block, index};
use crate::store::index::{Entry, IndexFile};
use crate::store::lane::{AppendLane, WriteKind};
use crate::store::read::check_header_and_trailer;
use crate::store::segment::{Extent, Segment};
use crate::store::{Inner, lock};

pub(super) struct RecordFinish {
    pub(super) write_buffer: WriteBuffer,
    pub(super) sums: Sums,
    pub(super) position: u64,
    pub(super) blob: BlobId,
    pub(super) length: u64,
    pub(super) header_pages: usize,
}

/// Digest and checksums of a whole body, and the time for its trailer.
struct BodyDigests {
    digest: Digest,
    blocks: Vec<u32>,
    finished: Timestamp,
}

impl RecordFinish {
    /// Finishes the record. Blocks; the caller then finishes or aborts the lane.
    pub(super) fn write(mut self, lane: &mut AppendLane) -> Result<DurableRecord, WriteError> {
        let (store, segment) = (Arc::clone(&lane.store), Arc::clone(&lane.segment));
        self.sums
            .update(&self.write_buffer.buffer.as_slice()[self.write_buffer.fresh..self.write_buffer.used]);
        self.write_buffer.pad();
        let sums = std::mem::replace(&mut self.sums, Sums::new());
        let (digest, blocks) = sums.finish();
        match lane.purpose {
            WriteKind::New => {
                let whole = BodyDigests { digest, blocks, finished: store.options.clock.now() };
                let extent = self.write_trailer(lane, &store, &segment, &whole)?;
                append_index_entry(
                    &store,
                    &segment,
                    &mut lock(&segment.index),
                    self.blob,
                    extent,
                    whole.finished,
                );
                lock(&store.catalog).insert(self.blob, extent);
            }
            WriteKind::Replace { from, digest: expected } => {
                let finished = Timestamp::from_unix_ms(u64::from(from.finished_secs) * 1000);
                let whole = BodyDigests { digest, blocks, finished };
                if digest != expected || self.length != from.length {
                    return Err(WriteError::OtherBytes { blob: self.blob });
                }
                self.replace(lane, &store, &segment, from, &whole)?;
            }
        }
        Ok(DurableRecord { blob: self.blob, length: self.length, digest })
    }

    /// Writes the rest of the buffer and the trailer, and syncs both.
    fn write_trailer(
        &mut self,
        lane: &mut AppendLane,
        store: &Inner,
        segment: &Segment,
        whole: &BodyDigests,
    ) -> Result<Extent, WriteError> {
        let trailer =
            Trailer { blob: self.blob, length: self.length, digest: whole.digest, finished: whole.finished };
        let at = self.position + self.write_buffer.used as u64;
        let pages = trailer.encode(&segment.header, lane.start, at, &whole.blocks);
        let mut rest = pages.as_slice();
        while !rest.is_empty() {
            rest = &rest[self.write_buffer.push(rest)..];
            self.write_out(lane, store, segment)?;
        }
        sync(store, segment)?;
        let extent = extent(lane, self.length, self.header_pages, whole.finished);
        debug_assert_eq!(extent.end(), self.position, "the record ends where its extent says");
        Ok(extent)
    }

    fn write_out(
        &mut self,
        lane: &mut AppendLane,
        store: &Inner,
        segment: &Segment,
    ) -> Result<(), WriteError> {
        let used = self.write_buffer.used;
        lane.spend(used as u64)?;
        write_at(store, segment, &self.write_buffer.buffer.as_slice()[..used], self.position)?;
        self.position += used as u64;
        self.write_buffer.used = 0;
        Ok(())
    }

    /// Deletes the old record only when the new one was read back from the disk and is durable. A concurrent delete
    /// of the blob comes before the switch, and finds the old record, or after it, and finds the new one: both hold
    /// the lock of the old record's index.
    fn replace(
        &mut self,
        lane: &mut AppendLane,
        store: &Arc<Inner>,
        segment: &Arc<Segment>,
        from: Extent,
        whole: &BodyDigests,
    ) -> Result<(), WriteError> {
        self.write_out(lane, store, segment)?;
        sync(store, segment)?;
        self.read_back(lane, segment, whole)?;
        let gone = WriteError::Gone { blob: self.blob };
        let old = lock(&store.catalog).segment(from.segment);
        let Some(old) = old else { return Err(gone) };
        let _switching = lock(&store.switching);
        let mut old_index = lock(&old.index);
        if lock(&store.catalog).get(self.blob) != Some(from) {
            return Err(gone);
        }
        let written = self.write_trailer(lane, store, segment, whole);
        let written = written
            .and_then(|extent| self.check_header_and_trailer(store, segment, &extent).map(|()| extent));
        if written.is_err() && segment.is_poisoned() {
            // The trailer may be on the disk all the same: a delete of the blob must include it.
            let extent = extent(lane, self.length, self.header_pages, whole.finished);
            lock(&store.catalog).add_duplicate(self.blob, extent);
        }
        let extent = written?;
        if Arc::ptr_eq(&old, segment) {
            append_index_entry(store, segment, &mut old_index, self.blob, extent, whole.finished);
        } else {
            append_index_entry(store, segment, &mut lock(&segment.index), self.blob, extent, whole.finished);
        }
        let entry = Entry::Delete { blob: self.blob, extent: from };
        let deleted = store.append_deletes(&old, &mut old_index, &[entry]);
        if let Err(error) = deleted {
            // Now there is a duplicate. A delete of the blob must not succeed before both records are deleted.
            lock(&store.catalog).repoint_beside(self.blob, from, extent);
            tracing::warn!(blob = %self.blob, %error, "the old record of a blob could not be deleted");
            return Ok(());
        }
        let dead = lock(&store.catalog).repoint(self.blob, from, extent);
        store.release_index(&old, &mut old_index);
        store.punch_later(dead.into_iter().collect::<Vec<Dead>>());
        Ok(())
    }

    /// Reads header and trailer back from the disk. If they differ, the segment is poisoned: the disk
    /// cannot be trusted.
    fn check_header_and_trailer(
        &mut self,
        store: &Inner,
        segment: &Segment,
        extent: &Extent,
    ) -> Result<(), WriteError> {
        let (head, memory) = (extent.header_bytes(), self.write_buffer.buffer.as_mut_slice());
        let pages = &mut memory[..head + PAGE_BYTES];
        let header = segment.file.read_disk_at(&mut pages[..head], extent.offset());
        let trailer = segment.file.read_disk_at(&mut pages[head..], extent.trailer());
        let read = header.and_then(|n| trailer.map(|m| n + m));
        let whole = read.as_ref().is_ok_and(|n| *n == pages.len());
        if whole && check_header_and_trailer(&segment.header, self.blob, extent, pages).is_ok() {
            return Ok(());
        }
        let error = read.err().unwrap_or_else(|| std::io::ErrorKind::InvalidData.into());
        store.poison(segment, FailedStep::Write, &error);
        Err(WriteError::OtherBytes { blob: self.blob })
    }

    /// Reads the body back from the disk and verifies it.
    fn read_back(
        &mut self,
        lane: &AppendLane,
        segment: &Segment,
        whole: &BodyDigests,
    ) -> Result<(), WriteError> {
        let body = lane.start + self.header_pages as u64 * PAGE;
        let memory = self.write_buffer.buffer.as_mut_slice();
        let (mut at, mut block) = (0, 0);
        while at < self.length {
            let want = index((self.length - at).min(memory.len() as u64));
            let pages = want.next_multiple_of(PAGE_BYTES);
            let read = segment.file.read_disk_at(&mut memory[..pages], body + at)?;
            if read < want || bad_block(&memory[..want], &whole.blocks[block..]).is_some() {
                // The bytes written had the right digest, so the disk is at fault.
                let what = "the bytes read back from the disk do not match those written";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what).into());
            }
            at += want as u64;
            block += want.div_ceil(BLOCK_BYTES);
        }
        Ok(())
    }
}

fn extent(lane: &AppendLane, length: u64, header_pages: usize, finished: Timestamp) -> Extent {
    Extent {
        segment: lane.segment.number(),
        page: u32::try_from(lane.start / PAGE).expect("the lease is of a segment with room for the record"),
        length,
        finished_secs: u32::try_from(finished.unix_ms() / 1000).unwrap_or(u32::MAX),
        header_pages: u8::try_from(header_pages).expect("HEADER_PAGES_MAX is small"),
    }
}

/// Adds the index entry of a durable record, which counts from here on, even if this fails. The entry comes before
/// the record is visible, so that no delete entry can precede it.
fn append_index_entry(
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
        // A later entry would hide this record from the scan at the next opening, so no more are written.
        tracing::error!(segment = %segment.number(), error = %e, "an index entry could not be written");
        store.poison(segment, FailedStep::Index, &e);
    }
}

/// Writes to a segment; any failure except a full disk poisons it.
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
    if crate::store::planted_bugs::is(crate::store::planted_bugs::Bug::SkipSync) {
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
