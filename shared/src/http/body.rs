//! Bodies: constructs those of answers, and reads those of requests with limits on time and memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderMap, TRANSFER_ENCODING};
use http_body::{Body as _, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::time::Instant;

use crate::limits::{
    BODY_RATE_GRACE, BODY_RATE_MIN, CALL_TIMEOUT, DRAIN_BYTES_MAX, DRAIN_TIME_MAX, IDLE_TIMEOUT,
    MESSAGE_BYTES_MAX,
};
use crate::wire::error::{ErrorCode, ErrorReply};

/// Why a body broke off. An answer whose body fails is cut: the client sees a broken connection, never a clean end.
pub type BodyFailure = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, BodyFailure>;

/// An empty body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of bytes at hand.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of frames as they arrive.
pub fn stream<S>(frames: S) -> Body
where
    S: futures_util::Stream<Item = Result<Bytes, BodyFailure>> + Send + 'static,
{
    use futures_util::StreamExt;
    StreamBody::new(frames.map(|f| f.map(Frame::data))).boxed_unsync()
}

/// An answer with a JSON body and a newline, so that it looks right in a terminal.
pub fn json<T: Serialize>(status: http::StatusCode, value: &T) -> http::Response<Body> {
    let mut text = serde_json::to_vec(value).unwrap_or_else(|_| b"{}".to_vec());
    text.push(b'\n');
    let mut answer = http::Response::new(full(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    answer
}

/// The declared length of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeclaredLength {
    /// `Content-Length` declares this many bytes.
    Known(u64),
    /// Chunked: only the last chunk tells the length.
    Unknown,
    /// Neither: there is no body, and for an upload that is an error (411).
    Missing,
}

/// Reads the framing of a request from its headers (hyper has refused contradictions before).
pub fn declared_length(headers: &HeaderMap) -> DeclaredLength {
    if headers.contains_key(TRANSFER_ENCODING) {
        return DeclaredLength::Unknown;
    }
    headers
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.trim().parse().ok())
        .map_or(DeclaredLength::Missing, DeclaredLength::Known)
}

/// Why a request body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No byte for `IDLE_TIMEOUT`.
    #[error("no byte of the body arrived for {} s", IDLE_TIMEOUT.as_secs())]
    Idle,
    /// Bytes arrived, but too few.
    #[error("the body arrived at less than {BODY_RATE_MIN} bytes per second")]
    TooSlow,
    /// The connection broke or the framing was wrong: the body is incomplete.
    #[error("the body is incomplete: {0}")]
    Broken(#[source] hyper::Error),
    /// Larger than the limit for messages.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
}

impl From<ReadError> for ErrorReply {
    fn from(e: ReadError) -> Self {
        let (code, hint) = match &e {
            ReadError::TooSlow => (ErrorCode::Timeout, "nothing was stored; send it again, faster"),
            ReadError::Idle => (ErrorCode::Timeout, "nothing was stored; send it again without pauses"),
            ReadError::Broken(_) => (ErrorCode::WrongLength, "nothing was stored; send the whole value"),
            ReadError::TooLarge(_) => (ErrorCode::TooLarge, "send a smaller message"),
        };
        Self::new(code, e.to_string(), hint)
    }
}

/// Measures the rate of a body: one that stays below `BODY_RATE_MIN` holds a lane that others could have.
#[derive(Debug)]
pub struct Pace {
    started: Instant,
    bytes: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { started: Instant::now(), bytes: 0 }
    }
}

impl Pace {
    /// Counts bytes that arrived.
    ///
    /// # Errors
    /// If the body has been too slow on average, after `BODY_RATE_GRACE`.
    pub fn came(&mut self, bytes: usize) -> Result<(), ReadError> {
        self.bytes += bytes as u64;
        let elapsed = self.started.elapsed();
        let slow = self.bytes / elapsed.as_secs().max(1) < BODY_RATE_MIN;
        if slow && elapsed > BODY_RATE_GRACE { Err(ReadError::TooSlow) } else { Ok(()) }
    }
}

/// The next bytes of a body; `None` at its clean end. Trailers are ignored.
///
/// # Errors
/// If nothing arrives for `IDLE_TIMEOUT`, or the body breaks off.
pub async fn next(body: &mut Incoming) -> Result<Option<Bytes>, ReadError> {
    loop {
        let frame = tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await.map_err(|_| ReadError::Idle)?;
        match frame {
            None => return Ok(None),
            Some(Err(e)) => return Err(ReadError::Broken(e)),
            Some(Ok(f)) => {
                if let Ok(data) = f.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

tokio::task_local! {
    /// Bytes read so far of a client's request body.
    static RECEIVED: Arc<AtomicU64>;
}

/// Runs `answering`, which answers a request, and counts in `received` the body bytes that `next_of_client` reads.
pub async fn receiving<F: Future>(received: Arc<AtomicU64>, answering: F) -> F::Output {
    RECEIVED.scope(received, answering).await
}

/// Like `next`, for a client's request.
///
/// # Errors
/// If the connection breaks, or nothing arrives in time.
pub async fn next_of_client(body: &mut Incoming) -> Result<Option<Bytes>, ReadError> {
    let next = next(body).await;
    if let Ok(Some(bytes)) = &next {
        count(bytes.len());
    }
    next
}

/// Counts bytes of a request that were read elsewhere, for the audit log.
pub fn count(bytes: usize) {
    // There is a counter only if there is an audit log.
    let _ = RECEIVED.try_with(|received| received.fetch_add(bytes as u64, Ordering::Relaxed));
}

/// Reads a whole body of at most `limit` bytes.
///
/// # Errors
/// As `next`, and if it is larger.
pub async fn collect(mut body: Incoming, limit: usize) -> Result<Vec<u8>, ReadError> {
    if body.size_hint().lower() > limit as u64 {
        drain_later(body);
        return Err(ReadError::TooLarge(limit));
    }
    let mut bytes = Vec::new();
    while let Some(data) = next(&mut body).await? {
        if bytes.len() + data.len() > limit {
            drain_later(body);
            return Err(ReadError::TooLarge(limit));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Like `collect`, for a client's request.
///
/// # Errors
/// If the connection breaks, or the body is larger than `limit`.
pub async fn collect_of_client(body: Incoming, limit: usize) -> Result<Vec<u8>, ReadError> {
    let bytes = collect(body, limit).await?;
    count(bytes.len());
    Ok(bytes)
}

/// Like `collect`, for the short answer of a peer: all of it within `CALL_TIMEOUT`.
///
/// # Errors
/// If the connection breaks, or the body is larger than a message may be.
pub async fn collect_answer(body: Incoming) -> Result<Vec<u8>, ReadError> {
    let collected = tokio::time::timeout(CALL_TIMEOUT, collect(body, MESSAGE_BYTES_MAX)).await;
    collected.unwrap_or(Err(ReadError::Idle))
}

/// Like `drain_later`, unless the client waits for `100 Continue`: reading would invite the body.
pub fn drain_unless_waiting(headers: &HeaderMap, body: Incoming) {
    if !headers.contains_key(EXPECT) {
        drain_later(body);
    }
}

/// Reads on for a moment after an early answer, so that a client that is still sending sees the answer and not a
/// reset. Must not be used after `Expect: 100-continue`, where reading would invite the body.
pub fn drain_later(mut body: Incoming) {
    tokio::spawn(async move {
        let drain = async {
            let mut left = DRAIN_BYTES_MAX;
            while let Ok(Some(data)) = next(&mut body).await {
                left = left.saturating_sub(data.len());
                if left == 0 {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIME_MAX, drain).await;
        // Bytes still in the kernel would turn our close into a reset: give the client a last moment.
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_body_is_too_slow_when_its_average_is_and_not_at_first() {
        let rate = usize::try_from(BODY_RATE_MIN).unwrap();
        let mut slow = Pace::default();
        advance(BODY_RATE_GRACE).await;
        slow.came(1).unwrap();
        advance(SECOND).await;
        assert!(matches!(slow.came(0), Err(ReadError::TooSlow)));

        let mut steady = Pace::default();
        for _ in 0..10 * BODY_RATE_GRACE.as_secs() {
            advance(SECOND).await;
            steady.came(rate).unwrap();
        }

        // The initial burst is used up.
        let mut burst = Pace::default();
        burst.came(1000 * rate).unwrap();
        advance(1000 * SECOND).await;
        burst.came(0).unwrap();
        advance(10 * SECOND).await;
        assert!(matches!(burst.came(0), Err(ReadError::TooSlow)));
    }
}
