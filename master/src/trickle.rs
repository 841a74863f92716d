//! Unit tests of the limits for slow request bodies: clients that send too little, or stop sending. The clock is
//! paused and advances only when all tasks are idle (`start_paused`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use shared::http::body::{self, Body};
use shared::http::serve::{Context, Service, connection};
use shared::limits::{BODY_RATE_GRACE, BODY_RATE_MIN, IDLE_TIMEOUT};
use shared::telemetry::{HttpMetrics, Metrics};
use shared::wire::error::{ErrorCode, ErrorReply};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio::time::{Instant, sleep, timeout};

/// Longer than any limit under test.
pub const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// Interval between two pieces.
pub const GAP: Duration = Duration::from_secs(25);

/// A service that answers once the body was read or refused.
struct Reading<R>(R);

impl<R, F> Service for Reading<R>
where
    R: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), ErrorReply>> + Send,
{
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        _context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        (self.0)(request).await.map(|()| Response::new(body::empty()))
    }
}

/// Sends `pieces` pieces of `bytes` bytes, one each `GAP`, of a body with a declared length of `length`; returns the
/// status line and the time to it.
async fn send<R, F>(read: R, length: usize, pieces: usize, bytes: usize) -> (String, Duration)
where
    R: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), ErrorReply>> + Send + 'static,
{
    let (ours, theirs) = duplex(4096);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    tokio::spawn(connection(theirs, peer, Arc::new(Reading(read)), HttpMetrics::new(&Metrics::default())));
    let (mut answer, mut write) = split(ours);
    let began = Instant::now();
    tokio::spawn(async move {
        let head = format!("PUT /a/key HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        write.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..pieces {
            if write.write_all(&vec![b'x'; bytes]).await.is_err() {
                break;
            }
            sleep(GAP).await;
        }
    });
    let mut status = [0; 12];
    timeout(FOREVER, answer.read_exact(&mut status)).await.expect("no answer").unwrap();
    (String::from_utf8_lossy(&status).into_owned(), began.elapsed())
}

/// Checks that `read` refuses bodies that are silent or too slow, and no others.
pub async fn check<R, F>(read: R)
where
    R: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<(), ErrorReply>> + Send + 'static,
{
    let second = Duration::from_secs(1);
    let (status, took) = send(read.clone(), 1000, 1, 10).await;
    assert_eq!(status, "HTTP/1.1 408", "a silent body");
    assert!(took >= IDLE_TIMEOUT && took <= IDLE_TIMEOUT + second, "a silent body: {took:?}");
    let (status, took) = send(read.clone(), 1000, 100, 1).await;
    assert_eq!(status, "HTTP/1.1 408", "a slow body");
    assert!(took > BODY_RATE_GRACE && took <= BODY_RATE_GRACE + GAP + second, "a slow body: {took:?}");
    let enough = usize::try_from(2 * BODY_RATE_MIN * GAP.as_secs()).unwrap();
    let (status, took) = send(read, 20 * enough, 20, enough).await;
    assert_eq!(status, "HTTP/1.1 200", "a body that is fast enough");
    assert!(took > 2 * BODY_RATE_GRACE, "a body that is fast enough: {took:?}");
}

/// Returns the error for a body that is silent or too slow.
pub fn refused() -> ErrorReply {
    ErrorReply::new(ErrorCode::Timeout, "the body is silent or too slow", "")
}
