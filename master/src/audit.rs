//! The audit log: a line of JSON for each request on both faces, refused ones included. One thread writes it, from a bounded
//! queue: a request never waits for it, and what finds the queue full is counted and said. It holds no secret, no signature
//! and no query.

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

/// The end waits so long for what is in the queue. A disk that hangs must not keep the process.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// The file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "the audit log {path} cannot be opened: {source}. Choose another file with --audit-log, or make this one writable"
)]
pub struct AuditError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// What the writer is told.
enum Message {
    Line(Box<Line>),
    /// The file was moved away.
    Reopen,
    /// Tell when all before this is in the file.
    Flush(SyncSender<()>),
}

/// Takes lines. All clones write into the same file.
#[derive(Clone, Debug)]
pub struct Audit {
    queue: SyncSender<Message>,
    dropped: Counter,
    clock: Clock,
}

impl Audit {
    /// Appends to the file at `path`, which is made for its user alone when there is none.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let path = path.to_owned();
        let open = move || append_to(&path).map_err(|source| AuditError { path: path.clone(), source });
        let first = open()?;
        Ok(Self::writing(first, move || {
            open().map_err(|e| tracing::warn!(error = %e, "the old file goes on")).ok()
        }))
    }

    fn writing<W: Write + Send + 'static>(first: W, again: impl Fn() -> Option<W> + Send + 'static) -> Self {
        let (queue, messages) = sync_channel(AUDIT_QUEUE);
        let dropped = Counter::default();
        let writer = Writer { file: BufWriter::new(first), dropped: dropped.clone(), told: 0, failed: None };
        std::thread::spawn(move || writer.run(&messages, again));
        Self { queue, dropped, clock: Clock::System }
    }

    /// What its lines are dated by.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Shows with a server's metrics what was dropped.
    pub fn register(&self, metrics: &Metrics) {
        metrics.register(|r| {
            r.register("barge_audit_dropped", "Lines that the audit log lacks", self.dropped.clone());
        });
    }

    /// Opens the file again at each SIGHUP, until `shutdown`, so that it can be moved away.
    pub async fn reopen_on_hangup(self, shutdown: Shutdown) {
        let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
        loop {
            tokio::select! {
                Some(()) = hangups.recv() => {
                    let queue = self.queue.clone();
                    // Waits where a line would be dropped.
                    let _ = blocking(move || queue.send(Message::Reopen)).await;
                }
                () = shutdown.wait() => return,
            }
        }
    }

    /// Returns when what was noted before is in the file.
    pub async fn flush(&self) {
        let queue = self.queue.clone();
        let flushed = blocking(move || {
            let (tell, told) = sync_channel(1);
            queue.send(Message::Flush(tell)).is_ok() && told.recv().is_ok()
        });
        let _ = tokio::time::timeout(LAST_MOMENT, flushed).await;
    }

    /// Notes a request when the last byte of its answer has gone, or when nobody takes more of it.
    pub fn watch(&self, line: Line, answer: Response<Body>) -> Response<Body> {
        answer.map(|inner| Watched { inner, line: Some((Box::new(line), self.clone())) }.boxed_unsync())
    }

    /// The line of a request that is being answered. Should nobody answer it, because its client goes or this server ends, it
    /// says so with status 0, unless `answered` lines alone count.
    pub fn begin(&self, line: Line, answered: bool) -> Underway {
        Underway { line: Some(line), answered, audit: self.clone() }
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

/// An answer whose bytes are counted.
/// A request that is being answered.
#[derive(Debug)]
pub struct Underway {
    line: Option<Line>,
    answered: bool,
    audit: Audit,
}

impl Underway {
    /// It has an answer; its line, to be completed.
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
    /// How many dropped lines were spoken of.
    told: u64,
    /// When a failure was spoken of.
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
            tracing::error!(%error, "the audit log cannot be written: lines are lost; make room on its disk");
            self.failed = Some(Instant::now());
        }
    }

    /// Says in the file and in the log that lines are missing here.
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
