//! Tells the masters that this volume lives, once a second; the first time that is its registration.
//!
//! Each master has its own heartbeats: one that does not answer costs the others nothing.

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
use shared::work::{Progress, Worker};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::server::Volume;

/// The worker. A tick waits for the next heartbeat to end, whichever it is.
pub struct Heartbeat {
    volume: Arc<Volume>,
    /// One for each master that is known.
    beats: FuturesUnordered<BoxFuture<'static, Beat>>,
    /// Whom they are for.
    called: HashSet<String>,
    /// Masters that have answered, or not, since we started.
    tried: HashSet<String>,
    /// Masters that do not answer: each is logged once, not each second.
    silent: HashSet<String>,
    /// Whether a master has taken us in since we started, or we were not told of any: then one of another cluster (a master that was wiped and
    /// began a new one) is its own trouble, and no reason to stop.
    welcomed: bool,
    /// Why one of them did not: counts when no master takes us in.
    refusal: Option<String>,
    misplaced: watch::Sender<Option<String>>,
}

/// A heartbeat that has ended.
struct Beat {
    master: String,
    sent: Instant,
    /// Whether the report said that we have joined: the masters use us from such a one on.
    joined: bool,
    answer: Result<HeartbeatResponse, CallError>,
}

impl Heartbeat {
    /// Heartbeats to all masters that are known. `misplaced` is told when this volume does not belong there.
    pub fn new(volume: Arc<Volume>, misplaced: watch::Sender<Option<String>>) -> Self {
        // A master that was given our address has asked us: no other one can make us leave.
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

    /// A heartbeat for each master that has none on its way.
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
        // Those that take us in count first, so all of them are heard before a refusal does.
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
        // A master that waits to be taken in, or for the others, is no fault of anybody's.
        if let CallError::Refused { detail, .. } = error
            && detail.code == ErrorCode::NotJoined
        {
            tracing::debug!(master, "the master belongs to no cluster yet; trying again each second");
            return;
        }
        if self.silent.insert(master.to_owned()) {
            tracing::warn!(master, %error, "no contact with the master; trying again each second");
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
            tracing::info!(master, "the master is back");
        }
    }
}

/// Waits until `when` and then tells the master.
async fn tell(volume: Arc<Volume>, master: String, when: Instant) -> Beat {
    sleep_until(when).await;
    let (sent, report) = (Instant::now(), volume.report());
    let answer = volume.peers.call_within(&master, HEARTBEAT, &report, HEARTBEAT_TIMEOUT).await;
    Beat { master, sent, joined: report.cluster.is_some(), answer }
}

impl Worker for Heartbeat {
    const NAME: &'static str = "heartbeat";

    async fn tick(&mut self) -> Progress {
        self.begin();
        // Not longer: a master may have been named meanwhile.
        match timeout(HEARTBEAT_INTERVAL, self.beats.next()).await {
            Ok(Some(beat)) => self.ended(beat),
            Ok(None) => return Progress::Idle,
            Err(_) => {}
        }
        Progress::More
    }
}
