//! When a delete counts: when the volumes that are up have acknowledged it, or, when none of them is, another volume keeps its tombstone.

use std::time::Duration;

use futures_util::{StreamExt, future, stream};
use shared::ids::VolumeId;
use shared::key::Key;
use shared::limits::TOLD_TIMEOUT;
use shared::tombstone::{KeyHash, Tombstone};
use shared::wire::routes::DELETE;
use shared::wire::volume::{DeleteRequest, DeleteResponse};
use tokio::time::Instant;

use crate::cluster::Reachable;
use crate::master::Master;
use crate::tables::{TableError, Tables, object::Blob, reclaim, tombstone};

/// Other volumes that are asked at once to keep a tombstone: one of them that hangs is not waited for.
const TELL_AT_ONCE: usize = 3;
/// Between two looks at which volumes are up.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// Returns when every live volume that has one of `blobs` on its reclaim list has acknowledged it, or, when there is none, another
/// volume has; and at the latest after `TOLD_TIMEOUT`. Call it when the command that put them there has been applied.
///
/// The leader tells the volumes. Another master has waited for the leader, which has waited here.
pub async fn acknowledged(master: &Master, blobs: &[Blob]) {
    if !master.group.leads() {
        return;
    }
    let deadline = Instant::now() + TOLD_TIMEOUT;
    for blob in blobs {
        let (heard, silent) = holders(master, blob, deadline).await;
        // One that knows is enough for a rebuild; without one the delete is known to nobody but the masters. Of one that is
        // only slow others are not told as well: under load that would be so for every delete.
        if heard == 0 && (silent || !tell_others(master, blob, deadline).await) {
            tracing::warn!(
                blob = %blob.id, within = ?TOLD_TIMEOUT,
                "no volume has acknowledged a delete; if the metadata is rebuilt before one does, the value may come back"
            );
        }
    }
}

/// A DELETE that finds nothing may be the second try of one whose answer was lost: it waits like the first.
pub async fn acknowledged_again(master: &Master, key: &Key) {
    if !master.group.leads() {
        return;
    }
    let tree = master.database.tree();
    let tables = Tables::new(&tree);
    let waiting = || -> Result<Option<Blob>, TableError> {
        let Some(id) = tombstone::deleted(&tables, KeyHash::of(key))? else { return Ok(None) };
        let mut replicas = Vec::new();
        for volume in master.cluster.summaries() {
            if reclaim::contains(&tables, volume.volume, id)? {
                replicas.push(volume.volume);
            }
        }
        Ok((!replicas.is_empty()).then_some(Blob { id, length: 0, replicas }))
    };
    match waiting() {
        Ok(Some(blob)) => acknowledged(master, &[blob]).await,
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "the deleted keys cannot be read"),
    }
}

/// Waits for the live ones of the volumes that hold the blob. How many of all that do know, and whether one did not answer.
async fn holders(master: &Master, blob: &Blob, deadline: Instant) -> (usize, bool) {
    let (mut heard, mut silent, mut waiters) = (0, false, Vec::new());
    let tree = master.database.tree();
    for replica in &blob.replicas {
        // First register, then look: whoever is told in between takes the entry off the list before it reports.
        let waiter = master.delete_acks.wait_for(*replica, blob.id);
        match reclaim::contains(&tree, *replica, blob.id) {
            Ok(false) => heard += 1,
            Ok(true) if master.cluster.alive(&[*replica]).is_empty() => {}
            Ok(true) => waiters.push(waiter),
            Err(error) => tracing::error!(%error, "the reclaim list cannot be read"),
        }
    }
    master.reclaim.notify_one();
    for waiter in &mut waiters {
        // An error inside: the volume went down.
        match tokio::time::timeout_at(deadline, &mut waiter.acknowledged).await {
            Ok(acknowledged) => heard += usize::from(acknowledged.is_ok()),
            Err(_) => {
                silent = true;
                tracing::warn!(volume = %waiter.volume, "a volume does not acknowledge a delete");
            }
        }
    }
    (heard, silent)
}

/// None of the volumes that hold the blob says that it knows: any other one keeps the tombstone. Whether one does.
async fn tell_others(master: &Master, blob: &Blob, deadline: Instant) -> bool {
    if master.delete_acks.is_elsewhere(blob.id) {
        return true;
    }
    let tree = master.database.tree();
    let telling = async {
        loop {
            let of = |replica: &VolumeId| tombstone::of(&tree, *replica, &[blob.id]).ok();
            let tombstones: Vec<_> = blob.replicas.iter().filter_map(of).flatten().take(1).collect();
            if tombstones.is_empty() {
                // Off the list: its volume knows by now.
                return;
            }
            let mut others = master.cluster.all_alive();
            others.sort_by_key(|v| blob.replicas.contains(&v.volume));
            let told = stream::iter(others).map(|other| tell(master, other, tombstones.clone()));
            if told.buffer_unordered(TELL_AT_ONCE).any(future::ready).await {
                master.delete_acks.put_elsewhere(blob.id);
                return;
            }
            // A master that has just begun has not heard of its volumes yet.
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout_at(deadline, telling).await.is_ok()
}

async fn tell(master: &Master, volume: Reachable, tombstones: Vec<Tombstone>) -> bool {
    let message = DeleteRequest {
        cluster: master.cluster.id(),
        volume: volume.volume,
        blobs: Vec::new(),
        tombstones,
        settled_before: None,
    };
    let told: Result<DeleteResponse, _> =
        master.peers.call_within(&volume.address, DELETE, &message, TOLD_TIMEOUT).await;
    if let Err(error) = &told {
        tracing::debug!(volume = volume.address, %error, "a volume does not take a tombstone");
    }
    told.is_ok()
}
