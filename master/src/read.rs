//! How a value gets out: HEAD from metadata alone, GET as a redirect to a live replica, or streamed
//! through this master when the client asks. A replica that fails in the middle of a streamed answer
//! is replaced by another, from the byte where it stopped.

mod whole;

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

use crate::cluster::Reachable;
use crate::master::Master;
use crate::redirect::redirect;
use crate::tables::TableError;
use crate::tables::object::{self, Blob, Object};
use crate::tables::upload::{self, PartRecord};
use whole::Whole;

/// The value of a key as its answers describe it.
pub fn entity(object: &Object) -> Entity<'_> {
    Entity {
        generation: object.generation,
        size: object.size,
        etag: format!("\"{}\"", object.native_tag()),
        content_type: object.content_type.as_deref(),
        metadata: &object.metadata,
    }
}

/// The object of a key.
///
/// # Errors
/// 404 when there is none.
pub async fn find(master: &Master, key: &Key) -> Result<Object, ErrorReply> {
    let found = object::read(&master.database.tree(), key)?;
    found.ok_or_else(|| {
        ErrorReply::new(ErrorCode::NotFound, "the key has no value", "list keys with GET /prefix?list")
            .for_key(key)
    })
}

/// `HEAD /key`.
///
/// # Errors
/// 404 and 412.
pub async fn head(master: &Master, key: &Key, headers: &HeaderMap) -> Result<Response<Body>, ErrorReply> {
    let object = find(master, key).await?;
    let plan = entity(&object).answer(&Method::HEAD, headers).map_err(|e| e.for_key(key))?;
    Ok(plan.head.map(|()| body::empty()))
}

/// `GET /key`, as a redirect.
///
/// # Errors
/// 404, 412, and 503 when no replica is alive or the client was sent round too often.
pub async fn redirected(
    master: &Arc<Master>,
    key: &Key,
    headers: &HeaderMap,
    hops: u8,
) -> Result<Response<Body>, ErrorReply> {
    let object = find(master, key).await?;
    if let Some(plan) = entity(&object).judge(headers).map_err(|e| e.for_key(key))? {
        return Ok(plan.head.map(|()| body::empty()));
    }
    if hops > HOPS_MAX {
        return Err(ErrorReply::new(
            ErrorCode::Unavailable,
            "the value was replaced or moved each time the client reached its volume",
            "try again, or add ?stream",
        )
        .for_key(key));
    }
    let (blob, volumes) = whole(&object).ok_or_else(|| unreadable(key))?;
    let alive = master.cluster.alive(volumes);
    let Some(replica) = alive.get(master.next_turn(alive.len())) else {
        if object.parts.is_some() {
            // Its parts may be on several volumes.
            return streamed(master, key, headers).await;
        }
        return Err(no_replica(volumes.len(), key));
    };
    master.metrics.reads_redirected.inc();
    let target = master.target(key, blob, hops, Operation::Read(replica.volume));
    Ok(redirect(
        &format!("{}{target}", replica.public_url),
        "follow the Location of this answer (curl -L does)",
    ))
}

/// The blob that stands for the whole value, and the volumes that can read all of it.
fn whole(object: &Object) -> Option<(BlobId, &[VolumeId])> {
    let blob = object.blobs.first()?;
    Some((blob.id, object.parts.as_ref().map_or(&blob.replicas, |parts| &parts.whole)))
}

fn unreadable(key: &Key) -> ErrorReply {
    ErrorReply::new(ErrorCode::Internal, "the value has no blob", "see the master's log").for_key(key)
}

fn no_replica(volumes: usize, key: &Key) -> ErrorReply {
    ErrorReply::new(
        ErrorCode::Unavailable,
        format!("none of the {volumes} volumes that hold the value is up"),
        "see `barge cluster status`; try again when one of them is back",
    )
    .for_key(key)
}

/// `GET /key?stream`.
///
/// # Errors
/// As `redirected`, and 416.
pub async fn streamed(
    master: &Arc<Master>,
    key: &Key,
    headers: &HeaderMap,
) -> Result<Response<Body>, ErrorReply> {
    master.metrics.reads_streamed.inc();
    // The value may be replaced between the look-up and the volume's answer: then the look-up is repeated.
    for _ in 0..HOPS_MAX {
        let object = find(master, key).await?;
        let plan = entity(&object).answer(&Method::GET, headers).map_err(|e| e.for_key(key))?;
        match open(master, key, object, plan.pieces.into()).await {
            Ok(body) => return Ok(plan.head.map(|()| body)),
            Err(Interrupted::Gone) => master.group.current().await?,
            Err(Interrupted::NoReplica(volumes)) => return Err(no_replica(volumes, key)),
            Err(e @ Interrupted::Wrong(_)) => {
                let hint = "nothing of it was sent; try again for another replica";
                return Err(ErrorReply::new(ErrorCode::Unavailable, e.to_string(), hint).for_key(key));
            }
            Err(Interrupted::Tables(e)) => return Err(ErrorReply::from(e).for_key(key)),
        }
    }
    Err(replaced(key))
}

fn replaced(key: &Key) -> ErrorReply {
    ErrorReply::new(
        ErrorCode::Unavailable,
        "the value was replaced again and again while it was being opened",
        "try again",
    )
    .for_key(key)
}

/// The bytes of an object: the body of an answer whose first bytes are there.
///
/// # Errors
/// When it is not there any more, or nobody can read it.
pub async fn open(
    master: &Arc<Master>,
    key: &Key,
    object: Object,
    pieces: VecDeque<Piece>,
) -> Result<Body, Interrupted> {
    let whole = Whole::of(&object, &pieces);
    let master = Arc::clone(master);
    let mut download = Download { master, key: key.clone(), object, pieces, open: None, parts: None, whole };
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

/// A streamed answer under way.
struct Download {
    master: Arc<Master>,
    key: Key,
    object: Object,
    pieces: VecDeque<Piece>,
    open: Option<Open>,
    /// Of a value in parts that no volume can read whole.
    parts: Option<Vec<Blob>>,
    /// Of an answer that is all of a value.
    whole: Option<Whole>,
}

/// A volume's answer under way: bytes `at..end` of the object are still to come from it.
struct Open {
    body: Incoming,
    volume: VolumeId,
    /// Where it began.
    from: u64,
    at: u64,
    end: u64,
}

/// Why a streamed answer cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Interrupted {
    /// The look-up is to be repeated.
    #[error("the value was replaced or moved")]
    Gone,
    /// None of so many volumes is alive, or can read it.
    #[error("no live replica can go on with the value")]
    NoReplica(usize),
    /// A volume gave other bytes than were stored.
    #[error("the bytes that came from {0} are not those of the value")]
    Wrong(VolumeId),
    /// Where its parts are is not known.
    #[error(transparent)]
    Tables(#[from] TableError),
}

impl Download {
    /// The next bytes of the answer; `None` at its end.
    async fn next(&mut self) -> Result<Option<Bytes>, Interrupted> {
        loop {
            if let Some(open) = &mut self.open {
                let next = open.next().await;
                if let Ok(Some(bytes)) = next {
                    if self.whole.as_mut().is_none_or(|whole| whole.passes(&bytes)) {
                        return Ok(Some(bytes));
                    }
                    tracing::error!(key = %self.key, volume = %open.volume, "bytes that are not those of the value were not passed on");
                    return Err(Interrupted::Wrong(open.volume));
                }
                let (at, end, volume) = (open.at, open.end, open.volume);
                let barren = next.is_err() || at == open.from;
                self.open = None;
                if at < end {
                    // Another replica, or the same one again, from here. A connection that broke may be one bad
                    // block's doing: only if nothing came at all is the volume passed over.
                    if barren {
                        self.master.cluster.suspect(volume);
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

    /// Opens bytes `at..end` of the object; what one blob does not have comes behind it.
    async fn go_on(&mut self, at: u64, end: u64) -> Result<(), Interrupted> {
        let open = self.fetch(at, end).await?;
        if let Some(rest) = ByteRange::new(open.end, end - 1, self.object.size) {
            self.pieces.push_front(Piece::Range(rest));
        }
        self.open = Some(open);
        Ok(())
    }

    /// Asks live replicas in turn for bytes `at..end` of the object, or as many of them as one blob has.
    async fn fetch(&mut self, at: u64, end: u64) -> Result<Open, Interrupted> {
        let (blob, volumes) = whole(&self.object).ok_or(Interrupted::Gone)?;
        if self.object.parts.is_none() || !self.master.cluster.alive(volumes).is_empty() {
            let volumes = volumes.to_vec();
            let span = Span { base: 0, at, end, length: self.object.size };
            match self.fetch_from(blob, &volumes, span).await {
                // Its parts may be elsewhere, too.
                Err(Interrupted::NoReplica(_)) if self.object.parts.is_some() => {}
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
        Err(Interrupted::Gone)
    }

    /// Where the parts are.
    fn parts(&mut self) -> Result<&[Blob], Interrupted> {
        let upload = self.object.parts.as_ref().map(|p| p.upload).ok_or(Interrupted::Gone)?;
        if self.parts.is_none() {
            let of = |r: PartRecord| Blob { id: r.part.blob, length: r.part.length, replicas: r.replicas };
            let tree = self.master.database.tree();
            let parts: Vec<_> =
                upload::parts(&tree, upload, 0).map(|r| r.map(of)).collect::<Result<_, _>>()?;
            if parts.iter().map(|p| p.length).sum::<u64>() != self.object.size {
                // They are on their way out.
                return Err(Interrupted::Gone);
            }
            self.parts = Some(parts);
        }
        Ok(self.parts.as_deref().unwrap_or_default())
    }

    async fn fetch_from(&self, blob: BlobId, volumes: &[VolumeId], span: Span) -> Result<Open, Interrupted> {
        let alive = self.master.cluster.alive(volumes);
        let turn = self.master.next_turn(alive.len());
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
                None => self.master.cluster.suspect(replica.volume),
            }
        }
        Err(if gone { Interrupted::Gone } else { Interrupted::NoReplica(volumes.len()) })
    }

    async fn ask(&self, blob: BlobId, replica: &Reachable, span: Span) -> Option<Response<Incoming>> {
        let target = self.master.target(&self.key, blob, 0, Operation::Read(replica.volume));
        let nonce = Uuid::new_v4().simple().to_string();
        let mut request = Request::get(format!("{}{target}", replica.address)).header(NONCE_HEADER, &nonce);
        let (first, last) = (span.at - span.base, span.end - 1 - span.base);
        if let Some(range) = ByteRange::new(first, last, span.length).filter(|r| r.len() < span.length) {
            request = request.header(RANGE, format!("bytes={}-{}", range.start(), range.end()));
        }
        let request = request.body(body::empty()).ok()?;
        let answer = self.master.peers.http().send_within(request, CALL_TIMEOUT).await.ok()?;
        if !answer.status().is_success() && answer.status() != StatusCode::TEMPORARY_REDIRECT {
            return Some(answer);
        }
        let proof = ticket_proof(&self.master.config.secret, &nonce, &target, answer.status());
        let given =
            answer.headers().get(PROOF_HEADER).and_then(|v| blake3::Hash::from_hex(v.as_bytes()).ok());
        // `blake3::Hash` compares in constant time.
        if given == Some(proof) {
            return Some(answer);
        }
        let (volume, address) = (replica.volume, &replica.address);
        tracing::warn!(%volume, address, "an answer that is not of this cluster was not believed");
        None
    }
}

/// Bytes `at..end` of an object, in a blob that begins at its byte `base`.
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
    /// The next bytes; `None` when the volume has no more to give, whole or not.
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
