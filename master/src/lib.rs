//! The master: what is known of every key, where its bytes are, who may write them.
//!
//! `run(config, listener, shutdown)` is the whole server; the caller owns address and signal. No value
//! byte touches this crate's disk.

pub mod args;
pub mod cluster;
pub mod config;
pub mod db;
pub mod http;
pub mod list;
mod master;
mod metrics;
pub mod plan;
mod read;
pub mod rebuild;
pub mod sequencer;
pub mod state;
pub mod tables;
mod told;
mod work;
mod write;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use shared::http::client::{Nowhere, PeerClient, check_reachable, probe_public_url};
use shared::http::serve;
use shared::limits::HEARTBEAT_INTERVAL;
use shared::telemetry::{HttpMetrics, Metrics};
use shared::work::{Shutdown, run_worker};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::cluster::Cluster;
use crate::config::Config;
use crate::db::Database;
use crate::master::Master;
use crate::metrics::MasterMetrics;
use crate::sequencer::Sequencer;
use crate::tables::{TableError, volume};

/// What is left on the reclaim list is tried again so often, besides at every commit and delete.
const RECLAIM_INTERVAL: Duration = Duration::from_secs(1);
/// Inventories are not compared more often than this ...
const ORPHAN_INTERVAL_MIN: Duration = Duration::from_millis(250);
/// ... at least so often, and as often as the grace makes sense.
const ORPHAN_INTERVAL_MAX: Duration = Duration::from_secs(300);

/// Why a master stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its directory.
    #[error(transparent)]
    Open(#[from] db::OpenError),
    /// Its tables.
    #[error(transparent)]
    Tables(#[from] TableError),
    /// The addresses it would give to others.
    #[error(transparent)]
    Nowhere(#[from] Nowhere),
    /// Its address.
    #[error("cannot tell its own address: {0}")]
    Address(#[from] std::io::Error),
    /// Its disk, in the middle of work: nothing may be acknowledged after that.
    #[error("the metadata store failed: {0}. Mend the disk, then start the master again")]
    MetadataFailed(Arc<TableError>),
}

/// Runs a master on `listener` until `shutdown`.
///
/// # Errors
/// When it cannot start, or its metadata store fails.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) -> Result<(), RunError> {
    let address = config.advertise.clone().unwrap_or(format!("http://{}", listener.local_addr()?));
    let public_url = config.public_url.clone().unwrap_or_else(|| address.clone());
    check_reachable(&address)?;
    check_reachable(&public_url)?;
    let data = config.data.clone();
    let database = Arc::new(shared::work::blocking(move || Database::open(&data)).await?);
    let metrics = Metrics::default();
    let master_metrics = MasterMetrics::new(&metrics);
    let (commands, seconds) = (master_metrics.batch_commands.clone(), master_metrics.batch_seconds.clone());
    let observe = move |n: usize, s: f64| {
        commands.observe(u32::try_from(n).map_or(f64::INFINITY, f64::from));
        seconds.observe(s);
    };
    let master = Arc::new(Master {
        sequencer: Sequencer::start(Arc::clone(&database), config.clock.clone(), observe)?,
        cluster: Cluster::new(database.identity().cluster, config.down_after, volume::all(database.tree())?),
        peers: PeerClient::new(config.secret.clone(), config.clock.clone()),
        address,
        public_url,
        metrics: master_metrics,
        reclaim: Arc::new(Notify::new()),
        told: told::Told::default(),
        turn: AtomicUsize::new(0),
        database,
        config,
    });
    tracing::info!(cluster = %master.cluster.id(), address = master.address, "master started");
    let workers = start_workers(&master, &shutdown);
    let http_metrics = HttpMetrics::new(&metrics);
    let face = Arc::new(http::Face { master: Arc::clone(&master), metrics });
    let probe = {
        let (http, url) = (master.peers.http().clone(), master.public_url.clone());
        tokio::spawn(async move { probe_public_url(&http, &url).await })
    };
    let failure = tokio::select! {
        () = serve::run(listener, face, http_metrics, shutdown) => None,
        error = master.sequencer.failed() => Some(error),
    };
    probe.abort();
    for worker in workers {
        worker.abort();
    }
    match failure {
        Some(error) => Err(RunError::MetadataFailed(error)),
        None => Ok(()),
    }
}

fn start_workers(master: &Arc<Master>, shutdown: &Shutdown) -> Vec<tokio::task::JoinHandle<()>> {
    let alone = || Arc::new(Notify::new());
    let orphan_interval = (master.config.orphan_grace / 4).clamp(ORPHAN_INTERVAL_MIN, ORPHAN_INTERVAL_MAX);
    let mut started = vec![
        tokio::spawn(run_worker(
            work::reclaim::Reclaim::new(Arc::clone(master)),
            RECLAIM_INTERVAL,
            Arc::clone(&master.reclaim),
            shutdown.clone(),
        )),
        tokio::spawn(run_worker(
            work::orphans::Orphans::new(Arc::clone(master)),
            orphan_interval,
            alone(),
            shutdown.clone(),
        )),
    ];
    if !master.config.volumes.is_empty() {
        let poll = work::poll::Poll::new(Arc::clone(master));
        started.push(tokio::spawn(run_worker(poll, HEARTBEAT_INTERVAL, alone(), shutdown.clone())));
    }
    started
}
