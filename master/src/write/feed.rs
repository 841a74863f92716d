//! Feeds a value to the first volume of a chain, slowed down by the slowest replica. A volume that is down, full or busy is
//! passed over as long as the value's first frames are still at hand.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::header::HeaderMap;
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use shared::condition::WriteCondition;
use shared::digest::Digest;
use shared::http::body::{self, Pace};
use shared::http::pipe::{Pipe, PipeError};
use shared::ids::VolumeId;
use shared::key::Key;
use shared::limits::{ATTEMPTS_MAX, CHAIN_STALL_TIMEOUT, COMMIT_TIMEOUT, RECEIPT_TIMEOUT, REPLAY_FRAMES};
use shared::size::record_bytes_max;
use shared::ticket::{Link, Operation, Ticket, WriteGrant};
use shared::wire::error::{ErrorBody, ErrorCode, ErrorReply};
use shared::wire::routes::{CHAIN_HEADER, TICKET};

use crate::cluster::Reachable;
use crate::master::Master;

/// What is to be stored, as far as placement and ticket go.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Under which key.
    pub key: Key,
    /// Its length in bytes, where it is known.
    pub length: Option<u64>,
    /// Its BLAKE3, where it is known.
    pub digest: Option<Digest>,
    /// What must hold of the key's present value at the commit.
    pub condition: WriteCondition,
    /// Volumes that take it before those the ring proposes.
    pub prefer: Vec<VolumeId>,
    /// How often its client was sent round.
    pub hops: u8,
}

/// Where it goes, and the permission.
#[derive(Debug)]
pub struct Granted {
    /// The volumes, in the order in which the bytes flow.
    pub chain: Vec<Reachable>,
    pub ticket: Ticket,
    /// Path and query for the first volume. Holds the ticket: never logged.
    pub target: String,
}

/// Picks the volumes and writes the ticket; `notes`: for who commits itself.
///
/// # Errors
/// When there are too few volumes, or no room.
pub fn grant(
    master: &Master,
    wanted: &Wanted,
    avoid: &[VolumeId],
    notes: bool,
) -> Result<Granted, ErrorReply> {
    let bytes = record_bytes_max(wanted.length.unwrap_or(0));
    let replication = master.config.replication;
    let at_once = replication.at_once(master.mode(&wanted.key)?);
    let chain = master.cluster.place(&wanted.key, bytes, at_once, &wanted.prefer, avoid)?;
    let small = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    let grant = WriteGrant {
        chain: chain.iter().map(|v| Link { volume: v.volume, address: v.address.clone() }).collect(),
        length: wanted.length,
        digest: wanted.digest,
        condition: wanted.condition.clone(),
        wanted: small(replication.wanted()),
        min_replicas: small(at_once.min()),
        notes,
    };
    let ticket = master.ticket(master.sequencer.next_blob()?, wanted.hops, Operation::Write(grant));
    let sealed = ticket.seal(&master.config.secret, &wanted.key);
    let target = format!("{}?{TICKET}={sealed}", wanted.key.to_path());
    Ok(Granted { chain, ticket, target })
}

/// Where the bytes of a value come from.
pub enum Frames {
    /// A client's body, as it is.
    Client(Incoming),
    /// Anything else; what is wrong with it ends the upload.
    Stream(BoxStream<'static, Result<Bytes, ErrorReply>>),
}

/// A value under way, with its first frames kept until a volume is known to take them.
pub struct Source {
    frames: Frames,
    pace: Pace,
    kept: Vec<Bytes>,
    replayable: bool,
}

impl Source {
    /// Nothing of it has come yet.
    pub fn new(frames: Frames) -> Self {
        Self { frames, pace: Pace::default(), kept: Vec::new(), replayable: true }
    }

    /// Reads on for a moment, so that a client that is still sending sees its answer.
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

/// Why a value did not get through.
enum Broken {
    Client(ErrorReply),
    /// The volume failed while it still missed bytes: it has kept nothing.
    Halfway(PipeError),
    /// The volume failed when it had all bytes: it may have committed them.
    AtTheEnd(PipeError),
}

impl Broken {
    /// What the client is told when it is not tried again.
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

/// Passes a value through to the first volume; its answer, and what it was granted.
///
/// # Errors
/// When the source breaks off, or no volume takes it.
pub async fn feed(
    master: &Master,
    wanted: &Wanted,
    method: &Method,
    headers: &HeaderMap,
    source: &mut Source,
) -> Result<(Granted, Answer), ErrorReply> {
    let mut avoid = Vec::new();
    loop {
        let granted = grant(master, wanted, &avoid, headers.contains_key(CHAIN_HEADER))?;
        let first = &granted.chain[0];
        let url = format!("{}{}", first.address, granted.target);
        let pipe = Pipe::open(master.peers.http(), method.clone(), &url, headers.clone(), wanted.length);
        let links = u32::try_from(granted.chain.len()).unwrap_or(1);
        let outcome = pass(pipe, source, links).await;
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
                if let Broken::Halfway(error) | Broken::AtTheEnd(error) = &broken {
                    tracing::warn!(volume = first.address, %error, "upload to volume failed");
                    master.cluster.suspect(first.volume);
                }
                if !(retry && broken.kept_nothing()) {
                    return Err(broken.into_reply());
                }
            }
        }
        avoid.push(first.volume);
    }
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
        let next = tokio::select! {
            next = source.next() => next.map_err(Broken::Client)?,
            // A client that is slow, or waits, need not send more to hear that it is refused.
            () = pipe.closed() => {
                pushed = Err(PipeError::Closed);
                break;
            }
        };
        let Some(frame) = next else {
            return collect(pipe.finish(within).await).await.map_err(Broken::AtTheEnd);
        };
        source.keep(&frame);
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
    Ok(Answer { status: head.status, body })
}

/// What a volume answered to an upload.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Vec<u8>,
}

impl Answer {
    fn refusal(&self) -> Option<ErrorCode> {
        self.error().map(|e| e.error.code)
    }

    /// What it says when it is a refusal.
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
