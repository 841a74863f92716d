//! How a value gets in. What 201 promises is kept here and in `http/admin.rs` (commit): the client
//! hears of success only when the volumes' receipts say durable and the commit is synced.
//!
//! An upload is redirected only when the client has announced that it waits (`Expect:
//! 100-continue`) or asks for it; every other client is streamed, because several of them follow a
//! redirect with an empty body and call that success.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPECT, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH,
    LOCATION,
};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::condition::WriteCondition;
use shared::digest::Digest;
use shared::http::body::{self, Body, DeclaredLength, Pace};
use shared::http::metadata::Described;
use shared::http::pipe::{Pipe, PipeError};
use shared::ids::VolumeId;
use shared::key::Key;
use shared::limits::{
    ATTEMPTS_MAX, BLOB_BYTES_MAX, BLOCK_BYTES, CHAIN_STALL_TIMEOUT, COMMIT_TIMEOUT, RECEIPT_TIMEOUT,
    REPLAY_FRAMES,
};
use shared::ticket::{Link, Operation, WriteGrant};
use shared::wire::error::{ErrorBody, ErrorCode, ErrorReply};
use shared::wire::routes::{BLAKE3_HEADER, LENGTH, REDIRECT, STREAM, query_value};

use crate::cluster::Reachable;
use crate::master::Master;
use crate::tables::object;

/// A volume must have this much more room than the value, besides its checksums: header, trailer, padding.
const RECORD_OVERHEAD_BYTES: u64 = 1 << 20;
/// Headers of an upload that the volume judges, and the master only passes on.
const DIGEST_HEADERS: [&str; 4] = [BLAKE3_HEADER, "content-md5", "content-digest", "repr-digest"];

/// An upload whose head has been checked.
struct Upload {
    key: Key,
    method: Method,
    headers: HeaderMap,
    length: Option<u64>,
    digest: Option<Digest>,
    condition: WriteCondition,
    hops: u8,
}

/// `POST /key` and `PUT /key`.
///
/// # Errors
/// Each with what the client has to do.
pub async fn upload(
    master: &Arc<Master>,
    request: Request<Incoming>,
    key: Key,
    hops: u8,
) -> Result<Response<Body>, ErrorReply> {
    let (head, incoming) = request.into_parts();
    let asked = |name| query_value(head.uri.query(), name);
    let waits = head.headers.get(EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let redirect = (waits || asked(REDIRECT).is_some()) && asked(STREAM).is_none();
    let declared = asked(LENGTH).filter(|_| redirect);
    let current = master.group.current().await.map_err(|e| ErrorReply::from(e).for_key(&key));
    let checked =
        current.and_then(|()| check(master, head.method, head.headers, key, declared, redirect, hops));
    let outcome = match checked {
        Ok(upload) if redirect => send_on(master, &upload, !waits),
        Ok(upload) => return stream(master, upload, incoming).await,
        Err(refusal) => Err(refusal),
    };
    if !waits {
        // The client may be sending already; one that waits for 100 must not be called for its body.
        body::drain_later(incoming);
    }
    outcome
}

/// All that can be refused before a byte of the body is touched.
fn check(
    master: &Master,
    method: Method,
    headers: HeaderMap,
    key: Key,
    declared: Option<String>,
    redirect: bool,
    hops: u8,
) -> Result<Upload, ErrorReply> {
    let bad_header = |e: &dyn std::error::Error| {
        ErrorReply::new(ErrorCode::BadHeader, e.to_string(), "mend the header and send again").for_key(&key)
    };
    let length = match declared {
        Some(text) => Some(text.parse().map_err(|_| {
            ErrorReply::new(ErrorCode::BadRequest, "length= is not a number of bytes", "say length=BYTES")
        })?),
        None => match body::declared_length(&headers) {
            DeclaredLength::Known(0) if redirect && !headers.contains_key(EXPECT) => None,
            DeclaredLength::Known(n) => Some(n),
            DeclaredLength::Unknown => None,
            DeclaredLength::Missing if redirect => None,
            DeclaredLength::Missing => {
                return Err(ErrorReply::new(
                    ErrorCode::LengthRequired,
                    "the upload says neither how long it is nor that it is chunked",
                    "send Content-Length (0 for an empty value) or Transfer-Encoding: chunked",
                )
                .for_key(&key));
            }
        },
    };
    if length.is_some_and(|n| n > BLOB_BYTES_MAX) {
        return Err(ErrorReply::new(
            ErrorCode::TooLarge,
            format!("one upload may have {BLOB_BYTES_MAX} bytes"),
            "split the value over several keys",
        )
        .for_key(&key));
    }
    Described::from_headers(&headers).map_err(|e| bad_header(&e))?;
    let digest = headers
        .get(BLAKE3_HEADER)
        .map(|v| v.to_str().unwrap_or("").trim().parse::<Digest>())
        .transpose()
        .map_err(|e| bad_header(&e))?;
    let stated = WriteCondition::from_headers(&headers).map_err(|e| bad_header(&e))?;
    // POST creates (kvDB's meaning); with a condition of its own it means that one.
    let condition = match stated {
        WriteCondition::None if method == Method::POST => WriteCondition::Absent,
        other => other,
    };
    let current = object::read(&master.database.tree(), &key)?;
    if !condition.holds(current.as_ref().map(|o| &o.digest)) {
        return Err(ErrorReply::condition_failed(&method, &headers, &key));
    }
    Ok(Upload { key, method, headers, length, digest, condition, hops })
}

/// Picks the volumes and writes the ticket: the first volume, and the path and query for it.
fn grant(
    master: &Master,
    upload: &Upload,
    avoid: &[VolumeId],
) -> Result<(Vec<Reachable>, String), ErrorReply> {
    let length = upload.length.unwrap_or(0);
    let bytes = length + length / BLOCK_BYTES as u64 * 8 + RECORD_OVERHEAD_BYTES;
    let replication = master.config.replication;
    let chain = master.cluster.place(&upload.key, bytes, replication, avoid)?;
    let small = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    let grant = WriteGrant {
        chain: chain.iter().map(|v| Link { volume: v.volume, address: v.address.clone() }).collect(),
        length: upload.length,
        digest: upload.digest,
        condition: upload.condition.clone(),
        wanted: small(replication.wanted()),
        min_replicas: small(replication.min()),
    };
    let blob = master.sequencer.next_blob()?;
    let target = master.target(&upload.key, blob, upload.hops, Operation::Write(grant));
    Ok((chain, target))
}

/// Answers with a redirect to the first volume, before any byte of the body.
fn send_on(master: &Master, upload: &Upload, asked: bool) -> Result<Response<Body>, ErrorReply> {
    let (chain, target) = grant(master, upload, &[]).map_err(|e| e.for_key(&upload.key))?;
    master.metrics.uploads_redirected.inc();
    tracing::debug!(key = %upload.key, volume = chain[0].address, asked, "upload redirected");
    Ok(redirect(
        &format!("{}{target}", chain[0].public_url),
        "nothing is stored yet: send the value to the Location of this answer (curl -L does)",
    ))
}

/// 307 and nothing else: after the others clients change the method or drop the body.
pub fn redirect(location: &str, hint: &'static str) -> Response<Body> {
    let mut answer =
        body::json(StatusCode::TEMPORARY_REDIRECT, &serde_json::json!({ "redirect": { "hint": hint } }));
    let headers = answer.headers_mut();
    if let Ok(location) = HeaderValue::from_str(location) {
        headers.insert(LOCATION, location);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The client's body, with its first frames kept until a volume is known to take them.
struct Source {
    body: Incoming,
    pace: Pace,
    kept: Vec<Bytes>,
    replayable: bool,
}

/// Why a value did not get through.
enum Broken {
    Client(body::ReadError),
    /// The volume failed while it still missed bytes: it has kept nothing.
    Halfway(PipeError),
    /// The volume failed when it had all bytes: it may have committed them.
    AtTheEnd(PipeError),
}

impl Broken {
    /// What the client is told when it is not tried again.
    fn into_reply(self) -> ErrorReply {
        match self {
            Self::Client(e) => e.into(),
            Self::Halfway(e) => ErrorReply::new(
                ErrorCode::Unavailable,
                format!("the volume failed in the middle of the upload, and nothing was stored: {e}"),
                "send the value again",
            ),
            Self::AtTheEnd(e) => ErrorReply::new(
                ErrorCode::OutcomeUnknown,
                format!(
                    "the volume failed at the end of the upload; whether the value was stored is unknown: {e}"
                ),
                "send the value again: a repeated PUT is harmless",
            ),
        }
    }

    /// Whether another volume may be tried without storing the value twice.
    fn kept_nothing(&self) -> bool {
        match self {
            Self::Client(_) => false,
            Self::Halfway(_) => true,
            Self::AtTheEnd(PipeError::Http(e)) => e.is_unsent(),
            Self::AtTheEnd(_) => false,
        }
    }
}

/// Passes the value through to the first volume, slowed down by the slowest replica. A volume that is
/// down, full or busy is passed over as long as the value's first frames are still at hand.
async fn stream(master: &Arc<Master>, upload: Upload, body: Incoming) -> Result<Response<Body>, ErrorReply> {
    master.metrics.uploads_streamed.inc();
    let mut source = Source { body, pace: Pace::default(), kept: Vec::new(), replayable: true };
    let mut avoid = Vec::new();
    let outcome = loop {
        let (chain, target) = match grant(master, &upload, &avoid) {
            Ok(granted) => granted,
            Err(refusal) => break Err(refusal),
        };
        let first = &chain[0];
        let url = format!("{}{target}", first.address);
        let http = master.peers.http();
        let pipe = Pipe::open(http, upload.method.clone(), &url, forwarded(&upload.headers), upload.length);
        let links = u32::try_from(chain.len()).unwrap_or(1);
        let outcome = pass(pipe, &mut source, links).await;
        let retry = source.replayable && avoid.len() + 1 < ATTEMPTS_MAX;
        match outcome {
            Ok(answer) => {
                let another = matches!(
                    answer.refusal(),
                    Some(ErrorCode::NoSpace | ErrorCode::ReadOnly | ErrorCode::TooBusy)
                );
                if !(another && retry) {
                    break Ok(answer.into_response());
                }
                tracing::info!(volume = first.address, status = %answer.status, "volume refused an upload, trying another");
            }
            Err(broken) => {
                if let Broken::Halfway(error) | Broken::AtTheEnd(error) = &broken {
                    tracing::warn!(volume = first.address, %error, "upload to volume failed");
                    master.cluster.suspect(first.volume);
                }
                if !(retry && broken.kept_nothing()) {
                    break Err(broken.into_reply());
                }
            }
        }
        avoid.push(first.volume);
    };
    if outcome.as_ref().map_or(true, |r| !r.status().is_success()) {
        body::drain_later(source.body);
    }
    outcome.map_err(|e| e.for_key(&upload.key))
}

/// Feeds one volume and reads its answer.
async fn pass(mut pipe: Pipe, source: &mut Source, links: u32) -> Result<Answer, Broken> {
    let stall = CHAIN_STALL_TIMEOUT * (links + 1);
    let within = RECEIPT_TIMEOUT * (links + 1) + COMMIT_TIMEOUT;
    let mut pushed = Ok(());
    for frame in &source.kept {
        pushed = pipe.push(frame.clone(), stall).await;
        if pushed.is_err() {
            break;
        }
    }
    while pushed.is_ok() {
        let Some(frame) = body::next(&mut source.body).await.map_err(Broken::Client)? else {
            return collect(pipe.finish(within).await).await.map_err(Broken::AtTheEnd);
        };
        source.pace.came(frame.len()).map_err(Broken::Client)?;
        if source.replayable && source.kept.len() < REPLAY_FRAMES {
            source.kept.push(frame.clone());
        } else {
            source.replayable = false;
            source.kept = Vec::new();
        }
        pushed = pipe.push(frame, stall).await;
    }
    match pushed {
        // It answered before it had read everything: a refusal.
        Err(PipeError::Closed) => {
            collect(pipe.answer(CHAIN_STALL_TIMEOUT).await).await.map_err(Broken::Halfway)
        }
        Err(e) => Err(Broken::Halfway(e)),
        Ok(()) => Err(Broken::Halfway(PipeError::Closed)),
    }
}

async fn collect(answer: Result<Response<Incoming>, PipeError>) -> Result<Answer, PipeError> {
    let (head, body) = answer?.into_parts();
    let body = body::collect_answer(body).await.map_err(|_| PipeError::Closed)?;
    Ok(Answer { status: head.status, headers: head.headers, body })
}

/// What a volume answered to an upload.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn refusal(&self) -> Option<ErrorCode> {
        let error = || serde_json::from_slice::<ErrorBody>(&self.body).ok();
        (!self.status.is_success()).then(error).flatten().map(|b| b.error.code)
    }

    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(body::full(self.body));
        *response.status_mut() = self.status;
        for name in [CONTENT_TYPE, ETAG, http::header::RETRY_AFTER] {
            if let Some(value) = self.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }
}

/// The headers of an upload that concern the value and its conditions.
fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    // Checked before; what cannot be kept was refused.
    Described::from_headers(headers).unwrap_or_default().apply(&mut kept);
    let passed = DIGEST_HEADERS.map(HeaderName::from_static).into_iter().chain([IF_MATCH, IF_NONE_MATCH]);
    for name in passed {
        for value in headers.get_all(&name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}
