//! Upkeep of this master, once per heartbeat interval: its log, its snapshots and interrupted membership changes. It
//! also applies admin states and reports state changes of volumes.

use std::sync::Arc;

use shared::wire::master::VolumeState;
use shared::work::{TickResult, Worker};

use crate::cluster::Cluster;
use crate::config::Config;
use crate::master::Master;
use crate::metadata::Metadata;
use crate::metrics::MasterMetrics;
use crate::raft::group::Group;
use crate::repair_tracker::RepairTracker;
use crate::tables::admin_state::{self, AdminStateRecord};
use crate::tables::{TableError, Tables};
use crate::volumes::Volumes;

pub struct Upkeep {
    group: Arc<Group>,
    metadata: Metadata,
    volumes: Arc<Volumes>,
    repair: Arc<RepairTracker>,
    metrics: Arc<MasterMetrics>,
    config: Arc<Config>,
}

impl Upkeep {
    pub fn new(master: &Master) -> Self {
        Self {
            group: Arc::clone(&master.group),
            metadata: master.metadata.clone(),
            volumes: Arc::clone(&master.volumes),
            repair: Arc::clone(&master.repair),
            metrics: Arc::clone(&master.metrics),
            config: Arc::clone(&master.config),
        }
    }
}

/// The admin states of volumes, and whether any object refers to each of them.
///
/// # Errors
/// When the tables cannot be read.
pub fn admin_states(
    tree: &sled::Tree,
) -> Result<Vec<(shared::ids::VolumeId, AdminStateRecord, bool)>, TableError> {
    let tables = Tables::new(tree);
    let with = |(volume, record)| Ok((volume, record, admin_state::has_replicas(&tables, volume)?));
    admin_state::all(tree)?.into_iter().map(with).collect()
}

/// Writes state changes of volumes to the log and the metrics.
pub fn observe(cluster: &Cluster, config: &Config, metrics: &MasterMetrics) {
    for event in cluster.take_transitions(config.clock.now()) {
        let (volume, address, reason) = (event.volume, &event.address, &event.reason);
        let (from, to) = (event.from.map_or("unknown", VolumeState::name), event.to.name());
        metrics.volume_became(event.to);
        let starts = matches!(event.from, None | Some(VolumeState::Joining));
        match event.to {
            // The volume's own log says so too.
            VolumeState::Joining | VolumeState::Up if starts => {
                tracing::debug!(%volume, address, from, to, reason, "volume");
            }
            VolumeState::Down => tracing::warn!(%volume, address, from, to, reason, "volume"),
            _ => tracing::info!(%volume, address, from, to, reason, "volume"),
        }
    }
}

impl Worker for Upkeep {
    const NAME: &'static str = "upkeep";

    async fn tick(&mut self) -> TickResult {
        self.group.tend().await;
        match admin_states(&self.metadata.database.tree()) {
            Ok(duties) => self.volumes.cluster.set_admin_states(&duties),
            Err(error) => tracing::error!(%error, "the admin states of volumes cannot be read"),
        }
        observe(&self.volumes.cluster, &self.config, &self.metrics);
        if !self.volumes.cluster.to_compare().is_empty() {
            self.repair.wake_reconciliation.notify_one();
        }
        TickResult::Idle
    }
}
