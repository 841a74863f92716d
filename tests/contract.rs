//! What Barge promises to any HTTP client: kvDB's contract through `curl -L`, conditions, ranges,
//! metadata, listing, the ways to start it, and the starts it refuses.

#[path = "contract/first_start.rs"]
mod first_start;
#[path = "contract/listing.rs"]
mod listing;
#[path = "contract/methods.rs"]
mod methods;
#[path = "contract/names.rs"]
mod names;
#[path = "contract/reading.rs"]
mod reading;
#[path = "contract/starting.rs"]
mod starting;
#[path = "contract/streaming.rs"]
mod streaming;
#[path = "contract/writing.rs"]
mod writing;

use tests::{Cluster, Options};

/// A small cluster for tests that do not hurt it.
async fn cluster() -> Cluster {
    Cluster::start("contract", Options { volumes: 2, ..Options::default() }).await
}
