//! Adds and removes replicas of one blob (re-replication): copy, verify at the destination, update the tables, wait,
//! free. Each step is recorded in the tables before it has an effect that would need cleanup, and can be repeated.
//!
//! The volume does the waiting: a deleted record stays until its last reader has gone. A reader that comes too late
//! is sent back to the master, which names the current volumes.

use std::sync::Arc;
use std::time::Duration;

use shared::http::client::CallError;
use shared::ids::{BlobId, VolumeId};
use shared::limits::{CALL_TIMEOUT, RECEIPT_TIMEOUT};
use shared::ticket::{Receipt, TicketError};
use shared::wire::replicas::{AddReplicaRequest, AddReplicaResponse, LocateRequest, LocateResponse};
use shared::wire::routes::{ADD_REPLICA, LOCATE};

use crate::change::Changes;
use crate::config::Config;
use crate::master::Master;
use crate::metrics::MasterMetrics;
use crate::plan::repair::BlobReplicas;
use crate::repair_tracker::RepairTracker;
use crate::sequencer::ProposeError;
use crate::state::command::{Command, Outcome, RemoveReplica};
use crate::tables::TableError;
use crate::tables::repair_queue::BlobRef;
use crate::volumes::Volumes;

/// Slowest rate of a transfer in bytes per second; a slower one counts as stalled.
const SLOWEST: u64 = 4 << 20;
/// Interval between liveness checks of a volume that is adding a replica.
const STILL_UP: Duration = Duration::from_secs(1);

/// Why a replica was not added or removed.
#[derive(Debug, thiserror::Error)]
pub enum RereplicateError {
    /// The volume's address is not known.
    #[error("volume {0} is not known")]
    Unknown(VolumeId),
    /// The call to the volume failed.
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("volume {0} went down while it added a replica")]
    Silent(VolumeId),
    /// The volume's receipt does not verify.
    #[error("the volume's receipt is not valid: {0}")]
    Receipt(#[from] TicketError),
    /// The receipt is for another volume, blob or length.
    #[error("the volume's receipt is for another replica")]
    OtherReceipt,
    /// The command was not committed.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The tables cannot be read.
    #[error(transparent)]
    Tables(#[from] TableError),
    /// Too few good replicas would remain.
    #[error("only {good} good replicas would remain, and {wanted} are wanted")]
    TooFew { good: usize, wanted: usize },
}

/// Adds and removes replicas.
pub struct Replicator {
    volumes: Arc<Volumes>,
    changes: Arc<Changes>,
    repair: Arc<RepairTracker>,
    metrics: Arc<MasterMetrics>,
    config: Arc<Config>,
}

impl Replicator {
    pub fn new(master: &Master) -> Self {
        Self {
            volumes: Arc::clone(&master.volumes),
            changes: Arc::clone(&master.changes),
            repair: Arc::clone(&master.repair),
            metrics: Arc::clone(&master.metrics),
            config: Arc::clone(&master.config),
        }
    }

    /// Makes a volume add a replica. With `verify`, the volume reads it back from disk, because it
    /// replaces another one.
    ///
    /// # Errors
    /// When the replica was not added, or the outcome is unknown. The tables keep it as a pending replica.
    pub async fn add_replica(
        &self,
        blob_ref: &BlobRef,
        held: &BlobReplicas,
        to: VolumeId,
        verify: bool,
    ) -> Result<(), RereplicateError> {
        let lane = self.repair.destination_slots(to);
        let _room = lane.acquire().await;
        let address = self.volumes.cluster.address_of(to).ok_or(RereplicateError::Unknown(to))?;
        if !held.pending.contains(&to) {
            let blobs = vec![(held.blob, blob_ref.clone())];
            self.changes.propose(Command::AddPendingReplica { volume: to, blobs }).await?;
        }
        let question = AddReplicaRequest {
            cluster: self.volumes.cluster_id(),
            volume: to,
            blob: held.blob,
            bytes_per_second: self.config.repair_rate,
            verify,
        };
        let slowest =
            if self.config.repair_rate == 0 { SLOWEST } else { self.config.repair_rate.min(SLOWEST) };
        let within = RECEIPT_TIMEOUT + CALL_TIMEOUT + Duration::from_secs(held.length / slowest.max(1));
        let call = self.volumes.peers.call_within(&address, ADD_REPLICA, &question, within);
        // A machine without power never answers, so the call also ends when liveness says that the volume is down.
        let answer: AddReplicaResponse = tokio::select! {
            answer = call => answer?,
            () = self.wait_until_down(to) => return Err(RereplicateError::Silent(to)),
        };
        let (now, lifetime) = (self.config.clock.now(), self.config.receipt_lifetime());
        let receipt = Receipt::verify(&answer.receipt, &self.config.secret, now, lifetime)?;
        let meant = (self.volumes.cluster_id(), to, held.blob, held.length);
        if (receipt.cluster, receipt.volume, receipt.blob, receipt.length) != meant {
            return Err(RereplicateError::OtherReceipt);
        }
        if blob_ref.part.is_none() && !self.changes.tell_expiry_to(&blob_ref.key, to).await? {
            return Err(RereplicateError::Silent(to));
        }
        let blobs = vec![(held.blob, held.length, blob_ref.clone())];
        self.changes.propose(Command::ReplicaAdded { volume: to, blobs }).await?;
        self.repair.record_added(held.length, held.replicas.len() < held.wanted);
        self.metrics.replica_added(held.length);
        Ok(())
    }

    /// Returns when a volume is no longer up.
    async fn wait_until_down(&self, volume: VolumeId) {
        while !self.volumes.cluster.alive(&[volume]).is_empty() {
            tokio::time::sleep(STILL_UP).await;
        }
    }

    /// Removes a replica, after enough of the volumes that keep theirs have confirmed that they hold it.
    ///
    /// # Errors
    /// When the replica was not removed, or the outcome is unknown.
    pub async fn remove_replica(
        &self,
        blob_ref: &BlobRef,
        held: &BlobReplicas,
        from: VolumeId,
        keep: &[VolumeId],
    ) -> Result<(), RereplicateError> {
        let mut good = Vec::new();
        for volume in keep {
            if good.len() == held.wanted {
                break;
            }
            match self.has_replica(*volume, held.blob).await {
                Ok(true) => good.push(*volume),
                Ok(false) => tracing::warn!(%volume, blob = %held.blob, "a replica is missing or corrupt"),
                Err(error) => tracing::debug!(%volume, %error, "a volume did not confirm its replica"),
            }
        }
        if good.len() < held.wanted {
            return Err(RereplicateError::TooFew { good: good.len(), wanted: held.wanted });
        }
        let drop = RemoveReplica { volume: from, blob: held.blob, blob_ref: blob_ref.clone(), keep: good };
        match self.changes.propose(Command::RemoveReplica(drop)).await? {
            Outcome::Done => {
                self.repair.record_removed();
                self.metrics.replicas_removed.inc();
                self.changes.wake_reclaim.notify_one();
            }
            outcome => tracing::debug!(?outcome, blob = %held.blob, "the replica was not removed"),
        }
        Ok(())
    }

    /// Whether a volume holds a replica that it does not know to be corrupt.
    async fn has_replica(&self, volume: VolumeId, blob: BlobId) -> Result<bool, RereplicateError> {
        let address = self.volumes.cluster.address_of(volume).ok_or(RereplicateError::Unknown(volume))?;
        let question = LocateRequest { cluster: self.volumes.cluster_id(), volume, blobs: vec![blob] };
        let answer: LocateResponse = self.volumes.peers.call(&address, LOCATE, &question).await?;
        Ok(answer.locations.first().is_some_and(|place| place.is_some_and(|place| !place.bad)))
    }

    /// Cancels a pending replica.
    ///
    /// # Errors
    /// When the command was not committed.
    pub async fn cancel_add_replica(
        &self,
        held: &BlobReplicas,
        to: VolumeId,
    ) -> Result<(), RereplicateError> {
        let blobs = vec![(held.blob, held.length)];
        self.changes.propose(Command::CancelPendingReplica { volume: to, blobs }).await?;
        self.changes.wake_reclaim.notify_one();
        Ok(())
    }
}
