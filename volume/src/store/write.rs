//! Writes: an upload takes an append lane, bytes flow through aligned buffers to the disk while they are hashed,
//! and `finish` makes the record durable before it makes it visible.
//!
//! An upload that does not finish leaves nothing behind: its segment is truncated to where the record began. An
//! upload never reports success after a failed write or sync, and never waits for a buffer while it holds one that
//! could be written.

mod finish_record;
mod inflight;
mod sums;
mod write_buffer;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use futures_util::future::{Either, select};
use shared::clock::Timestamp;
use shared::digest::Digest;
use shared::ids::BlobId;
use shared::key::Key;
use shared::limits::{
    BLOB_BYTES_MAX, BUFFER_HOLD_CONTENDED, BUFFER_PATIENCE, BUFFER_PATIENCE_CONTENDED, CARRY_BYTES_MAX,
    PAGE_BYTES, WRITES_IN_FLIGHT,
};
use shared::work::blocking;

use super::error::WriteError;
use super::format::{PAGE, RecordHeader, pages_of, trailer_pages};
use super::lane::AppendLane;
use super::{Inner, Store};
use finish_record::{RecordFinish, write_at};
use inflight::InflightWrites;
use write_buffer::WriteBuffer;

/// The description of a record, given before its first byte.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// Id, assigned by the master.
    pub blob: BlobId,
    pub key: Key,
    /// Media type, as the client gave it.
    pub content_type: Option<String>,
    /// User metadata: names and values.
    pub metadata: Vec<(String, String)>,
    /// Length in bytes, if known.
    pub length: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurableRecord {
    pub blob: BlobId,
    /// Length of the body in bytes.
    pub length: u64,
    /// BLAKE3 of the body.
    pub digest: Digest,
}

/// An upload under way. Dropping it aborts it.
#[derive(Debug)]
pub struct RecordWriter {
    store: Arc<Inner>,
    /// `None` once the upload is finished or being aborted.
    lane: Option<AppendLane>,
    header: RecordHeader,
    header_pages: usize,
    received: u64,
    write_buffer: Option<WriteBuffer>,
    /// Bytes for the beginning of the next buffer: header pages, the partial page left over by an early flush, and
    /// small pieces received since.
    carry: Vec<u8>,
    /// Offset in `carry` of the bytes that are not hashed yet.
    carry_fresh: usize,
    /// Offset in the segment for the next buffer.
    position: u64,
    inflight: InflightWrites,
    /// A call failed or was dropped half way: every further call fails.
    broken: bool,
}

impl Store {
    /// Begins an upload: checks that the blob is new, reserves space, takes an append lane.
    ///
    /// Dropping the future half way leaves nothing behind.
    pub async fn begin(&self, record: NewRecord) -> Result<RecordWriter, WriteError> {
        let inner = Arc::clone(&self.0);
        blocking(move || RecordWriter::begin(&inner, record)).await
    }

    /// Begins to rewrite a blob that is here, at another place: `finish` checks that the new record has this
    /// digest and reads it back from the disk; only then the blob points to it, and the old record is deleted. It
    /// may use the reserve.
    ///
    /// Dropping the future half way leaves nothing behind.
    pub async fn begin_rewrite(&self, record: NewRecord, digest: Digest) -> Result<RecordWriter, WriteError> {
        let inner = Arc::clone(&self.0);
        blocking(move || RecordWriter::begin_rewrite(&inner, record, digest)).await
    }
}

/// Refuses what can be refused before anything is claimed.
fn check(store: &Inner, record: &NewRecord) -> Result<(), WriteError> {
    if let Some(reason) = store.read_only.get() {
        return Err(WriteError::ReadOnly(*reason));
    }
    if record.length.is_some_and(|n| n > BLOB_BYTES_MAX) {
        return Err(WriteError::TooLong { limit: BLOB_BYTES_MAX });
    }
    Ok(())
}

impl RecordWriter {
    fn begin(store: &Arc<Inner>, record: NewRecord) -> Result<Self, WriteError> {
        check(store, &record)?;
        let lane = AppendLane::acquire(store, record.blob, record.length)?;
        let created = store.options.clock.now();
        Self::in_lane(store, lane, record, created)
    }

    fn begin_rewrite(store: &Arc<Inner>, record: NewRecord, digest: Digest) -> Result<Self, WriteError> {
        check(store, &record)?;
        let length = record.length.ok_or(WriteError::Metadata)?;
        let lane = AppendLane::acquire_for_rewrite(store, record.blob, length, digest)?;
        let created = record.blob.created();
        Self::in_lane(store, lane, record, created)
    }

    fn in_lane(
        store: &Arc<Inner>,
        lane: AppendLane,
        record: NewRecord,
        created: Timestamp,
    ) -> Result<Self, WriteError> {
        let header = RecordHeader {
            blob: record.blob,
            key: record.key,
            content_type: record.content_type,
            metadata: record.metadata,
            declared: record.length,
            created,
        };
        let position = lane.start;
        let carry = header.encode(&lane.segment.header, position).map_err(|_| WriteError::Metadata)?;
        Ok(Self {
            store: Arc::clone(store),
            lane: Some(lane),
            header,
            header_pages: carry.len() / PAGE_BYTES,
            received: 0,
            write_buffer: None,
            carry_fresh: carry.len(),
            carry,
            position,
            inflight: InflightWrites::new(),
            broken: false,
        })
    }

    /// Bytes received so far.
    pub fn length(&self) -> u64 {
        self.received
    }

    /// The blob being written.
    pub fn blob(&self) -> BlobId {
        self.header.blob
    }

    /// Returns BLAKE3 of the bytes received so far, to compare with a declared digest before `finish` makes
    /// the record visible.
    pub async fn digest_so_far(&mut self) -> Result<Digest, WriteError> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(WriteError::Aborted);
        }
        self.write_buffer().await;
        self.inflight.wait_until_at_most(0).await?;
        let mut sums = self.inflight.sums().await;
        let mut filling = self.write_buffer.take();
        let (sums, filling) = blocking(move || {
            if let Some(filling) = &mut filling {
                sums.update(&filling.buffer.as_slice()[filling.fresh..filling.used]);
                filling.fresh = filling.used;
            }
            (sums, filling)
        })
        .await;
        let digest = sums.digest();
        self.inflight.put_back(sums);
        (self.write_buffer, self.broken) = (filling, false);
        Ok(digest)
    }

    /// Writes bytes of the body; waits while the disk is behind.
    ///
    /// After an error, or when the future was dropped half way, every further call fails.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(WriteError::Aborted);
        }
        let limit = self.header.declared.unwrap_or(BLOB_BYTES_MAX);
        if bytes.len() as u64 > limit - self.received {
            return Err(WriteError::TooLong { limit });
        }
        // Small pieces take no buffer: buffers are few, and fast clients fill theirs at once.
        if self.write_buffer.is_none() && self.carry.len() + bytes.len() <= CARRY_BYTES_MAX {
            self.carry.extend_from_slice(bytes);
            self.received += bytes.len() as u64;
            self.broken = false;
            return Ok(());
        }
        while !bytes.is_empty() {
            let filling = self.write_buffer().await;
            let taken = filling.push(bytes);
            let full = filling.room() == 0;
            bytes = &bytes[taken..];
            self.received += taken as u64;
            if full {
                self.flush().await?;
            }
        }
        let held = self.write_buffer.as_ref().map(|f| f.since.elapsed());
        if held.is_some_and(|held| held > BUFFER_HOLD_CONTENDED) && self.store.write_pool.contended() {
            self.flush().await?;
        }
        self.broken = false;
        Ok(())
    }

    /// Waits for `other`: the client, or the next volume of a chain. If that takes long, the upload's buffer returns
    /// to its pool meanwhile: other uploads wait for it, and a ring of chains could deadlock.
    ///
    /// Errors are those of `write`.
    pub async fn meanwhile<T>(&mut self, other: impl Future<Output = T>) -> Result<T, WriteError> {
        let mut other = pin!(other);
        if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(other.as_mut().poll(cx))).await {
            return Ok(output);
        }
        let began = Instant::now();
        while self.write_buffer.is_some() {
            if let Ok(output) = tokio::time::timeout(BUFFER_PATIENCE_CONTENDED, &mut other).await {
                return Ok(output);
            }
            if !self.store.write_pool.contended() && began.elapsed() < BUFFER_PATIENCE {
                continue;
            }
            match select(pin!(self.release_buffer()), &mut other).await {
                Either::Left((rested, _)) => rested?,
                Either::Right((output, rested)) => {
                    rested.await?;
                    return Ok(output);
                }
            }
        }
        Ok(other.await)
    }

    /// Writes the buffer out and returns it to the pool; waits until no write of this upload is in flight.
    ///
    /// Errors are those of `write`.
    pub async fn release_buffer(&mut self) -> Result<(), WriteError> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(WriteError::Aborted);
        }
        self.flush().await?;
        self.inflight.wait_until_at_most(0).await?;
        self.broken = false;
        Ok(())
    }

    async fn write_buffer(&mut self) -> &mut WriteBuffer {
        if self.write_buffer.is_none() {
            let mut buffer = self.store.write_pool.take().await;
            let used = self.carry.len();
            buffer.as_mut_slice()[..used].copy_from_slice(&self.carry);
            self.carry.clear();
            let fresh = std::mem::take(&mut self.carry_fresh);
            self.write_buffer = Some(WriteBuffer { buffer, used, fresh, since: Instant::now() });
        }
        self.write_buffer.as_mut().expect("it was filled above")
    }

    /// Submits the buffer to the disk and the hashes. A partial page stays in `carry`.
    async fn flush(&mut self) -> Result<(), WriteError> {
        // While other uploads wait for buffers, one write in flight is enough.
        let ahead = if self.store.write_pool.contended() { 0 } else { WRITES_IN_FLIGHT - 1 };
        self.inflight.wait_until_at_most(ahead).await?;
        let (Some(filling), Some(lane)) = (self.write_buffer.take(), &mut self.lane) else { return Ok(()) };
        let WriteBuffer { buffer, used, fresh, .. } = filling;
        let whole = used / PAGE_BYTES * PAGE_BYTES;
        self.carry.extend_from_slice(&buffer.as_slice()[whole..used]);
        self.carry_fresh = self.carry.len();
        lane.spend(whole as u64)?;
        let (segment, store) = (Arc::clone(&lane.segment), Arc::clone(&self.store));
        let position = self.position;
        self.position += whole as u64;
        self.inflight.submit(buffer, fresh..used, move |buffer| {
            write_at(&store, &segment, &buffer.as_slice()[..whole], position)
        });
        Ok(())
    }

    /// Makes the record durable, then visible. On an error nothing of it is kept; a future dropped
    /// half way may still finish the record.
    pub async fn finish(mut self) -> Result<DurableRecord, WriteError> {
        match self.try_finish().await {
            Ok(stored) => Ok(stored),
            Err(e) => {
                self.abort().await;
                Err(e)
            }
        }
    }

    async fn try_finish(&mut self) -> Result<DurableRecord, WriteError> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(WriteError::Aborted);
        }
        let received = self.received;
        if let Some(declared) = self.header.declared.filter(|n| *n != received) {
            return Err(WriteError::ShortBody { declared, received });
        }
        self.write_buffer().await;
        self.inflight.wait_until_at_most(0).await?;
        let sums = self.inflight.sums().await;
        let (Some(mut lane), Some(filling)) = (self.lane.take(), self.write_buffer.take()) else {
            return Err(WriteError::Aborted);
        };
        let last = RecordFinish {
            write_buffer: filling,
            sums: *sums,
            position: self.position,
            blob: self.header.blob,
            length: received,
            header_pages: self.header_pages,
        };
        // One hop to the blocking pool. It owns the lane, so it finishes or aborts even if this future is dropped.
        blocking(move || match last.write(&mut lane) {
            Ok(stored) => {
                lane.finished();
                Ok(stored)
            }
            Err(e) => {
                lane.abort();
                Err(e)
            }
        })
        .await
    }

    /// Aborts the upload; returns when nothing of it is left. (Dropping it does the same in the background.)
    pub async fn abort(mut self) {
        while self.inflight.wait_until_at_most(0).await.is_err() {}
        if let Some(mut lane) = self.lane.take() {
            blocking(move || lane.abort()).await;
        }
    }
}

impl Drop for RecordWriter {
    fn drop(&mut self) {
        let Some(lane) = self.lane.take() else { return };
        if self.inflight.is_empty() {
            return drop(lane);
        }
        let mut flights = std::mem::replace(&mut self.inflight, InflightWrites::new());
        match tokio::runtime::Handle::try_current() {
            // Writes in flight must not reach the disk after the segment was truncated.
            Ok(runtime) => {
                let job = self.store.job();
                drop(runtime.spawn(async move {
                    while flights.wait_until_at_most(0).await.is_err() {}
                    drop(lane);
                    drop(job);
                }));
            }
            // The runtime has shut down, and nothing can be awaited: the next opening cuts off the tail.
            Err(_) => lane.abandon(),
        }
    }
}

/// Returns the most bytes that a record takes beyond its body of this length.
pub(super) fn overhead(length: u64) -> u64 {
    let padding = pages_of(length) * PAGE - length;
    super::format::HEADER_PAGES_MAX as u64 * PAGE + padding + trailer_pages(length) * PAGE
}

#[cfg(test)]
mod tests;
