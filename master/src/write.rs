//! How a value gets in. The promise of a 201 is kept here for streamed uploads and in `write/commit.rs` for redirected
//! ones: the client hears of success only when the replicas (by their receipts) and the commit are durable.
//!
//! An upload is redirected only when the client asks for it, or announces that it waits (`Expect: 100-continue`) and
//! how long its value is. Every other upload is streamed, because several clients follow a redirect with an empty
//! body, or with what is left of one, and call that success.

pub mod commit;
pub mod durable;
pub mod pipeline;
pub mod placement;
pub mod receipts;

use crate::db::Database;
use crate::write::commit::TimeToLive;
use crate::write::placement::{UploadSpec, WriteTarget};
use std::sync::Arc;

use http::header::{CONTENT_TYPE, EXPECT, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use shared::condition::WriteCondition;
use shared::digest::Digest;
use shared::expiry::{Expires, ExpiresError};
use shared::http::body::{self, Body, DeclaredLength};
use shared::http::committed::committed;
use shared::http::metadata::Described;
use shared::key::Key;
use shared::limits::BLOB_BYTES_MAX;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::StoredObject;
use shared::wire::routes::{BLAKE3_HEADER, EXPIRES_HEADER, LENGTH, REDIRECT, STREAM, query_value};

use crate::change::{Changes, unexpected};
use crate::config::Config;
use crate::master::Master;
use crate::metadata::Metadata;
use crate::metrics::MasterMetrics;
use crate::redirect::redirect;
use crate::sequencer::ProposeError;
use crate::state::command::Outcome;
use crate::tables::{bucket, object};
use crate::volumes::Volumes;
use durable::DurableBlob;
use pipeline::{Frames, Source};

/// Headers of an upload that the volume checks and the master only forwards.
const DIGEST_HEADERS: [&str; 4] = [BLAKE3_HEADER, "content-md5", "content-digest", "repr-digest"];

/// An upload whose headers have been checked.
struct UploadRequest {
    key: Key,
    method: Method,
    headers: HeaderMap,
    length: Option<u64>,
    digest: Option<Digest>,
    condition: WriteCondition,
    hops: u8,
    expires: Option<Expires>,
}

/// Writes values for clients, and commits those that volumes have written.
#[derive(Clone)]
pub struct Writer {
    metadata: Metadata,
    volumes: Arc<Volumes>,
    changes: Arc<Changes>,
    metrics: Arc<MasterMetrics>,
    config: Arc<Config>,
}

impl Writer {
    pub fn new(master: &Master) -> Self {
        Self {
            metadata: master.metadata.clone(),
            volumes: Arc::clone(&master.volumes),
            changes: Arc::clone(&master.changes),
            metrics: Arc::clone(&master.metrics),
            config: Arc::clone(&master.config),
        }
    }

    /// Handles `POST /key` and `PUT /key`. With `here`, it redirects only a client that asks for a redirect.
    /// The caller has awaited `Group::ensure_linearizable`.
    ///
    /// # Errors
    /// Each error says what the client has to do.
    pub async fn upload(
        &self,
        request: Request<Incoming>,
        key: Key,
        hops: u8,
        here: bool,
    ) -> Result<Response<Body>, ErrorReply> {
        let (head, incoming) = request.into_parts();
        let asked = |name| query_value(head.uri.query(), name);
        let waits =
            head.headers.get(EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        // Some clients send `Expect` and do not wait. The bytes they sent here are missing from the body that reaches
        // the volume. A declared length reveals that; a chunked body does not.
        let bound = matches!(body::declared_length(&head.headers), DeclaredLength::Known(_));
        let may = waits && bound && !here;
        let redirect = (may || asked(REDIRECT).is_some()) && asked(STREAM).is_none();
        let declared = asked(LENGTH).filter(|_| redirect);
        let checked =
            check(&self.metadata.database, head.method, head.headers, key, declared, redirect, hops);
        let outcome = match checked {
            Ok(upload) if redirect => self.send_on(&upload, !waits),
            Ok(upload) => return self.stream(upload, incoming).await,
            Err(refusal) => Err(refusal),
        };
        if !waits {
            // The client may be sending already. One that waits for 100 must not be asked for its body.
            body::drain_later(incoming);
        }
        outcome
    }

    /// Streams the body through this master, which verifies the receipts and commits: it does not trust a volume's word
    /// that a commit succeeded.
    async fn stream(&self, upload: UploadRequest, body: Incoming) -> Result<Response<Body>, ErrorReply> {
        let source = Source::new(Frames::Client(body));
        let durable = self.write_replicas_with(&upload.wanted(), forwarded(&upload.headers), source).await?;
        // From here on the client may disconnect: a durable blob is committed anyway.
        let writer = self.clone();
        let ended = tokio::spawn(async move { writer.commit_streamed(&upload, &durable).await });
        ended.await.unwrap_or_else(|_| Err(ProposeError::OutcomeUnknown.into()))
    }

    /// Commits a durable blob as the value of its key.
    async fn commit_streamed(
        &self,
        upload: &UploadRequest,
        durable: &DurableBlob,
    ) -> Result<Response<Body>, ErrorReply> {
        let described = Described::from_headers(&upload.headers).unwrap_or_default();
        let commit = durable.to_commit(&upload.wanted(), &described);
        let outcome = self.commit_value(commit, upload.expires.map(TimeToLive::Until)).await;
        let outcome = outcome.map_err(|e| ErrorReply::from(e).for_key(&upload.key))?;
        let (outcome, replicas) = match outcome {
            Outcome::Commit(outcome, replicas) => (outcome, replicas),
            other => return Err(unexpected(&other).for_key(&upload.key)),
        };
        let told = StoredObject {
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

    /// Redirects the client to the first volume, before any byte of the body is read.
    fn send_on(&self, upload: &UploadRequest, asked: bool) -> Result<Response<Body>, ErrorReply> {
        let WriteTarget { chain, target, .. } =
            self.place_and_grant(&upload.wanted(), &[], false).map_err(|e| e.for_key(&upload.key))?;
        self.metrics.uploads_redirected.inc();
        tracing::debug!(key = %upload.key, volume = chain[0].address, asked, "upload redirected");
        Ok(redirect(
            &format!("{}{target}", chain[0].public_url),
            "nothing is stored yet: send the value to the URL in Location (curl -L does)",
        ))
    }
}

/// Refuses what can be refused before a byte of the body is read.
fn check(
    database: &Database,
    method: Method,
    headers: HeaderMap,
    key: Key,
    declared: Option<String>,
    redirect: bool,
    hops: u8,
) -> Result<UploadRequest, ErrorReply> {
    refuse_form(&method, &headers).map_err(|e| e.for_key(&key))?;
    bucket::check(&key).map_err(|e| {
        let hint =
            "nothing was stored; choose a key that S3 clients can use: BUCKET/ followed by 1 to 1024 bytes";
        ErrorReply::new(ErrorCode::BadKey, e.to_string(), hint).for_key(&key)
    })?;
    let bad_header = |e: &dyn std::error::Error| {
        ErrorReply::new(ErrorCode::BadHeader, e.to_string(), "fix the header and retry").for_key(&key)
    };
    let length = match declared {
        Some(text) => Some(text.parse().map_err(|_| {
            ErrorReply::new(ErrorCode::BadRequest, "length= is not a number of bytes", "use length=BYTES")
                .for_key(&key)
        })?),
        None => match body::declared_length(&headers) {
            DeclaredLength::Known(0) if redirect && !headers.contains_key(EXPECT) => None,
            DeclaredLength::Known(n) => Some(n),
            DeclaredLength::Unknown => None,
            DeclaredLength::Missing if redirect => None,
            DeclaredLength::Missing => {
                return Err(ErrorReply::new(
                    ErrorCode::LengthRequired,
                    "the upload has neither a Content-Length nor a chunked body",
                    "send Content-Length (0 for an empty value) or Transfer-Encoding: chunked",
                )
                .for_key(&key));
            }
        },
    };
    if length.is_some_and(|n| n > BLOB_BYTES_MAX) {
        return Err(ErrorReply::new(
            ErrorCode::TooLarge,
            format!("the value is larger than {BLOB_BYTES_MAX} bytes, the limit of one upload"),
            "split the value over several keys, or use an S3 multipart upload",
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
    // A plain POST creates (as in kvDB). A POST with a condition uses that condition.
    let condition = match stated {
        WriteCondition::None if method == Method::POST => WriteCondition::Absent,
        other => other,
    };
    let expires = expires_of(&headers).map_err(|e| bad_header(&e))?;
    let current = object::read(&database.tree(), &key)?;
    if !object::condition_holds(&condition, current.as_ref()) {
        return Err(ErrorReply::condition_failed(&method, &headers, &key));
    }
    Ok(UploadRequest { key, method, headers, length, digest, condition, hops, expires })
}

/// Returns when the value expires; two headers contradict each other.
fn expires_of(headers: &HeaderMap) -> Result<Option<Expires>, ExpiresError> {
    let mut stated = headers.get_all(EXPIRES_HEADER).iter();
    let first = stated.next().map(|v| v.to_str().ok().filter(|_| stated.next().is_none()));
    first.map(|text| text.unwrap_or_default().parse()).transpose()
}

/// Refuses a multipart form: stored as received, it would be neither the file nor a form.
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
        "the body is a form (multipart/form-data), but a value is stored exactly as sent",
        "nothing was stored; send the file itself: curl -L -T FILE URL, not -F",
    ))
}

impl UploadRequest {
    fn wanted(&self) -> UploadSpec {
        UploadSpec {
            key: self.key.clone(),
            length: self.length,
            digest: self.digest,
            condition: self.condition.clone(),
            prefer: Vec::new(),
            hops: self.hops,
            expires: self.expires,
        }
    }
}

/// The headers of an upload that describe the value or state a condition.
fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    // `check` refused metadata that cannot be stored.
    Described::from_headers(headers).unwrap_or_default().apply(&mut kept);
    let passed = DIGEST_HEADERS.map(HeaderName::from_static).into_iter().chain([IF_MATCH, IF_NONE_MATCH]);
    for name in passed {
        for value in headers.get_all(&name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}
