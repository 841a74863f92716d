//! The rebalance, once an operator has started it: moves values until all volumes are about equally full (a
//! balancer). Each pass computes its moves from what the volumes report; after a failover the new leader continues
//! with a pass of its own.
//!
//! A move adds a replica, verifies it on the disk of its new volume, and then removes the old one: no value becomes
//! under-replicated by it.

use crate::plan::blob_locator::{BlobLocator, excluded_volumes, read_replicas};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use shared::ids::{BlobId, VolumeId};
use shared::limits::{REPAIRS_AT_ONCE, SURVEY_PAGE};
use shared::work::{TickResult, Worker, blocking};

use super::rereplicate::Replicator;
use crate::change::Changes;
use crate::cluster::topology::{Availability, Topology};
use crate::config::Replication;
use crate::master::Master;
use crate::metadata::Metadata;
use crate::plan::rebalance::Balance;
use crate::plan::repair::BlobReplicas;
use crate::repair_tracker::RepairTracker;
use crate::volumes::Volumes;

use crate::state::command::Command;
use crate::tables::repair_queue::BlobRef;
use crate::tables::{TableError, meta, replica};

/// Pause between two passes. In it the volumes delete what was moved and report what they hold, every second.
const REST: Duration = Duration::from_secs(3);
/// Most moves in one tick; between two ticks the operator can pause or cancel.
const AT_ONCE: usize = 256;

/// One value to be moved.
#[derive(Clone, Debug)]
struct Move {
    blob_ref: BlobRef,
    held: BlobReplicas,
    from: VolumeId,
    to: VolumeId,
}

/// A pass over the volumes that are too full.
#[derive(Debug)]
struct Pass {
    balance: Balance,
    /// Volumes still to be scanned; the last one comes next.
    left: Vec<VolumeId>,
    /// How far that one has been scanned.
    after: Option<BlobId>,
    moved: u64,
    failed: u64,
}

pub struct RebalanceWorker {
    metadata: Metadata,
    volumes: Arc<Volumes>,
    changes: Arc<Changes>,
    repair: Arc<RepairTracker>,
    replicator: Replicator,
    replication: Replication,
    pass: Option<Pass>,
    next: Instant,
}

impl RebalanceWorker {
    pub fn new(master: &Master) -> Self {
        Self {
            metadata: master.metadata.clone(),
            volumes: Arc::clone(&master.volumes),
            changes: Arc::clone(&master.changes),
            repair: Arc::clone(&master.repair),
            replicator: Replicator::new(master),
            replication: master.config.replication,
            pass: None,
            next: Instant::now(),
        }
    }

    async fn begin(&mut self) {
        let topology = self.volumes.cluster.topology();
        if !is_known(&topology) {
            self.next = Instant::now() + REST;
            return;
        }
        let balance = Balance::of(&topology, self.replication.wanted());
        if balance.is_even() {
            self.end("all volumes are about equally full").await;
            return;
        }
        let left = balance.over.keys().copied().collect();
        self.pass = Some(Pass { balance, left, after: None, moved: 0, failed: 0 });
    }

    async fn end(&mut self, why: &str) {
        tracing::info!(why, "the rebalance is finished");
        if let Err(error) = self.changes.propose(Command::SetRebalance(None)).await {
            tracing::debug!(%error, "the end of the rebalance is recorded later");
        }
    }

    /// Makes some moves. False when the pass is over.
    async fn some(&mut self, mut pass: Pass) -> bool {
        let Some(from) = pass.left.last().copied() else {
            let Pass { moved, failed, .. } = pass;
            tracing::info!(moved, failed, "a rebalance pass is over");
            self.next = Instant::now() + REST;
            if moved == 0 && failed == 0 {
                self.end("no move makes the volumes more equally full").await;
            }
            return false;
        };
        let (database, topology) = (Arc::clone(&self.metadata.database), self.volumes.cluster.topology());
        let (mut balance, after) = (std::mem::take(&mut pass.balance), pass.after);
        let chosen = blocking(move || {
            let chosen = choose(&database.tree(), from, after, &mut balance, &topology);
            (balance, chosen)
        });
        let (balance, chosen) = chosen.await;
        pass.balance = balance;
        match chosen {
            Ok((moves, after)) => {
                let count = moves.len() as u64;
                let done = self.carry_out(moves).await;
                pass.moved += done;
                pass.failed += count - done;
                pass.after = after;
                if after.is_none() {
                    pass.left.pop();
                }
            }
            Err(error) => {
                tracing::error!(%error, "the blobs of a volume cannot be read");
                pass.left.pop();
                pass.after = None;
            }
        }
        self.pass = Some(pass);
        true
    }

    async fn carry_out(&self, moves: Vec<Move>) -> u64 {
        let each = moves.into_iter().map(|one| async move { u64::from(self.step(one).await) });
        stream::iter(each)
            .buffer_unordered(REPAIRS_AT_ONCE)
            .fold(0, |sum, n| std::future::ready(sum + n))
            .await
    }

    /// Makes one move, unless the rebalance was paused or cancelled. Returns whether it was made.
    async fn step(&self, one: Move) -> bool {
        let Move { blob_ref, held: planned, from, to } = one;
        let tree = self.metadata.database.tree();
        if !meta::rebalance(&tree).is_ok_and(|state| state.is_some_and(|state| !state.paused)) {
            return false;
        }
        let Some(_busy) = self.repair.begin(planned.blob) else { return false };
        // If the replicas have changed since the plan, the move is skipped.
        let same = |now: Option<BlobReplicas>| {
            now.is_some_and(|now| (now.replicas, now.pending) == (planned.replicas.clone(), vec![]))
        };
        if !read_replicas(&tree, planned.blob, &blob_ref).is_ok_and(same) {
            return false;
        }
        let keep: Vec<_> = planned.replicas.iter().copied().filter(|v| *v != from).chain([to]).collect();
        let moved = async {
            self.replicator.add_replica(&blob_ref, &planned, to, true).await?;
            self.replicator.remove_replica(&blob_ref, &planned, from, &keep).await
        };
        if let Err(error) = moved.await {
            tracing::warn!(key = %blob_ref.key, %error, "a value was not moved; a later pass retries");
            self.repair.trouble(format!("{}: {error}", blob_ref.key));
            return false;
        }
        true
    }
}

/// Whether enough is known to plan moves. A new leader has not compared the volumes yet, and a volume that is briefly
/// down will want its share.
fn is_known(topology: &Topology) -> bool {
    topology.volumes().all(|(_, entry)| match entry.availability {
        Availability::Writable | Availability::ReadOnly => entry.compared,
        Availability::Down => false,
        Availability::Lost | Availability::Draining { .. } => true,
    })
}

/// Chooses moves among the next blobs of one volume. Returns them, and the blob after which to continue, if any.
fn choose(
    tree: &sled::Tree,
    from: VolumeId,
    after: Option<BlobId>,
    balance: &mut Balance,
    topology: &Topology,
) -> Result<(Vec<Move>, Option<BlobId>), TableError> {
    let (mut moves, mut finder, mut last) = (Vec::new(), BlobLocator::default(), None);
    let mut seen = 0;
    for item in replica::after(tree, from, after).take(SURVEY_PAGE) {
        let (blob, key) = item?;
        (last, seen) = (Some(blob), seen + 1);
        if balance.is_even() || !balance.over.contains_key(&from) {
            return Ok((moves, None));
        }
        if let Some(blob_ref) = finder.locate(tree, &key, blob)?
            && let Some(mut held) = read_replicas(tree, blob, &blob_ref)?
            && {
                held.excluded = excluded_volumes(tree, blob, balance.under.keys().copied())?;
                true
            }
            && let Some(to) = balance.take(from, &held, topology)
        {
            moves.push(Move { blob_ref, held, from, to });
            if moves.len() == AT_ONCE {
                return Ok((moves, last));
            }
        }
    }
    Ok((moves, last.filter(|_| seen == SURVEY_PAGE)))
}

impl Worker for RebalanceWorker {
    const NAME: &'static str = "rebalance";

    async fn tick(&mut self) -> TickResult {
        if !self.metadata.leads().await {
            self.pass = None;
            return TickResult::Idle;
        }
        let wanted = meta::rebalance(&self.metadata.database.tree());
        let running = match wanted {
            Ok(state) => state.is_some_and(|state| !state.paused),
            Err(error) => {
                tracing::error!(%error, "the state of the rebalance cannot be read");
                false
            }
        };
        if !running {
            self.pass = None;
            return TickResult::Idle;
        }
        if Instant::now() < self.next {
            return TickResult::Idle;
        }
        match self.pass.take() {
            None => {
                self.begin().await;
                if self.pass.is_some() { TickResult::More } else { TickResult::Idle }
            }
            Some(pass) => {
                if self.some(pass).await {
                    TickResult::More
                } else {
                    TickResult::Idle
                }
            }
        }
    }
}
