//! Cuts a connection whose peer takes no byte for `IDLE_TIMEOUT`: hyper limits how slowly a request's head may
//! arrive, but not how slowly an answer may be taken.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A stream that limits how long one write may wait.
#[derive(Debug)]
pub struct WriteTimeoutStream<S> {
    stream: S,
    limit: Duration,
    waiting: bool,
    deadline: Pin<Box<Sleep>>,
}

impl<S> WriteTimeoutStream<S> {
    /// Wraps `stream`; a write that waits longer than `limit` fails with `TimedOut`.
    pub fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, waiting: false, deadline: Box::pin(tokio::time::sleep(limit)) }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = false;
            return polled;
        }
        if !self.waiting {
            self.waiting = true;
            let deadline = Instant::now() + self.limit;
            self.deadline.as_mut().reset(deadline);
        }
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeoutStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeoutStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);
    const WAYS: [&str; 4] = ["write", "write_vectored", "flush", "shutdown"];

    /// A peer that takes nothing while it is stuck.
    struct Peer {
        stuck: bool,
    }

    impl Peer {
        fn answer<T>(&self, taken: T) -> Poll<io::Result<T>> {
            if self.stuck { Poll::Pending } else { Poll::Ready(Ok(taken)) }
        }
    }

    impl AsyncWrite for Peer {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.answer(buf.len())
        }
        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.answer(bufs.len())
        }
        fn is_write_vectored(&self) -> bool {
            true
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.answer(())
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.answer(())
        }
    }

    async fn go(stream: &mut WriteTimeoutStream<Peer>, way: &str) -> io::Result<()> {
        let going = poll_fn(|cx| {
            let stream = Pin::new(&mut *stream);
            match way {
                "write" => stream.poll_write(cx, b"x").map_ok(|_| ()),
                "write_vectored" => stream.poll_write_vectored(cx, &[IoSlice::new(b"x")]).map_ok(|_| ()),
                "flush" => stream.poll_flush(cx),
                _ => stream.poll_shutdown(cx),
            }
        });
        tokio::time::timeout(100 * LIMIT, going).await.unwrap_or_else(|_| panic!("{way} waits for ever"))
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_waits_too_long_is_given_up() {
        for way in WAYS {
            let mut stream = WriteTimeoutStream::new(Peer { stuck: true }, LIMIT);
            tokio::time::sleep(10 * LIMIT).await;
            let began = Instant::now();
            assert_eq!(go(&mut stream, way).await.unwrap_err().kind(), io::ErrorKind::TimedOut, "{way}");
            let took = began.elapsed();
            assert!(took >= LIMIT && took < LIMIT + SECOND, "{way}: {took:?}");
        }
    }

    /// Waits before the last successful write do not count.
    #[tokio::test(start_paused = true)]
    async fn what_is_taken_begins_the_wait_anew() {
        for way in WAYS {
            let mut stream = WriteTimeoutStream::new(Peer { stuck: true }, LIMIT);
            for _ in 0..3 {
                stream.stream.stuck = true;
                let waited = tokio::time::timeout(LIMIT - SECOND, go(&mut stream, way)).await;
                assert!(waited.is_err(), "{way}");
                stream.stream.stuck = false;
                go(&mut stream, way).await.unwrap();
            }
        }
    }
}
