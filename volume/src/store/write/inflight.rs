//! Writes in flight: one thread writes the buffers to the disk one after the other, another one hashes them. A buffer
//! returns to its pool when both are done.
//!
//! One thread writes, because writes that extend a file wait for each other in the kernel anyway; it takes them from
//! a queue, so that the disk is never idle until an async task has noticed that a write ended.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use shared::work::blocking;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::sums::Sums;
use crate::store::buffer::Buffer;
use crate::store::error::WriteError;
use crate::store::lock;

/// The writes in flight of one upload.
#[derive(Debug)]
pub(super) struct InflightWrites {
    writes: VecDeque<oneshot::Receiver<Result<(), WriteError>>>,
    queue: Arc<Mutex<Queue>>,
    sums: Hashing,
}

/// Writes that have not begun, and whether a thread works on them.
#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn FnOnce() + Send>>,
    running: bool,
}

#[derive(Debug)]
enum Hashing {
    /// Nothing is being hashed.
    Idle(Box<Sums>),
    /// A buffer and those before it are being hashed.
    Running(JoinHandle<Box<Sums>>),
    /// A call panicked or was dropped half way.
    Lost,
}

impl InflightWrites {
    pub(super) fn new() -> Self {
        Self { writes: VecDeque::new(), queue: Arc::default(), sums: Hashing::Idle(Box::new(Sums::new())) }
    }

    /// Submits a buffer: `write` writes it to the disk, the bytes in `fresh` are hashed.
    pub(super) fn submit(
        &mut self,
        buffer: Buffer,
        fresh: Range<usize>,
        write: impl FnOnce(&Buffer) -> Result<(), WriteError> + Send + 'static,
    ) {
        let written = Arc::new(buffer);
        let hashed = Arc::clone(&written);
        let before = std::mem::replace(&mut self.sums, Hashing::Lost);
        self.sums = Hashing::Running(tokio::spawn(async move {
            let mut sums = before.end().await;
            blocking(move || {
                sums.update(&hashed.as_slice()[fresh]);
                sums
            })
            .await
        }));
        let (told, landed) = oneshot::channel();
        self.writes.push_back(landed);
        self.enqueue(Box::new(move || {
            let outcome = write(&written);
            drop(written);
            // It fails if the upload was dropped.
            let _ = told.send(outcome);
        }));
    }

    fn enqueue(&self, job: Box<dyn FnOnce() + Send>) {
        {
            let mut queue = lock(&self.queue);
            queue.jobs.push_back(job);
            if std::mem::replace(&mut queue.running, true) {
                return;
            }
        }
        let mut run = Run { queue: Arc::clone(&self.queue), ended: false };
        tokio::spawn(blocking(move || run.until_empty()));
    }

    /// Waits until at most that many writes are in flight; returns the first error of those that ended.
    pub(super) async fn wait_until_at_most(&mut self, at_most: usize) -> Result<(), WriteError> {
        while self.writes.len() > at_most {
            let Some(oldest) = self.writes.front_mut() else { break };
            let landed = oldest.await;
            self.writes.pop_front();
            landed.unwrap_or(Err(WriteError::Aborted))?;
        }
        Ok(())
    }

    /// Returns the sums of all submitted buffers; nothing can be submitted before they are `put_back`.
    pub(super) async fn sums(&mut self) -> Box<Sums> {
        std::mem::replace(&mut self.sums, Hashing::Lost).end().await
    }

    pub(super) fn put_back(&mut self, sums: Box<Sums>) {
        self.sums = Hashing::Idle(sums);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// A thread that works on the queue.
struct Run {
    queue: Arc<Mutex<Queue>>,
    /// It found the queue empty and recorded that: another thread may work on it by now.
    ended: bool,
}

impl Run {
    fn until_empty(&mut self) {
        while let Some(job) = self.next() {
            job();
        }
    }

    fn next(&mut self) -> Option<Box<dyn FnOnce() + Send>> {
        let mut queue = lock(&self.queue);
        let job = queue.jobs.pop_front();
        queue.running = job.is_some();
        self.ended = job.is_none();
        job
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // A write panicked, or the runtime shut down before it began: fail the remaining ones.
        let mut queue = lock(&self.queue);
        queue.running = false;
        queue.jobs.clear();
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} writes", self.jobs.len())
    }
}

impl Hashing {
    async fn end(self) -> Box<Sums> {
        match self {
            Self::Idle(sums) => sums,
            Self::Running(hashing) => match hashing.await {
                Ok(sums) => sums,
                Err(e) => match e.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime is shutting down: the waiting task is dropped too.
                    Err(_) => std::future::pending().await,
                },
            },
            // Only after a call that failed or was dropped half way, and `broken` admits no further call.
            Self::Lost => std::future::pending().await,
        }
    }
}
