//! Volumes of a static list know no master: this one asks each who it is, once a heartbeat, and tells it of the others.

use std::sync::Arc;
use std::time::Instant;

use shared::limits::{HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT};
use shared::wire::routes::IDENTIFY;
use shared::wire::volume::{IdentifyRequest, VolumeReport};
use shared::work::{Progress, Worker};

use crate::master::Master;
use crate::registration::{addresses, register};

/// The worker, one for each address so that a host that is dead costs the others nothing; with what it last said: a
/// state is logged when it changes, not each second.
pub struct Poll {
    master: Arc<Master>,
    address: String,
    last: Option<String>,
}

impl Poll {
    /// Asks one of the volumes that the configuration lists.
    pub fn new(master: Arc<Master>, address: String) -> Self {
        Self { master, address, last: None }
    }

    /// Asks the volume, and lets it in.
    async fn ask(&self) -> Result<(), String> {
        let (master, address) = (&self.master, self.address.clone());
        let (cluster, masters) = (master.cluster.id(), addresses(master));
        let question = IdentifyRequest { cluster, masters, address: Some(address.clone()) };
        let answer: Result<VolumeReport, _> =
            master.peers.call_within(&address, IDENTIFY, &question, HEARTBEAT_TIMEOUT).await;
        let report = answer.map_err(|e| e.to_string())?;
        // We were told where it is; what it believes may hold only on its own machine. It tells other masters the same.
        register(master, VolumeReport { address, ..report }).await.map_err(|e| e.message)
    }
}

impl Worker for Poll {
    const NAME: &'static str = "poll";

    async fn tick(&mut self) -> Progress {
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
        // What was lost is asked for again at once: waiting for it took longer than the pause.
        if asked.elapsed() < HEARTBEAT_INTERVAL { Progress::Idle } else { Progress::More }
    }
}
