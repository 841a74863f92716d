//! Bodies between the S3 library and ours: a request's, with our limits on how slow it may be, and an answer's.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CONNECTION, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3ErrorCode, s3_error};
use shared::http::body::{self, BodyFailure, Pace, ReadError};

use super::chunks::{self, BadChunks};
use super::error::custom;

/// As the library has it.
pub type StdError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Whether the body of a request with `Expect: 100-continue` was called for. When it was not, the answer that comes
/// instead ends the connection: botocore, which would use it again, takes the status of this answer for the next one's.
#[derive(Clone, Debug, Default)]
pub struct Called(Arc<AtomicBool>);

impl Called {
    /// Watches over a request, if it waits to be called.
    pub fn watch<B>(request: &mut Request<B>) -> Option<Self> {
        let waits = request.headers().contains_key(EXPECT);
        waits.then(|| request.extensions_mut().get_or_insert_default::<Self>().clone())
    }

    /// Ends the connection with this answer, if nobody called for a body.
    pub fn end<B>(self, answer: &mut Response<B>) {
        if !self.0.load(Ordering::Acquire) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// A request's body while it is read. What is not read to its end is read on for a moment, so that a client that is still
/// sending sees its answer.
struct Held {
    body: Option<Incoming>,
    /// The client sends its body only when it is called for.
    waits: bool,
    called: Option<Called>,
    pace: Pace,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|_| !self.waits) {
            body::drain_later(body);
        }
    }
}

impl Held {
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let Some(body) = &mut self.body else { return Ok(None) };
        // An empty body is not called for.
        if let Some(called) = self.called.take().filter(|_| !body.is_end_stream()) {
            called.0.store(true, Ordering::Release);
        }
        let next = body::next_of_client(body).await;
        // Whoever waited has been told to send.
        self.waits = false;
        let Ok(Some(bytes)) = &next else {
            self.body = None;
            return next;
        };
        self.pace.came(bytes.len())?;
        next
    }
}

/// Nothing of a body is read that is not needed to tell its client why.
pub fn refuse(head: &Parts, body: Incoming) {
    body::drain_unless_waiting(&head.headers, body);
}

/// Why a request's body ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its chunks cannot be.
    #[error(transparent)]
    Chunks(#[from] BadChunks),
    /// It is a document that was not taken: `document::Fault` says why.
    #[error("the document was not taken")]
    Document,
}

/// A request's body, cut when it is idle or too slow, and in small chunks.
pub fn incoming(head: &Parts, body: Incoming) -> s3s::Body {
    let length = http_body::Body::size_hint(&body);
    let held = Held {
        body: Some(body),
        waits: head.headers.contains_key(EXPECT),
        called: head.extensions.get().cloned(),
        pace: Pace::default(),
    };
    let stream = futures_util::stream::unfold(Some(held), |state| async move {
        let mut held = state?;
        match held.next().await {
            Ok(None) => None,
            Ok(Some(bytes)) => Some((Ok(bytes), Some(held))),
            Err(e) => Some((Err(Cut::from(e)), None)),
        }
    });
    let payload = head.headers.get("x-amz-content-sha256").map_or(&b""[..], HeaderValue::as_bytes);
    if !payload.starts_with(b"STREAMING-") {
        return sized(stream.boxed(), length);
    }
    let stream = chunks::small(stream.boxed(), !payload.starts_with(b"STREAMING-UNSIGNED"));
    // Where chunks are cut the framing is longer than it was.
    sized(stream, http_body::SizeHint::default())
}

/// A body of these frames.
pub fn sized(
    stream: futures_util::stream::BoxStream<'static, Result<Bytes, Cut>>,
    length: http_body::SizeHint,
) -> s3s::Body {
    s3s::Body::http_body_unsync(Sized { stream, length })
}

/// A body that knows how long it is.
struct Sized {
    stream: futures_util::stream::BoxStream<'static, Result<Bytes, Cut>>,
    length: http_body::SizeHint,
}

impl http_body::Body for Sized {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
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

/// The bytes of a value that a client sends, or why there are no more.
pub fn frames(body: StreamingBlob) -> impl Stream<Item = Result<Bytes, S3Error>> + Send {
    body.map(|frame| frame.map_err(|e| fault(&e)))
}

/// What is wrong with a body. The library's own errors have no public types, only words.
pub fn fault(error: &StdError) -> S3Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
    while let Some(e) = cause {
        if let Some(Cut::Read(read)) = e.downcast_ref::<Cut>() {
            return match read {
                ReadError::Idle | ReadError::TooSlow => S3ErrorCode::RequestTimeout.into(),
                _ => incomplete(),
            };
        }
        cause = e.source();
    }
    let words = error.to_string();
    if words.contains("Sha256Mismatch") {
        let message = "The provided 'x-amz-content-sha256' header does not match what was computed";
        return custom("XAmzContentSHA256Mismatch", StatusCode::BAD_REQUEST, message);
    }
    if words.contains("SignatureMismatch") {
        return S3ErrorCode::SignatureDoesNotMatch.into();
    }
    if words.contains("FormatError") || words.contains("TooLarge") || words.contains("TooMany") {
        return s3_error!(InvalidRequest, "The chunks of the body are not well-formed");
    }
    incomplete()
}

fn incomplete() -> S3Error {
    s3_error!(
        IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header"
    )
}

/// The body of an answer of ours, as the library takes it.
pub struct Outgoing(pub body::Body);

/// An answer that breaks off.
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

    use super::*;
    use crate::trickle;

    async fn read(request: Request<Incoming>) -> Result<(), ErrorReply> {
        let (head, body) = request.into_parts();
        let mut body = std::pin::pin!(incoming(&head, body));
        while let Some(frame) = body.next().await {
            if let Err(error) = frame {
                assert_eq!(fault(&error).code().as_str(), "RequestTimeout");
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
