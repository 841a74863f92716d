//! A server that has restarted since its last call has another name: the call is sent again, once, and
//! carried out once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::clock::Clock;
use crate::http::body::Body;
use crate::http::serve::{Context, Service, run};
use crate::http::signed_calls::{CallVerifier, Streamed, read_signed};
use crate::secret::ClusterSecret;
use crate::telemetry::{HttpMetrics, Metrics};
use crate::wire::error::ErrorReply;
use crate::work::{Shutdown, ShutdownTrigger};

const STREAM: &str = "/_/test/stream";
const CALL: &str = "/_/test/call";

/// A server that counts what it is asked and what it does.
struct Peer {
    calls: Mutex<Arc<CallVerifier>>,
    /// The server is restarted before each call.
    restless: AtomicBool,
    asked: AtomicUsize,
    done: AtomicUsize,
    refusal: Mutex<Option<ErrorCode>>,
}

fn secret() -> ClusterSecret {
    ClusterSecret::from_bytes(b"the secret of this test")
}

fn calls() -> Arc<CallVerifier> {
    CallVerifier::new(secret(), Clock::System, &Metrics::default())
}

impl Peer {
    async fn start() -> (Arc<Self>, String, ShutdownTrigger) {
        let peer = Arc::new(Self {
            calls: Mutex::new(calls()),
            restless: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            refusal: Mutex::new(None),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (trigger, shutdown) = Shutdown::new();
        let metrics = HttpMetrics::new(&Metrics::default());
        tokio::spawn(run(listener, None, Arc::clone(&peer), metrics, shutdown));
        (peer, address, trigger)
    }

    /// Changes its recipient name.
    fn restart(&self) {
        *self.calls.lock().unwrap() = calls();
    }

    /// What it was asked and what it did since the last look.
    fn counted(&self) -> (usize, usize) {
        (self.asked.swap(0, Ordering::Relaxed), self.done.swap(0, Ordering::Relaxed))
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, ErrorReply> {
        let stream = request.uri().path() == STREAM;
        let message: String = read_signed(request).await?;
        if let Some(code) = *self.refusal.lock().unwrap() {
            return Err(ErrorReply::new(code, "as it was told", ""));
        }
        self.done.fetch_add(1, Ordering::Relaxed);
        let mut answer = body::json(StatusCode::OK, &message);
        if stream {
            answer.extensions_mut().insert(Streamed);
        }
        Ok(answer)
    }
}

impl Service for Peer {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        if request.uri().path() != RECIPIENT {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.restless.load(Ordering::Relaxed) {
                self.restart();
            }
        }
        let calls = Arc::clone(&*self.calls.lock().unwrap());
        calls.serve(request, context, |request| self.answer(request)).await
    }
}

async fn say(client: &PeerClient, address: &str) -> Result<String, CallError> {
    client.call(address, CALL, &"a message").await
}

async fn stream(client: &PeerClient, address: &str) -> Result<Vec<u8>, CallError> {
    let mut answer = client.call_for_stream(address, STREAM, b"\"a message\"".to_vec()).await?;
    let mut came = Vec::new();
    while let Some(bytes) = answer.next().await? {
        came.extend_from_slice(&bytes);
    }
    Ok(came)
}

/// Why the server refused.
fn code_of(error: CallError) -> ErrorCode {
    match error {
        CallError::Refused { detail, .. } => detail.code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_call_to_a_server_that_was_started_anew_is_carried_out_at_once() {
    let (peer, address, _trigger) = Peer::start().await;
    let client = PeerClient::new(secret(), Clock::System);
    assert_eq!(say(&client, &address).await.unwrap(), "a message");
    assert_eq!(peer.counted(), (1, 1));
    for _ in 0..3 {
        peer.restart();
        assert_eq!(say(&client, &address).await.unwrap(), "a message");
        assert_eq!(peer.counted(), (2, 1));
        peer.restart();
        assert_eq!(stream(&client, &address).await.unwrap(), b"\"a message\"\n");
        assert_eq!(peer.counted(), (2, 1));
        // Its name is known now.
        say(&client, &address).await.unwrap();
        stream(&client, &address).await.unwrap();
        assert_eq!(peer.counted(), (2, 2));
    }
}

#[tokio::test]
async fn a_server_that_never_takes_a_call_is_not_called_for_ever() {
    let (peer, address, _trigger) = Peer::start().await;
    let client = PeerClient::new(secret(), Clock::System);
    peer.restless.store(true, Ordering::Relaxed);
    assert_eq!(code_of(say(&client, &address).await.unwrap_err()), ErrorCode::WrongRecipient);
    assert_eq!(peer.counted(), (2, 0));
    assert_eq!(code_of(stream(&client, &address).await.unwrap_err()), ErrorCode::WrongRecipient);
    assert_eq!(peer.counted(), (2, 0));
}

/// Whether to retry after any other failure is up to the caller.
#[tokio::test]
async fn other_refusals_are_not_called_again() {
    let (peer, address, _trigger) = Peer::start().await;
    let client = PeerClient::new(secret(), Clock::System);
    let codes = [ErrorCode::Unavailable, ErrorCode::TooBusy, ErrorCode::NotLeader, ErrorCode::WrongVolume];
    for code in codes.into_iter().chain([ErrorCode::OutcomeUnknown, ErrorCode::Internal]) {
        *peer.refusal.lock().unwrap() = Some(code);
        assert_eq!(code_of(say(&client, &address).await.unwrap_err()), code);
        assert_eq!(code_of(stream(&client, &address).await.unwrap_err()), code);
        assert_eq!(peer.counted(), (2, 0), "{code:?}");
    }
}

/// Passes connections on to `peer`. Of what it says, only the first bytes when `cut` is set.
async fn relay(peer: String, cut: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (peer, cut) = (peer.clone(), Arc::clone(&cut));
            tokio::spawn(async move {
                let mut far = TcpStream::connect(peer.trim_start_matches("http://")).await.unwrap();
                let (mut asks, mut hears) = near.split();
                let (says, mut takes) = far.split();
                let said = async {
                    let mut says = BufReader::new(says);
                    while let Ok(bytes) = says.fill_buf().await.map(<[u8]>::to_vec) {
                        let last = if cut.load(Ordering::Relaxed) { bytes.len() - 1 } else { bytes.len() };
                        hears.write_all(&bytes[..last]).await.unwrap();
                        says.consume(bytes.len());
                        if last < bytes.len() {
                            break;
                        }
                    }
                };
                tokio::select! { () = said => {}, _ = tokio::io::copy(&mut asks, &mut takes) => {} }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_call_whose_answer_breaks_off_is_not_called_again() {
    let (peer, address, _trigger) = Peer::start().await;
    let cut = Arc::new(AtomicBool::new(false));
    let (relay, client) = (relay(address, Arc::clone(&cut)).await, PeerClient::new(secret(), Clock::System));
    assert_eq!(say(&client, &relay).await.unwrap(), "a message");
    assert_eq!(peer.counted(), (1, 1));
    cut.store(true, Ordering::Relaxed);
    let broken = say(&client, &relay).await.unwrap_err();
    assert!(matches!(broken, CallError::Broken { .. }), "{broken}");
    assert_eq!(peer.counted(), (1, 1), "it was carried out");
}
