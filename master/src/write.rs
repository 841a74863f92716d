//! How a value gets in. What 201 promises is kept here (what streams through) and in `http/admin.rs` (what was redirected): the client
//! hears of success only when the volumes' receipts say durable and the commit is synced.
//!
//! An upload is redirected only when the client has announced that it waits (`Expect:
//! 100-continue`) and how long its value is, or asks for it; every other client is streamed, because several of them follow
//! a redirect with an empty body, or with what is left of one, and call that success.

pub mod feed;
pub mod proof;
pub mod store;

use std::sync::Arc;

use http::header::{CONTENT_TYPE, EXPECT, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use shared::condition::WriteCondition;
use shared::digest::Digest;
use shared::http::body::{self, Body, DeclaredLength};
use shared::http::committed::committed;
use shared::http::metadata::Described;
use shared::key::Key;
use shared::limits::BLOB_BYTES_MAX;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::Stored;
use shared::wire::routes::{BLAKE3_HEADER, LENGTH, REDIRECT, STREAM, query_value};

use crate::change::unexpected;
use crate::master::Master;
use crate::redirect::redirect;
use crate::sequencer::ProposeError;
use crate::state::command::{Command, Outcome};
use crate::tables::{bucket, object};
use feed::{Frames, Granted, Source, Wanted, grant};
use store::{Durable, store_with};

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

/// `POST /key` and `PUT /key`. `here`: not with a redirect, unless it is asked for.
///
/// # Errors
/// Each with what the client has to do.
pub async fn upload(
    master: &Arc<Master>,
    request: Request<Incoming>,
    key: Key,
    hops: u8,
    here: bool,
) -> Result<Response<Body>, ErrorReply> {
    let (head, incoming) = request.into_parts();
    let asked = |name| query_value(head.uri.query(), name);
    let waits = head.headers.get(EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    // Some clients say `Expect` and do not wait. What one of them has sent is missing from the body that it sends to the volume;
    // a length that it declared shows that, a chunked body does not.
    let bound = matches!(body::declared_length(&head.headers), DeclaredLength::Known(_));
    let may = waits && bound && !here;
    let redirect = (may || asked(REDIRECT).is_some()) && asked(STREAM).is_none();
    let declared = asked(LENGTH).filter(|_| redirect);
    let checked = check(master, head.method, head.headers, key, declared, redirect, hops);
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
    refuse_form(&method, &headers).map_err(|e| e.for_key(&key))?;
    bucket::check(&key).map_err(|e| {
        let hint =
            "nothing was stored; choose a key that S3 clients can say: BUCKET/ and 1 to 1024 bytes behind it";
        ErrorReply::new(ErrorCode::BadKey, e.to_string(), hint).for_key(&key)
    })?;
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
    if !object::holds(&condition, current.as_ref()) {
        return Err(ErrorReply::condition_failed(&method, &headers, &key));
    }
    Ok(Upload { key, method, headers, length, digest, condition, hops })
}

/// A form is a file in an envelope: stored as it comes, it would be neither.
fn refuse_form(method: &Method, headers: &HeaderMap) -> Result<(), ErrorReply> {
    let is_form = |kind: &HeaderValue| {
        let kind = kind.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        kind.eq_ignore_ascii_case(b"multipart/form-data")
    };
    if *method != Method::POST || !headers.get(CONTENT_TYPE).is_some_and(is_form) {
        return Ok(());
    }
    Err(ErrorReply::new(
        ErrorCode::BadBody,
        "the body is a form (multipart/form-data), and a value is stored as it comes",
        "nothing was stored; send the file itself: curl -L -T FILE URL, and not -F",
    ))
}

/// Streams the body through this master, which commits it on receipts that it has checked: what a volume says of the commit
/// would not have to be true.
async fn stream(master: &Arc<Master>, upload: Upload, body: Incoming) -> Result<Response<Body>, ErrorReply> {
    let source = Source::new(Frames::Client(body));
    let durable = store_with(master, &upload.wanted(), forwarded(&upload.headers), source).await?;
    // From here on the client may go: what is durable is brought to its commit.
    let master = Arc::clone(master);
    let ended = tokio::spawn(async move { finish(&master, &upload, &durable).await });
    ended.await.unwrap_or_else(|_| Err(ProposeError::OutcomeUnknown.into()))
}

/// Makes what is durable the value of its key.
async fn finish(master: &Master, upload: &Upload, durable: &Durable) -> Result<Response<Body>, ErrorReply> {
    let described = Described::from_headers(&upload.headers).unwrap_or_default();
    let commit = durable.commit(&upload.wanted(), &described);
    let outcome = master.change(Command::Commit(commit)).await;
    let outcome = outcome.map_err(|e| ErrorReply::from(e).for_key(&upload.key))?;
    let (outcome, replicas) = match outcome {
        Outcome::Commit(outcome, replicas) => (outcome, replicas),
        other => return Err(unexpected(&other).for_key(&upload.key)),
    };
    let told = Stored {
        key: upload.key.clone(),
        size: durable.proof.length,
        blake3: durable.proof.digest,
        generation: durable.blob,
        replicas,
        wanted: usize::from(durable.wanted),
    };
    let needed = usize::from(durable.min_replicas);
    committed(outcome, &told, needed, (&upload.method, &upload.headers))
}

impl Upload {
    fn wanted(&self) -> Wanted {
        Wanted {
            key: self.key.clone(),
            length: self.length,
            digest: self.digest,
            condition: self.condition.clone(),
            prefer: Vec::new(),
            hops: self.hops,
        }
    }
}

/// Answers with a redirect to the first volume, before any byte of the body.
fn send_on(master: &Master, upload: &Upload, asked: bool) -> Result<Response<Body>, ErrorReply> {
    let Granted { chain, target, .. } =
        grant(master, &upload.wanted(), &[], false).map_err(|e| e.for_key(&upload.key))?;
    master.metrics.uploads_redirected.inc();
    tracing::debug!(key = %upload.key, volume = chain[0].address, asked, "upload redirected");
    Ok(redirect(
        &format!("{}{target}", chain[0].public_url),
        "nothing is stored yet: send the value to the Location of this answer (curl -L does)",
    ))
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
