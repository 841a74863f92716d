//! Schedules reconciliation (anti-entropy): compares each volume's inventory with the tables, at once when the volume
//! is new or back, otherwise at intervals. It also purges tombstones that no late commit can need any longer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::clock::{Timestamp, millis};
use shared::ids::VolumeId;
use shared::limits::{
    CALL_LIFETIME, CLOCK_SKEW_MAX, INVENTORY_PAGE, TOMBSTONE_EXPIRY_INTERVAL, UPLOAD_TIME_MAX,
};
use shared::wire::cluster::OrphansReport;
use shared::work::{TickResult, Worker, blocking};

use super::orphans::{OrphanSightings, Reconciler};
use crate::change::Changes;
use crate::cluster::VolumeAddress;
use crate::config::Config;
use crate::master::Master;
use crate::metadata::Metadata;
use crate::repair_tracker::RepairTracker;
use crate::state::command::Command;
use crate::tables::reclaim::{self, expired_replica_tombstones};
use crate::tables::tombstone::expired_key_tombstones;
use crate::volumes::Volumes;

/// Limits of the interval between comparisons of all inventories, which is a quarter of the orphan grace.
const RECONCILE_INTERVAL_MIN: Duration = Duration::from_millis(250);
const RECONCILE_INTERVAL_MAX: Duration = Duration::from_secs(300);

/// How long a returning volume may take for its outstanding deletes before it is compared. Undeleted blobs would make
/// every range differ.
const DELETING_MAX: Duration = Duration::from_secs(30);
/// Delay before a volume that could not be compared is asked again.
const RETRY: Duration = Duration::from_secs(5);

pub struct ReconcileWorker {
    metadata: Metadata,
    volumes: Arc<Volumes>,
    changes: Arc<Changes>,
    repair: Arc<RepairTracker>,
    config: Arc<Config>,
    reconciler: Reconciler,
    seen: OrphanSightings,
    /// When all volumes were last compared.
    looked: Option<Instant>,
    /// Volumes that could not be compared, and when that was.
    failed: HashMap<VolumeId, Instant>,
    /// New or returning volumes that still have deletes outstanding, and since when.
    deleting: HashMap<VolumeId, Instant>,
    /// When key tombstones were last purged to the end.
    last_purge: Option<Timestamp>,
}

impl ReconcileWorker {
    pub fn new(master: &Master) -> Self {
        Self {
            metadata: master.metadata.clone(),
            volumes: Arc::clone(&master.volumes),
            changes: Arc::clone(&master.changes),
            repair: Arc::clone(&master.repair),
            config: Arc::clone(&master.config),
            reconciler: Reconciler::new(master),
            seen: OrphanSightings::default(),
            looked: None,
            failed: HashMap::new(),
            deleting: HashMap::new(),
            last_purge: None,
        }
    }

    /// Purges tombstones of replicas reclaimed so long ago that no commit can name them. True when there may be more.
    async fn purge_replica_tombstones(&self) -> bool {
        let config = &self.config;
        let memory = config.receipt_lifetime() + CALL_LIFETIME + CLOCK_SKEW_MAX;
        let before = Timestamp::from_unix_ms(config.clock.now().unix_ms().saturating_sub(millis(memory)));
        let database = Arc::clone(&self.metadata.database);
        match blocking(move || expired_replica_tombstones(&database.tree(), before, INVENTORY_PAGE)).await {
            Ok(tombstones) if tombstones.is_empty() => false,
            Ok(tombstones) => {
                let full = tombstones.len() == INVENTORY_PAGE;
                self.changes.propose(Command::PurgeReplicaTombstones { tombstones }).await.is_ok() && full
            }
            Err(error) => {
                tracing::error!(%error, "the replica tombstones cannot be read");
                false
            }
        }
    }

    /// Purges tombstones of keys for which no earlier upload can still commit (after what Cassandra calls
    /// gc_grace). True when there may be more.
    async fn purge_key_tombstones(&mut self) -> bool {
        let now = self.config.clock.now();
        if self.last_purge.is_some_and(|last| now.since(last) < TOMBSTONE_EXPIRY_INTERVAL) {
            return false;
        }
        let before = now.unix_ms().saturating_sub(millis(UPLOAD_TIME_MAX + CLOCK_SKEW_MAX));
        let database = Arc::clone(&self.metadata.database);
        let before = Timestamp::from_unix_ms(before);
        match blocking(move || expired_key_tombstones(&database.tree(), before, INVENTORY_PAGE)).await {
            Ok(keys) => {
                let full = keys.len() == INVENTORY_PAGE;
                if !full {
                    self.last_purge = Some(now);
                }
                !keys.is_empty()
                    && self.changes.propose(Command::PurgeKeyTombstones { keys }).await.is_ok()
                    && full
            }
            Err(error) => {
                self.last_purge = Some(now);
                tracing::error!(%error, "the key tombstones cannot be read");
                false
            }
        }
    }

    /// Whether a volume still has deletes outstanding, and has had them for less than `DELETING_MAX`.
    fn is_deleting(&mut self, volume: VolumeId) -> bool {
        let listed = reclaim::page(&self.metadata.database.tree(), volume, 1);
        let since = self.deleting.entry(volume).or_insert_with(Instant::now);
        listed.is_ok_and(|blobs| !blobs.is_empty()) && since.elapsed() < DELETING_MAX
    }

    /// Compares a volume with the tables and resolves the differences. Returns whether it finished.
    async fn reconcile(&mut self, volume: &VolumeAddress) -> bool {
        let mut report = OrphansReport::default();
        let incarnation = self.volumes.cluster.incarnation(volume.volume);
        match self.reconciler.reconcile_volume(volume, Some(&mut self.seen), &mut report).await {
            Ok(()) => {
                let (bytes, orphans, missing) = (report.exchanged_bytes, report.orphans, report.missing);
                tracing::debug!(volume = volume.address, bytes, orphans, missing, "inventory compared");
                self.volumes.cluster.compared(volume.volume, incarnation);
                self.failed.remove(&volume.volume);
                // Repairs that failed without this volume may succeed now.
                self.repair.retry_now();
                true
            }
            Err(error) => {
                tracing::debug!(volume = volume.address, %error, "the inventory could not be compared");
                self.failed.insert(volume.volume, Instant::now());
                false
            }
        }
    }
}

impl Worker for ReconcileWorker {
    const NAME: &'static str = "reconcile";

    async fn tick(&mut self) -> TickResult {
        let leads = self.metadata.leads().await;
        self.volumes.cluster.set_compares(leads);
        if !leads {
            return TickResult::Idle;
        }
        // One page of each per tick, and the next tick at once: tombstones arrive as fast as values are replaced.
        if self.purge_replica_tombstones().await | self.purge_key_tombstones().await {
            return TickResult::More;
        }
        // A new or returning volume counts only after it was compared.
        self.failed.retain(|_, at| at.elapsed() < RETRY);
        let new = self.volumes.cluster.to_compare();
        self.deleting.retain(|volume, _| new.iter().any(|v| v.volume == *volume));
        let mut waits = HashSet::new();
        for volume in new {
            if self.is_deleting(volume.volume) {
                waits.insert(volume.volume);
            } else if !self.failed.contains_key(&volume.volume) {
                self.reconcile(&volume).await;
            }
        }
        let config = &self.config;
        let interval = (config.orphan_grace / 4).clamp(RECONCILE_INTERVAL_MIN, RECONCILE_INTERVAL_MAX);
        let due = self.repair.take_reconciliation_request()
            | self.looked.is_none_or(|last| last.elapsed() >= interval);
        if !due {
            return TickResult::Idle;
        }
        self.seen.turn();
        for volume in self.volumes.cluster.all_alive() {
            if !waits.contains(&volume.volume) {
                self.reconcile(&volume).await;
            }
        }
        self.looked = Some(Instant::now());
        TickResult::Idle
    }
}

#[cfg(test)]
mod tests {
    use shared::clock::Clock;
    use shared::ids::BlobId;
    use shared::tombstone::KeyHash;

    use super::*;
    use crate::join::create_cluster;
    use crate::tables::Tables;
    use crate::tables::tombstone::key_tombstone;
    use crate::work::reclaim::tests::leaderless_at;

    #[tokio::test]
    async fn a_deleted_key_is_remembered_as_long_as_an_upload_may_take() {
        let (folder, start) = (tempfile::tempdir().unwrap(), Timestamp::from_unix_ms(1 << 40));
        let clock = Clock::manual(start);
        let master = leaderless_at(&folder.path().join("meta"), clock.clone()).await;
        create_cluster(&master.group).await.unwrap();
        let (database, key) = (&master.metadata.database, KeyHash::of(&"k".parse().unwrap()));
        let tree = database.tree();
        let mut tables = Tables::new(&tree);
        tables.put_key_tombstone(key, BlobId::next(None, start, [1; 10]));
        database.commit(tables).unwrap();
        let mut worker = ReconcileWorker::new(&master);
        for (after, remembered) in [(UPLOAD_TIME_MAX, true), (CLOCK_SKEW_MAX * 2, false)] {
            clock.advance(after.max(TOMBSTONE_EXPIRY_INTERVAL));
            worker.purge_key_tombstones().await;
            assert_eq!(key_tombstone(&tree, key).unwrap().is_some(), remembered, "after {after:?}");
        }
    }
}
