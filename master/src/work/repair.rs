//! Pays what is owed: looks through all of it, and has done what the plan says, several blobs at a time. Before each it looks again:
//! a volume may be back, a value deleted, a drain called off.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use shared::ids::BlobId;
use shared::key::Key;
use shared::limits::REPAIRS_AT_ONCE;
use shared::work::{Progress, Worker, blocking};

use super::carry::{CarryError, copy, forgo, take_away};
use super::leave::leave_all;
use crate::master::Master;
use crate::plan::repair::{Verdict, judge};
use crate::plan::survey::{Action, Question, Survey, held, survey};
use crate::state::command::Command;
use crate::tables::TableError;

/// Nothing new of one plan is begun after so long: what is owed most may be something else by then.
const PLAN_TIME: Duration = Duration::from_secs(20);
/// When nothing of what is owed could be paid, it is tried again after so long.
const RETRY: Duration = Duration::from_secs(2);
/// Looking through takes at most this part of the time.
const LOOKING: u32 = 10;

/// The worker.
pub struct Repair {
    master: Arc<Master>,
    leads: bool,
    /// When what is owed of asynchronous uploads was paid last.
    paid: Option<Instant>,
    /// Not before this it is looked again.
    next: Instant,
}

impl Repair {
    /// Looks at once.
    pub fn new(master: Arc<Master>) -> Self {
        Self { master, leads: false, paid: None, next: Instant::now() }
    }

    async fn look(&mut self) -> Result<Survey, TableError> {
        let async_due = self.paid.is_none_or(|paid| paid.elapsed() >= self.master.config.async_every);
        if async_due {
            self.paid = Some(Instant::now());
        }
        let topology = self.master.cluster.topology();
        let question = Question { topology, mode: self.master.config.mode, async_due };
        let (database, busy) = (Arc::clone(&self.master.database), self.master.care.busy());
        let found = blocking(move || survey(&database.tree(), &question, &busy)).await?;
        self.master.care.surveyed(&found);
        Ok(found)
    }

    /// Carries a plan out. How many of its actions were.
    async fn carry_out(&self, actions: Vec<Action>) -> usize {
        let (began, touched) = (Instant::now(), Mutex::new(BTreeSet::new()));
        let (master, noted) = (&self.master, &touched);
        let each = actions.into_iter().take_while(|_| began.elapsed() < PLAN_TIME).map(|action| async move {
            let done = step(master, &action).await;
            if let (true, Some((upload, _))) = (done, action.spot.part) {
                noted.lock().unwrap_or_else(PoisonError::into_inner).insert((upload, action.spot.key));
            }
            done
        });
        let done =
            stream::iter(each).buffer_unordered(REPAIRS_AT_ONCE).filter(|done| std::future::ready(*done));
        let done = done.count().await;
        let touched = touched.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.weigh(touched).await;
        done
    }

    /// Values in parts whose parts are elsewhere now.
    async fn weigh(&self, touched: BTreeSet<(BlobId, Key)>) {
        for (upload, key) in touched {
            if let Err(error) = self.master.sequencer.propose(Command::Weigh { key, upload }).await {
                tracing::debug!(%error, "where all of a value in parts is, is looked at later");
            }
        }
    }
}

/// One action, if it still is what is to be done. Whether something was.
async fn step(master: &Master, action: &Action) -> bool {
    let Action { spot, held: planned, .. } = action;
    let Some(_busy) = master.care.take(planned.blob) else { return false };
    let now = match held(&master.database.tree(), planned.blob, spot) {
        Ok(Some(now)) => now,
        Ok(None) => return false,
        Err(error) => {
            tracing::error!(key = %spot.key, %error, "what is owed of a value cannot be read");
            return false;
        }
    };
    let done = match judge(&spot.key, &now, &master.cluster.topology()) {
        Verdict::Settled | Verdict::Stuck(_) => return false,
        Verdict::Copy { to, .. } => {
            // One that was begun by somebody else stands for a move: its source may be waiting for it.
            let leaving = now.replicas.iter().any(|v| !master.cluster.topology().counts(*v));
            copy(master, spot, &now, to, leaving).await
        }
        Verdict::Drop { from, keep } => take_away(master, spot, &now, from, &keep).await,
        Verdict::Forgo { to } => forgo(master, &now, to).await,
    };
    match done {
        Ok(()) => true,
        Err(error) => {
            say(master, spot, &error);
            false
        }
    }
}

fn say(master: &Master, spot: &crate::tables::unsettled::Spot, error: &CarryError) {
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
            return Progress::Idle;
        }
        self.leads = true;
        if let Err(error) = leave_all(&self.master).await {
            tracing::debug!(%error, "volumes that are to leave do so later");
        }
        if Instant::now() < self.next {
            return Progress::Idle;
        }
        let began = Instant::now();
        let found = match self.look().await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "what is owed cannot be read");
                return Progress::Idle;
            }
        };
        let (looked, due) = (began.elapsed(), found.actions.len());
        let done = self.carry_out(found.actions).await;
        if due > 0 {
            tracing::debug!(due, done, ?looked, "what is owed was looked through");
        }
        let worked = began.elapsed().saturating_sub(looked);
        let rest = (looked * LOOKING).saturating_sub(worked).min(Duration::from_secs(60));
        // What could not be done now will hardly be possible in a moment.
        let rest = if done == 0 && due > 0 { rest.max(RETRY) } else { rest };
        self.next = Instant::now() + rest;
        if done > 0 && rest.is_zero() { Progress::More } else { Progress::Idle }
    }
}
