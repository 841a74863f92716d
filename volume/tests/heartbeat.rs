//! Heartbeats: a master that takes connections and never answers costs the others none of theirs.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

use std::time::Duration;

use shared::ids::ClusterId;
use shared::limits::HEARTBEAT_INTERVAL;
use shared::secret::ClusterSecret;
use shared::wire::master::HeartbeatResponse;
use shared::work::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use volume::config::Config;

/// A master that says yes to everything: its address, and a word for each heartbeat.
async fn good_master() -> (String, UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (heard, hears) = unbounded_channel();
    let answer = HeartbeatResponse { cluster: ClusterId::random(), masters: vec![address.clone()] };
    let answer = serde_json::to_string(&answer).unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, answer.clone(), heard.clone()));
        }
    });
    (address, hears)
}

async fn serve(mut socket: TcpStream, answer: String, heard: UnboundedSender<()>) {
    let mut bytes = Vec::new();
    while socket.read_buf(&mut bytes).await.is_ok_and(|n| n > 0) {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap_or("0");
        if body.len() >= length.parse().unwrap() {
            bytes.clear();
            let _ = heard.send(());
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
            socket.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_never_answers_costs_the_others_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (good, mut hears) = good_master().await;
    let mut config =
        Config::new(folder.path().to_owned(), ClusterSecret::from_bytes(b"the secret of this test"));
    config.masters = vec![format!("http://{}", silent.local_addr().unwrap()), good];
    let (trigger, shutdown) = Shutdown::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let volume = tokio::spawn(Box::pin(volume::run(config, listener, shutdown)));
    // The first comes with the start, the second when the volume has joined.
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
