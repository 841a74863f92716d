//! One order for all commands: they are applied one after the other by one thread, many to a batch,
//! each batch one atomic write and one fsync, and only then is anybody told.
//!
//! This is the place of consensus: a replicated log comes in front of `apply` here, and nothing else changes.

use std::sync::{Arc, Mutex, PoisonError};

use shared::clock::Clock;
use shared::ids::BlobId;
use shared::limits::{COMMIT_BATCH, COMMIT_QUEUE};
use tokio::sync::{mpsc, oneshot, watch};

use crate::db::Database;
use crate::state::apply::apply;
use crate::state::command::{Command, Outcome};
use crate::tables::{TableError, Tables, meta};

/// Takes commands and gives out blob ids.
#[derive(Debug)]
pub struct Sequencer {
    queue: mpsc::Sender<Proposal>,
    last_blob: Mutex<Option<BlobId>>,
    clock: Clock,
    failure: watch::Receiver<Option<Arc<TableError>>>,
}

#[derive(Debug)]
struct Proposal {
    command: Command,
    answer: oneshot::Sender<Outcome>,
}

/// The command may or may not have been carried out: the metadata store has failed, or this master is stopping.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("the metadata store has failed or is stopping; whether the change was made is unknown")]
pub struct OutcomeUnknown;

impl Sequencer {
    /// Starts the applying thread on `database`. `observe` is told of each batch: commands in it, seconds it took.
    ///
    /// # Errors
    /// When the tables cannot be read, or no thread can be started.
    pub fn start(
        database: Arc<Database>,
        clock: Clock,
        observe: impl Fn(usize, f64) + Send + 'static,
    ) -> Result<Self, TableError> {
        let last_blob = meta::progress(database.tree())?.last_blob;
        let (queue, proposals) = mpsc::channel(COMMIT_QUEUE);
        let (report, failure) = watch::channel(None);
        std::thread::Builder::new()
            .name("barge-apply".into())
            .spawn(move || {
                if let Err(error) = run(&database, proposals, observe) {
                    tracing::error!(%error, "the metadata store failed; this master stops");
                    let _ = report.send(Some(Arc::new(error)));
                }
            })
            .map_err(sled::Error::Io)?;
        Ok(Self { queue, last_blob: Mutex::new(last_blob), clock, failure })
    }

    /// Has `command` applied and made durable.
    ///
    /// # Errors
    /// When that is not known to have happened.
    pub async fn propose(&self, command: Command) -> Result<Outcome, OutcomeUnknown> {
        let (answer, outcome) = oneshot::channel();
        self.queue.send(Proposal { command, answer }).await.map_err(|_| OutcomeUnknown)?;
        outcome.await.map_err(|_| OutcomeUnknown)
    }

    /// The next blob id: after every one given out before and every one ever committed.
    pub fn next_blob(&self) -> BlobId {
        let random = uuid::Uuid::new_v4().into_bytes();
        let random: [u8; 10] = random[..10].try_into().expect("ten of sixteen bytes");
        let mut last = self.last_blob.lock().unwrap_or_else(PoisonError::into_inner);
        let next = BlobId::next(*last, self.clock.now(), random);
        *last = Some(next);
        next
    }

    /// Returns when the metadata store has failed: the master must stop.
    pub async fn failed(&self) -> Arc<TableError> {
        let mut failure = self.failure.clone();
        let found = failure.wait_for(Option::is_some).await.map(|f| f.clone());
        match found {
            Ok(Some(error)) => error,
            // The thread ended because we are being dropped.
            _ => std::future::pending().await,
        }
    }
}

/// The applying thread. Ends when the sequencer is dropped, or on the first failure: after a failed
/// write or sync nothing may be acknowledged, so those who wait learn that the outcome is unknown.
fn run(
    database: &Database,
    mut proposals: mpsc::Receiver<Proposal>,
    observe: impl Fn(usize, f64),
) -> Result<(), TableError> {
    while let Some(first) = proposals.blocking_recv() {
        let started = std::time::Instant::now();
        let mut tables = Tables::new(database.tree());
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(Proposal { command, answer }) = next {
            waiting.push((answer, apply(&mut tables, &command)?));
            next = if waiting.len() < COMMIT_BATCH { proposals.try_recv().ok() } else { None };
        }
        database.commit(tables)?;
        observe(waiting.len(), started.elapsed().as_secs_f64());
        for (answer, outcome) in waiting {
            // Whoever asked may have gone.
            let _ = answer.send(outcome);
        }
    }
    Ok(())
}
