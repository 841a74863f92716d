//! The repair worker (re-replication): scans the repair queue and executes the plan, several blobs at a time. Before
//! each step it reads the blob again: a volume may be back, a value deleted, a drain cancelled.

use crate::plan::blob_locator::read_replicas;
use crate::repair_tracker::RepairTracker;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use shared::limits::REPAIRS_AT_ONCE;
use shared::work::{TickResult, Worker, blocking};

use super::decommission::decommission_drained;
use super::queue_rebuild::rebuild_repair_queue;
use super::rereplicate::{Replicator, RereplicateError};
use crate::change::Changes;
use crate::config::Config;
use crate::master::Master;
use crate::metadata::Metadata;
use crate::plan::repair::RepairStep;
use crate::plan::repair_scan::{RepairScan, RepairTask, ScanInput, next_step_now, scan_repairs};
use crate::state::command::Command;
use crate::tables::TableError;
use crate::tables::repair_queue::{self, BlobRef};
use crate::volumes::Volumes;

/// How long steps of one plan are started: after that, other blobs may be more urgent.
const PLAN_TIME: Duration = Duration::from_secs(20);
/// Delay before the next scan when no step of a plan succeeded.
const RETRY: Duration = Duration::from_secs(2);
/// Interval at which the volumes that hold all parts of moved multipart objects are recomputed. Each object reads all
/// of its parts, hence the batch limit.
const FULL_REPLICAS_INTERVAL: Duration = Duration::from_secs(5);
const FULL_REPLICAS_BATCH: usize = 16;
/// Scans take at most about 1/10 of the time.
const LOOKING: u32 = 10;

pub struct RepairWorker {
    metadata: Metadata,
    volumes: Arc<Volumes>,
    changes: Arc<Changes>,
    repair: Arc<RepairTracker>,
    replicator: Replicator,
    config: Arc<Config>,
    leads: bool,
    /// When a scan last included blobs of asynchronous uploads.
    paid: Option<Instant>,
    /// Earliest time of the next scan.
    next: Instant,
    /// When full replicas of multipart objects were last recomputed.
    weighed: Option<Instant>,
    /// Whether the repair queue is complete.
    listed: bool,
}

impl RepairWorker {
    pub fn new(master: &Master) -> Self {
        Self {
            metadata: master.metadata.clone(),
            volumes: Arc::clone(&master.volumes),
            changes: Arc::clone(&master.changes),
            repair: Arc::clone(&master.repair),
            replicator: Replicator::new(master),
            config: Arc::clone(&master.config),
            leads: false,
            paid: None,
            next: Instant::now(),
            weighed: None,
            listed: false,
        }
    }

    async fn scan(&mut self) -> Result<RepairScan, TableError> {
        let async_due = self.paid.is_none_or(|paid| paid.elapsed() >= self.config.async_every);
        if async_due {
            self.paid = Some(Instant::now());
        }
        let topology = self.volumes.cluster.topology();
        let question = ScanInput { topology, mode: self.config.mode, async_due };
        let (busy, resting) = (self.repair.in_flight(), self.repair.backing_off());
        let database = Arc::clone(&self.metadata.database);
        let found = blocking(move || scan_repairs(&database.tree(), &question, &busy, &resting)).await?;
        self.repair.record_scan(&found);
        Ok(found)
    }

    /// Executes a plan. Returns how many of its steps succeeded.
    async fn run_tasks(&self, actions: Vec<RepairTask>) -> usize {
        let began = Instant::now();
        let each = actions
            .into_iter()
            .take_while(|_| began.elapsed() < PLAN_TIME)
            .map(|action| async move { self.step(&action).await });
        let done =
            stream::iter(each).buffer_unordered(REPAIRS_AT_ONCE).filter(|done| std::future::ready(*done));
        done.count().await
    }

    /// Recomputes which volumes hold all parts of multipart objects whose parts have moved.
    async fn recompute_full_replicas(&mut self) {
        if self.weighed.is_some_and(|last| last.elapsed() < FULL_REPLICAS_INTERVAL) {
            return;
        }
        self.weighed = Some(Instant::now());
        match repair_queue::stale_full_replicas(&self.metadata.database.tree(), FULL_REPLICAS_BATCH) {
            Ok(values) => {
                for (upload, key) in values {
                    if let Err(error) =
                        self.changes.propose(Command::RecomputeFullReplicas { key, upload }).await
                    {
                        tracing::debug!(%error, "the full replicas of a multipart object are recomputed later");
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "the multipart objects whose parts have moved cannot be read");
            }
        }
    }

    /// Completes the repair queue of rebuilt tables and of those from an older version, once after becoming leader.
    async fn list(&mut self) {
        if self.listed {
            return;
        }
        match rebuild_repair_queue(&self.metadata.database, &self.changes).await {
            Ok(()) => self.listed = true,
            Err(error) => tracing::debug!(%error, "the repair queue is rebuilt later"),
        }
    }

    /// Executes the step that the blob needs now, if any. Returns whether it succeeded.
    async fn step(&self, action: &RepairTask) -> bool {
        let RepairTask { blob_ref, replicas: planned, .. } = action;
        let Some(_busy) = self.repair.begin(planned.blob) else { return false };
        let (tree, topology) = (self.metadata.database.tree(), self.volumes.cluster.topology());
        let now = read_replicas(&tree, planned.blob, blob_ref).and_then(|now| match now {
            Some(mut now) => {
                next_step_now(&tree, &blob_ref.key, &mut now, &topology).map(|verdict| Some((now, verdict)))
            }
            None => Ok(None),
        });
        let done = match now {
            Ok(None | Some((_, RepairStep::Healthy | RepairStep::Blocked(_)))) => return false,
            Ok(Some((now, RepairStep::AddReplica { to, .. }))) => {
                // It will replace another replica, so it is read back from its disk.
                let leaving = now.replicas.iter().any(|v| !topology.counts_for(*v, now.blob));
                self.replicator.add_replica(blob_ref, &now, to, leaving).await
            }
            Ok(Some((now, RepairStep::RemoveReplica { from, keep }))) => {
                self.replicator.remove_replica(blob_ref, &now, from, &keep).await
            }
            Ok(Some((now, RepairStep::CancelAddReplica { to }))) => {
                self.replicator.cancel_add_replica(&now, to).await
            }
            Err(error) => {
                tracing::error!(key = %blob_ref.key, %error, "the replicas of a blob cannot be read");
                return false;
            }
        };
        match done {
            Ok(()) => {
                self.repair.record_success(planned.blob);
                true
            }
            Err(error) => {
                self.repair.record_failure(planned.blob);
                say(&self.repair, blob_ref, &error);
                false
            }
        }
    }
}

fn say(repair: &RepairTracker, blob_ref: &BlobRef, error: &RereplicateError) {
    tracing::warn!(key = %blob_ref.key, %error, "a repair step failed; it is retried");
    repair.trouble(format!("{}: {error}", blob_ref.key));
}

impl Worker for RepairWorker {
    const NAME: &'static str = "repair";

    async fn tick(&mut self) -> TickResult {
        if !self.metadata.leads().await {
            if std::mem::take(&mut self.leads) {
                self.repair.reset();
            }
            self.listed = false;
            return TickResult::Idle;
        }
        self.leads = true;
        if let Err(error) =
            decommission_drained(&self.metadata, &self.volumes, &self.changes, &self.config.clock).await
        {
            tracing::debug!(%error, "decommissioning is finished later");
        }
        self.list().await;
        self.recompute_full_replicas().await;
        if Instant::now() < self.next {
            return TickResult::Idle;
        }
        let began = Instant::now();
        let found = match self.scan().await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "the repair queue cannot be scanned");
                self.next = Instant::now() + RETRY;
                return TickResult::Idle;
            }
        };
        let (looked, due, more) = (began.elapsed(), found.actions.len(), found.more);
        let done = self.run_tasks(found.actions).await;
        if due > 0 {
            tracing::debug!(due, done, ?looked, "a repair plan was executed");
        }
        let worked = began.elapsed().saturating_sub(looked);
        let rest = (looked * LOOKING).saturating_sub(worked).min(Duration::from_secs(60));
        // A plan that failed completely will hardly succeed in a moment. If the scan found more than the plan holds,
        // do not rest.
        let rest = match (done, due) {
            (0, 1..) => rest.max(RETRY),
            (1.., _) if more => Duration::ZERO,
            _ => rest,
        };
        self.next = Instant::now() + rest;
        if done > 0 && rest.is_zero() { TickResult::More } else { TickResult::Idle }
    }
}
