//! Carries out the reclaim list: tells volumes to delete, notes what they have durably deleted. Woken
//! by every commit and delete, so that space is back at once; what a dead volume holds waits for it, and a slow
//! one keeps nobody else waiting.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use shared::ids::VolumeId;
use shared::limits::RECLAIM_BATCH;
use shared::wire::routes::DELETE;
use shared::wire::volume::{DeleteRequest, DeleteResponse};
use shared::work::{Progress, Worker};

use crate::master::Master;
use crate::plan::reclaim::{Delete, choose};
use crate::state::command::Command;

/// The worker, with the volumes that a call is under way to.
pub struct Reclaim {
    master: Arc<Master>,
    busy: Arc<Mutex<HashSet<VolumeId>>>,
}

impl Reclaim {
    /// Nothing is under way yet.
    pub fn new(master: Arc<Master>) -> Self {
        Self { master, busy: Arc::default() }
    }
}

impl Worker for Reclaim {
    const NAME: &'static str = "reclaim";

    async fn tick(&mut self) -> Progress {
        // What stands on the list is committed, and nothing ever leads back from it: a leader that was deposed does no harm.
        if !self.master.group.leads() {
            return Progress::Idle;
        }
        let mut idle = self.master.cluster.all_alive();
        {
            let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|v| !busy.contains(&v.volume));
        }
        let calls = match choose(&self.master.database.tree(), idle, RECLAIM_BATCH) {
            Ok(calls) => calls,
            Err(error) => {
                tracing::error!(%error, "the reclaim list cannot be read");
                return Progress::Idle;
            }
        };
        for call in calls {
            let (master, busy) = (Arc::clone(&self.master), Arc::clone(&self.busy));
            let volume = call.volume.volume;
            busy.lock().unwrap_or_else(PoisonError::into_inner).insert(volume);
            tokio::spawn(async move {
                let more = delete(&master, call).await;
                busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&volume);
                if more {
                    master.reclaim.notify_one();
                }
            });
        }
        Progress::Idle
    }
}

/// One call. True when it succeeded: by now there may be more for the same volume.
async fn delete(master: &Master, call: Delete) -> bool {
    let Delete { volume, blobs } = call;
    let message = DeleteRequest { cluster: master.cluster.id(), volume: volume.volume, blobs };
    let answer: Result<DeleteResponse, _> = master.peers.call(&volume.address, DELETE, &message).await;
    match answer {
        Ok(deleted) => {
            let count = message.blobs.len();
            tracing::debug!(volume = volume.address, count, bytes = deleted.bytes, "blobs reclaimed");
            master.metrics.reclaimed.inc_by(count as u64);
            let at = master.config.clock.now();
            let reclaimed = Command::Reclaimed { volume: volume.volume, blobs: message.blobs, at };
            master.sequencer.propose(reclaimed).await.is_ok()
        }
        Err(error) => {
            tracing::warn!(volume = volume.address, %error, "volume did not delete; it will be told again");
            false
        }
    }
}
