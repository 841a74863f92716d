//! The master: metadata of all keys, placement of their bytes, and access control.
//!
//! `run(config, listener, s3, shutdown)` is the whole server; the caller owns sockets and signals. This crate never
//! writes a byte of a value to disk.

mod args;
mod audit;
mod auth;
mod change;
mod cluster;
mod config;
mod cors;
mod db;
mod delete_acks;
mod group_clock;
mod http;
mod join;
mod list;
mod master;
mod metadata;
mod metrics;
mod plan;
mod program;
mod raft;
mod read;
mod rebuild;
mod redirect;
mod registration;
mod repair_tracker;
mod resp;
mod restore;
mod s3;
mod sequencer;
mod snapshot;
mod state;
mod tables;
#[cfg(test)]
mod trickle;
mod volumes;
mod work;
mod write;

use std::sync::Arc;
use std::time::Duration;

use shared::http::client::{Nowhere, PeerClient, check_reachable, probe_public_url};
use shared::http::serve;
use shared::http::signed_calls::CallVerifier;
use shared::http::tls::scheme;
use shared::ids::ClusterId;
use shared::telemetry::{HttpMetrics, Metrics};
use shared::work::{Shutdown, run_worker};
use tokio::net::TcpListener;
use tokio::sync::{Notify, SetOnce};

use crate::auth::AuthConfig;
use crate::auth::browser::Hosts;
use crate::auth::brute_force::BruteForceGuard;
use crate::change::Changes;
use crate::cluster::Cluster;
use crate::db::Database;
use crate::db::other_masters::OtherMasters;
use crate::group_clock::GroupClock;
use crate::join::JoinError;
use crate::master::Master;
use crate::metadata::Metadata;
use crate::metrics::MasterMetrics;
use crate::raft::Peer;
use crate::raft::content::{Comparing, Proving};
use crate::raft::group::Group;
use crate::sequencer::Sequencer;
use crate::tables::{TableError, volume};
use crate::volumes::Volumes;

pub use crate::args::RepairArgs;
pub use crate::audit::Audit;
pub use crate::config::{Config, Replication, ReplicationError, S3Settings};
pub use crate::program::main;
pub use crate::raft::genesis::StartError;
pub use crate::raft::rpc::Envelope;
pub use crate::s3::args::S3Args;
pub use crate::s3::request::auth::OPEN_SECRET;

/// Operations on the metadata directory of a stopped master.
pub mod offline {
    pub use crate::db::{Database, OpenError};
    pub use crate::list::{ListQuery, page};
    pub use crate::rebuild::{Options, RebuildError, RebuildProgress, Report, rebuild};
    pub use crate::restore::{check, restore};
}

/// For the simulator, benchmarks and tests of the tables. Not a stable interface.
#[doc(hidden)]
pub mod internals {
    pub use crate::cluster::topology::{Availability, Topology, TopologyVolume};
    pub use crate::plan::rebalance::Balance;
    pub use crate::plan::repair::{BlobReplicas, RepairStep, next_step};
    pub use crate::plan::repair_scan::{RepairTask, ScanInput, scan_repairs};
    pub use crate::raft::group::Group;
    pub use crate::raft::{Batch, Peer};
    pub use crate::state::apply::apply;
    pub use crate::state::command::{Command, Commit};
    pub use crate::tables::object::{Blob, Object, read as read_object};
    pub use crate::tables::repair_queue::BlobRef;
    pub use crate::tables::replica::read as read_replica;
    pub use crate::tables::replication_mode::ReplicationMode;
    pub use crate::tables::{Kind, Tables, encode, scan};
}

/// Interval between checks whether the tables are due for proving or comparing.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Why a master stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Open(#[from] db::OpenError),
    #[error(transparent)]
    Tables(#[from] TableError),
    /// An advertised address cannot be reached by others.
    #[error(transparent)]
    Nowhere(#[from] Nowhere),
    #[error("cannot determine the address this master listens on: {0}")]
    Address(#[from] std::io::Error),
    /// The log and the tables do not match, or cannot be read.
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(
        "the Raft consensus of this master failed: {reason}. See the log; fix the disk, then restart the master"
    )]
    ConsensusFailed { reason: String },
    #[error("--s3-domain cannot be used: {0}")]
    Domain(#[from] s3::DomainError),
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The metadata store failed while running: nothing may be acknowledged after that.
    #[error("the metadata store failed: {0}. Fix the disk, then restart the master")]
    MetadataFailed(Arc<TableError>),
}

impl RunError {
    /// Whether the metadata is corrupt or incomplete, so that other masters may have what is missing.
    fn is_corruption(&self) -> bool {
        match self {
            Self::Open(error) => error.is_corruption(),
            Self::Tables(error)
            | Self::Join(JoinError::Tables(error))
            | Self::Start(StartError::Tables(error)) => error.is_corruption(),
            Self::MetadataFailed(error) => error.is_corruption(),
            Self::Start(error) => matches!(error, StartError::Gap { .. }),
            _ => false,
        }
    }

    /// Whether a master restarted on this directory recovers its metadata from the others.
    pub fn heals(&self, data: &std::path::Path) -> bool {
        self.is_corruption() && OtherMasters::read(data).is_some()
    }
}

/// The listening sockets of a master.
#[derive(Debug)]
pub struct Listeners {
    /// The native API, and the calls of other servers.
    pub native: TcpListener,
    /// The S3 API.
    pub s3: Option<TcpListener>,
    /// The Redis protocol.
    pub resp: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(native: TcpListener) -> Self {
        Self { native, s3: None, resp: None }
    }
}

/// Runs a master on these sockets, until `shutdown`.
///
/// # Errors
/// When it cannot start, or its metadata store fails.
pub async fn run(config: Config, listeners: Listeners, shutdown: Shutdown) -> Result<(), RunError> {
    let Listeners { native: listener, s3, resp } = listeners;
    let scheme = scheme(config.tls.as_ref());
    let address = config.advertise.clone().unwrap_or(format!("{scheme}://{}", listener.local_addr()?));
    let public_url = config.public_url.clone().unwrap_or_else(|| address.clone());
    check_reachable(&address)?;
    check_reachable(&public_url)?;
    let metrics = Metrics::default();
    let master_metrics = MasterMetrics::new(&metrics);
    let peers = PeerClient::new(config.secret.clone(), config.clock.clone()).trusting(config.trust.clone());
    let tls = config.tls.clone();
    let me = Peer { address, public_url };
    let starting = start_group(&config, me, peers.clone(), &master_metrics);
    let group = tokio::select! {
        group = starting => Arc::new(group?),
        // Starting may take long: it may be waiting for other masters.
        () = shutdown.wait() => return Ok(()),
    };
    let checks = check_tables(&group, &shutdown);
    let policy = policy(&config, group.me(), &metrics);
    let probe = {
        let (http, url) = (peers.http().clone(), group.me().public_url.clone());
        tokio::spawn(async move { probe_public_url(&http, &url).await })
    };
    let http_metrics = HttpMetrics::new(&metrics);
    let audit = config.audit.clone();
    let apis = Apis::new(&config, &group, &peers, &policy, metrics, &shutdown);
    let (native, by_s3, by_resp) = (Arc::clone(&apis.native), Arc::clone(&apis.s3), Arc::clone(&apis.resp));
    let serving_resp = resp.map(|listener| by_resp.serve(listener, tls.clone(), shutdown.clone()));
    let serving_s3 = s3.map(|listener| {
        serve::run(listener, tls.clone(), by_s3, Arc::clone(&http_metrics), shutdown.clone())
    });
    let belonging =
        join_and_serve(config, Arc::clone(&group), peers, master_metrics, policy, apis, shutdown.clone());
    let mut failed = group.machine().failure();
    // The order matters: a master that has a cluster is ready before it accepts the first connection.
    let outcome = tokio::select! {
        biased;
        Err(error) = belonging => Err(error),
        Ok(error) = failed.wait_for(Option::is_some) => {
            let error = error.clone().unwrap_or_else(|| Arc::new(TableError::Panicked));
            Err(RunError::MetadataFailed(error))
        }
        why = group.stopped() => Err(RunError::ConsensusFailed { reason: why }),
        ((), _, _) = async {
            tokio::join!(
                serve::run(listener, tls, native, http_metrics, shutdown),
                futures_util::future::OptionFuture::from(serving_s3),
                futures_util::future::OptionFuture::from(serving_resp),
            )
        } => Ok(()),
    };
    if let Err(error) = &outcome {
        tracing::error!(%error, "the master stops because of an error");
    }
    probe.abort();
    checks.iter().for_each(tokio::task::JoinHandle::abort);
    if let Some(audit) = audit {
        audit.flush().await;
    }
    if outcome.is_ok() {
        group.stop().await;
    }
    outcome
}

/// Builds the policy by which requests with an access key, or without one, are authorized.
fn policy(config: &Config, me: &Peer, metrics: &Metrics) -> Arc<AuthConfig> {
    let own = || Hosts::own(&[&me.address, &me.public_url], config.s3.domain.as_deref());
    let open = config.open.then(|| if config.any_host { Hosts::Any } else { own() });
    Arc::new(AuthConfig { secret: config.secret.clone(), open, guesses: BruteForceGuard::new(metrics) })
}

async fn start_group(
    config: &Config,
    me: Peer,
    peers: PeerClient,
    metrics: &MasterMetrics,
) -> Result<Group, RunError> {
    loop {
        let error = match try_group(config, me.clone(), peers.clone(), metrics).await {
            Err(error) if error.is_corruption() => error,
            other => return other,
        };
        let Some(others) = OtherMasters::read(&config.data) else { return Err(error) };
        tracing::error!(%error, "the metadata is corrupt; this master fetches it from the others");
        raft::recover_tables::recover(&config.data, &others, &peers).await;
        metrics.healed.inc();
    }
}

async fn try_group(
    config: &Config,
    me: Peer,
    peers: PeerClient,
    metrics: &MasterMetrics,
) -> Result<Group, RunError> {
    let data = config.data.clone();
    let database = Arc::new(shared::work::blocking(move || Database::open(&data)).await?);
    let (commands, seconds) = (metrics.batch_commands.clone(), metrics.batch_seconds.clone());
    let observe = move |n: usize, s: f64| {
        commands.observe(u32::try_from(n).map_or(f64::INFINITY, f64::from));
        seconds.observe(s);
    };
    Ok(Group::start(database, me, peers, config.entries_kept, Box::new(observe)).await?)
}

struct Apis {
    native: Arc<http::NativeApi>,
    s3: Arc<s3::service::S3Api>,
    resp: Arc<resp::RespApi>,
}

impl Apis {
    fn new(
        config: &Config,
        group: &Arc<Group>,
        peers: &PeerClient,
        policy: &Arc<AuthConfig>,
        metrics: Metrics,
        shutdown: &Shutdown,
    ) -> Self {
        let audit = config.audit.clone();
        if let Some(audit) = &audit {
            audit.register(&metrics);
            tokio::spawn(audit.clone().reopen_on_hangup(shutdown.clone()));
        }
        let masters_api = http::masters::MastersApi {
            group: Arc::clone(group),
            peers: peers.clone(),
            policy: Arc::clone(policy),
        };
        let calls = CallVerifier::new(config.secret.clone(), config.clock.clone(), &metrics);
        let s3 = Arc::new(s3::service::S3Api::with_audit(audit.clone()));
        let resp = resp::RespApi::new(resp::metrics::RespMetrics::new(&metrics), audit.clone());
        let native = http::NativeApi { masters_api, calls, master: SetOnce::new(), metrics, audit };
        Self { native: Arc::new(native), s3, resp: Arc::new(resp) }
    }
}

/// Joins or creates this master's cluster, then serves it until `shutdown`.
async fn join_and_serve(
    config: Config,
    group: Arc<Group>,
    peers: PeerClient,
    metrics: MasterMetrics,
    policy: Arc<AuthConfig>,
    apis: Apis,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    let cluster = join::cluster(&config, &group, &peers).await?;
    let master = assemble(config, cluster, group, peers, metrics, policy)?;
    tracing::info!(%cluster, master = master.group.id(), address = master.group.me().address, "master started");
    let mut workers = work::start(&master, &shutdown);
    apis.s3.open(&master)?;
    apis.resp.open(&master);
    let _ = apis.native.master.set(Arc::clone(&master));
    workers.push(tokio::spawn(join::become_voter(Arc::clone(&master))));
    shutdown.wait().await;
    for worker in workers {
        worker.abort();
    }
    // The caller stops when its listeners end, not when this future does.
    std::future::pending().await
}

/// Assembles a master; its workers are not started.
fn assemble(
    config: Config,
    cluster: ClusterId,
    group: Arc<Group>,
    peers: PeerClient,
    metrics: MasterMetrics,
    policy: Arc<AuthConfig>,
) -> Result<Arc<Master>, TableError> {
    let clock = GroupClock::new(config.clock.clone(), Arc::clone(&group), peers.clone());
    let metadata = Metadata::new(&group, clock, config.mode);
    let known = volume::all(&metadata.database.tree())?;
    let cluster = Cluster::new(cluster, config.down_after, config.repair_after, known);
    let sequencer = Sequencer::start(Arc::clone(&group), peers.clone(), config.clock.clone());
    let volumes = Arc::new(Volumes::new(cluster, peers, group.me().clone(), &config));
    Ok(Arc::new(Master {
        changes: Arc::new(Changes::new(sequencer, metadata.clone(), Arc::clone(&volumes))),
        config: Arc::new(config),
        policy,
        group,
        metadata,
        volumes,
        repair: Arc::default(),
        metrics: Arc::new(metrics),
    }))
}

/// Starts the background checks of the tables.
fn check_tables(group: &Arc<Group>, shutdown: &Shutdown) -> [tokio::task::JoinHandle<()>; 2] {
    let nudge = || Arc::new(Notify::new());
    let (proving, comparing) = (Proving::new(Arc::clone(group)), Comparing::new(Arc::clone(group)));
    [
        tokio::spawn(run_worker(proving, CHECK_INTERVAL, nudge(), shutdown.clone())),
        tokio::spawn(run_worker(comparing, CHECK_INTERVAL, nudge(), shutdown.clone())),
    ]
}
