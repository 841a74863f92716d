//! Buffers on their way: to the disk, one after the other on one thread that takes the next as soon as it is done with
//! the last, and through the hashes on another. A buffer goes back to its pool when both are done with it.
//!
//! One thread, because writes that make a file longer wait for each other in the kernel anyway; a queue, because the
//! disk must not wait until this process is told that it is idle.

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

/// The buffers of one upload that are on their way.
#[derive(Debug)]
pub(super) struct Flights {
    writes: VecDeque<oneshot::Receiver<Result<(), WriteError>>>,
    queue: Arc<Mutex<Queue>>,
    sums: Hashing,
}

/// Writes that have not begun, and whether a thread is at them.
#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn FnOnce() + Send>>,
    running: bool,
}

#[derive(Debug)]
enum Hashing {
    /// Nothing is being hashed.
    Rest(Box<Sums>),
    /// A buffer, and those before it.
    Under(JoinHandle<Box<Sums>>),
    /// It panicked, or was given up.
    Lost,
}

impl Flights {
    pub(super) fn new() -> Self {
        Self { writes: VecDeque::new(), queue: Arc::default(), sums: Hashing::Rest(Box::new(Sums::new())) }
    }

    /// Sends a buffer off: `write` to the disk, the bytes in `fresh` through the hashes.
    pub(super) fn depart(
        &mut self,
        buffer: Buffer,
        fresh: Range<usize>,
        write: impl FnOnce(&Buffer) -> Result<(), WriteError> + Send + 'static,
    ) {
        let written = Arc::new(buffer);
        let hashed = Arc::clone(&written);
        let before = std::mem::replace(&mut self.sums, Hashing::Lost);
        self.sums = Hashing::Under(tokio::spawn(async move {
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
            // Nobody waits for a write of an upload that was given up.
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

    /// Waits until at most so many writes are under way; the first error of those that ended.
    pub(super) async fn land(&mut self, at_most: usize) -> Result<(), WriteError> {
        while self.writes.len() > at_most {
            let Some(oldest) = self.writes.front_mut() else { break };
            let landed = oldest.await;
            self.writes.pop_front();
            landed.unwrap_or(Err(WriteError::Aborted))?;
        }
        Ok(())
    }

    /// The sums of all that departed; nothing can depart before they are `put_back`.
    pub(super) async fn sums(&mut self) -> Box<Sums> {
        std::mem::replace(&mut self.sums, Hashing::Lost).end().await
    }

    pub(super) fn put_back(&mut self, sums: Box<Sums>) {
        self.sums = Hashing::Rest(sums);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// A thread at the queue.
struct Run {
    queue: Arc<Mutex<Queue>>,
    /// It found the queue empty and said so: another may be at it by now.
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
        // A write panicked, or the runtime went down before it began: whoever waits for the others must be told.
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
            Self::Rest(sums) => sums,
            Self::Under(hashing) => match hashing.await {
                Ok(sums) => sums,
                Err(e) => match e.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime is going down: whoever waits is being dropped too.
                    Err(_) => std::future::pending().await,
                },
            },
            // Only after a call that failed or was given up half way, and then no other is let in.
            Self::Lost => std::future::pending().await,
        }
    }
}
