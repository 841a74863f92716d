//! Uploads: a lane is leased, bytes flow through aligned buffers to the disk while they are hashed,
//! and `finish` makes them durable before it makes them visible.
//!
//! An upload that does not finish leaves nothing behind: its segment is cut back to where it began.
//! It never reports success on top of a failed write or sync, and never waits for a buffer while it
//! holds one that could be written.

mod filling;
mod flights;
mod last;
mod sums;

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
use super::lane::Lease;
use super::{Inner, Store};
use filling::Filling;
use flights::Flights;
use last::{Last, write_at};

/// What an upload says of itself before its first byte.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// Its id, given out by the master.
    pub blob: BlobId,
    /// The key it is a version of.
    pub key: Key,
    /// Media type, as the client gave it.
    pub content_type: Option<String>,
    /// User metadata: names and values.
    pub metadata: Vec<(String, String)>,
    /// Length in bytes, if it is known.
    pub length: Option<u64>,
}

/// A record that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub blob: BlobId,
    /// Its length in bytes.
    pub length: u64,
    /// BLAKE3 of its bytes.
    pub digest: Digest,
}

/// An upload under way. Dropping it aborts it.
#[derive(Debug)]
pub struct Upload {
    store: Arc<Inner>,
    /// None once it is finished or being aborted.
    lease: Option<Lease>,
    header: RecordHeader,
    header_pages: usize,
    received: u64,
    filling: Option<Filling>,
    /// Bytes that go in front of the next buffer: header pages, the part of a page that an early flush left over,
    /// and what a client that sends little at a time has sent since.
    carry: Vec<u8>,
    /// Where those begin that are not hashed yet.
    carry_fresh: usize,
    /// Where in the segment the next buffer goes.
    position: u64,
    flights: Flights,
    /// A call failed or was given up half way: only dropping is left.
    broken: bool,
}

impl Store {
    /// Begins an upload: checks that the blob is new, sets space aside, leases a lane.
    ///
    /// Dropping the future half way leaves nothing behind.
    pub async fn begin(&self, record: NewRecord) -> Result<Upload, WriteError> {
        let inner = Arc::clone(&self.0);
        blocking(move || Upload::begin(&inner, record)).await
    }

    /// Begins to write a blob that is here anew, at another place: `finish` checks that it has this digest, reads it
    /// back from the disk, and only then points the blob to it and deletes the old record. It may use the reserve.
    ///
    /// Dropping the future half way leaves nothing behind.
    pub async fn begin_again(&self, record: NewRecord, digest: Digest) -> Result<Upload, WriteError> {
        let inner = Arc::clone(&self.0);
        blocking(move || Upload::begin_again(&inner, record, digest)).await
    }
}

/// What can be refused before anything is claimed.
fn check(store: &Inner, record: &NewRecord) -> Result<(), WriteError> {
    if let Some(reason) = store.read_only.get() {
        return Err(WriteError::ReadOnly(*reason));
    }
    if record.length.is_some_and(|n| n > BLOB_BYTES_MAX) {
        return Err(WriteError::TooLong { limit: BLOB_BYTES_MAX });
    }
    Ok(())
}

impl Upload {
    fn begin(store: &Arc<Inner>, record: NewRecord) -> Result<Self, WriteError> {
        check(store, &record)?;
        let lease = Lease::take(store, record.blob, record.length)?;
        let created = store.options.clock.now();
        Self::in_lane(store, lease, record, created)
    }

    fn begin_again(store: &Arc<Inner>, record: NewRecord, digest: Digest) -> Result<Self, WriteError> {
        check(store, &record)?;
        let length = record.length.ok_or(WriteError::Metadata)?;
        let lease = Lease::take_again(store, record.blob, length, digest)?;
        let created = record.blob.created();
        Self::in_lane(store, lease, record, created)
    }

    fn in_lane(
        store: &Arc<Inner>,
        lease: Lease,
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
        let position = lease.start;
        let carry = header.encode(&lease.segment.header, position).map_err(|_| WriteError::Metadata)?;
        Ok(Self {
            store: Arc::clone(store),
            lease: Some(lease),
            header,
            header_pages: carry.len() / PAGE_BYTES,
            received: 0,
            filling: None,
            carry_fresh: carry.len(),
            carry,
            position,
            flights: Flights::new(),
            broken: false,
        })
    }

    /// Bytes taken so far.
    pub fn length(&self) -> u64 {
        self.received
    }

    /// The blob being written.
    pub fn blob(&self) -> BlobId {
        self.header.blob
    }

    /// BLAKE3 of the bytes taken so far: to be compared with what was declared before `finish` makes
    /// the record visible.
    pub async fn digest_so_far(&mut self) -> Result<Digest, WriteError> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(WriteError::Aborted);
        }
        self.filling().await;
        self.flights.land(0).await?;
        let mut sums = self.flights.sums().await;
        let mut filling = self.filling.take();
        let (sums, filling) = blocking(move || {
            if let Some(filling) = &mut filling {
                sums.update(&filling.buffer.as_slice()[filling.fresh..filling.used]);
                filling.fresh = filling.used;
            }
            (sums, filling)
        })
        .await;
        let digest = sums.digest();
        self.flights.put_back(sums);
        (self.filling, self.broken) = (filling, false);
        Ok(digest)
    }

    /// Takes bytes of the body; waits while the disk is behind.
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
        // Whoever sends little at a time takes no buffer for it: there are few, and others fill theirs at once.
        if self.filling.is_none() && self.carry.len() + bytes.len() <= CARRY_BYTES_MAX {
            self.carry.extend_from_slice(bytes);
            self.received += bytes.len() as u64;
            self.broken = false;
            return Ok(());
        }
        while !bytes.is_empty() {
            let filling = self.filling().await;
            let taken = filling.push(bytes);
            let full = filling.room() == 0;
            bytes = &bytes[taken..];
            self.received += taken as u64;
            if full {
                self.flush().await?;
            }
        }
        let held = self.filling.as_ref().map(|f| f.since.elapsed());
        if held.is_some_and(|held| held > BUFFER_HOLD_CONTENDED) && self.store.write_pool.contended() {
            self.flush().await?;
        }
        self.broken = false;
        Ok(())
    }

    /// Waits for `other`: the client, or the next volume of a chain. When that takes long, the upload's buffer goes back
    /// to its pool meanwhile: others wait for it, and in a ring of chains they would wait for each other.
    ///
    /// Errors are those of `write`.
    pub async fn meanwhile<T>(&mut self, other: impl Future<Output = T>) -> Result<T, WriteError> {
        let mut other = pin!(other);
        if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(other.as_mut().poll(cx))).await {
            return Ok(output);
        }
        let began = Instant::now();
        while self.filling.is_some() {
            if let Ok(output) = tokio::time::timeout(BUFFER_PATIENCE_CONTENDED, &mut other).await {
                return Ok(output);
            }
            if !self.store.write_pool.contended() && began.elapsed() < BUFFER_PATIENCE {
                continue;
            }
            match select(pin!(self.rest()), &mut other).await {
                Either::Left((rested, _)) => rested?,
                Either::Right((output, rested)) => {
                    rested.await?;
                    return Ok(output);
                }
            }
        }
        Ok(other.await)
    }

    /// Gives the buffer back: writes what it holds, and returns when nothing of this upload is on its way any more.
    ///
    /// Errors are those of `write`.
    pub async fn rest(&mut self) -> Result<(), WriteError> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(WriteError::Aborted);
        }
        self.flush().await?;
        self.flights.land(0).await?;
        self.broken = false;
        Ok(())
    }

    async fn filling(&mut self) -> &mut Filling {
        if self.filling.is_none() {
            let mut buffer = self.store.write_pool.take().await;
            let used = self.carry.len();
            buffer.as_mut_slice()[..used].copy_from_slice(&self.carry);
            self.carry.clear();
            let fresh = std::mem::take(&mut self.carry_fresh);
            self.filling = Some(Filling { buffer, used, fresh, since: Instant::now() });
        }
        self.filling.as_mut().expect("it was filled above")
    }

    /// Sends the buffer off, to the disk and through the hashes. What does not fill a page stays behind in `carry`.
    async fn flush(&mut self) -> Result<(), WriteError> {
        // While others wait for buffers one on its way is enough.
        let ahead = if self.store.write_pool.contended() { 0 } else { WRITES_IN_FLIGHT - 1 };
        self.flights.land(ahead).await?;
        let (Some(filling), Some(lease)) = (self.filling.take(), &mut self.lease) else { return Ok(()) };
        let Filling { buffer, used, fresh, .. } = filling;
        let whole = used / PAGE_BYTES * PAGE_BYTES;
        self.carry.extend_from_slice(&buffer.as_slice()[whole..used]);
        self.carry_fresh = self.carry.len();
        lease.spend(whole as u64)?;
        let (segment, store) = (Arc::clone(&lease.segment), Arc::clone(&self.store));
        let position = self.position;
        self.position += whole as u64;
        self.flights.depart(buffer, fresh..used, move |buffer| {
            write_at(&store, &segment, &buffer.as_slice()[..whole], position)
        });
        Ok(())
    }

    /// Makes the record durable, then visible. On an error nothing of it is kept; a future dropped
    /// half way may still finish the record.
    pub async fn finish(mut self) -> Result<Stored, WriteError> {
        match self.try_finish().await {
            Ok(stored) => Ok(stored),
            Err(e) => {
                self.abort().await;
                Err(e)
            }
        }
    }

    async fn try_finish(&mut self) -> Result<Stored, WriteError> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(WriteError::Aborted);
        }
        let received = self.received;
        if let Some(declared) = self.header.declared.filter(|n| *n != received) {
            return Err(WriteError::ShortBody { declared, received });
        }
        self.filling().await;
        self.flights.land(0).await?;
        let sums = self.flights.sums().await;
        let (Some(mut lease), Some(filling)) = (self.lease.take(), self.filling.take()) else {
            return Err(WriteError::Aborted);
        };
        let last = Last {
            filling,
            sums: *sums,
            position: self.position,
            blob: self.header.blob,
            length: received,
            header_pages: self.header_pages,
        };
        // One hop for all of it. It owns the lease, so it ends well or aborts even if nobody waits.
        blocking(move || match last.write(&mut lease) {
            Ok(stored) => {
                lease.finished();
                Ok(stored)
            }
            Err(e) => {
                lease.abort();
                Err(e)
            }
        })
        .await
    }

    /// Gives the upload up; returns when nothing of it is left. (Dropping it does the same, later.)
    pub async fn abort(mut self) {
        while self.flights.land(0).await.is_err() {}
        if let Some(mut lease) = self.lease.take() {
            blocking(move || lease.abort()).await;
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        if self.flights.is_empty() {
            return drop(lease);
        }
        let mut flights = std::mem::replace(&mut self.flights, Flights::new());
        match tokio::runtime::Handle::try_current() {
            // Writes that are on their way must not land after the segment was cut.
            Ok(runtime) => {
                let job = self.store.job();
                drop(runtime.spawn(async move {
                    while flights.land(0).await.is_err() {}
                    drop(lease);
                    drop(job);
                }));
            }
            // The runtime went down, and nothing can be waited for: the next opening cuts the tail.
            Err(_) => lease.abandon(),
        }
    }
}

/// Bytes that a record takes beyond its body, at most, for a body of this length.
pub(super) fn overhead(length: u64) -> u64 {
    let padding = pages_of(length) * PAGE - length;
    super::format::HEADER_PAGES_MAX as u64 * PAGE + padding + trailer_pages(length) * PAGE
}

#[cfg(test)]
mod tests;
