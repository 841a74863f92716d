//! The volume server: stores values on one disk, in append-only segments with offset indexes.
//!
//! `run(config, listener, shutdown)` is the whole server; the caller owns address and signals. It knows
//! neither placement nor metadata: a ticket says what a client may do.

mod args;
mod assembly;
mod config;
mod heartbeat;
mod http;
mod identity;
mod masters;
mod metrics;
mod program;
mod replicas;
mod server;
pub mod store;
mod tombstones;
mod used_tickets;
mod workers;

use std::sync::{Arc, RwLock};
use std::thread::available_parallelism;

use shared::http::client::{Nowhere, PeerClient, check_reachable, probe_public_url};
use shared::http::serve;
use shared::http::signed_calls::CallVerifier;
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
use crate::workers::{CompactWorker, ScrubWorker, SealWorker};

pub use crate::config::Config;
pub use crate::identity::{Glimpse, Identity, IdentityError};
pub use crate::program::main;

/// Why a volume stopped or did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the segments cannot be opened: {0}")]
    Open(#[from] OpenError),
    #[error(transparent)]
    Tombstones(#[from] TombstoneError),
    #[error("the volume's directory: {0}")]
    Disk(#[source] std::io::Error),
    /// An address that others cannot reach.
    #[error(transparent)]
    Nowhere(#[from] Nowhere),
    #[error("the listening address cannot be read: {0}")]
    Address(#[source] std::io::Error),
    /// The volume belongs to another cluster than its master.
    #[error("{reason}")]
    Misplaced { reason: String },
}

/// Runs a volume on `listener` until `shutdown`.
///
/// # Errors
/// When it cannot start, or its masters belong to another cluster.
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
    let spent = used_tickets::UsedTickets::default();
    spent.add(&report.lately_deleted, config.clock.now());
    let volume = Arc::new(Volume {
        peers: PeerClient::new(config.secret.clone(), config.clock.clone()).trusting(config.trust.clone()),
        http_metrics: Arc::clone(&http_metrics),
        used_tickets: spent,
        healer: replicas::heal::Healer::default(),
        incoming_replicas: Arc::default(),
        masters: masters::Masters::new(config.masters.clone()),
        incarnation: VolumeId::random().as_bytes().iter().fold(0, |n, b| n.rotate_left(8) ^ u64::from(*b)),
        identity,
        store,
        tombstones,
        segments_refused: report.refused.len() as u64,
        address,
        address_by_masters: RwLock::default(),
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
    let calls = CallVerifier::new(volume.config.secret.clone(), volume.config.clock.clone(), &metrics);
    let metrics = VolumeMetrics::new(metrics, volume.store.sync_seconds());
    let api = Arc::new(http::Api { volume: Arc::clone(&volume), calls, metrics });
    let probe = {
        let (http, url) = (volume.peers.http().clone(), volume.public_url.clone());
        tokio::spawn(async move { probe_public_url(&http, &url).await })
    };
    let reason = tokio::select! {
        () = serve::run(listener, tls, api, http_metrics, shutdown) => None,
        Ok(reason) = told.wait_for(Option::is_some) => reason.clone(),
    };
    probe.abort();
    for worker in workers {
        worker.abort();
    }
    volume.store.close().await;
    reason.map_or(Ok(()), |reason| Err(RunError::Misplaced { reason }))
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
        log_open_report(&report);
        Ok((identity, store, tombstones, report))
    })
    .await
}

/// Logs what an operator should know about the opened segments.
fn log_open_report(report: &OpenReport) {
    if report.quarantined > 0 {
        tracing::warn!(
            ranges = report.quarantined,
            "corrupt ranges are quarantined; their values are read from other replicas"
        );
    }
    for refused in &report.refused {
        tracing::error!(segment = %refused.segment, why = %refused.why, "a segment is not served; stop the volume and run `barge volume check`");
    }
    if !report.foreign.is_empty() {
        tracing::warn!(files = ?report.foreign, "unknown files in the segment directory were left alone");
    }
}

fn start_workers(
    volume: &Arc<Volume>,
    misplaced: watch::Sender<Option<String>>,
    shutdown: &Shutdown,
) -> Vec<tokio::task::JoinHandle<()>> {
    let alone = || Arc::new(Notify::new());
    let nudge = Arc::clone(&volume.healer.wake);
    let heal =
        run_worker(replicas::heal::HealWorker(Arc::clone(volume)), HEALING_RETRY, nudge, shutdown.clone());
    let seal = run_worker(SealWorker(Arc::clone(volume)), SEALING_INTERVAL, alone(), shutdown.clone());
    let rest = SCRUB_INTERVAL.min(volume.config.scrub_every);
    let scrub = run_worker(ScrubWorker::new(Arc::clone(volume)), rest, alone(), shutdown.clone());
    let compacting = CompactWorker::new(Arc::clone(volume));
    let compact = run_worker(compacting, COMPACTION_INTERVAL, alone(), shutdown.clone());
    // Without configured masters, a master that lists our address tells us of all of them.
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
