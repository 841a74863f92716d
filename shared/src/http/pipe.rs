//! A value on its way to another server: frames in at one end with that server's backpressure, its answer out at
//! the other. Used for the links of a chain and for the streaming master.
//!
//! Never ends cleanly unless told to: dropping a `Pipe` cuts the connection, and the receiver keeps nothing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::http::body::{self, BodyFailure};
use crate::http::client::{HttpClient, HttpError};
use crate::limits::CHAIN_FRAMES;

/// A request whose body is still being sent.
#[derive(Debug)]
pub struct Pipe {
    frames: Option<mpsc::Sender<Frame>>,
    answer: JoinHandle<Result<Response<Incoming>, HttpError>>,
    /// Bytes still to be sent, if known.
    left: Option<u64>,
}

#[derive(Debug)]
enum Frame {
    Data(Bytes),
    /// The clean end: without it the body breaks off.
    End,
}

/// Why the value cannot be sent to that server.
#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    /// It took no byte within the limit.
    #[error("it took no byte for {} s", .0.as_secs())]
    Stalled(Duration),
    /// It has answered, or the connection has closed, before the value was complete.
    #[error("it stopped reading before the value was complete")]
    Closed,
    /// It did not answer in time after the last byte.
    #[error("it did not answer within {} s of the last byte", .0.as_secs())]
    NoAnswer(Duration),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Http(#[from] HttpError),
}

#[derive(Debug, thiserror::Error)]
#[error("the sender gave up")]
struct GivenUp;

impl Pipe {
    /// Opens a request to `url`. The receiver detects a short body by its `Content-Length` if `length` is given, else
    /// by the missing last chunk.
    pub fn open(
        http: &HttpClient,
        method: Method,
        url: &str,
        mut headers: HeaderMap,
        length: Option<u64>,
    ) -> Self {
        let (frames, rx) = mpsc::channel(CHAIN_FRAMES);
        let value = stream::unfold(Some(rx), |rx: Option<mpsc::Receiver<Frame>>| async move {
            let mut rx = rx?;
            match rx.recv().await {
                Some(Frame::Data(bytes)) => Some((Ok(bytes), Some(rx))),
                Some(Frame::End) => None,
                None => Some((Err(BodyFailure::from(GivenUp)), None)),
            }
        });
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        let request = Request::builder().method(method).uri(url).body(body::stream(value));
        let http = http.clone();
        let answer = tokio::spawn(async move {
            let mut request = request?;
            *request.headers_mut() = headers;
            http.send(request).await
        });
        Self { frames: Some(frames), answer, left: length }
    }

    /// Sends `bytes`, and waits while the receiver is slower.
    ///
    /// # Errors
    /// If the receiver takes nothing for `limit`, or has stopped reading.
    pub async fn push(&mut self, bytes: Bytes, limit: Duration) -> Result<(), PipeError> {
        self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
        self.send(Frame::Data(bytes), limit).await
    }

    /// Waits until the receiver has stopped reading, as it does when it refuses the upload; forever once it
    /// has all bytes.
    pub async fn closed(&self) {
        match &self.frames {
            Some(frames) if self.left != Some(0) => frames.closed().await,
            _ => std::future::pending().await,
        }
    }

    /// Ends the value and waits at most `within` for the answer.
    ///
    /// # Errors
    /// If the connection failed before the value was complete, or no answer arrived.
    pub async fn finish(mut self, within: Duration) -> Result<Response<Incoming>, PipeError> {
        let started = Instant::now();
        // The receiver may have answered without reading to the end: its answer says why.
        let _ = self.send(Frame::End, within).await;
        self.answer(within.saturating_sub(started.elapsed())).await
    }

    /// Waits for the answer to an incomplete value: a refusal, or the transport's error.
    ///
    /// # Errors
    /// If there is none within `within`.
    pub async fn answer(mut self, within: Duration) -> Result<Response<Incoming>, PipeError> {
        match tokio::time::timeout(within, &mut self.answer).await {
            Ok(Ok(answer)) => Ok(answer?),
            Ok(Err(_)) => Err(PipeError::Closed),
            Err(_) => Err(PipeError::NoAnswer(within)),
        }
    }

    async fn send(&mut self, frame: Frame, limit: Duration) -> Result<(), PipeError> {
        let Some(frames) = &self.frames else { return Err(PipeError::Closed) };
        match tokio::time::timeout(limit, frames.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(PipeError::Closed),
            Err(_) => Err(PipeError::Stalled(limit)),
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // Without `End` the body stream breaks off; aborting the task closes the connection at once.
        self.frames = None;
        self.answer.abort();
    }
}
