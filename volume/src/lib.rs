//! A volume: values on one disk, in append-only log segments with offset indexes.
//!
//! `run(config, listener, shutdown)` is the whole server; the caller owns address and signal. It knows
//! neither placement nor metadata: what it may do, a ticket says.

mod args;
mod arrival;
mod assembly;
mod config;
mod copies;
mod heal;
mod heartbeat;
mod http;
mod identity;
mod masters;
mod metrics;
mod program;
mod server;
mod spent;
pub mod store;
mod supply;
mod tombstones;
mod upkeep;

use std::sync::{Arc, RwLock};
use std::thread::available_parallelism;

use shared::http::client::{Nowhere, PeerClient, check_reachable, probe_public_url};
use shared::http::serve;
use shared::http::signed::Calls;
use shared::http::tls::scheme;
use shared::ids::VolumeId;
use shared::limits::{
    COMPACTION_INTERVAL, HEALING_RETRY, HEARTBEAT_INTERVAL, OPEN_THREADS_MAX, SCRUB_INTERVAL,
    SEALING_INTERVAL,
};
use shared::telemetry::{HttpMetrics, Metrics};
use shared::work::{Shutdown, blocking, run_worker};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use crate::metrics::VolumeMetrics;
use crate::server::Volume;
use crate::store::{OpenError, OpenReport, Options, RealDisk, Store};
use crate::tombstones::{TombstoneError, Tombstones};
use crate::upkeep::{Compacting, Scrubbing, Sealing};

pub use crate::config::Config;
pub use crate::identity::{Glimpse, Identity, IdentityError};
pub use crate::program::main;

/// Why a volume stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the segments cannot be opened: {0}")]
    Open(#[from] OpenError),
    /// What it knows to be deleted.
    #[error(transparent)]
    Tombstones(#[from] TombstoneError),
    #[error("the volume's directory: {0}")]
    Disk(#[source] std::io::Error),
    /// The addresses it would give to others.
    #[error(transparent)]
    Nowhere(#[from] Nowhere),
    #[error("cannot tell its own address: {0}")]
    Address(#[source] std::io::Error),
    /// It does not belong to that master.
    #[error("{0}")]
    Misplaced(String),
}

/// Runs a volume on `listener` until `shutdown`.
///
/// # Errors
/// When it cannot start, or its master belongs to another cluster.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) -> Result<(), RunError> {
    let listening = listener.local_addr().map_err(RunError::Address)?;
    let address =
        config.advertise.clone().unwrap_or(format!("{}://{listening}", scheme(config.tls.as_ref())));
    let tls = config.tls.clone();
    let public_url = config.public_url.clone().unwrap_or_else(|| address.clone());
    check_reachable(&address)?;
    check_reachable(&public_url)?;
    let (identity, store, tombstones, report) = open(&config).await?;
    let metrics = Metrics::default();
    let http_metrics = HttpMetrics::new(&metrics);
    let spent = spent::Spent::default();
    spent.add(&report.lately_deleted, config.clock.now());
    let volume = Arc::new(Volume {
        peers: PeerClient::new(config.secret.clone(), config.clock.clone()).trusting(config.trust.clone()),
        http_metrics: Arc::clone(&http_metrics),
        spent,
        healer: heal::Healer::default(),
        arrivals: Arc::default(),
        masters: masters::Masters::new(config.masters.clone()),
        incarnation: VolumeId::random().as_bytes().iter().fold(0, |n, b| n.rotate_left(8) ^ u64::from(*b)),
        identity,
        store,
        tombstones,
        segments_refused: report.refused.len() as u64,
        address,
        listed: RwLock::default(),
        public_url,
        config,
    });
    let OpenReport { segments, blobs, bytes, indexes_rebuilt, records_recovered, torn_bytes, .. } = report;
    tracing::info!(
        volume = %volume.identity.volume(), address = volume.address, segments, blobs, bytes, indexes_rebuilt,
        records_recovered, torn_bytes, "volume started"
    );
    let (misplaced, mut told) = watch::channel(None);
    let workers = start_workers(&volume, misplaced, &shutdown);
    let calls = Calls::new(volume.config.secret.clone(), volume.config.clock.clone(), &metrics);
    let metrics = VolumeMetrics::new(metrics, volume.store.sync_seconds());
    let face = Arc::new(http::Face { volume: Arc::clone(&volume), calls, metrics });
    let probe = {
        let (http, url) = (volume.peers.http().clone(), volume.public_url.clone());
        tokio::spawn(async move { probe_public_url(&http, &url).await })
    };
    let reason = tokio::select! {
        () = serve::run(listener, tls, face, http_metrics, shutdown) => None,
        Ok(reason) = told.wait_for(Option::is_some) => reason.clone(),
    };
    probe.abort();
    for worker in workers {
        worker.abort();
    }
    volume.store.close().await;
    reason.map_or(Ok(()), |reason| Err(RunError::Misplaced(reason)))
}

async fn open(config: &Config) -> Result<(Identity, Store, Tombstones, OpenReport), RunError> {
    let config = config.clone();
    blocking(move || {
        let identity = Identity::open(&config.data)?;
        let tombstones = Tombstones::open(&config.data, identity.volume(), config.clock.now())?;
        let disk = Arc::new(RealDisk::open(&config.data).map_err(RunError::Disk)?);
        let options = Options {
            volume: identity.volume(),
            segment_bytes: config.segment_bytes,
            segment_age: config.segment_age,
            reserve_bytes: config.reserve_bytes,
            capacity_bytes: config.capacity_bytes,
            clock: config.clock,
            open_threads: available_parallelism().map_or(1, usize::from).min(OPEN_THREADS_MAX),
        };
        let (store, report) = Store::open(disk, options)?;
        say(&report);
        Ok((identity, store, tombstones, report))
    })
    .await
}

/// What opening found that somebody should look at.
fn say(report: &OpenReport) {
    if report.quarantined > 0 {
        tracing::warn!(
            ranges = report.quarantined,
            "damaged ranges are set aside; other replicas hold their values"
        );
    }
    for refused in &report.refused {
        tracing::error!(segment = %refused.segment, why = %refused.why, "a segment is not served");
    }
    if !report.foreign.is_empty() {
        tracing::warn!(files = ?report.foreign, "files that are not ours were left alone");
    }
}

fn start_workers(
    volume: &Arc<Volume>,
    misplaced: watch::Sender<Option<String>>,
    shutdown: &Shutdown,
) -> Vec<tokio::task::JoinHandle<()>> {
    let alone = || Arc::new(Notify::new());
    let nudge = Arc::clone(&volume.healer.nudge);
    let heal = run_worker(heal::Healing(Arc::clone(volume)), HEALING_RETRY, nudge, shutdown.clone());
    let seal = run_worker(Sealing(Arc::clone(volume)), SEALING_INTERVAL, alone(), shutdown.clone());
    let rest = SCRUB_INTERVAL.min(volume.config.scrub_every);
    let scrub = run_worker(Scrubbing::new(Arc::clone(volume)), rest, alone(), shutdown.clone());
    let compacting = Compacting::new(Arc::clone(volume));
    let compact = run_worker(compacting, COMPACTION_INTERVAL, alone(), shutdown.clone());
    // Of which masters there are, one that has our address on its list tells us, if we were not told.
    let heartbeat = heartbeat::Heartbeat::new(Arc::clone(volume), misplaced);
    let beat = run_worker(heartbeat, HEARTBEAT_INTERVAL, alone(), shutdown.clone());
    vec![
        tokio::spawn(seal),
        tokio::spawn(heal),
        tokio::spawn(scrub),
        tokio::spawn(compact),
        tokio::spawn(beat),
    ]
}
