//! With servers dead, frozen or coming back: what works goes on, what cannot says so in time, and
//! nothing that was acknowledged is missed.

mod downloads;
mod outages;
mod overwrites;
mod uploads;

use std::time::Duration;

use shared::limits::{CHAIN_STALL_TIMEOUT, COMMIT_TIMEOUT, RECEIPT_TIMEOUT};
use tests::{Cluster, Options};

/// The longest that an upload's answer may take after the last fault, by the limits of the product:
/// the master waits for a chain of three, its last frame pushed and its receipts and commit awaited.
const UPLOAD_ANSWER: Duration = CHAIN_STALL_TIMEOUT
    .saturating_mul(4)
    .saturating_add(RECEIPT_TIMEOUT.saturating_mul(4))
    .saturating_add(COMMIT_TIMEOUT);

/// Three volumes that all hold everything; two are enough for an upload.
async fn three(name: &str) -> Cluster {
    let options = Options { volumes: 3, replicas: 3, min_replicas: 2, ..Options::default() };
    Cluster::start(name, options).await
}
