//! How a value gets out: HEAD is answered from metadata alone; GET is redirected to a live replica, or streamed
//! through this master on request. When a replica fails in the middle of a streamed answer, another continues from
//! the byte where it stopped (failover).

mod digest_check;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use http::header::{HeaderMap, RANGE};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::call::ticket_proof;
use shared::http::body::{self, Body, BodyFailure};
use shared::http::entity::{Entity, Piece};
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::limits::{CALL_TIMEOUT, HOPS_MAX};
use shared::range::ByteRange;
use shared::ticket::Operation;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::routes::{NONCE_HEADER, PROOF_HEADER};
use uuid::Uuid;

use crate::cluster::VolumeAddress;
use crate::db::Database;
use crate::master::Master;
use crate::metadata::Metadata;
use crate::metrics::MasterMetrics;
use crate::redirect::redirect;
use crate::tables::TableError;
use crate::tables::object::{self, Blob, Object};
use crate::tables::upload::{self, PartRecord};
use crate::volumes::Volumes;
use digest_check::DigestCheck;

/// The HTTP entity of an object: generation, size, entity tag, content type and metadata.
pub fn entity(object: &Object) -> Entity<'_> {
    Entity {
        generation: object.generation,
        size: object.size,
        etag: format!("\"{}\"", object.native_tag()),
        content_type: object.content_type.as_deref(),
        metadata: &object.metadata,
        expires: object.expiry.at,
    }
}

/// Reads the object of a key.
///
/// # Errors
/// 404 when the key has no value.
pub async fn find(database: &Database, key: &Key) -> Result<Object, ErrorReply> {
    let found = object::read(&database.tree(), key)?;
    found.ok_or_else(|| {
        ErrorReply::new(ErrorCode::NotFound, "the key has no value", "list keys with GET /prefix?list")
            .for_key(key)
    })
}

/// Handles `HEAD /key`.
///
/// # Errors
/// 404 and 412.
pub async fn head(database: &Database, key: &Key, headers: &HeaderMap) -> Result<Response<Body>, ErrorReply> {
    let object = find(database, key).await?;
    let plan = entity(&object).answer(&Method::HEAD, headers).map_err(|e| e.for_key(key))?;
    Ok(plan.head.map(|()| body::empty()))
}

/// Reads values for clients, from whichever volumes hold them.
#[derive(Clone)]
pub struct Reader {
    metadata: Metadata,
    volumes: Arc<Volumes>,
    metrics: Arc<MasterMetrics>,
}

impl Reader {
    pub fn new(master: &Master) -> Self {
        let (volumes, metrics) = (Arc::clone(&master.volumes), Arc::clone(&master.metrics));
        Self { metadata: master.metadata.clone(), volumes, metrics }
    }

    /// Handles `GET /key` with a redirect.
    ///
    /// # Errors
    /// 404, 412, and 503 when no replica is up or the client was redirected too often.
    pub async fn redirected(
        &self,
        key: &Key,
        headers: &HeaderMap,
        hops: u8,
    ) -> Result<Response<Body>, ErrorReply> {
        let object = find(&self.metadata.database, key).await?;
        if let Some(plan) = entity(&object).evaluate(headers).map_err(|e| e.for_key(key))? {
            return Ok(plan.head.map(|()| body::empty()));
        }
        if hops > HOPS_MAX {
            return Err(ErrorReply::new(
                ErrorCode::Unavailable,
                "the value was replaced or moved each time the client reached its volume",
                "retry, or add ?stream",
            )
            .for_key(key));
        }
        let (blob, volumes) = full_replicas(&object).ok_or_else(|| unreadable(key))?;
        let alive = self.volumes.cluster.alive(volumes);
        let Some(replica) = alive.get(self.volumes.next_turn(alive.len())) else {
            if object.parts.is_some() {
                // No live volume has all parts, but several together may.
                return self.streamed(key, headers).await;
            }
            return Err(no_replica(volumes.len(), key));
        };
        self.metrics.reads_redirected.inc();
        let target = self.volumes.target(key, blob, hops, Operation::Read(replica.volume));
        Ok(redirect(
            &format!("{}{target}", replica.public_url),
            "fetch the value from the URL in Location (curl -L does)",
        ))
    }

    /// Handles `GET /key?stream`.
    ///
    /// # Errors
    /// Like `redirected`, and 416.
    pub async fn streamed(&self, key: &Key, headers: &HeaderMap) -> Result<Response<Body>, ErrorReply> {
        self.metrics.reads_streamed.inc();
        // The value may be replaced between the lookup and the volume's answer; then the lookup is repeated.
        for _ in 0..HOPS_MAX {
            let object = find(&self.metadata.database, key).await?;
            let plan = entity(&object).answer(&Method::GET, headers).map_err(|e| e.for_key(key))?;
            match self.open(key, object, plan.pieces.into()).await {
                Ok(body) => return Ok(plan.head.map(|()| body)),
                Err(ReadError::Gone) => self.metadata.ensure_linearizable().await?,
                Err(ReadError::NoReplica(volumes)) => return Err(no_replica(volumes, key)),
                Err(e @ ReadError::Wrong(_)) => {
                    let hint = "nothing was sent; retry to read another replica";
                    return Err(ErrorReply::new(ErrorCode::Unavailable, e.to_string(), hint).for_key(key));
                }
                Err(ReadError::Tables(e)) => return Err(ErrorReply::from(e).for_key(key)),
            }
        }
        Err(replaced(key))
    }

    /// Opens an object: returns a response body once its first bytes have arrived.
    ///
    /// # Errors
    /// When the value was replaced or moved, no replica can be read, or its parts cannot be found.
    pub async fn open(&self, key: &Key, object: Object, pieces: VecDeque<Piece>) -> Result<Body, ReadError> {
        let whole = DigestCheck::of(&object, &pieces);
        let mut download = Download {
            reader: self.clone(),
            key: key.clone(),
            object,
            pieces,
            open: None,
            parts: None,
            whole,
        };
        let first = download.next().await?;
        let rest = unfold(Some(download), |state| async move {
            let mut download = state?;
            match download.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(download))),
                Ok(None) => None,
                Err(e) => Some((Err(BodyFailure::from(e)), None)),
            }
        });
        let first = futures_util::stream::iter(first.map(Ok));
        Ok(body::stream(first.chain(rest)))
    }
}

/// The blob that represents the whole value, and the volumes that can read all of it.
fn full_replicas(object: &Object) -> Option<(BlobId, &[VolumeId])> {
    let blob = object.blobs.first()?;
    Some((blob.id, object.parts.as_ref().map_or(&blob.replicas, |parts| &parts.full_replicas)))
}

fn unreadable(key: &Key) -> ErrorReply {
    ErrorReply::new(ErrorCode::Internal, "the object has no blob", "see the master's log").for_key(key)
}

fn no_replica(volumes: usize, key: &Key) -> ErrorReply {
    ErrorReply::new(
        ErrorCode::Unavailable,
        format!("none of the {volumes} volumes that hold the value is up"),
        "see `barge cluster status`; retry when one of them is back",
    )
    .for_key(key)
}

fn replaced(key: &Key) -> ErrorReply {
    ErrorReply::new(ErrorCode::Unavailable, "the value was replaced each time it was being opened", "retry")
        .for_key(key)
}

/// A streamed answer in progress.
struct Download {
    reader: Reader,
    key: Key,
    object: Object,
    pieces: VecDeque<Piece>,
    open: Option<Open>,
    /// The parts of a multipart object; set when no volume can read all of them.
    parts: Option<Vec<Blob>>,
    /// Set when the answer is the whole value.
    whole: Option<DigestCheck>,
}

/// A volume's answer in progress: bytes `at..end` of the object are still to come from it.
struct Open {
    body: Incoming,
    volume: VolumeId,
    /// The object byte at which this answer began.
    from: u64,
    at: u64,
    end: u64,
}

/// Why a streamed answer cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The lookup has to be repeated.
    #[error("the value was replaced or moved")]
    Gone,
    /// None of this many volumes is up and can read the value.
    #[error("no live replica can serve the rest of the value")]
    NoReplica(usize),
    /// A volume sent bytes that do not match the committed digest.
    #[error("the bytes from volume {0} do not match the digest of the value")]
    Wrong(VolumeId),
    /// The locations of the parts cannot be read.
    #[error(transparent)]
    Tables(#[from] TableError),
}

impl Download {
    /// Returns the next bytes of the answer; `None` at its end.
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        loop {
            if let Some(open) = &mut self.open {
                let next = open.next().await;
                if let Ok(Some(bytes)) = next {
                    if self.whole.as_mut().is_none_or(|whole| whole.passes(&bytes)) {
                        return Ok(Some(bytes));
                    }
                    tracing::error!(key = %self.key, volume = %open.volume, "bytes from a volume do not match the digest of the value; the read was cut off");
                    return Err(ReadError::Wrong(open.volume));
                }
                let (at, end, volume) = (open.at, open.end, open.volume);
                let barren = next.is_err() || at == open.from;
                self.open = None;
                if at < end {
                    // Continue from here with another replica, or the same one again: a single corrupt block can
                    // break a connection. Only a volume that stalled or sent nothing becomes suspect.
                    if barren {
                        self.reader.volumes.cluster.suspect(volume);
                    }
                    self.go_on(at, end).await?;
                }
                continue;
            }
            match self.pieces.pop_front() {
                None => return Ok(None),
                Some(Piece::Text(text)) => return Ok(Some(text)),
                Some(Piece::Range(range)) => {
                    self.go_on(range.start(), range.end() + 1).await?;
                }
            }
        }
    }

    /// Opens bytes `at..end` of the object; what the first blob does not cover is queued as the next piece.
    async fn go_on(&mut self, at: u64, end: u64) -> Result<(), ReadError> {
        let open = self.fetch(at, end).await?;
        if let Some(rest) = ByteRange::new(open.end, end - 1, self.object.size) {
            self.pieces.push_front(Piece::Range(rest));
        }
        self.open = Some(open);
        Ok(())
    }

    /// Asks live replicas in turn for bytes `at..end` of the object, or for as many of them as one blob covers.
    async fn fetch(&mut self, at: u64, end: u64) -> Result<Open, ReadError> {
        let (blob, volumes) = full_replicas(&self.object).ok_or(ReadError::Gone)?;
        if self.object.parts.is_none() || !self.reader.volumes.cluster.alive(volumes).is_empty() {
            let volumes = volumes.to_vec();
            let span = Span { base: 0, at, end, length: self.object.size };
            match self.fetch_from(blob, &volumes, span).await {
                // Other volumes may hold its parts.
                Err(ReadError::NoReplica(_)) if self.object.parts.is_some() => {}
                outcome => return outcome,
            }
        }
        let parts = self.parts()?;
        let mut base = 0;
        for part in parts {
            if at < base + part.length {
                let span = Span { base, at, end: end.min(base + part.length), length: part.length };
                let (id, replicas) = (part.id, part.replicas.clone());
                return self.fetch_from(id, &replicas, span).await;
            }
            base += part.length;
        }
        Err(ReadError::Gone)
    }

    /// Reads where the parts are, once.
    fn parts(&mut self) -> Result<&[Blob], ReadError> {
        let upload = self.object.parts.as_ref().map(|p| p.upload).ok_or(ReadError::Gone)?;
        if self.parts.is_none() {
            let of = |r: PartRecord| Blob { id: r.part.blob, length: r.part.length, replicas: r.replicas };
            let tree = self.reader.metadata.database.tree();
            let parts: Vec<_> =
                upload::parts(&tree, upload, 0).map(|r| r.map(of)).collect::<Result<_, _>>()?;
            if parts.iter().map(|p| p.length).sum::<u64>() != self.object.size {
                // The object was deleted; its parts are being removed.
                return Err(ReadError::Gone);
            }
            self.parts = Some(parts);
        }
        Ok(self.parts.as_deref().unwrap_or_default())
    }

    async fn fetch_from(&self, blob: BlobId, volumes: &[VolumeId], span: Span) -> Result<Open, ReadError> {
        let alive = self.reader.volumes.cluster.alive(volumes);
        let turn = self.reader.volumes.next_turn(alive.len());
        let mut gone = false;
        for replica in alive.iter().cycle().skip(turn).take(alive.len()) {
            match self.ask(blob, replica, span).await {
                Some(answer) if answer.status() == StatusCode::TEMPORARY_REDIRECT => gone = true,
                Some(answer) if answer.status().is_success() => {
                    let (body, Span { at, end, .. }) = (answer.into_body(), span);
                    return Ok(Open { body, volume: replica.volume, from: at, at, end });
                }
                Some(answer) => {
                    tracing::warn!(volume = replica.address, status = %answer.status(), "volume refused a read");
                }
                None => self.reader.volumes.cluster.suspect(replica.volume),
            }
        }
        Err(if gone { ReadError::Gone } else { ReadError::NoReplica(volumes.len()) })
    }

    async fn ask(&self, blob: BlobId, replica: &VolumeAddress, span: Span) -> Option<Response<Incoming>> {
        let target = self.reader.volumes.target(&self.key, blob, 0, Operation::Read(replica.volume));
        let nonce = Uuid::new_v4().simple().to_string();
        let mut request = Request::get(format!("{}{target}", replica.address)).header(NONCE_HEADER, &nonce);
        let (first, last) = (span.at - span.base, span.end - 1 - span.base);
        if let Some(range) = ByteRange::new(first, last, span.length).filter(|r| r.len() < span.length) {
            request = request.header(RANGE, format!("bytes={}-{}", range.start(), range.end()));
        }
        let request = request.body(body::empty()).ok()?;
        let answer = self.reader.volumes.peers.http().send_within(request, CALL_TIMEOUT).await.ok()?;
        if !answer.status().is_success() && answer.status() != StatusCode::TEMPORARY_REDIRECT {
            return Some(answer);
        }
        let proof = ticket_proof(self.reader.volumes.secret(), &nonce, &target, answer.status());
        let given =
            answer.headers().get(PROOF_HEADER).and_then(|v| blake3::Hash::from_hex(v.as_bytes()).ok());
        // `blake3::Hash` compares in constant time.
        if given == Some(proof) {
            return Some(answer);
        }
        tracing::warn!(volume = %replica.volume, address = replica.address, "an answer without a valid proof from this cluster was not believed");
        None
    }
}

/// Bytes `at..end` of an object, in a blob that begins at offset `base`.
#[derive(Clone, Copy, Debug)]
struct Span {
    base: u64,
    at: u64,
    end: u64,
    length: u64,
}

#[derive(Debug)]
struct Stalled;

impl Open {
    /// Returns the next bytes; `None` when the volume's answer ends, complete or not.
    async fn next(&mut self) -> Result<Option<Bytes>, Stalled> {
        let next =
            tokio::time::timeout(CALL_TIMEOUT, body::next(&mut self.body)).await.map_err(|_| Stalled)?;
        let Ok(Some(chunk)) = next else { return Ok(None) };
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let chunk = chunk.slice(..chunk.len().min(left));
        self.at += chunk.len() as u64;
        Ok(Some(chunk).filter(|c| !c.is_empty()))
    }
}
