//! How all servers listen: hyper's HTTP/1 with its limits set, request ids, counters, and errors turned into JSON in
//! one place. Knows no routes: those are the service's.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderMap, HeaderValue, RETRY_AFTER, SERVER, TRANSFER_ENCODING};
use http::{Method, Request, Response, Version};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;
use tracing::Instrument;

use crate::http::body::{self, Body, BodyFailure};
use crate::http::tls::Tls;
use crate::http::tls_close::{AnswersComplete, CloseNotifyStream};
use crate::http::write_timeout::WriteTimeoutStream;
use crate::ids::RequestId;
use crate::limits::{CONNECTIONS_MAX, HEADER_TIMEOUT, HTTP_BUFFER_BYTES, HTTP_HEADERS_MAX, IDLE_TIMEOUT};
use crate::telemetry::HttpMetrics;
use crate::wire::error::{ErrorBody, ErrorCode, ErrorDetail, ErrorReply};
use crate::wire::routes::{REQUEST_ID_HEADER, without_ticket};
use crate::work::Shutdown;

/// How long requests in flight may continue after the shutdown signal; then they are cut.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Pause after a failed accept, as when out of file descriptors: an immediate retry would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a handler knows of a request besides the request itself.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Its id, in every log line and in the answer.
    pub request_id: RequestId,
    /// The client's address.
    pub peer: SocketAddr,
}

/// A server's routes.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. The future is dropped before its end if the client has gone.
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        context: Context,
    ) -> impl Future<Output = Result<Response<Body>, ErrorReply>> + Send;

    /// Turns an error into an answer: JSON, unless clients expect another format.
    fn render(&self, refusal: ErrorReply, request_id: RequestId) -> Response<Body> {
        render(refusal, request_id)
    }
}

/// Accepts the next connection as soon as there is a place for it; `None` at the shutdown.
pub async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    shutdown: &Shutdown,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = tokio::select! {
        place = Arc::clone(places).acquire_owned() => place.expect("the semaphore is never closed"),
        () = shutdown.wait() => return None,
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => return None,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Send small answers immediately; a failure costs only speed.
                let _ = stream.set_nodelay(true);
                return Some((stream, peer, place));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves `listener` until `shutdown`, then lets requests in flight end. With `tls` it accepts TLS only.
pub async fn run<S: Service>(
    listener: TcpListener,
    tls: Option<Tls>,
    service: Arc<S>,
    metrics: Arc<HttpMetrics>,
    shutdown: Shutdown,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let Some((stream, peer, place)) = accept(&listener, &places, &shutdown).await else { break };
        let (service, metrics) = (Arc::clone(&service), Arc::clone(&metrics));
        if let Some(tls) = tls.clone() {
            let (watcher, shutdown) = (graceful.watcher(), shutdown.clone());
            tokio::spawn(async move {
                if let Some(stream) = handshake(&tls, stream, peer, &shutdown).await {
                    let whole = AnswersComplete::default();
                    let stream = CloseNotifyStream::new(stream, whole.clone(), place);
                    // Decide this before the stream is dropped.
                    let mut connection = pin!(watcher.watch(connection(stream, peer, service, metrics)));
                    let ended = connection.as_mut().await;
                    whole.set_from(&ended);
                    end(ended, peer);
                }
            });
        } else {
            let connection = graceful.watch(connection(stream, peer, service, metrics));
            tokio::spawn(async move {
                end(connection.await, peer);
                drop(place);
            });
        }
    }
    drop(listener);
    if tokio::time::timeout(SHUTDOWN_GRACE, graceful.shutdown()).await.is_err() {
        tracing::info!("requests still in flight at shutdown were cut");
    }
}

fn end(connection: Result<(), hyper::Error>, peer: SocketAddr) {
    if let Err(error) = connection {
        tracing::debug!(%peer, %error, "connection broke");
    }
}

/// Performs the TLS handshake; `None` if it fails.
async fn handshake(
    tls: &Tls,
    stream: TcpStream,
    peer: SocketAddr,
    shutdown: &Shutdown,
) -> Option<TlsStream<TcpStream>> {
    let accepted = tokio::select! {
        accepted = tls.accept(stream) => accepted,
        () = shutdown.wait() => return None,
    };
    accepted.inspect_err(|error| tracing::debug!(%peer, %error, "the TLS handshake failed")).ok()
}

/// Serves HTTP on `stream` until it ends, with all limits of a connection.
pub fn connection<S: Service>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    service: Arc<S>,
    metrics: Arc<HttpMetrics>,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + Send {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HTTP_BUFFER_BYTES)
        .max_headers(HTTP_HEADERS_MAX)
        .half_close(true)
        .serve_connection(
            TokioIo::new(WriteTimeoutStream::new(stream, IDLE_TIMEOUT)),
            service_fn(move |request| {
                let (service, metrics) = (Arc::clone(&service), Arc::clone(&metrics));
                async move { Ok::<_, std::convert::Infallible>(answer(service, request, peer, metrics).await) }
            }),
        )
}

async fn answer<S: Service>(
    service: Arc<S>,
    request: Request<Incoming>,
    peer: SocketAddr,
    metrics: Arc<HttpMetrics>,
) -> Response<Body> {
    let context = Context { request_id: RequestId::random(), peer };
    let started = Instant::now();
    let method = request.method().clone();
    let span = tracing::info_span!(
        "request", id = %context.request_id, %method, path = request.uri().path(),
        query = request.uri().query().map(without_ticket)
    );
    let flight = metrics.enter();
    let has_body = !request.body().is_end_stream();
    let chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let api = Arc::clone(&service);
    let handled = async {
        match check(&request) {
            Ok(()) => service.handle(request, context).await,
            Err(refusal) => {
                let (head, incoming) = request.into_parts();
                body::drain_unless_waiting(&head.headers, incoming);
                Err(refusal)
            }
        }
    };
    let result = handled.instrument(span.clone()).await;
    let mut response = result.unwrap_or_else(|e| span.in_scope(|| api.render(e, context.request_id)));
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("barge"));
    headers.entry(REQUEST_ID_HEADER).or_insert_with(|| {
        HeaderValue::from_str(&context.request_id.to_string()).expect("hex digits are a header value")
    });
    let status = response.status();
    if chunked || (has_body && !status.is_success()) {
        // The body may not have been read to its end: hyper then closes the connection, and a client that was not
        // told would send its next request into it. A chunked one may have had a Content-Length too, which hyper
        // removes; RFC 9112 §6.3 requires closing after it.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    metrics.answered(&method, status, started.elapsed());
    span.in_scope(
        || tracing::debug!(%peer, status = status.as_u16(), ms = started.elapsed().as_millis(), "answered"),
    );
    response.map(|inner| Counted { inner, metrics, _flight: flight }.boxed_unsync())
}

/// Refuses what no API accepts: a request without exactly one `Host` (RFC 9112, section 3.2), `*` as the
/// target of any method but `OPTIONS` (3.2.4), and a body in a coding that hyper does not decode (6.1): it
/// would be stored encoded.
fn check<B>(request: &Request<B>) -> Result<(), ErrorReply> {
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts != 1 && !(hosts == 0 && request.version() <= Version::HTTP_10) {
        return Err(ErrorReply::new(
            ErrorCode::BadHeader,
            format!("the request has {hosts} Host headers"),
            "send exactly one Host header (RFC 9112, section 3.2)",
        ));
    }
    if request.uri().path() == "*" && request.method() != Method::OPTIONS {
        return Err(ErrorReply::new(
            ErrorCode::BadRequest,
            format!("a {} needs a path, and * is not one", request.method()),
            "send the key after a slash (RFC 9112, section 3.2.4)",
        ));
    }
    if !is_plainly_framed(request.headers()) {
        return Err(ErrorReply::new(
            ErrorCode::NotImplemented,
            "the body has a transfer coding other than chunked",
            "send only Transfer-Encoding: chunked; compressed values are stored as they are, and Content-Type describes them",
        ));
    }
    Ok(())
}

/// Whether a body has no transfer coding, or only one layer of chunking.
fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next();
    codings.next().is_none() && first.is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// Turns an error into a JSON answer.
pub fn render(e: ErrorReply, request_id: RequestId) -> Response<Body> {
    note(&e);
    let status = e.code.status();
    let detail = ErrorDetail {
        code: e.code,
        message: e.message,
        key: e.key.map(String::from),
        hint: e.hint.to_owned(),
        request_id: Some(request_id.to_string()),
    };
    let mut response = body::json(status, &ErrorBody { error: detail });
    response.headers_mut().extend(e.headers);
    if let Some(secs) = e.code.retry_after_secs() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(secs));
    }
    response
}

/// Logs an error that becomes an answer: server faults as warnings or errors, a client's own at debug level.
pub fn note(e: &ErrorReply) {
    let status = e.code.status();
    match e.code {
        ErrorCode::Corrupt | ErrorCode::Internal => {
            tracing::error!(code = ?e.code, key = ?e.key, message = e.message, "answered with an error");
        }
        // Sent while leadership changes, to peers that then ask the next master.
        ErrorCode::NotLeader | ErrorCode::NotJoined => {
            tracing::debug!(code = ?e.code, message = e.message, "answered with an error");
        }
        _ if status.is_server_error() => {
            tracing::warn!(code = ?e.code, key = ?e.key, message = e.message, "answered with an error");
        }
        _ => tracing::debug!(code = ?e.code, key = ?e.key, message = e.message, "answered with an error"),
    }
}

/// Counts the bytes of an answer, and counts the request as in flight until the last byte.
struct Counted {
    inner: Body,
    metrics: Arc<HttpMetrics>,
    _flight: crate::telemetry::Flight,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyFailure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.metrics.sent(frame.data_ref().map_or(0, Bytes::len));
            }
            Poll::Ready(Some(Err(error))) => tracing::warn!(%error, "an answer was cut"),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests;
