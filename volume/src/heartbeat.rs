//! Tells the masters that this volume lives, once a second; the first time that is its registration.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use shared::http::client::CallError;
use shared::limits::HEARTBEAT_INTERVAL;
use shared::wire::error::ErrorCode;
use shared::wire::master::HeartbeatResponse;
use shared::wire::routes::HEARTBEAT;
use shared::work::{Progress, Worker};
use tokio::sync::watch;

use crate::server::Volume;

/// The worker.
pub struct Heartbeat {
    volume: Arc<Volume>,
    /// Masters that do not answer: each is logged once, not each second.
    silent: HashSet<String>,
    /// Whether a master has taken us in since we started: then one of another cluster (a master that was wiped and
    /// began a new one) is its own trouble, and no reason to stop.
    welcomed: bool,
    misplaced: watch::Sender<Option<String>>,
}

impl Heartbeat {
    /// Heartbeats to all masters that are known. `misplaced` is told when this volume does not belong there.
    pub fn new(volume: Arc<Volume>, misplaced: watch::Sender<Option<String>>) -> Self {
        Self { volume, silent: HashSet::new(), welcomed: false, misplaced }
    }

    fn failed(&mut self, master: String, error: &CallError) {
        if let CallError::Refused { detail, .. } = error
            && detail.code == ErrorCode::WrongCluster
            && !self.welcomed
        {
            let _ = self.misplaced.send(Some(detail.message.clone()));
        }
        if !self.silent.contains(&master) {
            tracing::warn!(master, %error, "no contact with the master; trying again each second");
            self.silent.insert(master);
        }
    }

    fn answered(&mut self, master: &str, answer: HeartbeatResponse) {
        if let Err(error) = self.volume.identity.join(answer.cluster) {
            if !self.welcomed {
                let _ = self.misplaced.send(Some(error.to_string()));
            }
            return;
        }
        self.welcomed = true;
        self.volume.masters.heard(answer.masters);
        if self.silent.remove(master) {
            tracing::info!(master, "the master is back");
        }
    }
}

impl Worker for Heartbeat {
    const NAME: &'static str = "heartbeat";

    async fn tick(&mut self) -> Progress {
        let report = self.volume.report();
        let within = HEARTBEAT_INTERVAL * 2;
        let volume = &self.volume;
        let calls = volume.masters.all().into_iter().map(async |master| {
            let answer = volume.peers.call_within(&master, HEARTBEAT, &report, within).await;
            (master, answer)
        });
        let (answers, failures): (Vec<_>, Vec<_>) =
            join_all(calls).await.into_iter().partition(|(_, answer)| answer.is_ok());
        let answered = !answers.is_empty();
        // Those that take us in first: what the others say then counts for less.
        for (master, answer) in answers.into_iter().chain(failures) {
            match answer {
                Ok(answer) => self.answered(&master, answer),
                Err(error) => self.failed(master, &error),
            }
        }
        // The masters use us from the report on in which we say that we have joined.
        let joined = report.cluster.is_none() && self.volume.identity.cluster().is_some();
        if answered && joined { Progress::More } else { Progress::Idle }
    }
}
