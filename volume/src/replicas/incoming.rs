//! Receives a replica from other volumes, for a master that adds one here (re-replication), or for the healer that
//! restores a lost record. The bytes come as one stream, which continues at the next source when one fails.
//!
//! A replica counts only if a master has confirmed twice that the blob is expected here: before the first byte and
//! after the last. A concurrent delete wins, whichever ends first: it marks the pending replica, then deletes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use shared::http::body;
use shared::ids::BlobId;
use shared::limits::{BODY_RATE_GRACE, BODY_RATE_MIN, CHAIN_STALL_TIMEOUT, INCOMING_REPLICAS_MAX};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::replicas::sources::{NoReplicaSources, ReplicaSources, SourceError};
use crate::server::Volume;
use crate::store::{Corruption, DeleteError, DurableRecord, ReadError, RecordWriter, Throttle, WriteError};

/// The pending replicas of this volume.
#[derive(Debug)]
pub struct IncomingReplicas {
    /// The value tells whether the blob was deleted meanwhile.
    under_way: Mutex<BTreeMap<BlobId, bool>>,
    slots: Arc<Semaphore>,
    /// Rate of all incoming replicas together; `reading_back` is that of verifying them.
    pace: Throttle,
    reading_back: Throttle,
    received: AtomicU64,
    received_bytes: AtomicU64,
}

/// A pending replica, registered until this is dropped.
#[derive(Debug)]
pub struct IncomingReplica {
    incoming: Arc<IncomingReplicas>,
    blob: BlobId,
    /// One of `INCOMING_REPLICAS_MAX`; the healer needs none.
    _slot: Option<OwnedSemaphorePermit>,
}

/// Why a replica was not added; nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum AddReplicaError {
    #[error("{INCOMING_REPLICAS_MAX} replicas are being received already, which is the limit")]
    TooMany,
    /// By another call or an upload.
    #[error("blob {blob} is already being written")]
    UnderWay { blob: BlobId },
    #[error("blob {blob} is no longer expected here")]
    Gone { blob: BlobId },
    #[error(transparent)]
    NoSources(#[from] NoReplicaSources),
    #[error("received {came} of {length} bytes of blob {blob}, then all sources failed: {last}")]
    Broken {
        blob: BlobId,
        came: u64,
        length: u64,
        /// The error of the last source.
        #[source]
        last: SourceError,
    },
    /// With each of the sources as the first one.
    #[error("the bytes received for blob {blob} do not match its digest")]
    OtherBytes { blob: BlobId },
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The record here is corrupt, or could not be read back.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its record could not be deleted again.
    #[error(transparent)]
    Delete(#[from] DeleteError),
    /// The task that made it durable panicked.
    #[error("the volume failed while making blob {blob} durable")]
    Failed { blob: BlobId },
}

impl Default for IncomingReplicas {
    fn default() -> Self {
        Self {
            under_way: Mutex::default(),
            slots: Arc::new(Semaphore::new(INCOMING_REPLICAS_MAX)),
            pace: Throttle::new(0),
            reading_back: Throttle::new(0),
            received: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
        }
    }
}

impl IncomingReplicas {
    /// Returns the number of replicas received, and their bytes.
    pub fn received(&self) -> (u64, u64) {
        (self.received.load(Ordering::Relaxed), self.received_bytes.load(Ordering::Relaxed))
    }

    /// Marks blobs as deleted, before the store deletes them.
    pub fn mark_deleted(&self, blobs: &[BlobId]) {
        let mut under_way = self.under_way();
        for blob in blobs {
            if let Some(doomed) = under_way.get_mut(blob) {
                *doomed = true;
            }
        }
    }

    /// Registers a pending replica, before the masters are asked about it: they know of any delete before this.
    fn register(
        self: &Arc<Self>,
        blob: BlobId,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<IncomingReplica, AddReplicaError> {
        let mut under_way = self.under_way();
        if under_way.contains_key(&blob) {
            return Err(AddReplicaError::UnderWay { blob });
        }
        under_way.insert(blob, false);
        Ok(IncomingReplica { incoming: Arc::clone(self), blob, _slot: place })
    }

    fn try_slot(&self) -> Result<OwnedSemaphorePermit, AddReplicaError> {
        Arc::clone(&self.slots).try_acquire_owned().map_err(|_| AddReplicaError::TooMany)
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<BlobId, bool>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IncomingReplica {
    fn check(&self) -> Result<(), AddReplicaError> {
        let doomed = self.incoming.under_way().get(&self.blob).copied().unwrap_or(true);
        if doomed { Err(AddReplicaError::Gone { blob: self.blob }) } else { Ok(()) }
    }
}

impl Drop for IncomingReplica {
    fn drop(&mut self) {
        self.incoming.under_way().remove(&self.blob);
    }
}

/// Adds a replica, or checks the one that is here. With `verify` all of it is read back from the disk. The rate holds
/// for all incoming replicas from now on.
///
/// # Errors
/// When there is no good replica here afterwards. A corrupt one is reported to the healer.
pub async fn add_replica(
    volume: &Arc<Volume>,
    blob: BlobId,
    bytes_per_second: u64,
    verify: bool,
) -> Result<DurableRecord, AddReplicaError> {
    let all = &volume.incoming_replicas;
    let slot = all.try_slot()?;
    all.pace.set_rate(bytes_per_second);
    all.reading_back.set_rate(bytes_per_second);
    let incoming = all.register(blob, Some(slot))?;
    if volume.store.has(blob) {
        return check_existing(volume, &incoming, verify).await;
    }
    let stored = fetch_replica(volume, incoming, &all.pace, verify).await?;
    all.received.fetch_add(1, Ordering::Relaxed);
    all.received_bytes.fetch_add(stored.length, Ordering::Relaxed);
    Ok(stored)
}

/// Re-creates a record that is missing here.
///
/// # Errors
/// When no source provides it.
pub async fn restore_replica(volume: &Arc<Volume>, blob: BlobId) -> Result<DurableRecord, AddReplicaError> {
    let incoming = volume.incoming_replicas.register(blob, None)?;
    fetch_replica(volume, incoming, &Throttle::new(0), false).await
}

/// Checks a record that is here already: the answer to an earlier call may have been lost.
async fn check_existing(
    volume: &Arc<Volume>,
    incoming: &IncomingReplica,
    verify: bool,
) -> Result<DurableRecord, AddReplicaError> {
    let blob = incoming.blob;
    let known = ReplicaSources::ask(volume, blob).await?;
    let expected = DurableRecord { blob, length: known.length, digest: known.blake3 };
    let found = if verify {
        volume.store.verify(blob, &volume.incoming_replicas.reading_back).await
    } else {
        let reader = volume.store.reader(blob).await;
        reader.map(|r| DurableRecord { blob, length: r.length(), digest: r.digest() })
    };
    let error = match found {
        Ok(found) if found == expected => return incoming.check().map(|()| found),
        Ok(_) => ReadError::Corrupt { blob, what: Corruption::Digest },
        Err(ReadError::NotFound { .. }) => return Err(AddReplicaError::Gone { blob }),
        Err(error) => error,
    };
    volume.healer.report(volume, blob, &error);
    Err(error.into())
}

async fn fetch_replica(
    volume: &Arc<Volume>,
    incoming: IncomingReplica,
    pace: &Throttle,
    verify: bool,
) -> Result<DurableRecord, AddReplicaError> {
    let blob = incoming.blob;
    let mut sources = ReplicaSources::find(volume, blob).await?;
    let digest = sources.known().blake3;
    // If the bytes come from several sources, it is unknown which one was wrong: so each is the first one once.
    for first in 0..sources.count() {
        let begun = volume.store.begin(sources.record()).await;
        let mut upload = begun.map_err(|e| match e {
            WriteError::Exists { .. } => AddReplicaError::UnderWay { blob },
            e => e.into(),
        })?;
        let filled = fetch_all(volume, &mut sources, first, &mut upload, pace).await;
        let found = match filled {
            Ok(()) => upload.digest_so_far().await.map_err(AddReplicaError::from),
            Err(error) => Err(error),
        };
        match found {
            Ok(found) if found == digest => {
                // From here on the caller may disconnect: a durable record must still be removed if it was deleted.
                let ended =
                    tokio::spawn(Box::pin(finish_if_pending(Arc::clone(volume), incoming, upload, verify)));
                return ended.await.unwrap_or(Err(AddReplicaError::Failed { blob }));
            }
            Ok(_) => {
                upload.abort().await;
                tracing::warn!(%blob, source = sources.address(first), "the bytes received for a blob do not match its digest; trying the next source");
            }
            Err(error) => {
                upload.abort().await;
                return Err(error);
            }
        }
    }
    Err(AddReplicaError::OtherBytes { blob })
}

/// Makes the record durable if it is still expected here, and deletes it again if the blob was deleted meanwhile.
async fn finish_if_pending(
    volume: Arc<Volume>,
    incoming: IncomingReplica,
    mut upload: RecordWriter,
    verify: bool,
) -> Result<DurableRecord, AddReplicaError> {
    let asked = upload.meanwhile(ReplicaSources::ask(&volume, incoming.blob)).await;
    let expected = asked.map_err(AddReplicaError::from).and_then(|known| Ok(known.map(|_| ())?));
    if let Err(error) = expected.and_then(|()| incoming.check()) {
        upload.abort().await;
        return Err(error);
    }
    let stored = upload.finish().await?;
    keep_or_delete(&volume, &incoming, stored, verify).await
}

/// Decides about a durable record for which no receipt exists yet.
async fn keep_or_delete(
    volume: &Volume,
    incoming: &IncomingReplica,
    stored: DurableRecord,
    verify: bool,
) -> Result<DurableRecord, AddReplicaError> {
    let read_back = async {
        incoming.check()?;
        if verify {
            let found = volume.store.verify(stored.blob, &volume.incoming_replicas.reading_back).await;
            if found.map_err(AddReplicaError::from)? != stored {
                return Err(AddReplicaError::OtherBytes { blob: stored.blob });
            }
            incoming.check()?;
        }
        Ok(stored)
    };
    let kept = match read_back.await {
        // A delete was faster.
        Err(AddReplicaError::Read(ReadError::NotFound { blob })) => Err(AddReplicaError::Gone { blob }),
        kept => kept,
    };
    if kept.is_err() {
        volume.store.delete(vec![stored.blob]).await?;
    }
    kept
}

/// Fetches all bytes, beginning with source `first`; each source continues where the one before it stopped. When all
/// fail, the masters are asked for new sources; a second failure at the same byte is an error.
async fn fetch_all(
    volume: &Volume,
    sources: &mut ReplicaSources,
    first: usize,
    upload: &mut RecordWriter,
    pace: &Throttle,
) -> Result<(), AddReplicaError> {
    let (blob, length) = (upload.blob(), sources.known().length);
    let (mut number, mut idle, mut asked_at) = (first, 0, None);
    while upload.length() < length {
        let came = upload.length();
        let broke = fetch_from(sources, number, upload, pace).await?;
        let Some(last) = broke else { continue };
        tracing::debug!(%blob, source = sources.address(number), came = upload.length(), %last, "a source failed; continuing with the next");
        idle = if upload.length() > came { 0 } else { idle + 1 };
        number += 1;
        if idle < sources.count() {
            continue;
        }
        if asked_at == Some(came) {
            return Err(AddReplicaError::Broken { blob, came, length, last });
        }
        *sources = upload.meanwhile(ReplicaSources::find(volume, blob)).await??;
        (idle, asked_at) = (0, Some(came));
    }
    Ok(())
}

/// Fetches from one source. Returns why it failed, or `None` at the end of the value.
async fn fetch_from(
    sources: &ReplicaSources,
    number: usize,
    upload: &mut RecordWriter,
    pace: &Throttle,
) -> Result<Option<SourceError>, WriteError> {
    let mut body = match upload.meanwhile(sources.open(number, upload.length())).await? {
        Ok(body) => body,
        Err(error) => return Ok(Some(error)),
    };
    let length = sources.known().length;
    let (mut bytes, mut waited) = (0, Duration::ZERO);
    loop {
        let began = Instant::now();
        let frame = match upload.meanwhile(next(&mut body)).await? {
            Ok(Some(frame)) => frame,
            Ok(None) if upload.length() == length => return Ok(None),
            Ok(None) => return Ok(Some(SourceError::Short)),
            Err(error) => return Ok(Some(error)),
        };
        if frame.len() as u64 > length - upload.length() {
            return Ok(Some(SourceError::Long));
        }
        // Count only the time spent waiting for the source, not that of our own writes and throttle.
        waited += began.elapsed();
        bytes += frame.len() as u64;
        upload.write(&frame).await?;
        if waited > BODY_RATE_GRACE && bytes / waited.as_secs().max(1) < BODY_RATE_MIN {
            return Ok(Some(SourceError::Stalled));
        }
        upload.meanwhile(pace.spend(frame.len())).await?;
    }
}

async fn next(body: &mut Incoming) -> Result<Option<bytes::Bytes>, SourceError> {
    let next = tokio::time::timeout(CHAIN_STALL_TIMEOUT, body::next(body)).await;
    Ok(next.map_err(|_| SourceError::Stalled)??)
}

#[cfg(test)]
pub(crate) mod tests;
