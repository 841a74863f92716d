//! Finds and resolves the differences between one volume and the tables (reconciliation, GC of orphans). An orphan is
//! reclaimed only after two passes have seen it, and `apply` has the last word. A missing replica is confirmed with
//! the volume by blob id before it is removed from the tables.

use crate::change::Changes;
use crate::config::Config;
use crate::plan::blob_locator::{BlobLocator, read_replicas};
use std::collections::HashSet;
use std::sync::Arc;

use shared::ids::{BlobId, VolumeId};
use shared::limits::{INVENTORY_PAGE, MISMATCHES_REMEMBERED};
use shared::wire::cluster::{InventoryMismatch, OrphansReport};
use shared::wire::replicas::{LocateRequest, LocateResponse};
use shared::wire::routes::LOCATE;
use shared::wire::volume::InventoryEntry;
use shared::work::blocking;

use super::inventory_diff::{CompareError, Comparison};
use crate::cluster::VolumeAddress;
use crate::master::Master;
use crate::metadata::Metadata;
use crate::metrics::MasterMetrics;
use crate::plan::orphans::{UnreferencedRecords, classify_unreferenced};
use crate::repair_tracker::RepairTracker;
use crate::volumes::Volumes;

use crate::state::command::Command;
use crate::tables::repair_queue::BlobRef;
use crate::tables::{TableError, replica};

/// Mismatches that a report lists; the rest are only counted.
const STRAYS_SHOWN: usize = 100;

/// Orphans seen in the last pass over all volumes, and since.
#[derive(Debug, Default)]
pub struct OrphanSightings {
    before: HashSet<(VolumeId, BlobId)>,
    now: HashSet<(VolumeId, BlobId)>,
}

impl OrphanSightings {
    /// Starts a new pass over all volumes.
    pub fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// Records an orphan. Returns whether the last pass saw it too.
    fn again(&mut self, volume: VolumeId, blob: BlobId) -> bool {
        if self.now.len() < MISMATCHES_REMEMBERED {
            self.now.insert((volume, blob));
        }
        self.before.contains(&(volume, blob))
    }
}

/// Compares volumes with the tables, and resolves the differences.
pub struct Reconciler {
    metadata: Metadata,
    volumes: Arc<Volumes>,
    changes: Arc<Changes>,
    repair: Arc<RepairTracker>,
    metrics: Arc<MasterMetrics>,
    config: Arc<Config>,
}

impl Reconciler {
    pub fn new(master: &Master) -> Self {
        Self {
            metadata: master.metadata.clone(),
            volumes: Arc::clone(&master.volumes),
            changes: Arc::clone(&master.changes),
            repair: Arc::clone(&master.repair),
            metrics: Arc::clone(&master.metrics),
            config: Arc::clone(&master.config),
        }
    }

    /// Compares one volume with the tables, and resolves the differences if `seen` is given; without it,
    /// it only reports.
    ///
    /// # Errors
    /// When the comparison cannot be completed.
    pub async fn reconcile_volume(
        &self,
        volume: &VolumeAddress,
        mut seen: Option<&mut OrphanSightings>,
        report: &mut OrphansReport,
    ) -> Result<(), CompareError> {
        let blobs = self.volumes.cluster.blobs_of(volume.volume);
        let mut comparison = Comparison::new(&self.metadata.database, &self.volumes, volume.clone());
        let ranges = comparison.differing(blobs).await;
        for range in ranges.iter().flatten() {
            let mut after = None;
            loop {
                let (difference, next) = comparison.list(*range, after).await?;
                let unreferenced = self.classify(volume.volume, difference.extra).await?;
                let missing = self.missing(volume, &difference.missing).await?;
                count(report, volume.volume, &unreferenced, &missing);
                if let Some(seen) = seen.as_deref_mut() {
                    self.resolve(volume, seen, unreferenced, missing).await;
                }
                after = next;
                if next.is_none() {
                    break;
                }
            }
        }
        report.exchanged_bytes += comparison.exchanged_bytes;
        self.metrics.reconciliation_bytes.inc_by(comparison.exchanged_bytes);
        ranges.map(|_| ())
    }

    async fn classify(
        &self,
        volume: VolumeId,
        extra: Vec<InventoryEntry>,
    ) -> Result<UnreferencedRecords, TableError> {
        let (grace, now) = (self.config.orphan_grace, self.config.clock.now());
        let (database, topology) = (Arc::clone(&self.metadata.database), self.volumes.cluster.topology());
        blocking(move || classify_unreferenced(&database.tree(), volume, &topology, &extra, (grace, now)))
            .await
    }

    /// Returns those of `blobs` that objects place on the volume, that the volume says it does not have, and that
    /// another readable volume is listed for. Without such a volume the replica stays listed: it may be the last
    /// chance to get the value back.
    async fn missing(
        &self,
        volume: &VolumeAddress,
        blobs: &[BlobId],
    ) -> Result<Vec<(BlobId, BlobRef)>, CompareError> {
        let mut missing = Vec::new();
        for page in blobs.chunks(INVENTORY_PAGE) {
            let volume_id = volume.volume;
            let question =
                LocateRequest { cluster: self.volumes.cluster_id(), volume: volume_id, blobs: page.to_vec() };
            let answer: LocateResponse = self.volumes.peers.call(&volume.address, LOCATE, &question).await?;
            let absent = page.iter().zip(&answer.locations).filter(|(_, place)| place.is_none());
            let absent: Vec<_> = absent.map(|(blob, _)| *blob).collect();
            let database = Arc::clone(&self.metadata.database);
            let topology = self.volumes.cluster.topology();
            let named = blocking(move || {
                let (tree, mut finder, mut named) = (database.tree(), BlobLocator::default(), Vec::new());
                for blob in absent {
                    let other = |v: &VolumeId| *v != volume_id && topology.is_readable(*v);
                    if let Some(key) = replica::read(&tree, volume_id, blob)?
                        && let Some(blob_ref) = finder.locate(&tree, &key, blob)?
                        && read_replicas(&tree, blob, &blob_ref)?
                            .is_some_and(|held| held.replicas.iter().any(other))
                    {
                        named.push((blob, blob_ref));
                    }
                }
                Ok::<_, TableError>(named)
            });
            missing.extend(named.await?);
        }
        Ok(missing)
    }

    async fn resolve(
        &self,
        volume: &VolumeAddress,
        seen: &mut OrphanSightings,
        unreferenced: UnreferencedRecords,
        missing: Vec<(BlobId, BlobRef)>,
    ) {
        let (id, address) = (volume.volume, &volume.address);
        let twice =
            unreferenced.orphans.iter().filter(|e| seen.again(id, e.blob)).map(|e| (e.blob, e.length));
        let orphans: Vec<_> = twice.collect();
        let mut commands = Vec::new();
        if !orphans.is_empty() {
            tracing::info!(volume = address, count = orphans.len(), "orphans are reclaimed");
            self.metrics.orphans.inc_by(orphans.len() as u64);
            commands.push(Command::ReclaimOrphans { volume: id, blobs: orphans });
        }
        if !unreferenced.needed.is_empty() {
            let count = unreferenced.needed.len();
            tracing::info!(
                volume = address,
                count,
                "found replicas of under-replicated values; they are verified and added"
            );
            commands.push(Command::AddPendingReplica { volume: id, blobs: unreferenced.needed });
        }
        if !missing.is_empty() {
            tracing::warn!(
                volume = address,
                count = missing.len(),
                "replicas are missing on a volume; they are re-created"
            );
            self.metrics.replicas_lost.inc_by(missing.len() as u64);
            commands.push(Command::ReplicaLost { volume: id, blobs: missing });
        }
        for command in commands {
            if let Err(error) = self.changes.propose(command).await {
                tracing::debug!(%error, "differences are resolved later");
            }
        }
        self.changes.wake_reclaim.notify_one();
        self.repair.wake_repair.notify_one();
    }
}

fn count(
    report: &mut OrphansReport,
    volume: VolumeId,
    unreferenced: &UnreferencedRecords,
    missing: &[(BlobId, BlobRef)],
) {
    let all = unreferenced.orphans.iter().chain(&unreferenced.young);
    report.orphans += all.clone().count() as u64;
    report.orphan_bytes += all.clone().map(|e| e.length).sum::<u64>();
    report.young += unreferenced.young.len() as u64;
    report.missing += missing.len() as u64;
    let present = |e: &InventoryEntry| InventoryMismatch {
        volume,
        blob: e.blob,
        length: Some(e.length),
        age_ms: Some(e.age_ms),
    };
    let absent =
        |(blob, _): &(BlobId, BlobRef)| InventoryMismatch { volume, blob: *blob, length: None, age_ms: None };
    let left = STRAYS_SHOWN.saturating_sub(report.shown.len());
    report.shown.extend(all.map(present).chain(missing.iter().map(absent)).take(left));
}
