//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// Interval between two probes.
const POLL: Duration = Duration::from_millis(20);

/// Probes until `probe` returns a value, for at most `within`.
///
/// # Panics
/// If it does not in time; the message names `what`.
pub async fn eventually<T>(within: Duration, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(started.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits for `time`: for faults at a moment that nothing announces.
pub async fn moment(time: Duration) {
    tokio::time::sleep(time).await;
}
