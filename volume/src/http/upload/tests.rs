//! Timeouts of slow uploads. The clock is paused and advances only when all tasks are idle.

use std::net::SocketAddr;
use std::time::Duration;

use shared::condition::WriteCondition;
use shared::http::serve::{Context, Service, connection};
use shared::ids::{BlobId, ClusterId};
use shared::limits::{BODY_RATE_GRACE, BODY_RATE_MIN, IDLE_TIMEOUT};
use shared::telemetry::{HttpMetrics, Metrics};
use shared::ticket::ChainLink;
use shared::work::Inline;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::server::test_volume::volume;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any timeout.
const FOREVER: Duration = Duration::from_secs(24 * 3600);
const GAP: Duration = Duration::from_secs(25);

/// A volume that issues a ticket for each upload.
struct Receiving(Arc<Volume>);

impl Service for Receiving {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        _context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        let length = match body::declared_length(request.headers()) {
            DeclaredLength::Known(n) => Some(n),
            _ => None,
        };
        let now = self.0.config.clock.now();
        let ticket = Ticket {
            cluster: ClusterId::random(),
            blob: BlobId::next(None, now, [7; 10]),
            expires: now,
            hops: 0,
            master: String::new(),
            master_public: String::new(),
            operation: Operation::Write(WriteGrant {
                chain: vec![ChainLink { volume: self.0.identity.volume(), address: String::new() }],
                length,
                digest: None,
                condition: WriteCondition::None,
                wanted: 1,
                min_replicas: 1,
                internal_metadata: false,
                expires: None,
            }),
        };
        receive(&self.0, Key::from_path("/a/key")?, String::new(), ticket, request).await
    }
}

/// Sends a body in pieces, one per `GAP`; returns the head of the answer, and when it arrived.
async fn send(volume: &Arc<Volume>, framing: &str, pieces: Vec<Vec<u8>>) -> (String, Duration) {
    let (ours, theirs) = duplex(4096);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let service = Arc::new(Receiving(Arc::clone(volume)));
    tokio::spawn(connection(theirs, peer, service, HttpMetrics::new(&Metrics::default())));
    let (mut read, mut write) = split(ours);
    // As from the previous volume of a chain: the answer is a receipt, and nothing is committed.
    let head = format!("PUT /a/key HTTP/1.1\r\nHost: x\r\n{framing}\r\n{CHAIN_HEADER}: 1\r\n\r\n");
    let began = Instant::now();
    tokio::spawn(async move {
        write.write_all(head.as_bytes()).await.unwrap();
        for piece in pieces {
            if write.write_all(&piece).await.is_err() {
                break;
            }
            sleep(GAP).await;
        }
    });
    let mut came = Vec::new();
    while !came.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = timeout(FOREVER, read.read_buf(&mut came)).await.expect("no answer").unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&came));
    }
    (String::from_utf8_lossy(&came).into_owned(), began.elapsed())
}

async fn nothing_is_left(volume: &Volume) {
    volume.store.punched().await;
    let status = volume.store.status();
    let left = (status.uploads, status.lanes_busy, status.reserved_bytes, status.blobs);
    assert_eq!(left, (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_value_that_falls_silent_is_refused_and_leaves_nothing() {
    let _inline = Inline::enter();
    let (_folder, volume) = volume();
    for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        for sent in ["", "5\r\nhello\r\n"] {
            let (came, took) = send(&volume, framing, vec![sent.into()]).await;
            assert!(came.starts_with("HTTP/1.1 408 "), "{framing}: {came}");
            assert!(took >= IDLE_TIMEOUT && took <= IDLE_TIMEOUT + SECOND, "{framing}: {took:?}");
            nothing_is_left(&volume).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_below_the_rate_is_refused_and_leaves_nothing() {
    let _inline = Inline::enter();
    let (_folder, volume) = volume();
    for (framing, piece) in [("Content-Length: 100000", "x"), ("Transfer-Encoding: chunked", "1\r\nx\r\n")] {
        let (came, took) = send(&volume, framing, vec![piece.into(); 100]).await;
        assert!(came.starts_with("HTTP/1.1 408 "), "{framing}: {came}");
        assert!(took > BODY_RATE_GRACE && took <= BODY_RATE_GRACE + GAP + SECOND, "{framing}: {took:?}");
        nothing_is_left(&volume).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_above_the_rate_is_taken_however_long_it_lasts() {
    let _inline = Inline::enter();
    let (_folder, volume) = volume();
    let bytes = usize::try_from(2 * BODY_RATE_MIN * GAP.as_secs()).unwrap();
    let framing = format!("Content-Length: {}", 20 * bytes);
    let (came, took) = send(&volume, &framing, vec![vec![b'x'; bytes]; 20]).await;
    assert!(came.starts_with("HTTP/1.1 201 "), "{came}");
    assert!(took > 2 * BODY_RATE_GRACE, "{took:?}");
    assert_eq!(volume.store.status().blobs, 1);
}
