//! What Barge promises to any HTTP client: kvDB's contract through `curl -L`, conditions, ranges,
//! metadata, listing, the ways to start it, and refused starts.

mod first_start;
mod listing;
mod methods;
mod metrics;
mod names;
mod reading;
mod starting;
mod streaming;
mod writing;

use tests::{Cluster, Options};

/// A small cluster for tests that inject no faults.
async fn cluster() -> Cluster {
    Cluster::start("contract", Options { volumes: 2, ..Options::default() }).await
}
