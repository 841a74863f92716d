//! The clocks of the masters, so that no single one decides when a value expires. The group's time is the latest one
//! that a majority of them has reached: with three masters the middle one. The leader writes it into the tables when
//! it is needed, and there it never runs back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use shared::clock::{Clock, Timestamp};
use shared::http::client::PeerClient;
use shared::limits::{CLOCK_ASK_TIMEOUT, CLOCK_KNOWN_FOR, CLOCK_REFRESH};
use shared::wire::routes::CLOCK;
use tokio::time::Instant;

use crate::raft::MasterId;
use crate::raft::error::NoLeader;
use crate::raft::group::Group;

/// What the masters' clocks show, as far as this master knows.
#[derive(Debug)]
pub struct GroupClock {
    clock: Clock,
    group: Arc<Group>,
    peers: PeerClient,
    others: Mutex<BTreeMap<MasterId, Reading>>,
    asking: tokio::sync::Mutex<()>,
}

/// What another master's clock showed. The measure of time since then is never set, as clocks are.
#[derive(Clone, Copy, Debug)]
struct Reading {
    shown: Timestamp,
    /// When the answer was here: a slow one makes that clock late, never early.
    at: Instant,
}

impl Reading {
    fn now(self) -> Timestamp {
        self.shown.after(self.at.elapsed())
    }
}

impl GroupClock {
    pub fn new(clock: Clock, group: Arc<Group>, peers: PeerClient) -> Self {
        Self { clock, group, peers, others: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// This master's own clock.
    pub fn own(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the latest time that a majority of the masters' clocks has reached.
    ///
    /// # Errors
    /// When no majority answers.
    pub async fn now(self: &Arc<Self>) -> Result<Timestamp, NoLeader> {
        if let Some(now) = self.agreed(CLOCK_REFRESH) {
            return Ok(now);
        }
        if let Some(now) = self.agreed(CLOCK_KNOWN_FOR) {
            if self.asking.try_lock().is_ok() {
                let clock = Arc::clone(self);
                tokio::spawn(async move { clock.refresh().await });
            }
            return Ok(now);
        }
        self.refresh().await;
        self.agreed(CLOCK_KNOWN_FOR).ok_or(NoLeader)
    }

    fn others(&self) -> MutexGuard<'_, BTreeMap<MasterId, Reading>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the group's time, if a majority was asked within `age`. While the voters change, two majorities count.
    fn agreed(&self, age: Duration) -> Option<Timestamp> {
        let members = self.group.metrics().membership_config;
        let (own, others) = (self.clock.now(), self.others());
        let shown = |id: &MasterId| match others.get(id) {
            _ if *id == self.group.id() => Some(own),
            Some(reading) if reading.at.elapsed() <= age => Some(reading.now()),
            _ => None,
        };
        let of = |voters: &BTreeSet<MasterId>| {
            reached_by_majority(voters.iter().filter_map(shown).collect(), voters.len())
        };
        let reached: Option<Vec<_>> = members.membership().get_joint_config().iter().map(of).collect();
        reached?.into_iter().min()
    }

    /// Asks the other masters.
    async fn refresh(&self) {
        let Ok(_alone) = self.asking.try_lock() else {
            // The answers to another caller are as good.
            drop(self.asking.lock().await);
            return;
        };
        let members = self.group.metrics().membership_config;
        let nodes = members.nodes().filter(|(id, _)| **id != self.group.id());
        join_all(nodes.map(|(id, peer)| async move {
            match self.peers.call_within(&peer.address, CLOCK, &(), CLOCK_ASK_TIMEOUT).await {
                Ok(ms) => {
                    let shown = Timestamp::from_unix_ms(ms);
                    self.others().insert(*id, Reading { shown, at: Instant::now() });
                }
                Err(error) => tracing::debug!(master = %id, %error, "a master did not tell its clock"),
            }
        }))
        .await;
    }
}

/// Returns the latest of the times that a majority of `members` has reached; `None` if too few are known.
fn reached_by_majority(mut shown: Vec<Timestamp>, members: usize) -> Option<Timestamp> {
    shown.sort_unstable_by(|a, b| b.cmp(a));
    shown.get(members / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_clock_of_three_decides_nothing() {
        let of = |shown: &[u64], members| {
            let shown = shown.iter().map(|ms| Timestamp::from_unix_ms(*ms)).collect();
            reached_by_majority(shown, members).map(Timestamp::unix_ms)
        };
        assert_eq!(of(&[100], 1), Some(100));
        assert_eq!(of(&[100, 900, 105], 3), Some(105));
        assert_eq!(of(&[100, 1, 105], 3), Some(100));
        assert_eq!(of(&[100, 900], 3), Some(100), "the third one is silent");
        assert_eq!(of(&[100], 3), None);
        assert_eq!(of(&[1, 2, 3, 4, 5], 5), Some(3));
        assert_eq!(of(&[1, 2, 3, 4], 4), Some(2), "three have reached it");
    }
}
