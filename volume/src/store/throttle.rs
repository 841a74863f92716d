//! A pace for background work that reads or writes a lot: it sleeps so that the average stays below a rate.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::lock;

/// Time of which the bytes are saved up.
const SAVED_UP: Duration = Duration::from_millis(100);
/// Timers are not finer than this: shorter waits are added up.
const TIMER: Duration = Duration::from_millis(2);

/// Bytes a second, shared by all who hold it.
#[derive(Debug)]
pub struct Throttle {
    state: Mutex<State>,
    /// The rate has changed: nobody waits any longer for what the old one took.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    bytes_per_second: u64,
    /// When what was spent so far is made up for.
    free_at: Option<Instant>,
}

impl Throttle {
    /// At most so many bytes a second on average; 0 is no limit.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { state: Mutex::new(State { bytes_per_second, free_at: None }), changed: Notify::new() }
    }

    /// Another rate, for all who hold it, from now on.
    pub fn set_rate(&self, bytes_per_second: u64) {
        let mut state = lock(&self.state);
        if state.bytes_per_second != bytes_per_second {
            *state = State { bytes_per_second, free_at: None };
            self.changed.notify_waiters();
        }
    }

    /// Waits until these bytes may be followed by more. What was not used is saved up for a moment only, which makes up for
    /// the time that the work itself takes and for timers that are late.
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
            // Either way the wait is over.
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
        assert!(began.elapsed() < Duration::from_millis(500), "no timer for nothing");
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
        assert!(began.elapsed() < Duration::from_secs(60), "the old rate left nothing to wait for");
        throttle.set_rate(0);
        throttle.spend(usize::MAX).await;
    }
}
