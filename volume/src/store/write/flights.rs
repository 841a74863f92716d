//! Buffers on their way: to the disk, so many at once that it never waits for us, and through the hashes, one after
//! the other on another thread. A buffer goes back to its pool when both are done with it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use shared::work::blocking;
use tokio::task::JoinHandle;

use super::sums::Sums;
use crate::store::buffer::Buffer;
use crate::store::error::WriteError;

/// The buffers of one upload that are on their way.
#[derive(Debug)]
pub(super) struct Flights {
    /// The oldest first.
    writes: VecDeque<JoinHandle<Result<(), WriteError>>>,
    sums: Hashing,
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
        Self { writes: VecDeque::new(), sums: Hashing::Rest(Box::new(Sums::new())) }
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
        self.writes.push_back(tokio::spawn(blocking(move || write(&written))));
    }

    /// Waits until at most so many writes are under way; the first error of those that ended.
    pub(super) async fn land(&mut self, at_most: usize) -> Result<(), WriteError> {
        while self.writes.len() > at_most {
            let Some(oldest) = self.writes.front_mut() else { break };
            let landed = oldest.await;
            self.writes.pop_front();
            landed.unwrap_or_else(|e| match e.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(WriteError::Aborted),
            })?;
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
