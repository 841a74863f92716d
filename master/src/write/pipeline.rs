//! The write pipeline: streams a value to the first volume of a replica chain, at the pace of the slowest replica.
//! If that volume is down, full or busy, or dies in the middle of the upload (pipeline recovery), another one is
//! tried while the value's first frames are still buffered. For a later volume of the chain,
//! `volume/src/http/chain.rs` does that.

use crate::write::placement::{UploadSpec, WriteTarget};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::header::HeaderMap;
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use shared::http::body::{self, Pace};
use shared::http::pipe::{Pipe, PipeError};
use shared::limits::{ATTEMPTS_MAX, CHAIN_STALL_TIMEOUT, COMMIT_TIMEOUT, RECEIPT_TIMEOUT, REPLAY_FRAMES};
use shared::wire::error::{ErrorBody, ErrorCode, ErrorReply};
use shared::wire::routes::CHAIN_HEADER;

use super::Writer;

/// Where the bytes of a value come from.
pub enum Frames {
    /// A client's body.
    Client(Incoming),
    /// Any other stream; its error ends the upload.
    Stream(BoxStream<'static, Result<Bytes, ErrorReply>>),
}

/// A value being uploaded. Its first frames are kept so that another volume can be tried.
pub struct Source {
    frames: Frames,
    pace: Pace,
    kept: Vec<Bytes>,
    replayable: bool,
}

impl Source {
    /// Creates a source from which nothing has been read.
    pub fn new(frames: Frames) -> Self {
        Self { frames, pace: Pace::default(), kept: Vec::new(), replayable: true }
    }

    /// Keeps reading for a moment, so that a client that is still sending sees its answer.
    pub fn drain(self) {
        if let Frames::Client(body) = self.frames {
            body::drain_later(body);
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, ErrorReply> {
        let next = match &mut self.frames {
            Frames::Client(body) => body::next_of_client(body).await?,
            Frames::Stream(stream) => stream.next().await.transpose()?,
        };
        if let Some(frame) = &next {
            self.pace.came(frame.len())?;
        }
        Ok(next)
    }

    fn keep(&mut self, frame: &Bytes) {
        if self.replayable && self.kept.len() < REPLAY_FRAMES {
            self.kept.push(frame.clone());
        } else {
            self.replayable = false;
            self.kept = Vec::new();
        }
    }
}

/// Why a value did not reach its volume.
enum PipelineError {
    Client(ErrorReply),
    /// The volume failed before it had all bytes: it stored nothing.
    Halfway(PipeError),
    /// The volume failed after it had all bytes: it may have committed them.
    AtTheEnd(PipeError),
}

impl PipelineError {
    /// The client's answer when no other volume is tried.
    fn into_reply(self) -> ErrorReply {
        match self {
            Self::Client(reply) => reply,
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

impl Writer {
    /// Streams a value to the first volume. Returns the granted target and the volume's answer.
    ///
    /// # Errors
    /// When the source fails, or no volume accepts the value.
    pub(super) async fn send_through_chain(
        &self,
        wanted: &UploadSpec,
        method: &Method,
        headers: &HeaderMap,
        source: &mut Source,
    ) -> Result<(WriteTarget, Answer), ErrorReply> {
        let mut avoid = Vec::new();
        loop {
            let granted = self.place_and_grant(wanted, &avoid, headers.contains_key(CHAIN_HEADER))?;
            let first = &granted.chain[0];
            let url = format!("{}{}", first.address, granted.target);
            let pipe =
                Pipe::open(self.volumes.peers.http(), method.clone(), &url, headers.clone(), wanted.length);
            let links = u32::try_from(granted.chain.len()).unwrap_or(1);
            let outcome = stream_to_volume(pipe, source, links).await;
            let retry = source.replayable && avoid.len() + 1 < ATTEMPTS_MAX;
            match outcome {
                Ok(answer) => {
                    let another = matches!(
                        answer.refusal(),
                        Some(ErrorCode::NoSpace | ErrorCode::ReadOnly | ErrorCode::TooBusy)
                    );
                    if !(another && retry) {
                        return Ok((granted, answer));
                    }
                    tracing::info!(volume = first.address, status = %answer.status, "volume refused an upload, trying another");
                }
                Err(broken) => {
                    if let PipelineError::Halfway(error) | PipelineError::AtTheEnd(error) = &broken {
                        tracing::warn!(volume = first.address, %error, "upload to volume failed");
                        self.volumes.cluster.suspect(first.volume);
                    }
                    if !(retry && broken.kept_nothing()) {
                        return Err(broken.into_reply());
                    }
                }
            }
            avoid.push(first.volume);
        }
    }
}

/// Feeds one volume and reads its answer.
async fn stream_to_volume(mut pipe: Pipe, source: &mut Source, links: u32) -> Result<Answer, PipelineError> {
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
        let next = tokio::select! {
            next = source.next() => next.map_err(PipelineError::Client)?,
            // A slow or waiting client hears of a refusal without sending more.
            () = pipe.closed() => {
                pushed = Err(PipeError::Closed);
                break;
            }
        };
        let Some(frame) = next else {
            return collect(pipe.finish(within).await).await.map_err(PipelineError::AtTheEnd);
        };
        source.keep(&frame);
        pushed = pipe.push(frame, stall).await;
    }
    match pushed {
        // The volume answered before it had read everything: a refusal.
        Err(PipeError::Closed) => {
            collect(pipe.answer(CHAIN_STALL_TIMEOUT).await).await.map_err(PipelineError::Halfway)
        }
        Err(e) => Err(PipelineError::Halfway(e)),
        Ok(()) => Err(PipelineError::Halfway(PipeError::Closed)),
    }
}

async fn collect(answer: Result<Response<Incoming>, PipeError>) -> Result<Answer, PipeError> {
    let (head, body) = answer?.into_parts();
    let body = body::collect_answer(body).await.map_err(|_| PipeError::Closed)?;
    Ok(Answer { status: head.status, body })
}

/// A volume's answer to an upload.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Vec<u8>,
}

impl Answer {
    fn refusal(&self) -> Option<ErrorCode> {
        self.error().map(|e| e.error.code)
    }

    /// The error in the answer, if it is one.
    pub fn error(&self) -> Option<ErrorBody> {
        let error = || serde_json::from_slice::<ErrorBody>(&self.body).ok();
        (!self.status.is_success()).then(error).flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::stream::unfold;
    use shared::limits::BODY_RATE_GRACE;
    use tokio::time::{Instant, sleep, timeout};

    use super::*;
    use crate::trickle::{self, FOREVER, GAP};

    async fn read(mut source: Source) -> Result<(), ErrorReply> {
        while source.next().await?.is_some() {}
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_silent_or_too_slow_is_given_up() {
        trickle::check(|request| read(Source::new(Frames::Client(request.into_body())))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn anything_else_that_is_too_slow_is_given_up() {
        let frames = unfold((), |()| async {
            sleep(GAP).await;
            Some((Ok(Bytes::from_static(b"x")), ()))
        });
        let began = Instant::now();
        let source = Source::new(Frames::Stream(frames.boxed()));
        let refused = timeout(FOREVER, read(source)).await.expect("it is never given up").unwrap_err();
        assert_eq!(refused.code, ErrorCode::Timeout);
        let took = began.elapsed();
        assert!(took > BODY_RATE_GRACE && took < BODY_RATE_GRACE + GAP + Duration::from_secs(1), "{took:?}");
    }
}
