//! Waits for volumes to acknowledge a delete. It is safe from a rebuild once the live volumes that hold the blob have
//! recorded it, or, if none of them is up, another volume keeps its tombstone.

use futures_util::{StreamExt, future, stream};
use shared::ids::VolumeId;
use shared::key::Key;
use shared::limits::DELETE_ACK_TIMEOUT;
use shared::tombstone::{KeyHash, Tombstone};
use shared::wire::routes::DELETE;
use shared::wire::volume::{DeleteRequest, DeleteResponse};
use tokio::time::Instant;

use super::Changes;
use crate::cluster::Cluster;
use crate::cluster::VolumeAddress;
use crate::tables::{TableError, Tables, object::Blob, reclaim, tombstone};
use shared::http::client::PeerClient;

/// Other volumes asked concurrently to keep a tombstone, so that one that hangs delays nothing.
const TELL_AT_ONCE: usize = 3;

impl Changes {
    /// Waits until every live volume that has one of `blobs` on its reclaim list has acknowledged the delete, or, if
    /// there is none, another volume keeps the tombstone; at most `DELETE_ACK_TIMEOUT`. Call it after the command
    /// has been applied.
    ///
    /// Only the leader waits here: a follower's proposal returns after the leader has waited.
    pub(super) async fn wait_for_acks(&self, blobs: &[Blob]) {
        if !self.metadata.is_leader() {
            return;
        }
        let deadline = Instant::now() + DELETE_ACK_TIMEOUT;
        for blob in blobs {
            let (heard, silent) = self.wait_for_replicas(blob, deadline).await;
            // One acknowledgement is enough for a rebuild; without one only the masters know of the delete. A volume
            // that is merely slow gets no substitute: under load that would happen for every delete.
            if heard == 0 && (silent || !self.store_tombstone_elsewhere(blob, deadline).await) {
                tracing::warn!(
                    blob = %blob.id, within = ?DELETE_ACK_TIMEOUT,
                    "no volume has acknowledged a delete; a metadata rebuild before one does may restore the value"
                );
            }
        }
    }

    /// Like `wait_for_acks`, for a DELETE that found no value: it may be the retry of one whose answer was lost.
    pub(super) async fn wait_for_acks_of_key(&self, key: &Key) {
        if !self.metadata.is_leader() {
            return;
        }
        let tree = self.metadata.database.tree();
        let tables = Tables::new(&tree);
        let waiting = || -> Result<Option<Blob>, TableError> {
            let Some(id) = tombstone::key_tombstone(&tables, KeyHash::of(key))? else { return Ok(None) };
            let mut replicas = Vec::new();
            for volume in self.volumes.cluster.summaries() {
                if reclaim::contains(&tables, volume.volume, id)? {
                    replicas.push(volume.volume);
                }
            }
            Ok((!replicas.is_empty()).then_some(Blob { id, length: 0, replicas }))
        };
        match waiting() {
            Ok(Some(blob)) => self.wait_for_acks(&[blob]).await,
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the deleted keys cannot be read"),
        }
    }

    /// Waits for the live volumes that hold the blob. Returns how many holders have acknowledged, and whether
    /// one timed out.
    async fn wait_for_replicas(&self, blob: &Blob, deadline: Instant) -> (usize, bool) {
        let (mut heard, mut silent, mut waiters) = (0, false, Vec::new());
        let tree = self.metadata.database.tree();
        for replica in &blob.replicas {
            // Register before reading the list: the entry leaves the list before the acknowledgement is reported.
            let waiter = self.delete_acks.wait_for(*replica, blob.id);
            match reclaim::contains(&tree, *replica, blob.id) {
                Ok(false) => heard += 1,
                Ok(true) if self.volumes.cluster.alive(&[*replica]).is_empty() => {}
                Ok(true) => waiters.push(waiter),
                Err(error) => tracing::error!(%error, "the reclaim list cannot be read"),
            }
        }
        self.wake_reclaim.notify_one();
        for waiter in &mut waiters {
            // The inner result is an error if the volume went down.
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

    /// Stores the tombstone on any other volume, since none that holds the blob has acknowledged. Returns
    /// whether one did.
    async fn store_tombstone_elsewhere(&self, blob: &Blob, deadline: Instant) -> bool {
        if self.delete_acks.is_elsewhere(blob.id) {
            return true;
        }
        let tree = self.metadata.database.tree();
        let telling = async {
            loop {
                let heartbeat = self.volumes.cluster.next_heartbeat();
                let of = |replica: &VolumeId| tombstone::to_send(&tree, *replica, &[blob.id]).ok();
                let tombstones: Vec<_> = blob.replicas.iter().filter_map(of).flatten().take(1).collect();
                if tombstones.is_empty() {
                    // Off the list: a holder has acknowledged meanwhile.
                    return;
                }
                let mut others = self.volumes.cluster.all_alive();
                others.sort_by_key(|v| blob.replicas.contains(&v.volume));
                let told = stream::iter(others).map(|other| {
                    send_tombstones(&self.volumes.cluster, &self.volumes.peers, other, tombstones.clone())
                });
                if told.buffer_unordered(TELL_AT_ONCE).any(future::ready).await {
                    self.delete_acks.put_elsewhere(blob.id);
                    return;
                }
                // A master that has just started may not have received heartbeats yet. Later ones show which volumes
                // are up.
                heartbeat.await;
            }
        };
        tokio::time::timeout_at(deadline, telling).await.is_ok()
    }
}

async fn send_tombstones(
    cluster: &Cluster,
    peers: &PeerClient,
    volume: VolumeAddress,
    tombstones: Vec<Tombstone>,
) -> bool {
    let message = DeleteRequest {
        cluster: cluster.id(),
        volume: volume.volume,
        blobs: Vec::new(),
        tombstones,
        reclaimed_before: None,
    };
    let told: Result<DeleteResponse, _> =
        peers.call_within(&volume.address, DELETE, &message, DELETE_ACK_TIMEOUT).await;
    if let Err(error) = &told {
        tracing::debug!(volume = volume.address, %error, "a volume did not store a tombstone");
    }
    told.is_ok()
}
