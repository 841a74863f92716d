//! Volumes of a static list do not call: the master asks each who it is, once a heartbeat.

use std::sync::Arc;

use futures_util::future::join_all;
use shared::limits::HEARTBEAT_INTERVAL;
use shared::wire::routes::IDENTIFY;
use shared::wire::volume::{IdentifyRequest, VolumeReport};
use shared::work::{Progress, Worker};

use crate::http::admin::{addresses, welcome};
use crate::master::Master;

/// The worker, with what it last said of each address: a state is logged when it changes, not each second.
pub struct Poll {
    master: Arc<Master>,
    last: Vec<Option<String>>,
}

impl Poll {
    /// Asks the volumes that the configuration lists.
    pub fn new(master: Arc<Master>) -> Self {
        let last = vec![None; master.config.volumes.len()];
        Self { master, last }
    }
}

/// Asks one volume, and lets it in.
async fn ask(master: &Master, address: &str) -> Result<(), String> {
    let question = IdentifyRequest { cluster: master.cluster.id(), masters: addresses(master) };
    let answer: Result<VolumeReport, _> =
        master.peers.call_within(address, IDENTIFY, &question, HEARTBEAT_INTERVAL * 2).await;
    let report = answer.map_err(|e| e.to_string())?;
    // We were told where it is; what it believes may hold only on its own machine.
    let report = VolumeReport { address: address.to_owned(), ..report };
    welcome(master, report).await.map_err(|e| e.message)
}

impl Worker for Poll {
    const NAME: &'static str = "poll";

    async fn tick(&mut self) -> Progress {
        let master = &self.master;
        let answers = join_all(master.config.volumes.iter().map(|a| ask(master, a))).await;
        for ((address, last), answer) in master.config.volumes.iter().zip(&mut self.last).zip(answers) {
            match answer {
                Ok(()) if last.take().is_some() => tracing::info!(address, "volume is back"),
                Ok(()) => {}
                Err(reason) => {
                    if last.as_ref() != Some(&reason) {
                        tracing::warn!(address, reason, "volume cannot be used");
                    }
                    *last = Some(reason);
                }
            }
        }
        Progress::Idle
    }
}
