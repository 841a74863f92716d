//! With servers dead, frozen or coming back: what can work works, what cannot fails in time, and
//! nothing acknowledged is lost.

mod downloads;
mod outages;
mod overwrites;
mod uploads;

use std::time::Duration;

use shared::limits::{CHAIN_STALL_TIMEOUT, COMMIT_TIMEOUT, RECEIPT_TIMEOUT};
use tests::{Cluster, Options};

/// The longest time to an upload's answer after the last fault, by the product's limits: the master waits
/// for a chain of three, the last frame, the receipts and the commit.
const UPLOAD_ANSWER: Duration = CHAIN_STALL_TIMEOUT
    .saturating_mul(4)
    .saturating_add(RECEIPT_TIMEOUT.saturating_mul(4))
    .saturating_add(COMMIT_TIMEOUT);

/// Three volumes that all hold everything; two are enough for an upload.
async fn three(name: &str) -> Cluster {
    let options = Options { volumes: 3, replicas: 3, min_replicas: 2, ..Options::default() };
    Cluster::start(name, options).await
}
