//! How a value gets out: HEAD from metadata alone, GET as a redirect to a live replica, or streamed
//! through this master when the client asks. A replica that fails in the middle of a streamed answer
//! is replaced by another, from the byte where it stopped.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::unfold;
use http::header::{HeaderMap, RANGE};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::http::body::{self, Body, BodyFailure};
use shared::http::entity::{Entity, Piece};
use shared::ids::VolumeId;
use shared::key::Key;
use shared::limits::{CALL_TIMEOUT, HOPS_MAX};
use shared::range::ByteRange;
use shared::ticket::Operation;
use shared::wire::error::{ErrorCode, ErrorReply};

use crate::cluster::Reachable;
use crate::master::Master;
use crate::tables::object::{self, Blob, Object};
use crate::write::redirect;

/// The value of a key as its answers describe it.
pub fn entity(object: &Object) -> Entity<'_> {
    Entity {
        generation: object.generation,
        size: object.size,
        digest: object.digest,
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
    master: &Master,
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
    let [blob] = object.blobs.as_slice() else {
        return Err(ErrorReply::new(ErrorCode::Unavailable, "the value has several parts", "add ?stream")
            .for_key(key));
    };
    let alive = master.cluster.alive(&blob.replicas);
    let Some(replica) = alive.get(master.next_turn(alive.len())) else {
        return Err(no_replica(blob, key));
    };
    master.metrics.reads_redirected.inc();
    let target = master.target(key, blob.id, hops, Operation::Read(replica.volume));
    Ok(redirect(
        &format!("{}{target}", replica.public_url),
        "follow the Location of this answer (curl -L does)",
    ))
}

fn no_replica(blob: &Blob, key: &Key) -> ErrorReply {
    ErrorReply::new(
        ErrorCode::Unavailable,
        format!("none of the {} volumes that hold the value is up", blob.replicas.len()),
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
        let pieces: VecDeque<_> = plan.pieces.into();
        let mut download =
            Download { master: Arc::clone(master), key: key.clone(), object, pieces, open: None };
        match download.next().await {
            Ok(first) => {
                let rest = unfold(Some(download), |state| async move {
                    let mut download = state?;
                    match download.next().await {
                        Ok(Some(bytes)) => Some((Ok(bytes), Some(download))),
                        Ok(None) => None,
                        Err(e) => Some((Err(BodyFailure::from(e)), None)),
                    }
                });
                use futures_util::StreamExt;
                let first = futures_util::stream::iter(first.map(Ok));
                return Ok(plan.head.map(|()| body::stream(first.chain(rest))));
            }
            Err(Interrupted::Gone) => master.group.current().await?,
            Err(Interrupted::NoReplica(blob)) => return Err(no_replica(&blob, key)),
        }
    }
    Err(ErrorReply::new(
        ErrorCode::Unavailable,
        "the value was replaced again and again while it was being opened",
        "try again",
    )
    .for_key(key))
}

/// A streamed answer under way.
struct Download {
    master: Arc<Master>,
    key: Key,
    object: Object,
    pieces: VecDeque<Piece>,
    open: Option<Open>,
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
enum Interrupted {
    #[error("the value was replaced or moved")]
    Gone,
    #[error("no live replica can go on with the value")]
    NoReplica(Blob),
}

impl Download {
    /// The next bytes of the answer; `None` at its end.
    async fn next(&mut self) -> Result<Option<Bytes>, Interrupted> {
        loop {
            if let Some(open) = &mut self.open {
                let next = open.next().await;
                if let Ok(Some(bytes)) = next {
                    return Ok(Some(bytes));
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
                    self.open = Some(self.fetch(at, end).await?);
                }
                continue;
            }
            match self.pieces.pop_front() {
                None => return Ok(None),
                Some(Piece::Text(text)) => return Ok(Some(text)),
                Some(Piece::Range(range)) => {
                    self.open = Some(self.fetch(range.start(), range.end() + 1).await?);
                }
            }
        }
    }

    /// Asks live replicas in turn for bytes `at..end`.
    async fn fetch(&self, at: u64, end: u64) -> Result<Open, Interrupted> {
        let [blob] = self.object.blobs.as_slice() else { return Err(Interrupted::Gone) };
        let alive = self.master.cluster.alive(&blob.replicas);
        let turn = self.master.next_turn(alive.len());
        let mut gone = false;
        for replica in alive.iter().cycle().skip(turn).take(alive.len()) {
            match self.ask(blob, replica, at, end).await {
                Some(answer) if answer.status() == StatusCode::TEMPORARY_REDIRECT => gone = true,
                Some(answer) if answer.status().is_success() => {
                    return Ok(Open { body: answer.into_body(), volume: replica.volume, from: at, at, end });
                }
                Some(answer) => {
                    tracing::warn!(volume = replica.address, status = %answer.status(), "volume refused a read");
                }
                None => self.master.cluster.suspect(replica.volume),
            }
        }
        Err(if gone { Interrupted::Gone } else { Interrupted::NoReplica(blob.clone()) })
    }

    async fn ask(&self, blob: &Blob, replica: &Reachable, at: u64, end: u64) -> Option<Response<Incoming>> {
        let target = self.master.target(&self.key, blob.id, 0, Operation::Read(replica.volume));
        let mut request = Request::get(format!("{}{target}", replica.address));
        if let Some(range) =
            ByteRange::new(at, end - 1, self.object.size).filter(|r| r.len() < self.object.size)
        {
            request = request.header(RANGE, format!("bytes={}-{}", range.start(), range.end()));
        }
        self.master.peers.http().send_within(request.body(body::empty()).ok()?, CALL_TIMEOUT).await.ok()
    }
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
