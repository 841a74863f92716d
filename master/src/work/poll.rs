//! Polls volumes of a static list. They know no master, so this one asks each for its report once per heartbeat
//! interval, and tells it the addresses of all masters.

use std::sync::Arc;
use std::time::Instant;

use shared::limits::{HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT};
use shared::wire::routes::IDENTIFY;
use shared::wire::volume::{IdentifyRequest, VolumeReport};
use shared::work::{TickResult, Worker};

use crate::change::Changes;
use crate::master::Master;
use crate::metadata::Metadata;
use crate::raft::group::Group;
use crate::registration::{master_addresses, register};
use crate::volumes::Volumes;

/// The worker of one address, so that a dead host does not delay the others.
pub struct Poll {
    group: Arc<Group>,
    metadata: Metadata,
    volumes: Arc<Volumes>,
    changes: Arc<Changes>,
    address: String,
    /// The last failure: a state is logged when it changes, not every second.
    last: Option<String>,
}

impl Poll {
    pub fn new(master: &Master, address: String) -> Self {
        Self {
            group: Arc::clone(&master.group),
            metadata: master.metadata.clone(),
            volumes: Arc::clone(&master.volumes),
            changes: Arc::clone(&master.changes),
            address,
            last: None,
        }
    }

    /// Asks the volume and registers it.
    async fn ask(&self) -> Result<(), String> {
        let address = self.address.clone();
        let (cluster, masters) = (self.volumes.cluster_id(), master_addresses(&self.group));
        let question = IdentifyRequest { cluster, masters, address: Some(address.clone()) };
        let answer: Result<VolumeReport, _> =
            self.volumes.peers.call_within(&address, IDENTIFY, &question, HEARTBEAT_TIMEOUT).await;
        let report = answer.map_err(|e| e.to_string())?;
        // Use the configured address: the one the volume reports may be valid only on its own machine. The volume
        // gets it in the request, to report it to the other masters.
        let report = VolumeReport { address, ..report };
        register(&self.metadata, &self.volumes, &self.changes, report).await.map_err(|e| e.message)
    }
}

impl Worker for Poll {
    const NAME: &'static str = "poll";

    async fn tick(&mut self) -> TickResult {
        let (asked, address) = (Instant::now(), &self.address);
        match self.ask().await {
            Ok(()) if self.last.take().is_some() => tracing::info!(address, "volume is back"),
            Ok(()) => {}
            Err(reason) => {
                if self.last.as_ref() != Some(&reason) {
                    tracing::warn!(address, reason, "volume cannot be used");
                }
                self.last = Some(reason);
            }
        }
        // A call that took longer than the interval is repeated at once.
        if asked.elapsed() < HEARTBEAT_INTERVAL { TickResult::Idle } else { TickResult::More }
    }
}
