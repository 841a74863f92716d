//! The end of a TLS connection that hyper drops, as it does when one idles. For its client a bare end of the stream
//! is a truncation (RFC 8446, section 6.1). This stream sends close_notify first if no answer was in progress: an
//! incomplete answer never ends cleanly.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;

use crate::limits::TLS_HANDSHAKE_TIMEOUT;

/// Whether the connection ends between two answers; set from outside before the stream is dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct AnswersComplete(Arc<AtomicBool>);

impl AnswersComplete {
    /// Records how hyper ended the connection. A head that timed out ends it between two answers.
    pub(super) fn set_from(&self, ended: &Result<(), hyper::Error>) {
        if ended.as_ref().is_err_and(hyper::Error::is_timeout) {
            self.0.store(true, Ordering::Release);
        }
    }
}

/// A stream that sends close_notify when dropped. After a clean end hyper has shut it down itself.
#[derive(Debug)]
pub(super) struct CloseNotifyStream {
    /// `Some` until drop.
    stream: Option<TlsStream<TcpStream>>,
    whole: AnswersComplete,
    /// The client currently takes no more: part of an answer is left.
    stuck: bool,
    /// The connection's permit among all connections, held until the client has been told.
    place: Option<OwnedSemaphorePermit>,
}

impl CloseNotifyStream {
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        whole: AnswersComplete,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { stream: Some(stream), whole, stuck: false, place: Some(place) }
    }

    fn written<T>(&mut self, polled: Poll<T>) -> Poll<T> {
        self.stuck = polled.is_pending();
        polled
    }

    fn inner(&mut self) -> Pin<&mut TlsStream<TcpStream>> {
        Pin::new(self.stream.as_mut().expect("it is taken out by drop alone"))
    }
}

impl Drop for CloseNotifyStream {
    fn drop(&mut self) {
        let whole = self.whole.0.load(Ordering::Acquire) && !self.stuck;
        let place = self.place.take();
        if let (Some(mut stream), true, Ok(runtime)) =
            (self.stream.take(), whole, tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                let _ = tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, stream.shutdown()).await;
                drop(place);
            });
        }
    }
}

impl AsyncRead for CloseNotifyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner().poll_read(cx, buf)
    }
}

impl AsyncWrite for CloseNotifyStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.inner().poll_write(cx, buf);
        self.written(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.inner().poll_write_vectored(cx, bufs);
        self.written(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.inner().poll_flush(cx);
        self.written(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }
}
