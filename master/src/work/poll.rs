//! Polls volumes of a static list. They know no master, so this one asks each for its report once per heartbeat
//! interval, and tells it the addresses of all masters.

use std::sync::Arc;
use std::time::Instant;

use shared::limits::{HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT};
use shared::wire::routes::IDENTIFY;
use shared::wire::volume::{IdentifyRequest, VolumeReport};
use shared::work::{TickResult, Worker};

use crate::master::Master;
use crate::registration::{master_addresses, register};

/// The worker of one address, so that a dead host does not delay the others.
pub struct Poll {
    master: Arc<Master>,
    address: String,
    /// The last failure: a state is logged when it changes, not every second.
    last: Option<String>,
}

impl Poll {
    pub fn new(master: Arc<Master>, address: String) -> Self {
        Self { master, address, last: None }
    }

    /// Asks the volume and registers it.
    async fn ask(&self) -> Result<(), String> {
        let (master, address) = (&self.master, self.address.clone());
        let (cluster, masters) = (master.cluster.id(), master_addresses(master));
        let question = IdentifyRequest { cluster, masters, address: Some(address.clone()) };
        let answer: Result<VolumeReport, _> =
            master.peers.call_within(&address, IDENTIFY, &question, HEARTBEAT_TIMEOUT).await;
        let report = answer.map_err(|e| e.to_string())?;
        // Use the configured address: the one the volume reports may be valid only on its own machine. The volume
        // gets it in the request, to report it to the other masters.
        register(master, VolumeReport { address, ..report }).await.map_err(|e| e.message)
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
