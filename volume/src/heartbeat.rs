//! Tells the master that this volume lives, once a second; the first time that is its registration.

use std::sync::Arc;

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
    master: String,
    silent: bool,
    misplaced: watch::Sender<Option<String>>,
}

impl Heartbeat {
    /// Heartbeats to `master`. `misplaced` is told when this volume does not belong there.
    pub fn new(volume: Arc<Volume>, master: String, misplaced: watch::Sender<Option<String>>) -> Self {
        Self { volume, master, silent: false, misplaced }
    }

    fn failed(&mut self, error: &CallError) {
        if let CallError::Refused { detail, .. } = error
            && detail.code == ErrorCode::WrongCluster
        {
            let _ = self.misplaced.send(Some(detail.message.clone()));
        }
        // Once, not each second.
        if !self.silent {
            tracing::warn!(master = self.master, %error, "no contact with the master; trying again each second");
        }
        self.silent = true;
    }
}

impl Worker for Heartbeat {
    const NAME: &'static str = "heartbeat";

    async fn tick(&mut self) -> Progress {
        let report = self.volume.report();
        let mut progress = Progress::Idle;
        let within = HEARTBEAT_INTERVAL * 2;
        let answer: Result<HeartbeatResponse, _> =
            self.volume.peers.call_within(&self.master, HEARTBEAT, &report, within).await;
        match answer {
            Ok(HeartbeatResponse { cluster }) => {
                match self.volume.identity.join(cluster) {
                    // The master uses us from the report on in which we say that we have joined.
                    Ok(()) if report.cluster.is_none() => progress = Progress::More,
                    Ok(()) => {}
                    Err(error) => {
                        let _ = self.misplaced.send(Some(error.to_string()));
                    }
                }
                if std::mem::take(&mut self.silent) {
                    tracing::info!(master = self.master, "the master is back");
                }
            }
            Err(error) => self.failed(&error),
        }
        progress
    }
}
