//! Advances the group's time when a value expires, and removes what has expired, a few objects at a time. A value is
//! gone for every reader as soon as the time in the tables has reached its expiry: nobody waits for its removal.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use shared::clock::Timestamp;
use shared::ids::BlobId;
use shared::limits::EXPIRE_BATCH;
use shared::work::{TickResult, Worker};
use tokio::time::sleep;

use super::EXPIRY_INTERVAL;
use crate::change::Changes;
use crate::master::Master;
use crate::metadata::Metadata;
use crate::metrics::MasterMetrics;
use crate::sequencer::ProposeError;
use crate::state::command::{Command, Outcome};
use crate::tables::expiry::{self, Expiring};
use crate::tables::{TableError, meta};

/// Objects with a corrupt record that are passed over. They are hidden all the same.
const STUCK_MAX: usize = 1024;

pub struct ExpiryWorker {
    metadata: Metadata,
    changes: Arc<Changes>,
    metrics: Arc<MasterMetrics>,
    stuck: BTreeSet<BlobId>,
}

impl ExpiryWorker {
    pub fn new(master: &Master) -> Self {
        let (changes, metrics) = (Arc::clone(&master.changes), Arc::clone(&master.metrics));
        Self { metadata: master.metadata.clone(), changes, metrics, stuck: BTreeSet::new() }
    }

    async fn expire(&mut self) -> Result<TickResult, TableError> {
        let time = meta::time(&self.metadata.database.tree())?;
        let expired = self.expired(time)?;
        if !expired.is_empty() {
            self.remove(expired).await;
        }
        let next = expiry::after(&self.metadata.database.tree(), Some(time)).next().transpose()?;
        let more = if self.expired(time)?.is_empty() { TickResult::Idle } else { TickResult::More };
        let Some(next) = next else { return Ok(more) };
        let Ok(now) = self.metadata.now().await else { return Ok(TickResult::Idle) };
        let due = Duration::from_millis(next.at.unix_ms().saturating_sub(now.unix_ms()));
        if due.is_zero() {
            let advanced = self.changes.propose(Command::AdvanceTime { to: now }).await;
            return Ok(if advanced.is_ok() { TickResult::More } else { TickResult::Idle });
        }
        if more == TickResult::More || due > EXPIRY_INTERVAL {
            return Ok(more);
        }
        tokio::select! {
            () = sleep(due) => {}
            () = self.changes.wake_expiry.notified() => {}
        }
        Ok(TickResult::More)
    }

    /// Returns some of those that are to be removed.
    fn expired(&self, time: Timestamp) -> Result<Vec<Expiring>, TableError> {
        let due = |item: &Result<Expiring, _>| item.as_ref().map_or(true, |expiring| expiring.at <= time);
        let waits = |item: &Result<Expiring, _>| {
            item.as_ref().map_or(true, |expiring| !self.stuck.contains(&expiring.generation))
        };
        let all = expiry::after(&self.metadata.database.tree(), None).take_while(due);
        all.filter(waits).take(EXPIRE_BATCH).collect()
    }

    async fn remove(&mut self, objects: Vec<Expiring>) {
        match self.remove_together(objects.clone()).await {
            Ok(Outcome::Corrupt) => {}
            Ok(_) => return,
            Err(error) => return tracing::debug!(%error, "what has expired is removed later"),
        }
        // A corrupt record blocks the whole command: try them one by one.
        for expiring in objects {
            let (key, generation) = (expiring.key.clone(), expiring.generation);
            if let Ok(Outcome::Corrupt) = self.remove_together(vec![expiring]).await {
                tracing::error!(%key, "an expired value cannot be removed: a record is corrupt");
                if self.stuck.len() < STUCK_MAX {
                    self.stuck.insert(generation);
                }
            }
        }
    }

    async fn remove_together(&self, objects: Vec<Expiring>) -> Result<Outcome, ProposeError> {
        let count = objects.len() as u64;
        let outcome = self.changes.propose(Command::RemoveExpired { objects }).await?;
        if outcome == Outcome::Done {
            self.metrics.expired.inc_by(count);
            self.changes.wake_reclaim.notify_one();
            self.changes.wake_part_removal.notify_one();
        }
        Ok(outcome)
    }
}

impl Worker for ExpiryWorker {
    const NAME: &'static str = "expiry";

    async fn tick(&mut self) -> TickResult {
        if !self.metadata.leads().await {
            return TickResult::Idle;
        }
        self.expire().await.unwrap_or_else(|error| {
            tracing::error!(%error, "the expiry of values cannot be read");
            TickResult::Idle
        })
    }
}
