//! A pace for background work that reads or writes a lot: it sleeps so that the average stays below a rate.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;

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

    /// Waits until these bytes may be followed by more. What was not used while nobody asked is not saved up.
    pub async fn spend(&self, bytes: usize) {
        if self.bytes_per_second == 0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a duration to the microsecond is enough")]
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let wait = {
            let now = Instant::now();
            let mut free_at = lock(&self.free_at);
            let next = free_at.map_or(now, |at| at.max(now)) + takes;
            *free_at = Some(next);
            next - now
        };
        tokio::time::sleep(wait).await;
    }
}
