//! Converts bodies between the S3 library and our servers: request bodies, with our limits on slow clients,
//! and response bodies.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{CONNECTION, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use s3s::{S3Error, S3ErrorCode, s3_error};
use shared::http::body::{self, BodyFailure, Pace, ReadError};

use crate::s3::error::custom;
use crate::s3::request::aws_chunked;
use crate::s3::request::aws_chunked::BadChunks;

pub type StdError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Whether the body of a request with `Expect: 100-continue` was asked for. If not, the response closes the
/// connection: botocore would reuse it, and take the status of this response for that of the next.
#[derive(Clone, Debug, Default)]
pub struct ContinueWatch(Arc<AtomicBool>);

impl ContinueWatch {
    /// Watches a request whose client waits for `100 Continue`.
    pub fn watch<B>(request: &mut Request<B>) -> Option<Self> {
        let waits = request.headers().contains_key(EXPECT);
        waits.then(|| request.extensions_mut().get_or_insert_default::<Self>().clone())
    }

    /// Closes the connection after this response if the body was not asked for.
    pub fn end<B>(self, answer: &mut Response<B>) {
        if !self.0.load(Ordering::Acquire) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// A request's body. If it is not read to its end, it is drained for a moment, so that a client that is still sending
/// gets its response.
struct RequestBody {
    body: Option<Incoming>,
    /// The client waits for `100 Continue`.
    waits: bool,
    called: Option<ContinueWatch>,
    pace: Pace,
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|_| !self.waits) {
            body::drain_later(body);
        }
    }
}

impl RequestBody {
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let Some(body) = &mut self.body else { return Ok(None) };
        // An empty body is not asked for.
        if let Some(called) = self.called.take().filter(|_| !body.is_end_stream()) {
            called.0.store(true, Ordering::Release);
        }
        let next = body::next_of_client(body).await;
        // The read has sent `100 Continue`.
        self.waits = false;
        let Ok(Some(bytes)) = &next else {
            self.body = None;
            return next;
        };
        self.pace.came(bytes.len())?;
        next
    }
}

/// Drops the body of a refused request, after draining what its client sends anyway.
pub fn refuse(head: &Parts, body: Incoming) {
    body::drain_unless_waiting(&head.headers, body);
}

/// Why the body of a request was refused. The library, which reads it, only sees that reading failed.
#[derive(Clone, Debug, Default)]
pub struct BodyFault(Arc<Mutex<Option<S3Error>>>);

/// Ends a body; its `BodyFault` says why.
#[derive(Debug, thiserror::Error)]
#[error("the body was refused")]
pub struct Refused;

impl BodyFault {
    /// Records why the body ends. The first reason counts.
    pub fn set(&self, error: S3Error) -> Refused {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        Refused
    }

    pub fn take(&self) -> Option<S3Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn of_read(error: &ReadError) -> S3Error {
    match error {
        ReadError::Idle | ReadError::TooSlow => S3ErrorCode::RequestTimeout.into(),
        _ => incomplete(),
    }
}

fn of_chunks(error: BadChunks) -> S3Error {
    match error {
        BadChunks::Malformed => {
            s3_error!(InvalidRequest, "The chunks of the body are malformed or too large")
        }
        BadChunks::Incomplete => incomplete(),
    }
}

/// Returns the error for a body that the library rejected and for which `BodyFault` has no reason. Its errors have no
/// public types, but each kind of body leaves it one thing to verify.
pub fn refused_by_library(headers: &HeaderMap) -> fn() -> S3Error {
    let payload = headers.get("x-amz-content-sha256").map_or(&b""[..], HeaderValue::as_bytes);
    if payload.starts_with(b"STREAMING-AWS4") {
        || S3ErrorCode::SignatureDoesNotMatch.into()
    } else if payload.starts_with(b"STREAMING-") {
        || s3_error!(InvalidRequest, "The trailer of the body is malformed")
    } else {
        || {
            let message = "The provided 'x-amz-content-sha256' header does not match what was computed";
            custom("XAmzContentSHA256Mismatch", StatusCode::BAD_REQUEST, message)
        }
    }
}

/// Returns a request's body in small chunks; it fails when it is idle or too slow.
pub fn incoming(head: &Parts, body: Incoming, fault: &BodyFault) -> s3s::Body {
    let length = http_body::Body::size_hint(&body);
    let held = RequestBody {
        body: Some(body),
        waits: head.headers.contains_key(EXPECT),
        called: head.extensions.get().cloned(),
        pace: Pace::default(),
    };
    let broken = fault.clone();
    let stream = futures_util::stream::unfold(Some((held, broken)), |state| async move {
        let (mut held, broken) = state?;
        match held.next().await {
            Ok(None) => None,
            Ok(Some(bytes)) => Some((Ok(bytes), Some((held, broken)))),
            Err(e) => Some((Err(broken.set(of_read(&e))), None)),
        }
    });
    let payload = head.headers.get("x-amz-content-sha256").map_or(&b""[..], HeaderValue::as_bytes);
    if !payload.starts_with(b"STREAMING-") {
        return sized(stream.boxed(), length);
    }
    let fault = fault.clone();
    let refuse = move |bad| fault.set(of_chunks(bad));
    let stream = aws_chunked::small(stream.boxed(), !payload.starts_with(b"STREAMING-UNSIGNED"), refuse);
    // Splitting chunks makes the framing longer.
    sized(stream, http_body::SizeHint::default())
}

pub fn sized(
    stream: futures_util::stream::BoxStream<'static, Result<Bytes, Refused>>,
    length: http_body::SizeHint,
) -> s3s::Body {
    s3s::Body::http_body_unsync(SizedBody { stream, length })
}

struct SizedBody {
    stream: futures_util::stream::BoxStream<'static, Result<Bytes, Refused>>,
    length: http_body::SizeHint,
}

impl http_body::Body for SizedBody {
    type Data = Bytes;
    type Error = Refused;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refused>>> {
        let polled = self.stream.as_mut().poll_next(cx);
        if let Poll::Ready(Some(Ok(bytes))) = &polled {
            let came = bytes.len() as u64;
            self.length = match self.length.exact() {
                Some(left) => http_body::SizeHint::with_exact(left.saturating_sub(came)),
                None => http_body::SizeHint::default(),
            };
        }
        polled.map(|frame| frame.map(|f| f.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.length.exact() == Some(0)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.length
    }
}

pub fn incomplete() -> S3Error {
    s3_error!(
        IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header"
    )
}

/// A response body of ours, in the form of the library.
pub struct Outgoing(pub body::Body);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Broken(BodyFailure);

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Pin::new(&mut self.0).poll_frame(cx).map(|frame| frame.map(|f| f.map_err(Broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use shared::wire::error::ErrorReply;

    use crate::s3::request::body::*;
    use crate::trickle;

    /// Reads a body to its end, in the way of the library, which hides the cause of a failure.
    async fn read(request: Request<Incoming>) -> Result<(), ErrorReply> {
        let (head, body) = request.into_parts();
        let fault = BodyFault::default();
        let mut body = std::pin::pin!(incoming(&head, body, &fault));
        while let Some(frame) = body.next().await {
            if frame.is_err() {
                assert_eq!(fault.take().unwrap().code().as_str(), "RequestTimeout");
                return Err(trickle::refused());
            }
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_silent_or_too_slow_is_given_up() {
        trickle::check(read).await;
    }
}
