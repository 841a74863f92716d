//! Heartbeats to the masters, one per second, for their liveness check; the first one is the volume's registration.
//!
//! Each master gets its own heartbeats, so one that does not answer does not delay the others.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use shared::http::client::CallError;
use shared::limits::{HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT};
use shared::wire::error::ErrorCode;
use shared::wire::master::HeartbeatResponse;
use shared::wire::routes::HEARTBEAT;
use shared::work::{TickResult, Worker};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::server::Volume;

/// The heartbeat worker. A tick waits until any heartbeat ends.
pub struct Heartbeat {
    volume: Arc<Volume>,
    /// One for each known master.
    beats: FuturesUnordered<BoxFuture<'static, Beat>>,
    /// Masters that have a heartbeat under way.
    called: HashSet<String>,
    /// Masters that have answered or failed at least once since we started.
    tried: HashSet<String>,
    /// Masters that do not answer; each is logged once, not every second.
    silent: HashSet<String>,
    /// Whether a master has accepted us since we started, or none was configured. From then on a master of another
    /// cluster (one that was wiped and began a new cluster) is no reason to stop.
    welcomed: bool,
    /// Why a master refused us; the volume stops with it if no master accepts us.
    refusal: Option<String>,
    misplaced: watch::Sender<Option<String>>,
}

/// The outcome of one heartbeat.
struct Beat {
    master: String,
    sent: Instant,
    /// Whether the report said that we have joined; masters use a volume only after such a report.
    joined: bool,
    answer: Result<HeartbeatResponse, CallError>,
}

impl Heartbeat {
    /// `misplaced` receives the reason if this volume belongs to another cluster.
    pub fn new(volume: Arc<Volume>, misplaced: watch::Sender<Option<String>>) -> Self {
        // Without configured masters, a master that lists our address has identified us; no other one can make us
        // stop.
        let welcomed = volume.config.masters.is_empty();
        Self {
            volume,
            beats: FuturesUnordered::new(),
            called: HashSet::new(),
            tried: HashSet::new(),
            silent: HashSet::new(),
            welcomed,
            refusal: None,
            misplaced,
        }
    }

    /// Starts a heartbeat to each master that has none under way.
    fn begin(&mut self) {
        let all = self.volume.masters.all();
        self.silent.retain(|master| all.contains(master));
        for master in all {
            if self.called.insert(master.clone()) {
                self.beats.push(Box::pin(tell(Arc::clone(&self.volume), master, Instant::now())));
            }
        }
    }

    fn ended(&mut self, beat: Beat) {
        let Beat { master, sent, joined, answer } = beat;
        match answer {
            Ok(answer) => self.answered(&master, answer),
            Err(error) => self.failed(&master, &error),
        }
        let joins = !joined && self.volume.identity.cluster().is_some();
        let all = self.volume.masters.all();
        self.tried.insert(master.clone());
        // One acceptance outweighs any refusal, so a refusal counts only after all masters were tried.
        if !self.welcomed && self.refusal.is_some() && all.iter().all(|m| self.tried.contains(m)) {
            let _ = self.misplaced.send(self.refusal.take());
        }
        if all.contains(&master) {
            let next = if joins { Instant::now() } else { sent + HEARTBEAT_INTERVAL };
            self.beats.push(Box::pin(tell(Arc::clone(&self.volume), master, next)));
        } else {
            self.tried.remove(&master);
            self.called.remove(&master);
        }
    }

    fn failed(&mut self, master: &str, error: &CallError) {
        if let CallError::Refused { detail, .. } = error
            && detail.code == ErrorCode::WrongCluster
        {
            self.refusal = Some(detail.message.clone());
        }
        // A master that still waits to join a cluster, or for the other masters, is not a failure.
        if let CallError::Refused { detail, .. } = error
            && detail.code == ErrorCode::NotJoined
        {
            tracing::debug!(master, "the master belongs to no cluster yet; retrying every second");
            return;
        }
        if self.silent.insert(master.to_owned()) {
            tracing::warn!(master, %error, "the master does not answer; retrying every second");
        }
    }

    fn answered(&mut self, master: &str, answer: HeartbeatResponse) {
        if let Err(error) = self.volume.identity.join(answer.cluster) {
            self.refusal = Some(error.to_string());
            return;
        }
        self.welcomed = true;
        self.volume.masters.heard(answer.masters);
        if self.silent.remove(master) {
            tracing::info!(master, "the master answers again");
        }
    }
}

/// Sends a report to the master at `when`.
async fn tell(volume: Arc<Volume>, master: String, when: Instant) -> Beat {
    sleep_until(when).await;
    let (sent, report) = (Instant::now(), volume.report());
    let answer = volume.peers.call_within(&master, HEARTBEAT, &report, HEARTBEAT_TIMEOUT).await;
    Beat { master, sent, joined: report.cluster.is_some(), answer }
}

impl Worker for Heartbeat {
    const NAME: &'static str = "heartbeat";

    async fn tick(&mut self) -> TickResult {
        self.begin();
        // No longer than this: a new master may have become known meanwhile.
        match timeout(HEARTBEAT_INTERVAL, self.beats.next()).await {
            Ok(Some(beat)) => self.ended(beat),
            Ok(None) => return TickResult::Idle,
            Err(_) => {}
        }
        TickResult::More
    }
}
