//! The audit log: a line of JSON for each request on all APIs, refused ones included. One thread writes it, from a
//! bounded queue: a request never waits for it, and lines dropped because the queue is full are reported. It holds no
//! secret, no signature and no query.

pub mod line;

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use prometheus_client::metrics::counter::Counter;
use shared::clock::{Clock, Timestamp};
use shared::http::body::{Body, BodyFailure};
use shared::limits::{AUDIT_QUEUE, AUDIT_TROUBLE_LOGGED};
use shared::telemetry::Metrics;
use shared::work::{Shutdown, blocking};
use tokio::signal::unix::{SignalKind, signal};

use line::Line;

/// How long shutdown waits for the queue to drain. A disk that hangs must not keep the process alive.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// The audit log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "the audit log {path} cannot be opened: {source}. Choose another file with --audit-log, or make this one writable"
)]
pub struct AuditError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A message to the writer thread.
enum Message {
    Line(Box<Line>),
    /// Reopen the file: it was moved away.
    Reopen,
    /// Flush, then confirm that everything queued before this is in the file.
    Flush(SyncSender<()>),
}

/// Handle of the audit log. All clones write to the same file.
#[derive(Clone, Debug)]
pub struct Audit {
    queue: SyncSender<Message>,
    dropped: Counter,
    clock: Clock,
}

impl Audit {
    /// Appends to the file at `path`; creates it with mode 0600 if it does not exist.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let path = path.to_owned();
        let open = move || append_to(&path).map_err(|source| AuditError { path: path.clone(), source });
        let first = open()?;
        Ok(Self::writing(first, move || {
            open()
                .map_err(
                    |e| tracing::warn!(error = %e, "cannot reopen the audit log; the old file stays in use"),
                )
                .ok()
        }))
    }

    fn writing<W: Write + Send + 'static>(first: W, again: impl Fn() -> Option<W> + Send + 'static) -> Self {
        let (queue, messages) = sync_channel(AUDIT_QUEUE);
        let dropped = Counter::default();
        let writer = Writer { file: BufWriter::new(first), dropped: dropped.clone(), told: 0, failed: None };
        std::thread::spawn(move || writer.run(&messages, again));
        Self { queue, dropped, clock: Clock::System }
    }

    /// The time with which lines are stamped.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Registers the count of dropped lines with the server's metrics.
    pub fn register(&self, metrics: &Metrics) {
        metrics.register(|r| {
            r.register("barge_audit_dropped", "Lines dropped from the audit log", self.dropped.clone());
        });
    }

    /// Reopens the file at each SIGHUP until `shutdown`, so that log rotation can move it away.
    pub async fn reopen_on_hangup(self, shutdown: Shutdown) {
        let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
        loop {
            tokio::select! {
                Some(()) = hangups.recv() => {
                    let queue = self.queue.clone();
                    // Waits for room in the queue; a line would be dropped.
                    let _ = blocking(move || queue.send(Message::Reopen)).await;
                }
                () = shutdown.wait() => return,
            }
        }
    }

    /// Returns when every line queued before is in the file, at the latest after `LAST_MOMENT`.
    pub async fn flush(&self) {
        let queue = self.queue.clone();
        let flushed = blocking(move || {
            let (tell, told) = sync_channel(1);
            queue.send(Message::Flush(tell)).is_ok() && told.recv().is_ok()
        });
        let _ = tokio::time::timeout(LAST_MOMENT, flushed).await;
    }

    /// Logs a request when the last byte of its response is sent, or when the client stops reading it.
    pub fn watch(&self, line: Line, answer: Response<Body>) -> Response<Body> {
        answer.map(|inner| Watched { inner, line: Some((Box::new(line), self.clone())) }.boxed_unsync())
    }

    /// Begins the line of a request in progress. If it is never answered, because its client disconnects or this
    /// server stops, the line is logged with status 0, unless only `answered` requests are to be logged.
    pub fn begin(&self, line: Line, answered: bool) -> Underway {
        Underway { line: Some(line), answered, audit: self.clone() }
    }

    /// Logs a request that has ended.
    pub fn record(&self, line: Line) {
        self.note(Box::new(line));
    }

    fn note(&self, line: Box<Line>) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.dropped.inc();
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// A request in progress; logs itself on drop unless it was answered.
#[derive(Debug)]
pub struct Underway {
    line: Option<Line>,
    answered: bool,
    audit: Audit,
}

impl Underway {
    /// Ends a request that has its response; returns the line to be completed.
    pub fn end(mut self) -> Option<Line> {
        self.line.take()
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if let Some(line) = self.line.take().filter(|_| !self.answered) {
            self.audit.note(Box::new(line));
        }
    }
}

/// A response body whose bytes are counted.
struct Watched {
    inner: Body,
    line: Option<(Box<Line>, Audit)>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BodyFailure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let (Poll::Ready(Some(Ok(frame))), Some((line, _))) = (&polled, &mut self.line) {
            line.bytes_out += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some((line, audit)) = self.line.take() {
            audit.note(line);
        }
    }
}

struct Writer<W: Write> {
    file: BufWriter<W>,
    dropped: Counter,
    /// Dropped lines reported so far.
    told: u64,
    /// When a write failure was last logged.
    failed: Option<Instant>,
}

impl<W: Write> Writer<W> {
    fn run(mut self, messages: &Receiver<Message>, again: impl Fn() -> Option<W>) {
        while let Ok(first) = messages.recv() {
            let mut next = Some(first);
            while let Some(message) = next {
                self.take(message, &again);
                next = messages.try_recv().ok();
            }
            self.tell();
            self.flush();
        }
    }

    fn take(&mut self, message: Message, again: &impl Fn() -> Option<W>) {
        match message {
            Message::Line(line) => self.write(&*line),
            Message::Reopen => {
                self.flush();
                if let Some(file) = again() {
                    self.file = BufWriter::new(file);
                }
            }
            Message::Flush(tell) => {
                self.tell();
                self.flush();
                let _ = tell.send(());
            }
        }
    }

    fn write(&mut self, line: &impl serde::Serialize) {
        let mut text = serde_json::to_vec(line).unwrap_or_default();
        text.push(b'\n');
        if let Err(error) = self.file.write_all(&text) {
            self.lost(&error);
        }
    }

    fn flush(&mut self) {
        if let Err(error) = self.file.flush() {
            self.lost(&error);
        }
    }

    fn lost(&mut self, error: &io::Error) {
        self.dropped.inc();
        if self.failed.is_none_or(|at| at.elapsed() >= AUDIT_TROUBLE_LOGGED) {
            tracing::error!(%error, "the audit log cannot be written: lines are lost. Free space on its disk");
            self.failed = Some(Instant::now());
        }
    }

    /// Reports dropped lines in the file, at the place where they are missing, and in the log.
    fn tell(&mut self) {
        let (dropped, told) = (self.dropped.get(), self.told);
        if dropped > told {
            self.told = dropped;
            tracing::warn!(lines = dropped - told, "the audit log was too slow: lines were dropped");
            self.write(&serde_json::json!({ "dropped": dropped - told }));
        }
    }
}

#[cfg(test)]
mod tests;
