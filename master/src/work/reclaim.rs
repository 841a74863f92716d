//! Carries out the reclaim list: tells volumes to delete, notes what they have durably deleted. Woken
//! by every commit and delete, so that space is back at once; what a dead volume holds waits for it.

use std::sync::Arc;

use futures_util::future::join_all;
use shared::limits::RECLAIM_BATCH;
use shared::wire::routes::DELETE;
use shared::wire::volume::{DeleteRequest, DeleteResponse};
use shared::work::{Progress, Worker};

use crate::master::Master;
use crate::plan::reclaim::{Delete, choose};
use crate::state::command::Command;

/// The worker.
pub struct Reclaim(pub Arc<Master>);

impl Worker for Reclaim {
    const NAME: &'static str = "reclaim";

    async fn tick(&mut self) -> Progress {
        let calls = match choose(self.0.database.tree(), self.0.cluster.all_alive(), RECLAIM_BATCH) {
            Ok(calls) => calls,
            Err(error) => {
                tracing::error!(%error, "the reclaim list cannot be read");
                return Progress::Idle;
            }
        };
        let done = join_all(calls.into_iter().map(|call| delete(&self.0, call))).await;
        if done.contains(&true) { Progress::More } else { Progress::Idle }
    }
}

/// One call. True when it succeeded and there is more for the same volume.
async fn delete(master: &Master, call: Delete) -> bool {
    let Delete { volume, blobs, more } = call;
    let message = DeleteRequest { cluster: master.cluster.id(), blobs };
    let answer: Result<DeleteResponse, _> = master.peers.call(&volume.address, DELETE, &message).await;
    match answer {
        Ok(deleted) => {
            let count = message.blobs.len();
            tracing::debug!(volume = volume.address, count, bytes = deleted.bytes, "blobs reclaimed");
            master.metrics.reclaimed.inc_by(count as u64);
            let noted =
                master.sequencer.propose(Command::Reclaimed { volume: volume.volume, blobs: message.blobs });
            noted.await.is_ok() && more
        }
        Err(error) => {
            tracing::warn!(volume = volume.address, %error, "volume did not delete; it will be told again");
            false
        }
    }
}
