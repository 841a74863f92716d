//! A static list of volumes: a volume that accepts connections but never answers does not delay the others.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

use std::time::Duration;

use master::{Config, Replication};
use shared::limits::HEARTBEAT_INTERVAL;
use shared::secret::ClusterSecret;
use shared::work::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

/// Starts a fake volume. Returns its address, and a channel that receives an item for each request.
async fn asked() -> (String, UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (heard, hears) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(refuse(socket, heard.clone()));
        }
    });
    (address, hears)
}

/// Refuses all requests: only their timing matters.
async fn refuse(mut socket: TcpStream, heard: UnboundedSender<()>) {
    let mut bytes = Vec::new();
    while socket.read_buf(&mut bytes).await.is_ok_and(|n| n > 0) {
        // The identity request of the master has no body.
        if bytes.ends_with(b"\r\n\r\n") {
            bytes.clear();
            let _ = heard.send(());
            let _ = socket.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_never_answers_costs_the_others_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (good, mut hears) = asked().await;
    let secret = ClusterSecret::from_bytes(b"the secret of this test");
    let replication = Replication::new(1, None).unwrap();
    let mut config = Config::new(folder.path().to_owned(), secret, replication);
    config.volumes = vec![format!("http://{}", silent.local_addr().unwrap()), good];
    let (trigger, shutdown) = Shutdown::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let master = tokio::spawn(Box::pin(master::run(config, listener.into(), shutdown)));
    timeout(Duration::from_secs(30), hears.recv()).await.unwrap().unwrap();
    let questions = 6;
    let all = async {
        for _ in 0..questions {
            hears.recv().await.unwrap();
        }
    };
    let within = HEARTBEAT_INTERVAL * questions * 3 / 2;
    assert!(timeout(within, all).await.is_ok(), "fewer than {questions} questions in {within:?}");
    trigger.fire();
    master.await.unwrap().unwrap();
}
