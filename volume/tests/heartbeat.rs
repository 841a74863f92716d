//! Heartbeats: a master that accepts connections and never answers does not delay those to the others.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::clock::Clock;
use shared::http::body::{self, Body};
use shared::http::serve::{self, Context, Service};
use shared::http::signed_calls::CallVerifier;
use shared::ids::ClusterId;
use shared::limits::HEARTBEAT_INTERVAL;
use shared::secret::ClusterSecret;
use shared::telemetry::{HttpMetrics, Metrics};
use shared::wire::error::ErrorReply;
use shared::wire::master::HeartbeatResponse;
use shared::work::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use volume::Config;

/// A master that accepts every heartbeat, and reports each one to the test.
struct Good {
    calls: Arc<CallVerifier>,
    answer: HeartbeatResponse,
    heard: UnboundedSender<()>,
}

impl Service for Good {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        let answer = async |_| {
            let _ = self.heard.send(());
            Ok(body::json(StatusCode::OK, &self.answer))
        };
        self.calls.serve(request, context, answer).await
    }
}

fn secret() -> ClusterSecret {
    ClusterSecret::from_bytes(b"the secret of this test")
}

async fn good_master() -> (String, UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (heard, hears) = unbounded_channel();
    let answer = HeartbeatResponse { cluster: ClusterId::random(), masters: vec![address.clone()] };
    let metrics = Metrics::default();
    let calls = CallVerifier::new(secret(), Clock::System, &metrics);
    let (trigger, shutdown) = Shutdown::new();
    tokio::spawn(async move {
        let good = Arc::new(Good { calls, answer, heard });
        serve::run(listener, None, good, HttpMetrics::new(&metrics), shutdown).await;
        drop(trigger);
    });
    (address, hears)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_never_answers_costs_the_others_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (good, mut hears) = good_master().await;
    let mut config = Config::new(folder.path().to_owned(), secret());
    config.masters = vec![format!("http://{}", silent.local_addr().unwrap()), good];
    let (trigger, shutdown) = Shutdown::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let volume = tokio::spawn(Box::pin(volume::run(config, listener, shutdown)));
    // The first one comes at the start, the second one when the volume has joined.
    for _ in 0..2 {
        timeout(Duration::from_secs(30), hears.recv()).await.unwrap().unwrap();
    }
    let heartbeats = 6;
    let all = async {
        for _ in 0..heartbeats {
            hears.recv().await.unwrap();
        }
    };
    let within = HEARTBEAT_INTERVAL * heartbeats * 3 / 2;
    assert!(timeout(within, all).await.is_ok(), "fewer than {heartbeats} heartbeats in {within:?}");
    trigger.fire();
    volume.await.unwrap().unwrap();
}
