//! One order for all commands: they are applied one after the other by one thread, many to a batch,
//! each batch one atomic write and one fsync, and only then is anybody told.
//!
//! sled shows a batch to readers before it is synced. Who acts on what they read, or tells a client, waits
//! with `settled` until it is: what a power cut can take back, nobody has seen.
//!
//! This is the place of consensus: a replicated log comes in front of `apply` here, and nothing else changes.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use shared::clock::Clock;
use shared::ids::BlobId;
use shared::key::Key;
use shared::limits::{COMMIT_BATCH, COMMIT_QUEUE, METADATA_STUCK};
use tokio::sync::{mpsc, oneshot, watch};

use crate::db::Database;
use crate::state::apply::apply;
use crate::state::command::{Command, Commit, Outcome};
use crate::tables::{TableError, Tables, meta};

/// Takes commands and gives out blob ids.
#[derive(Debug)]
pub struct Sequencer {
    queue: mpsc::Sender<Proposal>,
    last_blob: Mutex<Option<BlobId>>,
    clock: Clock,
    unsynced: watch::Receiver<Arc<HashSet<Key>>>,
    failure: watch::Receiver<Option<Arc<TableError>>>,
    /// Since when a batch is being written.
    writing: watch::Receiver<Option<Instant>>,
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
        let (pending, unsynced) = watch::channel(Arc::default());
        let (begun, writing) = watch::channel(None);
        std::thread::Builder::new()
            .name("barge-apply".into())
            .spawn(move || {
                // sled panics on some errors of the disk; that is a failure like any other.
                let ended =
                    catch_unwind(AssertUnwindSafe(|| run(&database, proposals, &pending, &begun, observe)));
                if let Err(error) = ended.unwrap_or(Err(TableError::Panicked)) {
                    tracing::error!(%error, "the metadata store failed; this master stops");
                    let _ = report.send(Some(Arc::new(error)));
                }
            })
            .map_err(sled::Error::Io)?;
        Ok(Self { queue, last_blob: Mutex::new(last_blob), clock, unsynced, failure, writing })
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

    /// Returns once what was read of `key` before the call is durable: at once, unless a change of
    /// this very key is being synced.
    ///
    /// # Errors
    /// When it will never be.
    pub async fn settled(&self, key: &Key) -> Result<(), OutcomeUnknown> {
        self.wait(|unsynced| !unsynced.contains(key)).await
    }

    /// Returns once everything that was read before the call is durable.
    ///
    /// # Errors
    /// When it will never be.
    pub async fn all_settled(&self) -> Result<(), OutcomeUnknown> {
        let seen = Arc::clone(&self.unsynced.borrow());
        // Another batch than the one seen is a later one: ours is done.
        self.wait(|unsynced| unsynced.is_empty() || !std::ptr::eq(unsynced, &*seen)).await
    }

    async fn wait(&self, done: impl Fn(&HashSet<Key>) -> bool) -> Result<(), OutcomeUnknown> {
        let mut unsynced = self.unsynced.clone();
        unsynced.wait_for(|keys| done(keys)).await.map(drop).map_err(|_| OutcomeUnknown)
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
        tokio::select! {
            // The thread does not end while we hold the queue, but for a failure.
            found = failure.wait_for(Option::is_some) => {
                found.ok().and_then(|f| f.clone()).unwrap_or_else(|| Arc::new(TableError::Panicked))
            }
            () = self.stuck() => {
                tracing::error!(after = ?METADATA_STUCK, "the metadata store does not come back; this master stops");
                Arc::new(TableError::Stuck)
            }
        }
    }

    /// Returns when a batch has been under way for too long: after some errors of the disk sled's flush waits for a write
    /// that nobody makes any more.
    async fn stuck(&self) {
        let mut writing = self.writing.clone();
        loop {
            let since = *writing.borrow_and_update();
            let limit = since.map(|began| tokio::time::Instant::from_std(began + METADATA_STUCK));
            let changed = match limit {
                Some(limit) => match tokio::time::timeout_at(limit, writing.changed()).await {
                    Ok(changed) => changed,
                    Err(_) => return,
                },
                None => writing.changed().await,
            };
            if changed.is_err() {
                // The thread has ended, and says why.
                return std::future::pending().await;
            }
        }
    }
}

/// The applying thread. Ends when the sequencer is dropped, or on the first failure: after a failed
/// write or sync nothing may be acknowledged, so those who wait learn that the outcome is unknown.
fn run(
    database: &Database,
    mut proposals: mpsc::Receiver<Proposal>,
    pending: &watch::Sender<Arc<HashSet<Key>>>,
    begun: &watch::Sender<Option<Instant>>,
    observe: impl Fn(usize, f64),
) -> Result<(), TableError> {
    while let Some(first) = proposals.blocking_recv() {
        let started = Instant::now();
        let mut tables = Tables::new(database.tree());
        let mut keys = HashSet::new();
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(Proposal { command, answer }) = next {
            if let Command::Commit(Commit { key, .. }) | Command::Delete { key, .. } = &command {
                keys.insert(key.clone());
            }
            waiting.push((answer, apply_one(&mut tables, &command)?));
            next = if waiting.len() < COMMIT_BATCH { proposals.try_recv().ok() } else { None };
        }
        pending.send_replace(Arc::new(keys));
        begun.send_replace(Some(started));
        database.commit(tables)?;
        begun.send_replace(None);
        pending.send_replace(Arc::default());
        observe(waiting.len(), started.elapsed().as_secs_f64());
        for (answer, outcome) in waiting {
            // Whoever asked may have gone.
            let _ = answer.send(outcome);
        }
    }
    Ok(())
}

/// Applies one command. A record that is damaged ends that command, without a trace; the others go on.
fn apply_one(tables: &mut Tables<'_>, command: &Command) -> Result<Outcome, TableError> {
    tables.mark();
    match apply(tables, command) {
        Err(error @ TableError::Damaged { .. }) => {
            tracing::error!(%error, "a command was not carried out");
            tables.roll_back();
            Ok(Outcome::Damaged)
        }
        other => other,
    }
}
