//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// Between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Looks until `probe` finds something, at most for `within`.
///
/// # Panics
/// When it does not, with `what` was waited for.
pub async fn eventually<T>(within: Duration, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(started.elapsed() < within, "waited {within:?} in vain: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Lets `time` pass: for faults that have to happen at a moment that nothing announces.
pub async fn moment(time: Duration) {
    tokio::time::sleep(time).await;
}
