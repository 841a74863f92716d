//! The leader lease: a leader that a majority confirmed recently answers reads alone.
//!
//! A follower votes for nobody within `RAFT_ELECTION_MAX` of its leader's last message. So a leader that reached a
//! majority at some time is the only one until that time plus `RAFT_LEASE`. But a leader may itself vote for another
//! master: each vote request ends its lease before the answer is sent.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use shared::limits::RAFT_LEASE;

/// The lease of this master.
#[derive(Debug, Default)]
pub struct Lease {
    state: Mutex<LeaseState>,
}

#[derive(Debug, Default)]
struct LeaseState {
    /// The number of vote requests this master has received.
    epoch: u64,
    until: Option<Instant>,
}

/// A confirmation in progress.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    epoch: u64,
    since: Instant,
}

impl Lease {
    fn state(&self) -> std::sync::MutexGuard<'_, LeaseState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a confirmation; call it before asking a majority.
    pub fn ask(&self) -> Asking {
        Asking { epoch: self.state().epoch, since: Instant::now() }
    }

    /// Extends the lease after a majority has confirmed, unless a vote was requested meanwhile.
    pub fn confirmed(&self, asking: Asking) {
        let mut state = self.state();
        if state.epoch == asking.epoch {
            state.until = state.until.max(Some(asking.since + RAFT_LEASE));
        }
    }

    /// Ends the lease: call it after a vote was decided and before its answer is sent.
    pub fn end(&self) {
        let mut state = self.state();
        state.epoch += 1;
        state.until = None;
    }

    /// Whether the lease is valid now.
    pub fn holds(&self) -> bool {
        self.state().until.is_some_and(|until| Instant::now() < until)
    }
}

/// Shares one call among concurrent callers (single flight): each gets the result of a call that began
/// after it asked.
#[derive(Debug)]
pub struct SharedCall<T> {
    began: AtomicU64,
    last: tokio::sync::Mutex<(u64, Option<T>)>,
}

impl<T> Default for SharedCall<T> {
    fn default() -> Self {
        Self { began: AtomicU64::new(0), last: tokio::sync::Mutex::new((0, None)) }
    }
}

impl<T: Clone> SharedCall<T> {
    /// Returns the result of `run`, from this caller or a concurrent one.
    pub async fn get<F: Future<Output = T>>(&self, run: impl FnOnce() -> F) -> T {
        let wanted = self.began.load(Ordering::SeqCst) + 1;
        let mut last = self.last.lock().await;
        if let (number, Some(answer)) = &*last
            && *number >= wanted
        {
            return answer.clone();
        }
        let number = self.began.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = run().await;
        *last = (number, Some(answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_vote_ends_it_even_while_it_is_asked_for() {
        let lease = Lease::default();
        assert!(!lease.holds());
        let asking = lease.ask();
        lease.confirmed(asking);
        assert!(lease.holds());
        lease.end();
        assert!(!lease.holds());
        lease.confirmed(asking);
        assert!(!lease.holds(), "what was asked before the vote");
        let old = Asking { since: Instant::now() - RAFT_LEASE, ..lease.ask() };
        lease.confirmed(old);
        assert!(!lease.holds(), "it counts from before the question");
    }

    async fn turns(n: u64) {
        for _ in 0..n {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn answers_are_never_older_than_the_question() {
        let (shared, runs) = (Arc::new(SharedCall::default()), Arc::new(AtomicU64::new(0)));
        let asked = (0..50u64).map(|n| {
            let (shared, runs) = (Arc::clone(&shared), Arc::clone(&runs));
            tokio::spawn(async move {
                turns(n).await;
                let before = runs.load(Ordering::SeqCst);
                let answer = shared
                    .get(|| async {
                        let number = runs.fetch_add(1, Ordering::SeqCst) + 1;
                        turns(10).await;
                        number
                    })
                    .await;
                assert!(answer > before, "{answer} began before the question");
            })
        });
        for asked in asked.collect::<Vec<_>>() {
            asked.await.unwrap();
        }
        assert!(runs.load(Ordering::SeqCst) <= 8, "shared");
    }
}
