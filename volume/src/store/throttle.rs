//! A rate limit for background work that reads or writes a lot: it sleeps so that the average stays below a rate.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::lock;

/// How long unused budget is kept.
const SAVED_UP: Duration = Duration::from_millis(100);
/// Resolution of timers: shorter waits are added up.
const TIMER: Duration = Duration::from_millis(2);

/// A rate in bytes per second, shared by all holders.
#[derive(Debug)]
pub struct Throttle {
    state: Mutex<Budget>,
    /// Wakes those who wait by an old rate.
    changed: Notify,
}

#[derive(Debug)]
struct Budget {
    bytes_per_second: u64,
    /// When the bytes spent so far are paid off.
    free_at: Option<Instant>,
}

impl Throttle {
    /// Limits to that many bytes per second on average; 0 is no limit.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { state: Mutex::new(Budget { bytes_per_second, free_at: None }), changed: Notify::new() }
    }

    /// Changes the rate for all holders.
    pub fn set_rate(&self, bytes_per_second: u64) {
        let mut state = lock(&self.state);
        if state.bytes_per_second != bytes_per_second {
            *state = Budget { bytes_per_second, free_at: None };
            self.changed.notify_waiters();
        }
    }

    /// Waits until more bytes may follow these. Unused budget is kept for a moment only, which compensates for the
    /// time that the work itself takes and for late timers.
    pub async fn spend(&self, bytes: usize) {
        let changed = self.changed.notified();
        let wait = {
            let mut state = lock(&self.state);
            if state.bytes_per_second == 0 {
                return;
            }
            #[expect(clippy::cast_precision_loss, reason = "a duration to the microsecond is enough")]
            let takes = Duration::from_secs_f64(bytes as f64 / state.bytes_per_second as f64);
            let now = Instant::now();
            let saved = now.checked_sub(SAVED_UP).unwrap_or(now);
            let next = state.free_at.map_or(now, |at| at.max(saved)) + takes;
            state.free_at = Some(next);
            next.saturating_duration_since(now)
        };
        if wait > TIMER {
            // A timeout or a new rate: the wait is over either way.
            let _ = tokio::time::timeout(wait, changed).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_rate_is_kept_and_no_rate_costs_nothing() {
        let began = Instant::now();
        let throttle = Throttle::new(100 << 20);
        for _ in 0..80 {
            throttle.spend(1 << 18).await;
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(190), "20 MiB at 100 MiB/s: {took:?}");
        let fast = Throttle::new(u64::MAX);
        let began = Instant::now();
        for _ in 0..1000 {
            fast.spend(1 << 18).await;
        }
        assert!(began.elapsed() < Duration::from_millis(500), "no timer is needed");
    }

    #[tokio::test]
    async fn a_new_rate_counts_at_once_for_who_waits_already() {
        let throttle = Throttle::new(1);
        let mut waits = std::pin::pin!(throttle.spend(1 << 20));
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(waits.as_mut().poll(cx))).await;
        assert!(polled.is_pending(), "12 days");
        throttle.set_rate(1 << 30);
        waits.await;
        let began = Instant::now();
        throttle.spend(1 << 20).await;
        assert!(began.elapsed() < Duration::from_secs(60), "the old rate left no debt");
        throttle.set_rate(0);
        throttle.spend(usize::MAX).await;
    }
}
