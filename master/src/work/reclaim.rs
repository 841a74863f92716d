//! Carries out the reclaim list: tells volumes to delete, notes what they have durably deleted. Woken
//! by every commit and delete, so that space is back at once; what a dead volume holds waits for it, and a slow
//! one keeps nobody else waiting.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use shared::clock::{Timestamp, millis};
use shared::http::client::CallError;
use shared::ids::{BlobId, VolumeId};
use shared::limits::{RECLAIM_BATCH, UPLOAD_TIME_MAX};
use shared::wire::routes::DELETE;
use shared::wire::volume::{DeleteRequest, DeleteResponse};
use shared::work::{Progress, Worker};

use crate::master::Master;
use crate::plan::reclaim::{Delete, choose, horizon};
use crate::state::command::Command;
use crate::tables::meta::{self, Gap};

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

    /// What is older than this has been collected wherever it was left over, if all volumes are there to be asked.
    fn horizon(&self, gap: Option<Gap>) -> Option<BlobId> {
        let config = &self.master.config;
        let past = millis(UPLOAD_TIME_MAX + config.orphan_grace * 4);
        let before = config.clock.now().unix_ms().saturating_sub(past);
        let collected = BlobId::next(None, Timestamp::from_unix_ms(before), [0; 10]);
        horizon(collected, gap).filter(|_| self.master.cluster.is_complete())
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
        let (tree, told) = (self.master.database.tree(), &self.master.told);
        let awaited = |volume| told.awaited(volume, RECLAIM_BATCH);
        let chosen =
            meta::gap(&tree).and_then(|gap| choose(&tree, idle, RECLAIM_BATCH, self.horizon(gap), awaited));
        let calls = match chosen {
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
    let Delete { volume, blobs, tombstones, settled_before } = call;
    let cluster = master.cluster.id();
    let message = DeleteRequest { cluster, volume: volume.volume, blobs, tombstones, settled_before };
    let answer: Result<DeleteResponse, _> = master.peers.call(&volume.address, DELETE, &message).await;
    match answer {
        Ok(deleted) => {
            let count = message.blobs.len();
            tracing::debug!(volume = volume.address, count, bytes = deleted.bytes, "blobs reclaimed");
            master.metrics.reclaimed.inc_by(count as u64);
            master.told.report(volume.volume, &message.blobs);
            let at = master.config.clock.now();
            let blobs = message.blobs.clone();
            let reclaimed = Command::Reclaimed { volume: volume.volume, blobs, at };
            let noted = master.sequencer.propose(reclaimed).await.is_ok();
            // Again: somebody may have begun to wait when the list still had them.
            master.told.report(volume.volume, &message.blobs);
            noted
        }
        Err(error) => {
            if let CallError::Unreachable { .. } = &error {
                master.told.give_up(volume.volume);
            }
            tracing::warn!(volume = volume.address, %error, "volume did not delete; it will be told again");
            false
        }
    }
}
