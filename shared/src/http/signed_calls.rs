//! Receiving signed calls between servers: `CallVerifier::serve` verifies the caller before anything else happens,
//! and signs the answer. The handler finds the proof in the request, and reads a body only with it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{once, unfold};
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::call::{CallSignature, Recipient, SignatureError};
use crate::clock::Clock;
use crate::http::body::{self, Body, BodyFailure};
use crate::http::serve::{Context, render};
use crate::limits::{CALLS_REMEMBERED, MESSAGE_BYTES_MAX, RECIPIENT_LIFETIME, REFUSED_CALLS_LOGGED};
use crate::secret::ClusterSecret;
use crate::telemetry::Metrics;
use crate::wire::error::{ErrorCode, ErrorReply};
use crate::wire::routes::{ANSWER_HEADER, RECIPIENT, SIGNATURE_HEADER};

/// Proof that a server of the cluster sent the request, with the body's declared digest: inserted
/// only by `CallVerifier::serve`.
#[derive(Clone, Debug)]
struct Proved(blake3::Hash);

/// Extension of an answer whose body is a stream, which ends with a MAC over all of it.
#[derive(Clone, Copy, Debug)]
pub struct Streamed;

/// Stands for the body's digest in the signature of a streamed answer.
pub(crate) fn streamed_digest() -> blake3::Hash {
    blake3::hash(b"barge stream")
}

/// Verifies the signed calls that a server receives.
#[derive(Debug)]
pub struct CallVerifier {
    secret: ClusterSecret,
    clock: Clock,
    seen: Mutex<SeenNonces>,
    refused: Family<Refused, Counter>,
    log: Mutex<Log>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

/// The recipient names under which calls are taken, each with the nonces seen for it.
#[derive(Debug)]
struct SeenNonces {
    current: (Recipient, HashSet<Uuid>),
    previous: (Recipient, HashSet<Uuid>),
    since: Instant,
}

#[derive(Debug, Default)]
struct Log {
    last: Option<Instant>,
    unlogged: u64,
}

impl SeenNonces {
    fn new() -> Self {
        let name = || (Recipient::random(), HashSet::new());
        Self { current: name(), previous: name(), since: Instant::now() }
    }

    /// Replaces a name that was used for long enough, or for enough calls.
    fn renew(&mut self, now: Instant) {
        if now.duration_since(self.since) >= RECIPIENT_LIFETIME || self.current.1.len() >= CALLS_REMEMBERED {
            self.previous = std::mem::replace(&mut self.current, (Recipient::random(), HashSet::new()));
            self.since = now;
        }
    }

    /// Whether a call is new; `None` if it is not for this server.
    fn take(&mut self, call: &CallSignature) -> Option<Result<(), SignatureError>> {
        let names = [&mut self.current, &mut self.previous];
        let (_, nonces) = names.into_iter().find(|(name, _)| *name == call.recipient)?;
        Some(if nonces.insert(call.nonce) { Ok(()) } else { Err(SignatureError::Replayed) })
    }
}

impl CallVerifier {
    /// Verifies calls signed with `secret`.
    pub fn new(secret: ClusterSecret, clock: Clock, metrics: &Metrics) -> Arc<Self> {
        let refused = Family::<Refused, Counter>::default();
        metrics.register(|r| {
            r.register("barge_calls_refused", "Calls of other servers that were refused", refused.clone());
        });
        Arc::new(Self { secret, clock, seen: Mutex::new(SeenNonces::new()), refused, log: Mutex::default() })
    }

    /// Answers a request with `handle`. A signed request is verified first and its answer is signed; an unsigned one
    /// is passed to `handle` as it is.
    ///
    /// # Errors
    /// An invalid signature; and those of `handle` for requests without one.
    pub async fn serve<F>(
        &self,
        request: Request<Incoming>,
        context: Context,
        handle: impl FnOnce(Request<Incoming>) -> F + Send,
    ) -> Result<Response<Body>, ErrorReply>
    where
        F: Future<Output = Result<Response<Body>, ErrorReply>> + Send,
    {
        let Some(text) = request.headers().get(SIGNATURE_HEADER) else { return handle(request).await };
        let text = text.to_str().ok();
        let target = request.uri().path_and_query().map_or("", |t| t.as_str());
        let call = match CallSignature::check(&self.secret, text, request.method().as_str(), target) {
            Ok(call) => call,
            Err(error) => {
                self.note(error, context);
                return Err(refuse(request, &error));
            }
        };
        let taken = call.check_time(self.clock.now()).map(|()| self.take(&call));
        let asks = call.recipient == Recipient::ANY && target == RECIPIENT;
        let answer = match taken {
            Ok(_) if asks => {
                let (head, incoming) = request.into_parts();
                body::drain_unless_waiting(&head.headers, incoming);
                Ok(body::json(http::StatusCode::OK, &()))
            }
            Ok(Some(Ok(()))) => {
                let mut request = request;
                request.extensions_mut().insert(Proved(call.body));
                handle(request).await
            }
            Ok(None) => {
                let (head, incoming) = request.into_parts();
                body::drain_unless_waiting(&head.headers, incoming);
                Err(elsewhere())
            }
            Ok(Some(Err(error))) | Err(error) => {
                self.note(error, context);
                Err(refuse(request, &error))
            }
        };
        let answer = answer.unwrap_or_else(|refusal| render(refusal, context.request_id));
        Ok(self.sign(&call, answer, context).await)
    }

    fn take(&self, call: &CallSignature) -> Option<Result<(), SignatureError>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.renew(Instant::now());
        seen.take(call)
    }

    fn name(&self) -> Recipient {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).current.0
    }

    /// Counts a refused call; the log has one line for many.
    fn note(&self, error: SignatureError, context: Context) {
        let reason = match error {
            SignatureError::Invalid => "invalid",
            SignatureError::Expired => "expired",
            SignatureError::Replayed => "replayed",
        };
        self.refused.get_or_create(&Refused { reason }).inc();
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.unlogged += 1;
        if log.last.is_none_or(|last| last.elapsed() >= REFUSED_CALLS_LOGGED) {
            tracing::warn!(peer = %context.peer, %error, calls = log.unlogged, "refused signed calls");
            *log = Log { last: Some(Instant::now()), unlogged: 0 };
        }
    }

    /// Signs the answer to `call`.
    async fn sign(&self, call: &CallSignature, answer: Response<Body>, context: Context) -> Response<Body> {
        let (mut head, body) = answer.into_parts();
        let (digest, body) = if head.extensions.get::<Streamed>().is_some() {
            // The body is longer by the MAC.
            head.headers.remove(CONTENT_LENGTH);
            (streamed_digest(), with_mac(body, self.secret.clone(), call.clone()))
        } else {
            match body.collect().await {
                Ok(whole) => {
                    let bytes = whole.to_bytes();
                    (blake3::hash(&bytes), body::full(bytes))
                }
                Err(error) => {
                    let refusal = ErrorReply::new(ErrorCode::Internal, error.to_string(), "retry");
                    let answer = render(refusal, context.request_id);
                    return Box::pin(self.sign(call, answer, context)).await;
                }
            }
        };
        let signature = call.answer(&self.secret, self.name(), head.status, &digest);
        if let Ok(value) = HeaderValue::from_str(&signature) {
            head.headers.insert(ANSWER_HEADER, value);
        }
        Response::from_parts(head, body)
    }
}

/// Appends to a stream the MAC over it.
fn with_mac(body: Body, secret: ClusterSecret, call: CallSignature) -> Body {
    let hasher = Arc::new(Mutex::new(blake3::Hasher::new()));
    let heard = Arc::clone(&hasher);
    let frames = unfold(body.into_data_stream(), |mut frames| async move {
        let frame: Result<Bytes, BodyFailure> = frames.next().await?;
        Some((frame, frames))
    });
    let heard = frames.inspect(move |frame| {
        if let Ok(bytes) = frame {
            heard.lock().unwrap_or_else(PoisonError::into_inner).update(bytes);
        }
    });
    let end = once(async move {
        let digest = hasher.lock().unwrap_or_else(PoisonError::into_inner).finalize();
        Ok(Bytes::copy_from_slice(call.stream_mac(&secret, &digest).as_bytes()))
    });
    body::stream(heard.chain(end))
}

/// Whether a holder of the cluster's secret has sent this request.
pub fn is_signed<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Proved>().is_some()
}

/// Reads the message of a signed call.
///
/// # Errors
/// If it is too large, not signed by this cluster, or not a message of this type.
pub async fn read_signed<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, ErrorReply> {
    let text = read_signed_bytes(request, MESSAGE_BYTES_MAX).await?;
    serde_json::from_slice(&text).map_err(|e| {
        ErrorReply::new(
            ErrorCode::BadBody,
            format!("the message cannot be read: {e}"),
            "use the same version of Barge everywhere",
        )
    })
}

/// Reads the body of a signed call, of at most `max` bytes.
///
/// # Errors
/// If it is too large, or not signed by this cluster.
pub async fn read_signed_bytes(request: Request<Incoming>, max: usize) -> Result<Vec<u8>, ErrorReply> {
    // An unsigned request's body costs no memory.
    let Some(Proved(digest)) = request.extensions().get().cloned() else {
        return Err(refuse(request, &SignatureError::Invalid));
    };
    let text = body::collect_of_client(request.into_body(), max).await?;
    if blake3::hash(&text) == digest { Ok(text) } else { Err(unsigned(&SignatureError::Invalid)) }
}

fn refuse(request: Request<Incoming>, error: &SignatureError) -> ErrorReply {
    let (head, incoming) = request.into_parts();
    body::drain_unless_waiting(&head.headers, incoming);
    unsigned(error)
}

fn unsigned(error: &SignatureError) -> ErrorReply {
    ErrorReply::new(
        ErrorCode::NotSigned,
        error.to_string(),
        "start all servers of the cluster with the same --secret-file, and synchronize their clocks",
    )
}

fn elsewhere() -> ErrorReply {
    ErrorReply::new(
        ErrorCode::WrongRecipient,
        "the call is for another server, or for this one before its last restart",
        "ask this server for its recipient name, then retry",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn call(recipient: Recipient) -> CallSignature {
        let secret = ClusterSecret::from_bytes(b"0123456789abcdef");
        CallSignature::new(&secret, recipient, "POST", "/_/commit", b"x", Timestamp::from_unix_ms(1))
    }

    #[test]
    fn each_call_is_taken_once_and_by_its_recipient() {
        let mut seen = SeenNonces::new();
        let first = call(seen.current.0);
        assert_eq!(seen.take(&first), Some(Ok(())));
        assert_eq!(seen.take(&first), Some(Err(SignatureError::Replayed)));
        assert_eq!(seen.take(&call(seen.current.0)), Some(Ok(())));
        assert_eq!(seen.take(&call(Recipient::random())), None);
        assert_eq!(seen.take(&call(Recipient::ANY)), None);
        let later = |seen: &SeenNonces| seen.since + RECIPIENT_LIFETIME;
        seen.renew(later(&seen));
        assert_ne!(seen.current.0, first.recipient);
        assert_eq!(seen.take(&first), Some(Err(SignatureError::Replayed)), "still remembered");
        assert_eq!(seen.take(&call(first.recipient)), Some(Ok(())), "one that was on its way");
        seen.renew(later(&seen));
        assert_eq!(seen.take(&first), None, "forgotten together with its recipient");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut seen = SeenNonces::new();
        for _ in 0..CALLS_REMEMBERED {
            seen.current.1.insert(Uuid::new_v4());
        }
        let name = seen.current.0;
        seen.renew(seen.since);
        assert!(seen.current.0 != name && seen.current.1.is_empty() && seen.previous.0 == name);
    }
}
