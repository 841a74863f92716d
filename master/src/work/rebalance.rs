//! Moves values until all volumes are about equally full, once somebody has begun that. What is to be moved is worked out anew from
//! what the volumes report at the beginning of each pass; a leader that takes over in the middle goes on from there.
//!
//! Each move is a copy that is verified on the disk of its new volume, and then the old one goes: no value is ever below its copies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use shared::ids::{BlobId, VolumeId};
use shared::limits::{REPAIRS_AT_ONCE, SURVEY_PAGE};
use shared::work::{Progress, Worker, blocking};

use super::carry::{copy, take_away};
use crate::cluster::topology::{Condition, Topology};
use crate::master::Master;
use crate::plan::rebalance::Balance;
use crate::plan::repair::Held;
use crate::plan::survey::{Finder, barred, held};
use crate::state::command::Command;
use crate::tables::unsettled::Spot;
use crate::tables::{TableError, meta, replica};

/// Between two passes: volumes report each second what they hold, and what was moved is deleted meanwhile.
const REST: Duration = Duration::from_secs(3);
/// Moves of one tick: between two ticks somebody may call it off.
const AT_ONCE: usize = 256;

/// One value to be moved.
#[derive(Clone, Debug)]
struct Move {
    spot: Spot,
    held: Held,
    from: VolumeId,
    to: VolumeId,
}

/// A pass over the volumes that have too much.
#[derive(Debug)]
struct Pass {
    balance: Balance,
    /// Volumes that are still to be looked through, and how far the first one was.
    left: Vec<VolumeId>,
    after: Option<BlobId>,
    moved: u64,
    failed: u64,
}

pub struct Rebalancing {
    master: Arc<Master>,
    pass: Option<Pass>,
    next: Instant,
}

impl Rebalancing {
    /// Nothing is under way.
    pub fn new(master: Arc<Master>) -> Self {
        Self { master, pass: None, next: Instant::now() }
    }

    async fn begin(&mut self) {
        let topology = self.master.cluster.topology();
        if !is_known(&topology) {
            self.next = Instant::now() + REST;
            return;
        }
        let balance = Balance::of(&topology, self.master.config.replication.wanted());
        if balance.is_even() {
            self.end("all volumes are about equally full").await;
            return;
        }
        let left = balance.over.keys().copied().collect();
        self.pass = Some(Pass { balance, left, after: None, moved: 0, failed: 0 });
    }

    async fn end(&mut self, why: &str) {
        tracing::info!(why, "values are moved no more");
        if let Err(error) = self.master.sequencer.propose(Command::SetRebalance(None)).await {
            tracing::debug!(%error, "that no values are to be moved any more is noted later");
        }
    }

    /// Some moves. False when the pass is over.
    async fn some(&mut self, mut pass: Pass) -> bool {
        let Some(from) = pass.left.last().copied() else {
            let Pass { moved, failed, .. } = pass;
            tracing::info!(moved, failed, "a pass of moving values is over");
            self.next = Instant::now() + REST;
            if moved == 0 && failed == 0 {
                self.end("no move makes the volumes more equally full").await;
            }
            return false;
        };
        let (database, topology) = (Arc::clone(&self.master.database), self.master.cluster.topology());
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
        let master = &self.master;
        let each = moves.into_iter().map(|one| async move { u64::from(step(master, one).await) });
        stream::iter(each)
            .buffer_unordered(REPAIRS_AT_ONCE)
            .fold(0, |sum, n| std::future::ready(sum + n))
            .await
    }
}

/// Whether enough is known to say what is to be moved. A leader that has just begun has compared no volume; and one that is silent for a
/// moment will want its share.
fn is_known(topology: &Topology) -> bool {
    topology.seats().all(|(_, seat)| match seat.condition {
        Condition::Up | Condition::Serving => seat.compared,
        Condition::Away => false,
        Condition::Lost | Condition::Leaving { .. } => true,
    })
}

/// Moves from one volume, found among its next blobs; and after which of them to go on, if there are more.
fn choose(
    tree: &sled::Tree,
    from: VolumeId,
    after: Option<BlobId>,
    balance: &mut Balance,
    topology: &Topology,
) -> Result<(Vec<Move>, Option<BlobId>), TableError> {
    let (mut moves, mut finder, mut last) = (Vec::new(), Finder::default(), None);
    let mut seen = 0;
    for item in replica::after(tree, from, after).take(SURVEY_PAGE) {
        let (blob, key) = item?;
        (last, seen) = (Some(blob), seen + 1);
        if balance.is_even() || !balance.over.contains_key(&from) {
            return Ok((moves, None));
        }
        if let Some(spot) = finder.spot(tree, &key, blob)?
            && let Some(mut held) = held(tree, blob, &spot)?
            && {
                held.barred = barred(tree, blob, balance.under.keys().copied())?;
                true
            }
            && let Some(to) = balance.take(from, &held, topology)
        {
            moves.push(Move { spot, held, from, to });
            if moves.len() == AT_ONCE {
                return Ok((moves, last));
            }
        }
    }
    Ok((moves, last.filter(|_| seen == SURVEY_PAGE)))
}

/// One move, unless it is called off. Whether it was made.
async fn step(master: &Master, one: Move) -> bool {
    let Move { spot, held: planned, from, to } = one;
    let tree = master.database.tree();
    if !meta::rebalance(&tree).is_ok_and(|state| state.is_some_and(|state| !state.paused)) {
        return false;
    }
    let Some(_busy) = master.care.take(planned.blob) else { return false };
    // As it was planned, or not at all.
    let same = |now: Option<Held>| {
        now.is_some_and(|now| (now.replicas, now.arriving) == (planned.replicas.clone(), vec![]))
    };
    if !held(&tree, planned.blob, &spot).is_ok_and(same) {
        return false;
    }
    let keep: Vec<_> = planned.replicas.iter().copied().filter(|v| *v != from).chain([to]).collect();
    let moved = async {
        copy(master, &spot, &planned, to, true).await?;
        take_away(master, &spot, &planned, from, &keep).await
    };
    if let Err(error) = moved.await {
        tracing::warn!(key = %spot.key, %error, "a value was not moved");
        master.care.trouble(format!("{}: {error}", spot.key));
        return false;
    }
    true
}

impl Worker for Rebalancing {
    const NAME: &'static str = "rebalance";

    async fn tick(&mut self) -> Progress {
        if !self.master.group.leads() || self.master.group.current().await.is_err() {
            self.pass = None;
            return Progress::Idle;
        }
        let wanted = meta::rebalance(&self.master.database.tree());
        let running = match wanted {
            Ok(state) => state.is_some_and(|state| !state.paused),
            Err(error) => {
                tracing::error!(%error, "whether values are to be moved cannot be read");
                false
            }
        };
        if !running {
            self.pass = None;
            return Progress::Idle;
        }
        if Instant::now() < self.next {
            return Progress::Idle;
        }
        match self.pass.take() {
            None => {
                self.begin().await;
                if self.pass.is_some() { Progress::More } else { Progress::Idle }
            }
            Some(pass) => {
                if self.some(pass).await {
                    Progress::More
                } else {
                    Progress::Idle
                }
            }
        }
    }
}
