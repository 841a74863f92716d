//! Pays what is owed: looks through all of it, and has done what the plan says, several blobs at a time. Before each it looks again:
//! a volume may be back, a value deleted, a drain called off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use shared::limits::REPAIRS_AT_ONCE;
use shared::work::{Progress, Worker, blocking};

use super::carry::{CarryError, copy, forgo, take_away};
use super::leave::leave_all;
use super::listing::list_all;
use crate::master::Master;
use crate::plan::repair::Verdict;
use crate::plan::survey::{Action, Question, Survey, held, judge_now, survey};
use crate::state::command::Command;
use crate::tables::TableError;
use crate::tables::unsettled::{self, Spot};

/// Nothing new of one plan is begun after so long: what is owed most may be something else by then.
const PLAN_TIME: Duration = Duration::from_secs(20);
/// When nothing of what is owed could be paid, it is tried again after so long.
const RETRY: Duration = Duration::from_secs(2);
/// Where all of the values in parts is that were moved is looked at so often, for so many at once: each reads all of its parts.
const WEIGH: Duration = Duration::from_secs(5);
const WEIGHED_AT_ONCE: usize = 16;
/// Looking through takes at most this part of the time.
const LOOKING: u32 = 10;

pub struct Repair {
    master: Arc<Master>,
    leads: bool,
    /// When what is owed of asynchronous uploads was paid last.
    paid: Option<Instant>,
    /// Not before this it is looked again.
    next: Instant,
    /// When values in parts were weighed last.
    weighed: Option<Instant>,
    /// All that is owed is listed.
    listed: bool,
}

impl Repair {
    /// Looks at once.
    pub fn new(master: Arc<Master>) -> Self {
        Self { master, leads: false, paid: None, next: Instant::now(), weighed: None, listed: false }
    }

    async fn look(&mut self) -> Result<Survey, TableError> {
        let async_due = self.paid.is_none_or(|paid| paid.elapsed() >= self.master.config.async_every);
        if async_due {
            self.paid = Some(Instant::now());
        }
        let topology = self.master.cluster.topology();
        let question = Question { topology, mode: self.master.config.mode, async_due };
        let (busy, resting) = (self.master.care.busy(), self.master.care.resting());
        let database = Arc::clone(&self.master.database);
        let found = blocking(move || survey(&database.tree(), &question, &busy, &resting)).await?;
        self.master.care.surveyed(&found);
        Ok(found)
    }

    /// Carries a plan out. How many of its actions were.
    async fn carry_out(&self, actions: Vec<Action>) -> usize {
        let (began, master) = (Instant::now(), &self.master);
        let each = actions
            .into_iter()
            .take_while(|_| began.elapsed() < PLAN_TIME)
            .map(|action| async move { step(master, &action).await });
        let done =
            stream::iter(each).buffer_unordered(REPAIRS_AT_ONCE).filter(|done| std::future::ready(*done));
        done.count().await
    }

    /// Values in parts whose parts are elsewhere now: where all of them are is looked at again.
    async fn weigh(&mut self) {
        if self.weighed.is_some_and(|last| last.elapsed() < WEIGH) {
            return;
        }
        self.weighed = Some(Instant::now());
        match unsettled::unweighed(&self.master.database.tree(), WEIGHED_AT_ONCE) {
            Ok(values) => {
                for (upload, key) in values {
                    if let Err(error) = self.master.sequencer.propose(Command::Weigh { key, upload }).await {
                        tracing::debug!(%error, "where all of a value in parts is, is looked at later");
                    }
                }
            }
            Err(error) => tracing::error!(%error, "which values in parts were moved cannot be read"),
        }
    }

    /// Lists what tables of an older version, and rebuilt ones, do not list: once.
    async fn list(&mut self) {
        if self.listed {
            return;
        }
        match list_all(&self.master).await {
            Ok(()) => self.listed = true,
            Err(error) => tracing::debug!(%error, "what is owed is listed later"),
        }
    }
}

/// One action, if it still is what is to be done. Whether something was.
async fn step(master: &Master, action: &Action) -> bool {
    let Action { spot, held: planned, .. } = action;
    let Some(_busy) = master.care.take(planned.blob) else { return false };
    let (tree, topology) = (master.database.tree(), master.cluster.topology());
    let now = held(&tree, planned.blob, spot).and_then(|now| match now {
        Some(mut now) => judge_now(&tree, &spot.key, &mut now, &topology).map(|verdict| Some((now, verdict))),
        None => Ok(None),
    });
    let done = match now {
        Ok(None | Some((_, Verdict::Settled | Verdict::Stuck(_)))) => return false,
        Ok(Some((now, Verdict::Copy { to, .. }))) => {
            // Another one is to go for it: then it is read back from its disk.
            let leaving = now.replicas.iter().any(|v| !topology.counts_for(*v, now.blob));
            copy(master, spot, &now, to, leaving).await
        }
        Ok(Some((now, Verdict::Drop { from, keep }))) => take_away(master, spot, &now, from, &keep).await,
        Ok(Some((now, Verdict::Forgo { to }))) => forgo(master, &now, to).await,
        Err(error) => {
            tracing::error!(key = %spot.key, %error, "what is owed of a value cannot be read");
            return false;
        }
    };
    match done {
        Ok(()) => {
            master.care.succeeded(planned.blob);
            true
        }
        Err(error) => {
            master.care.failed(planned.blob);
            say(master, spot, &error);
            false
        }
    }
}

fn say(master: &Master, spot: &Spot, error: &CarryError) {
    tracing::warn!(key = %spot.key, %error, "a copy was not put in order; it is tried again");
    master.care.trouble(format!("{}: {error}", spot.key));
}

impl Worker for Repair {
    const NAME: &'static str = "repair";

    async fn tick(&mut self) -> Progress {
        if !self.master.group.leads() || self.master.group.current().await.is_err() {
            if std::mem::take(&mut self.leads) {
                self.master.care.forget();
            }
            self.listed = false;
            return Progress::Idle;
        }
        self.leads = true;
        if let Err(error) = leave_all(&self.master).await {
            tracing::debug!(%error, "volumes that are to leave do so later");
        }
        self.list().await;
        self.weigh().await;
        if Instant::now() < self.next {
            return Progress::Idle;
        }
        let began = Instant::now();
        let found = match self.look().await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "what is owed cannot be read");
                self.next = Instant::now() + RETRY;
                return Progress::Idle;
            }
        };
        let (looked, due, more) = (began.elapsed(), found.actions.len(), found.more);
        let done = self.carry_out(found.actions).await;
        if due > 0 {
            tracing::debug!(due, done, ?looked, "what is owed was looked through");
        }
        let worked = began.elapsed().saturating_sub(looked);
        let rest = (looked * LOOKING).saturating_sub(worked).min(Duration::from_secs(60));
        // What could not be done now will hardly be possible in a moment; where more is to be done than was planned, nobody rests.
        let rest = match (done, due) {
            (0, 1..) => rest.max(RETRY),
            (1.., _) if more => Duration::ZERO,
            _ => rest,
        };
        self.next = Instant::now() + rest;
        if done > 0 && rest.is_zero() { Progress::More } else { Progress::Idle }
    }
}
