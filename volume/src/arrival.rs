//! A blob's record on its way in from other volumes: asked for by a master that makes a copy here, or by the healer for one
//! that is lost. Its bytes come as one stream, which goes on at the next source when one breaks.
//!
//! Nothing counts before a master has said twice that the blob is expected here: before the first byte and after the last. A
//! delete that comes meanwhile wins, whichever of the two is faster at the end: it dooms the arrival first and deletes then.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use shared::http::body;
use shared::ids::BlobId;
use shared::limits::{BODY_RATE_GRACE, BODY_RATE_MIN, CHAIN_STALL_TIMEOUT, COPIES_IN_MAX};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::copies::{Copies, NoCopies, SourceError};
use crate::server::Volume;
use crate::store::{Damage, DeleteError, ReadError, Stored, Throttle, Upload, WriteError};

/// What is on its way in.
#[derive(Debug)]
pub struct Arrivals {
    /// Each with whether a delete of it has come.
    under_way: Mutex<BTreeMap<BlobId, bool>>,
    copies: Arc<Semaphore>,
    /// Of all copies together: of their bytes, and of reading them back.
    pace: Throttle,
    reading_back: Throttle,
    taken: AtomicU64,
    taken_bytes: AtomicU64,
}

/// One that is on its way in, until this is dropped.
#[derive(Debug)]
pub struct Arriving {
    arrivals: Arc<Arrivals>,
    blob: BlobId,
    /// One of `COPIES_IN_MAX`; the healer needs none.
    _place: Option<OwnedSemaphorePermit>,
}

/// A record did not come in; nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum ArrivalError {
    /// As many copies as may be are under way.
    #[error("{COPIES_IN_MAX} copies are being taken in")]
    TooMany,
    /// Another call or an upload is writing it.
    #[error("blob {blob} is being written already")]
    UnderWay { blob: BlobId },
    /// It was deleted meanwhile.
    #[error("blob {blob} is no longer expected here")]
    Gone { blob: BlobId },
    /// What the masters say.
    #[error(transparent)]
    NoCopies(#[from] NoCopies),
    /// No source goes on.
    #[error("{came} of {length} bytes of blob {blob} came, and no source goes on: {last}")]
    Broken {
        blob: BlobId,
        /// Bytes that came.
        came: u64,
        length: u64,
        /// What the source said that was asked last.
        #[source]
        last: SourceError,
    },
    /// Whatever source was asked first: the bytes are others.
    #[error("the bytes that came of blob {blob} do not have its digest")]
    OtherBytes { blob: BlobId },
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The record here is bad, or it is not what was written.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It had to be deleted again.
    #[error(transparent)]
    Delete(#[from] DeleteError),
    /// The task that made it durable is gone.
    #[error("the volume failed while it made blob {blob} durable")]
    Failed { blob: BlobId },
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            under_way: Mutex::default(),
            copies: Arc::new(Semaphore::new(COPIES_IN_MAX)),
            pace: Throttle::new(0),
            reading_back: Throttle::new(0),
            taken: AtomicU64::new(0),
            taken_bytes: AtomicU64::new(0),
        }
    }
}

impl Arrivals {
    /// Copies taken in, and their bytes.
    pub fn taken(&self) -> (u64, u64) {
        (self.taken.load(Ordering::Relaxed), self.taken_bytes.load(Ordering::Relaxed))
    }

    /// A delete of these has come, and the store is asked to delete them next.
    pub fn doom(&self, blobs: &[BlobId]) {
        let mut under_way = self.under_way();
        for blob in blobs {
            if let Some(doomed) = under_way.get_mut(blob) {
                *doomed = true;
            }
        }
    }

    /// Before anybody is asked about the blob: a delete that is older than this is known to the masters.
    fn enter(
        self: &Arc<Self>,
        blob: BlobId,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<Arriving, ArrivalError> {
        let mut under_way = self.under_way();
        if under_way.contains_key(&blob) {
            return Err(ArrivalError::UnderWay { blob });
        }
        under_way.insert(blob, false);
        Ok(Arriving { arrivals: Arc::clone(self), blob, _place: place })
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, ArrivalError> {
        Arc::clone(&self.copies).try_acquire_owned().map_err(|_| ArrivalError::TooMany)
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<BlobId, bool>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arriving {
    fn check(&self) -> Result<(), ArrivalError> {
        let doomed = self.arrivals.under_way().get(&self.blob).copied().unwrap_or(true);
        if doomed { Err(ArrivalError::Gone { blob: self.blob }) } else { Ok(()) }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.arrivals.under_way().remove(&self.blob);
    }
}

/// Has a copy here: takes it in, or finds it good. With `verify` it was read back from the disk, all of it. The rate is that of
/// all copies from now on.
///
/// # Errors
/// When it is not here, or not good. One that is bad is handed to the healer.
pub async fn copy(
    volume: &Arc<Volume>,
    blob: BlobId,
    bytes_per_second: u64,
    verify: bool,
) -> Result<Stored, ArrivalError> {
    let arrivals = &volume.arrivals;
    let place = arrivals.place()?;
    arrivals.pace.set_rate(bytes_per_second);
    arrivals.reading_back.set_rate(bytes_per_second);
    let arriving = arrivals.enter(blob, Some(place))?;
    if volume.store.has(blob) {
        return look_at(volume, &arriving, verify).await;
    }
    let stored = take_in(volume, arriving, &arrivals.pace, verify).await?;
    arrivals.taken.fetch_add(1, Ordering::Relaxed);
    arrivals.taken_bytes.fetch_add(stored.length, Ordering::Relaxed);
    Ok(stored)
}

/// Writes a record anew that is not here.
///
/// # Errors
/// When it cannot be had.
pub async fn restore(volume: &Arc<Volume>, blob: BlobId) -> Result<Stored, ArrivalError> {
    let arriving = volume.arrivals.enter(blob, None)?;
    take_in(volume, arriving, &Throttle::new(0), false).await
}

/// An earlier call's answer may have been lost.
async fn look_at(volume: &Arc<Volume>, arriving: &Arriving, verify: bool) -> Result<Stored, ArrivalError> {
    let blob = arriving.blob;
    let known = Copies::ask(volume, blob).await?;
    let expected = Stored { blob, length: known.length, digest: known.blake3 };
    let found = if verify {
        volume.store.verify(blob, &volume.arrivals.reading_back).await
    } else {
        let reader = volume.store.reader(blob).await;
        reader.map(|r| Stored { blob, length: r.length(), digest: r.digest() })
    };
    let error = match found {
        Ok(found) if found == expected => return arriving.check().map(|()| found),
        Ok(_) => ReadError::Damaged { blob, what: Damage::Digest },
        Err(ReadError::NotFound { .. }) => return Err(ArrivalError::Gone { blob }),
        Err(error) => error,
    };
    volume.healer.met(volume, blob, &error);
    Err(error.into())
}

async fn take_in(
    volume: &Arc<Volume>,
    arriving: Arriving,
    pace: &Throttle,
    verify: bool,
) -> Result<Stored, ArrivalError> {
    let blob = arriving.blob;
    let mut copies = Copies::find(volume, blob).await?;
    let digest = copies.known().blake3;
    // Which source gave other bytes cannot be told of several: each of them is the first one once.
    for first in 0..copies.count() {
        let begun = volume.store.begin(copies.record()).await;
        let mut upload = begun.map_err(|e| match e {
            WriteError::Exists { .. } => ArrivalError::UnderWay { blob },
            e => e.into(),
        })?;
        let filled = fill(volume, &mut copies, first, &mut upload, pace).await;
        let found = match filled {
            Ok(()) => upload.digest_so_far().await.map_err(ArrivalError::from),
            Err(error) => Err(error),
        };
        match found {
            Ok(found) if found == digest => {
                // From here on the caller may go: what is durable must not stay when a delete has come.
                let ended = tokio::spawn(Box::pin(end(Arc::clone(volume), arriving, upload, verify)));
                return ended.await.unwrap_or(Err(ArrivalError::Failed { blob }));
            }
            Ok(_) => {
                upload.abort().await;
                tracing::warn!(%blob, source = copies.address(first), "the bytes that came of a blob do not have its digest");
            }
            Err(error) => {
                upload.abort().await;
                return Err(error);
            }
        }
    }
    Err(ArrivalError::OtherBytes { blob })
}

/// Makes it durable if it is expected still, and takes it back if a delete has come meanwhile.
async fn end(
    volume: Arc<Volume>,
    arriving: Arriving,
    mut upload: Upload,
    verify: bool,
) -> Result<Stored, ArrivalError> {
    let asked = upload.meanwhile(Copies::ask(&volume, arriving.blob)).await;
    let expected = asked.map_err(ArrivalError::from).and_then(|known| Ok(known.map(|_| ())?));
    if let Err(error) = expected.and_then(|()| arriving.check()) {
        upload.abort().await;
        return Err(error);
    }
    let stored = upload.finish().await?;
    settle(&volume, &arriving, stored, verify).await
}

/// It is durable, and nobody has a receipt.
async fn settle(
    volume: &Volume,
    arriving: &Arriving,
    stored: Stored,
    verify: bool,
) -> Result<Stored, ArrivalError> {
    let read_back = async {
        arriving.check()?;
        if verify {
            let found = volume.store.verify(stored.blob, &volume.arrivals.reading_back).await;
            if found.map_err(ArrivalError::from)? != stored {
                return Err(ArrivalError::OtherBytes { blob: stored.blob });
            }
            arriving.check()?;
        }
        Ok(stored)
    };
    let kept = match read_back.await {
        // A delete of it was faster.
        Err(ArrivalError::Read(ReadError::NotFound { blob })) => Err(ArrivalError::Gone { blob }),
        kept => kept,
    };
    if kept.is_err() {
        volume.store.delete(vec![stored.blob]).await?;
    }
    kept
}

/// All bytes, from the source `first` on; each goes on where the one before it stopped. When none of them does, the masters
/// are asked once for others.
async fn fill(
    volume: &Volume,
    copies: &mut Copies,
    first: usize,
    upload: &mut Upload,
    pace: &Throttle,
) -> Result<(), ArrivalError> {
    let (blob, length) = (upload.blob(), copies.known().length);
    let (mut number, mut idle, mut asked_at) = (first, 0, None);
    while upload.length() < length {
        let came = upload.length();
        let broke = pour(copies, number, upload, pace).await?;
        let Some(last) = broke else { continue };
        tracing::debug!(%blob, source = copies.address(number), came = upload.length(), %last, "a source broke off");
        idle = if upload.length() > came { 0 } else { idle + 1 };
        number += 1;
        if idle < copies.count() {
            continue;
        }
        if asked_at == Some(came) {
            return Err(ArrivalError::Broken { blob, came, length, last });
        }
        *copies = upload.meanwhile(Copies::find(volume, blob)).await??;
        (idle, asked_at) = (0, Some(came));
    }
    Ok(())
}

/// What one source gives; why it broke off, if it did.
async fn pour(
    copies: &Copies,
    number: usize,
    upload: &mut Upload,
    pace: &Throttle,
) -> Result<Option<SourceError>, WriteError> {
    let mut body = match upload.meanwhile(copies.open(number, upload.length())).await? {
        Ok(body) => body,
        Err(error) => return Ok(Some(error)),
    };
    let length = copies.known().length;
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
        // Of its time only what it kept us waiting.
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
