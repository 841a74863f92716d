//! Has this master look after its log, its snapshots and a change of the masters that was interrupted; and tells what becomes of
//! volumes.

use std::sync::Arc;

use shared::wire::master::VolumeState;
use shared::work::{Progress, Worker};

use crate::master::Master;
use crate::tables::standing::{self, Standing};
use crate::tables::{TableError, Tables};

pub struct Upkeep(pub Arc<Master>);

/// What volumes are to do, and whether anything refers to those that are to be emptied.
///
/// # Errors
/// When the tables cannot be read.
pub fn duties(tree: &sled::Tree) -> Result<Vec<(shared::ids::VolumeId, Standing, bool)>, TableError> {
    let tables = Tables::new(tree);
    let with = |(volume, standing)| Ok((volume, standing, standing::holds_any(&tables, volume)?));
    standing::all(tree)?.into_iter().map(with).collect()
}

/// What has become of volumes: into the log and the metrics.
pub fn observe(master: &Master) {
    for event in master.cluster.observe(master.config.clock.now()) {
        let (volume, address, reason) = (event.volume, &event.address, &event.reason);
        let (from, to) = (event.from.map_or("unknown", VolumeState::name), event.to.name());
        master.metrics.volume_became(event.to);
        let starts = matches!(event.from, None | Some(VolumeState::Joining));
        match event.to {
            // The volume has said so itself.
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

    async fn tick(&mut self) -> Progress {
        let master = &self.0;
        master.group.tend().await;
        match duties(&master.database.tree()) {
            Ok(duties) => master.cluster.set_duties(&duties),
            Err(error) => tracing::error!(%error, "what volumes are to do cannot be read"),
        }
        observe(master);
        if !master.cluster.to_compare().is_empty() {
            master.care.compare.notify_one();
        }
        Progress::Idle
    }
}
