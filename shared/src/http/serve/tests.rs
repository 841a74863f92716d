//! Time limits of a connection. The clock stands still while there is something to do and jumps when there is not, so
//! that each test takes milliseconds.

use std::io::{self, IoSlice};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::http::body::Pace;
use crate::limits::{BODY_RATE_GRACE, BODY_RATE_MIN};
use crate::telemetry::Metrics;

const SECOND: Duration = Duration::from_secs(1);
/// Anything that is limited has ended long before.
const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// More bytes than a connection buffers.
const LARGE: usize = 1 << 20;

/// One route for each way in which a server treats a body.
struct Face;

impl Service for Face {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        _context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        let path = request.uri().path().to_owned();
        let mut incoming = request.into_body();
        match path.as_str() {
            "/collect" => drop(body::collect(incoming, LARGE).await?),
            "/paced" => {
                let mut pace = Pace::default();
                while let Some(frame) = body::next(&mut incoming).await? {
                    pace.came(frame.len())?;
                }
            }
            "/large" => return Ok(Response::new(body::full(vec![b'x'; LARGE]))),
            _ => {}
        }
        Ok(Response::new(body::full("done")))
    }
}

/// The server's end of a connection. A socket takes several buffers in one write; a TLS stream may not.
struct Served {
    stream: DuplexStream,
    vectored: bool,
}

impl AsyncRead for Served {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Served {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The client's end of a connection, and the outcome of the server's.
fn connect(vectored: bool) -> (DuplexStream, JoinHandle<Result<(), hyper::Error>>) {
    let (ours, theirs) = duplex(4096);
    let (served, peer) = (Served { stream: theirs, vectored }, SocketAddr::from(([127, 0, 0, 1], 1)));
    let metrics = HttpMetrics::new(&Metrics::default());
    (ours, tokio::spawn(connection(served, peer, Arc::new(Face), metrics)))
}

/// Reads until the connection ends; returns the bytes and the time that took.
async fn to_the_end(mut client: impl AsyncRead + Unpin) -> (String, Duration) {
    let (began, mut came) = (Instant::now(), Vec::new());
    timeout(FOREVER, client.read_to_end(&mut came)).await.expect("it never ends").unwrap();
    (String::from_utf8(came).unwrap(), began.elapsed())
}

/// Reads one short answer of `Face`.
async fn done(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut came = Vec::new();
    while !came.ends_with(b"done") {
        let read = timeout(FOREVER, client.read_buf(&mut came)).await.expect("no answer").unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&came));
    }
    String::from_utf8(came).unwrap()
}

#[track_caller]
fn is_after(limit: Duration, took: Duration) {
    assert!(took >= limit && took <= limit + SECOND, "{took:?} instead of {limit:?}");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_whole_ends_the_connection() {
    for sent in ["", "G", "GET /x HTTP/1.1\r\nHost: x\r\n"] {
        let (mut client, _) = connect(true);
        client.write_all(sent.as_bytes()).await.unwrap();
        let (came, took) = to_the_end(client).await;
        assert!(!came.contains("200"), "{sent:?}: {came}");
        is_after(HEADER_TIMEOUT, took);
    }
}

/// Bytes that trickle in do not extend the limit.
#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_ends_the_connection() {
    let (client, _) = connect(true);
    let (read, mut write) = tokio::io::split(client);
    tokio::spawn(async move {
        for byte in b"GET /a/path/that/comes/one/byte/after/the/other HTTP/1.1\r\n" {
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(HEADER_TIMEOUT / 4).await;
        }
    });
    let (came, took) = to_the_end(read).await;
    assert!(!came.contains("200"), "{came}");
    is_after(HEADER_TIMEOUT, took);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_idles_after_an_answer_is_ended_and_not_before_its_time() {
    let (mut client, _) = connect(true);
    for _ in 0..3 {
        sleep(HEADER_TIMEOUT - SECOND).await;
        client.write_all(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(done(&mut client).await.starts_with("HTTP/1.1 200 "));
    }
    let (came, took) = to_the_end(client).await;
    assert_eq!(came, "");
    is_after(HEADER_TIMEOUT, took);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_falls_silent_is_refused() {
    for path in ["/collect", "/paced"] {
        for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
            for sent in ["", "5\r\nhello\r\n"] {
                let (mut client, _) = connect(true);
                let request = format!("PUT {path} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n{sent}");
                client.write_all(request.as_bytes()).await.unwrap();
                let (came, took) = to_the_end(client).await;
                assert!(came.starts_with("HTTP/1.1 408 "), "{request}: {came}");
                is_after(IDLE_TIMEOUT, took);
            }
        }
    }
}

/// Sends a body in pieces of `bytes`, one per `gap`; returns the answer and when it came.
async fn send_slowly(path: &str, pieces: usize, bytes: usize, gap: Duration) -> (String, Duration) {
    let (client, _) = connect(true);
    let (read, mut write) = tokio::io::split(client);
    let head = format!("PUT {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    let head = format!("{head}Content-Length: {}\r\n\r\n", pieces * bytes);
    tokio::spawn(async move {
        write.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..pieces {
            if write.write_all(&vec![b'x'; bytes]).await.is_err() {
                break;
            }
            sleep(gap).await;
        }
    });
    to_the_end(read).await
}

#[tokio::test(start_paused = true)]
async fn a_body_below_the_rate_is_refused_and_one_above_it_is_not() {
    let gap = Duration::from_secs(25);
    let (came, took) = send_slowly("/paced", 100, 1, gap).await;
    assert!(came.starts_with("HTTP/1.1 408 "), "{came}");
    assert!(took > BODY_RATE_GRACE && took <= BODY_RATE_GRACE + gap, "{took:?}");
    let enough = usize::try_from(BODY_RATE_MIN * 25).unwrap() * 2;
    let (came, _) = send_slowly("/paced", 20, enough, gap).await;
    assert!(came.starts_with("HTTP/1.1 200 "), "{came}");
    // A pause shorter than the limit is allowed.
    let (came, _) = send_slowly("/collect", 20, 1, IDLE_TIMEOUT - SECOND).await;
    assert!(came.starts_with("HTTP/1.1 200 "), "{came}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_ends_the_connection() {
    for vectored in [true, false] {
        let (mut client, ended) = connect(vectored);
        client.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let began = Instant::now();
        let ended = timeout(FOREVER, ended).await.unwrap_or_else(|_| panic!("never, vectored: {vectored}"));
        ended.unwrap().unwrap_err();
        is_after(IDLE_TIMEOUT, began.elapsed());
        drop(client);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_read_slowly_comes_whole() {
    for vectored in [true, false] {
        let (mut client, _) = connect(vectored);
        client.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let (mut came, mut piece) = (0, [0; 4096]);
        loop {
            sleep(IDLE_TIMEOUT - SECOND).await;
            match client.read(&mut piece).await.unwrap() {
                0 => break,
                read => came += read,
            }
        }
        assert!(came > LARGE, "{came}, vectored: {vectored}");
    }
}
