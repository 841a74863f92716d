//! Who frees old bytes: the reclaim list says what nothing refers to; this says which volume is to
//! delete which blobs next.
//!
//! Verify before destroy: a blob gets onto the list only by `state::apply`, when nothing refers to it,
//! and no path from the list back to an object exists. So a delete may be sent any number of times.

use shared::ids::BlobId;

use crate::cluster::Reachable;
use crate::tables::{TableError, reclaim};

/// One call to one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// Whom to call.
    pub volume: Reachable,
    /// What it is to delete.
    pub blobs: Vec<BlobId>,
}

/// The next call to each live volume that has something on the list.
///
/// # Errors
/// When the tables cannot be read.
pub fn choose(tree: &sled::Tree, alive: Vec<Reachable>, batch: usize) -> Result<Vec<Delete>, TableError> {
    let mut calls = Vec::new();
    for volume in alive {
        let blobs = match reclaim::page(tree, volume.volume, batch) {
            // One bad record does not keep the other volumes from being served.
            Err(error @ TableError::Damaged { .. }) => {
                tracing::error!(volume = volume.address, %error, "the reclaim list of a volume cannot be read");
                continue;
            }
            page => page?,
        };
        if !blobs.is_empty() {
            calls.push(Delete { volume, blobs });
        }
    }
    Ok(calls)
}
