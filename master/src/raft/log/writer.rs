//! The writer thread, the only one that changes files. It does jobs in order; queued appends share one write and one
//! sync (group commit, one fsync).
//!
//! After the first error it does nothing more: the state of the disk is unknown, and a later sync that succeeds would
//! not show what the failed one lost.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::storage::LogFlushed;
use openraft::{LogId, NodeId, RaftTypeConfig, Vote};
use shared::limits::METADATA_STUCK;
use tokio::sync::{mpsc, oneshot};

use super::error::{Poisoned, WriterGone};
use super::files::Files;
use super::reader::Shared;

/// Completed when a job is durable or the log has stopped.
pub(super) type Done = oneshot::Sender<Result<(), Arc<Poisoned>>>;

/// Entries that are already in the view.
pub(super) struct Append<C: RaftTypeConfig> {
    /// The number that the view gave this append.
    pub(super) number: u64,
    pub(super) entries: Vec<(LogId<C::NodeId>, Bytes)>,
    pub(super) callback: LogFlushed<C>,
}

/// A job for the thread.
pub(super) enum Job<C: RaftTypeConfig> {
    Append(Append<C>),
    Change(Change<C::NodeId>, Done),
}

/// A change other than an append.
pub(super) enum Change<N: NodeId> {
    Truncate {
        index: u64,
        previous: Option<LogId<N>>,
    },
    Purge {
        upto: LogId<N>,
        /// No entry is left.
        restart: bool,
        /// The log has another entry at this index: it and all after it are truncated first.
        conflict: bool,
    },
    Vote(Vote<N>),
    Begin {
        log_id: LogId<N>,
        vote: Vote<N>,
    },
}

/// The handle of the thread. Dropping it finishes the queued jobs and closes the files, so that the directory can
/// be opened again.
#[derive(Debug)]
pub(super) struct WriterHandle<C: RaftTypeConfig> {
    jobs: Option<mpsc::Sender<Job<C>>>,
    thread: Option<JoinHandle<()>>,
    busy: Arc<Busy>,
}

/// The time since which the thread has been waiting for the disk.
#[derive(Debug, Default)]
struct Busy(Mutex<Option<Instant>>);

impl Busy {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

impl<C: RaftTypeConfig> WriterHandle<C> {
    pub(super) fn start(
        files: Files<C::NodeId>,
        shared: Arc<Shared<C::NodeId>>,
        queue: usize,
        batch_bytes_max: usize,
    ) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(queue);
        let busy = Arc::new(Busy::default());
        let writer = Writer { files, shared, batch_bytes_max, poisoned: None, busy: Arc::clone(&busy) };
        let thread =
            std::thread::Builder::new().name("barge-raft-log".to_owned()).spawn(|| writer.run(waiting))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), busy })
    }

    /// How long the current job has taken so far; zero if there is none.
    pub(super) fn busy_for(&self) -> Duration {
        let since = *self.busy.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Reserves a place in the queue.
    pub(super) async fn reserve(&self) -> Result<mpsc::Permit<'_, Job<C>>, WriterGone> {
        match &self.jobs {
            Some(jobs) => jobs.reserve().await.map_err(|_| WriterGone),
            None => Err(WriterGone),
        }
    }
}

impl<C: RaftTypeConfig> Drop for WriterHandle<C> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            // Waiting for a disk that hangs would keep this process alive forever.
            && self.busy_for() < METADATA_STUCK
            && thread.join().is_err()
        {
            tracing::error!("the writer thread of the raft log panicked");
        }
    }
}

struct Writer<C: RaftTypeConfig> {
    files: Files<C::NodeId>,
    shared: Arc<Shared<C::NodeId>>,
    batch_bytes_max: usize,
    poisoned: Option<Arc<Poisoned>>,
    busy: Arc<Busy>,
}

impl<C: RaftTypeConfig> Writer<C> {
    fn run(mut self, mut waiting: mpsc::Receiver<Job<C>>) {
        let mut next = waiting.blocking_recv();
        while let Some(job) = next.take() {
            match job {
                Job::Append(append) => next = self.append_with(append, &mut waiting),
                Job::Change(change, done) => {
                    let result = self.guarded("changing the log or the vote", |w| w.change(change));
                    // The caller may be gone.
                    let _ = done.send(result);
                }
            }
            if next.is_none() {
                next = waiting.blocking_recv();
            }
        }
    }

    /// Appends this and all queued appends as one batch. Returns the job that ended the batch, if any.
    fn append_with(&mut self, first: Append<C>, waiting: &mut mpsc::Receiver<Job<C>>) -> Option<Job<C>> {
        let mut bytes = size(&first.entries);
        let mut batch = vec![first];
        let mut next = None;
        while bytes < self.batch_bytes_max {
            match waiting.try_recv() {
                Ok(Job::Append(append)) => {
                    bytes += size(&append.entries);
                    batch.push(append);
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let (mut entries, mut parts) = (Vec::new(), Vec::new());
        for append in batch {
            parts.push((append.number, append.entries.len(), append.callback));
            entries.extend(append.entries);
        }
        let result = self.guarded("writing entries", |w| w.write(&entries, &parts));
        for (_, _, callback) in parts {
            callback.log_io_completed(match &result {
                Ok(()) => Ok(()),
                Err(poisoned) => Err(io::Error::new(poisoned.source.kind(), Arc::clone(poisoned))),
            });
        }
        next
    }

    fn write(
        &mut self,
        entries: &[(LogId<C::NodeId>, Bytes)],
        parts: &[(u64, usize, LogFlushed<C>)],
    ) -> io::Result<()> {
        let places = self.files.append(entries)?;
        let numbers = parts.iter().flat_map(|(number, count, _)| std::iter::repeat_n(*number, *count));
        let mut view = self.shared.any_view();
        for (((log_id, _), place), number) in entries.iter().zip(places).zip(numbers) {
            view.place(log_id.index, number, place);
        }
        view.shrink_cache();
        Ok(())
    }

    fn change(&mut self, change: Change<C::NodeId>) -> io::Result<()> {
        match change {
            Change::Truncate { index, previous } => self.files.truncate(index, previous),
            Change::Purge { upto, restart, conflict } => {
                if conflict {
                    self.files.truncate(upto.index, None)?;
                }
                self.files.purge(&upto, restart)
            }
            Change::Vote(vote) => {
                self.files.save_vote(&vote)?;
                self.shared.any_view().vote = Some(vote);
                Ok(())
            }
            Change::Begin { log_id, vote } => {
                self.files.begin(&log_id, &vote)?;
                self.shared.any_view().vote = Some(vote);
                Ok(())
            }
        }
    }

    fn guarded(
        &mut self,
        doing: &'static str,
        f: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> Result<(), Arc<Poisoned>> {
        if let Some(poisoned) = &self.poisoned {
            return Err(Arc::clone(poisoned));
        }
        self.busy.set(Some(Instant::now()));
        let done = f(self);
        self.busy.set(None);
        let Err(source) = done else {
            return Ok(());
        };
        tracing::error!(error = %source, doing, "the raft log stopped: nothing more is acknowledged");
        let poisoned = Arc::new(Poisoned { doing, source });
        self.poisoned = Some(Arc::clone(&poisoned));
        self.shared.any_view().poisoned = Some(Arc::clone(&poisoned));
        Err(poisoned)
    }
}

fn size<N: NodeId>(entries: &[(LogId<N>, Bytes)]) -> usize {
    entries.iter().map(|(_, body)| body.len()).sum()
}
