//! Requests whose body is a document: read whole, at most `DOCUMENT_BYTES_MAX`, and compared with the checksums that its
//! client declares, which the library leaves alone.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap};
use http::request::Parts;
use http::{Method, StatusCode};
use hyper::body::Incoming;
use md5::{Digest as _, Md5};
use s3s::{S3ErrorCode, S3Result, s3_error};
use shared::http::body::{self, ReadError};
use shared::wire::routes::query_value;
use tokio::sync::Semaphore;

use super::DOCUMENT_BYTES_MAX;
use super::algorithms::Hasher;
use super::error::{custom, from_reply, from_tables};
use super::finish::About;
use super::sums::Declared;
use crate::auth::Caller;
use crate::master::Master;

/// A document that comes more slowly holds a place of others.
const DOCUMENT_TIME_MAX: Duration = Duration::from_secs(60);

/// Whether the body is a document: what is sent to a bucket, and to an object with one of these queries.
pub fn is_one(head: &Parts, about: &About) -> bool {
    let streaming =
        head.headers.get("x-amz-content-sha256").is_some_and(|v| v.as_bytes().starts_with(b"STREAMING"));
    let sends = [Method::PUT, Method::POST].contains(&head.method);
    let asked = |name| query_value(head.uri.query(), name).is_some();
    let document = about.key.is_none()
        || asked("tagging")
        || asked("acl")
        || (head.method == Method::POST && asked("uploadId"));
    sends && document && !streaming
}

/// Whether a document is read at all: nobody sends one without showing a key, where keys are needed.
pub fn may_come(master: &Master, head: &Parts) -> S3Result<bool> {
    let shows = head.headers.contains_key(AUTHORIZATION)
        || query_value(head.uri.query(), "X-Amz-Signature").is_some();
    Ok(shows || master.keys().nobody().map_err(from_tables)? == Caller::Open)
}

/// The document. Few are in memory at once, and none takes long.
pub async fn checked(head: &Parts, body: Incoming, places: &Semaphore) -> S3Result<Bytes> {
    let headers = &head.headers;
    let _place = places.acquire().await.map_err(|_| S3ErrorCode::ServiceUnavailable)?;
    let collected = tokio::time::timeout(DOCUMENT_TIME_MAX, body::collect(body, DOCUMENT_BYTES_MAX)).await;
    let bytes = collected.map_err(|_| S3ErrorCode::RequestTimeout)?.map_err(|e| match e {
        ReadError::TooLarge(_) => {
            custom("MaxMessageLengthExceeded", StatusCode::BAD_REQUEST, "Your request was too big.")
        }
        e => from_reply(e.into()),
    })?;
    let mut own: HeaderMap = headers.clone();
    own.remove("x-amz-sdk-checksum-algorithm");
    own.remove("x-amz-trailer");
    let declared = Declared::from_headers(&own, None, false)?;
    if let Some(Some(wanted)) = declared.md5
        && Md5::digest(&bytes)[..] != wanted
    {
        return Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received."));
    }
    // A completion declares the checksum of the object, not of its document.
    let completion = query_value(head.uri.query(), "uploadId").is_some();
    if let Some((algorithm, Some(wanted))) = declared.checksum.filter(|_| !completion) {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(&bytes);
        if hasher.finish() != wanted {
            return Err(s3_error!(
                BadDigest,
                "The checksum you specified did not match the calculated checksum."
            ));
        }
    }
    Ok(bytes.into())
}
