//! A pace for background work that reads or writes a lot: it sleeps so that the average stays below a rate.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;

/// Time of which the bytes are saved up.
const SAVED_UP: Duration = Duration::from_millis(100);
/// Timers are not finer than this: shorter waits are added up.
const TIMER: Duration = Duration::from_millis(2);

/// Bytes a second, shared by all who hold it.
#[derive(Debug)]
pub struct Throttle {
    bytes_per_second: u64,
    free_at: Mutex<Option<Instant>>,
}

impl Throttle {
    /// At most so many bytes a second on average; 0 is no limit.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, free_at: Mutex::new(None) }
    }

    /// Waits until these bytes may be followed by more. What was not used is saved up for a moment only, which makes up for
    /// the time that the work itself takes and for timers that are late.
    pub async fn spend(&self, bytes: usize) {
        if self.bytes_per_second == 0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a duration to the microsecond is enough")]
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let wait = {
            let now = Instant::now();
            let mut free_at = lock(&self.free_at);
            let saved = now.checked_sub(SAVED_UP).unwrap_or(now);
            let next = free_at.map_or(now, |at| at.max(saved)) + takes;
            *free_at = Some(next);
            next.saturating_duration_since(now)
        };
        if wait > TIMER {
            tokio::time::sleep(wait).await;
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
}
