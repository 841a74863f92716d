//! The master: what is known of every key, where its bytes are, who may write them.
//!
//! `run(config, listener, shutdown)` is the whole server; the caller owns address and signal. No value
//! byte touches this crate's disk.

mod args;
mod audit;
mod auth;
mod care;
mod change;
mod cluster;
mod config;
mod cors;
mod db;
mod delete_acks;
mod http;
mod join;
mod list;
mod master;
mod metrics;
mod plan;
mod program;
mod raft;
mod read;
mod rebuild;
mod redirect;
mod registration;
mod restore;
mod s3;
mod sequencer;
mod snapshot;
mod state;
mod tables;
#[cfg(test)]
mod trickle;
mod work;
mod write;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use shared::http::client::{Nowhere, PeerClient, check_reachable, probe_public_url};
use shared::http::serve;
use shared::http::signed::Calls;
use shared::http::tls::scheme;
use shared::ids::ClusterId;
use shared::telemetry::{HttpMetrics, Metrics};
use shared::work::{Shutdown, run_worker};
use tokio::net::TcpListener;
use tokio::sync::{Notify, SetOnce};

use crate::auth::Policy;
use crate::auth::browser::Hosts;
use crate::auth::guesses::Guesses;
use crate::cluster::Cluster;
use crate::db::Database;
use crate::db::other_masters::OtherMasters;
use crate::master::Master;
use crate::metrics::MasterMetrics;
use crate::raft::Peer;
use crate::raft::content::{Comparing, Proving};
use crate::raft::group::Group;
use crate::sequencer::Sequencer;
use crate::tables::{TableError, volume};

pub use crate::args::CareArgs;
pub use crate::audit::Audit;
pub use crate::config::{Config, Replication, ReplicationError, S3Settings};
pub use crate::program::main;
pub use crate::raft::genesis::StartError;
pub use crate::raft::rpc::Envelope;
pub use crate::s3::args::S3Args;
pub use crate::s3::auth::OPEN_SECRET;

/// What works on the metadata directory of a master that is stopped.
pub mod offline {
    pub use crate::db::{Database, OpenError};
    pub use crate::list::{ListQuery, page};
    pub use crate::rebuild::{Options, Progress, RebuildError, Report, rebuild};
    pub use crate::restore::{check, restore};
}

/// For the simulator, benchmarks and tests of the tables. Not an interface: it changes as they do.
#[doc(hidden)]
pub mod internals {
    pub use crate::cluster::topology::{Condition, Seat, Topology};
    pub use crate::plan::rebalance::Balance;
    pub use crate::plan::repair::{Held, Verdict, judge};
    pub use crate::plan::survey::{Action, Question, survey};
    pub use crate::raft::group::Group;
    pub use crate::raft::{Batch, Peer};
    pub use crate::state::apply::apply;
    pub use crate::state::command::{Command, Commit};
    pub use crate::tables::mode::Mode;
    pub use crate::tables::object::{Blob, Object, read as read_object};
    pub use crate::tables::replica::read as read_replica;
    pub use crate::tables::unsettled::Spot;
    pub use crate::tables::{Kind, Tables, encode, scan};
}

/// Whether the tables are to be proved or compared is looked at so often.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Why a master stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Open(#[from] db::OpenError),
    #[error(transparent)]
    Tables(#[from] TableError),
    /// The addresses it would give to others.
    #[error(transparent)]
    Nowhere(#[from] Nowhere),
    #[error("cannot tell its own address: {0}")]
    Address(#[from] std::io::Error),
    /// Log and tables do not go together, or cannot be read.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its part in the group of masters.
    #[error(
        "the consensus of the masters failed: {0}. See the log; mend the disk, then start the master again"
    )]
    ConsensusFailed(String),
    /// The domain of its buckets.
    #[error("buckets cannot stand in front of that domain: {0}")]
    Domain(#[from] s3::DomainError),
    /// No cluster begins.
    #[error("a new cluster cannot be begun: {0}")]
    NotFounded(String),
    /// Its disk, in the middle of work: nothing may be acknowledged after that.
    #[error("the metadata store failed: {0}. Mend the disk, then start the master again")]
    MetadataFailed(Arc<TableError>),
}

impl RunError {
    /// Whether the metadata is damaged, and other masters may have it.
    fn is_damage(&self) -> bool {
        match self {
            Self::Open(error) => error.is_damage(),
            Self::Tables(error) | Self::Start(StartError::Tables(error)) => error.is_damage(),
            Self::MetadataFailed(error) => error.is_damage(),
            Self::Start(error) => matches!(error, StartError::Gap { .. }),
            _ => false,
        }
    }

    /// Whether a master on this directory, started again, gets its metadata from the others.
    pub fn heals(&self, data: &std::path::Path) -> bool {
        self.is_damage() && OtherMasters::read(data).is_some()
    }
}

/// Runs a master on `listener`, and by S3 on `s3` where there is one, until `shutdown`.
///
/// # Errors
/// When it cannot start, or its metadata store fails.
pub async fn run(
    config: Config,
    listener: TcpListener,
    s3: Option<TcpListener>,
    shutdown: Shutdown,
) -> Result<(), RunError> {
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
        // It may be waiting for other masters.
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
    let faces = Faces::new(&config, &group, &peers, &policy, metrics, &shutdown);
    let (native, by_s3) = (Arc::clone(&faces.native), Arc::clone(&faces.s3));
    let serving_s3 = s3.map(|listener| {
        serve::run(listener, tls.clone(), by_s3, Arc::clone(&http_metrics), shutdown.clone())
    });
    let belonging =
        belong(config, Arc::clone(&group), peers, master_metrics, policy, faces, shutdown.clone());
    let mut failed = group.machine().failure();
    // In this order: a master that has a cluster serves it before it takes the first connection.
    let outcome = tokio::select! {
        biased;
        Err(error) = belonging => Err(error),
        Ok(error) = failed.wait_for(Option::is_some) => {
            let error = error.clone().unwrap_or_else(|| Arc::new(TableError::Panicked));
            Err(RunError::MetadataFailed(error))
        }
        why = group.stopped() => Err(RunError::ConsensusFailed(why)),
        ((), _) = async {
            tokio::join!(
                serve::run(listener, tls, native, http_metrics, shutdown),
                futures_util::future::OptionFuture::from(serving_s3),
            )
        } => Ok(()),
    };
    if let Err(error) = &outcome {
        tracing::error!(%error, "this master ends");
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

/// How this master judges those who show access keys, or none.
fn policy(config: &Config, me: &Peer, metrics: &Metrics) -> Arc<Policy> {
    let own = || Hosts::own(&[&me.address, &me.public_url], config.s3.domain.as_deref());
    let open = config.open.then(|| if config.any_host { Hosts::Any } else { own() });
    Arc::new(Policy { secret: config.secret.clone(), open, guesses: Guesses::new(metrics) })
}

async fn start_group(
    config: &Config,
    me: Peer,
    peers: PeerClient,
    metrics: &MasterMetrics,
) -> Result<Group, RunError> {
    loop {
        let error = match try_group(config, me.clone(), peers.clone(), metrics).await {
            Err(error) if error.is_damage() => error,
            other => return other,
        };
        let Some(others) = OtherMasters::read(&config.data) else { return Err(error) };
        tracing::error!(%error, "the metadata is damaged; this master asks the others for theirs");
        raft::heal::heal(&config.data, &others, &peers).await;
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

/// What clients see of a master.
struct Faces {
    native: Arc<http::Face>,
    s3: Arc<s3::Face>,
}

impl Faces {
    fn new(
        config: &Config,
        group: &Arc<Group>,
        peers: &PeerClient,
        policy: &Arc<Policy>,
        metrics: Metrics,
        shutdown: &Shutdown,
    ) -> Self {
        let audit = config.audit.clone();
        if let Some(audit) = &audit {
            audit.register(&metrics);
            tokio::spawn(audit.clone().reopen_on_hangup(shutdown.clone()));
        }
        let desk = http::masters::Desk {
            group: Arc::clone(group),
            peers: peers.clone(),
            policy: Arc::clone(policy),
        };
        let calls = Calls::new(config.secret.clone(), config.clock.clone(), &metrics);
        let s3 = Arc::new(s3::Face::noting(audit.clone()));
        let native = http::Face { desk, calls, master: SetOnce::new(), metrics, audit };
        Self { native: Arc::new(native), s3 }
    }
}

/// Finds this master's cluster, or begins one, and then serves it until the end.
async fn belong(
    config: Config,
    group: Arc<Group>,
    peers: PeerClient,
    metrics: MasterMetrics,
    policy: Arc<Policy>,
    faces: Faces,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    let cluster = join::cluster(&config, &group, &peers).await?;
    let master = assemble(config, cluster, group, peers, metrics, policy)?;
    tracing::info!(%cluster, master = master.group.id(), address = master.address, "master started");
    let mut workers = work::start(&master, &shutdown);
    faces.s3.open(&master)?;
    let _ = faces.native.master.set(Arc::clone(&master));
    workers.push(tokio::spawn(join::become_voter(Arc::clone(&master))));
    shutdown.wait().await;
    for worker in workers {
        worker.abort();
    }
    // Whoever runs this ends with the listener, not with us.
    std::future::pending().await
}

/// A master of a cluster whose workers have not been started.
fn assemble(
    config: Config,
    cluster: ClusterId,
    group: Arc<Group>,
    peers: PeerClient,
    metrics: MasterMetrics,
    policy: Arc<Policy>,
) -> Result<Arc<Master>, TableError> {
    let database = Arc::clone(group.machine().database());
    let known = volume::all(&database.tree())?;
    Ok(Arc::new(Master {
        sequencer: Sequencer::start(Arc::clone(&group), peers.clone(), config.clock.clone()),
        cluster: Cluster::new(cluster, config.down_after, config.repair_after, known),
        peers,
        policy,
        address: group.me().address.clone(),
        public_url: group.me().public_url.clone(),
        metrics,
        reclaim: Arc::new(Notify::new()),
        scrap: Arc::new(Notify::new()),
        delete_acks: delete_acks::DeleteAcks::default(),
        care: care::Care::default(),
        turn: AtomicUsize::new(0),
        database,
        group,
        config,
    }))
}

/// Has this master look after its tables, from its start on.
fn check_tables(group: &Arc<Group>, shutdown: &Shutdown) -> [tokio::task::JoinHandle<()>; 2] {
    let nudge = || Arc::new(Notify::new());
    let (proving, comparing) = (Proving::new(Arc::clone(group)), Comparing::new(Arc::clone(group)));
    [
        tokio::spawn(run_worker(proving, CHECK_INTERVAL, nudge(), shutdown.clone())),
        tokio::spawn(run_worker(comparing, CHECK_INTERVAL, nudge(), shutdown.clone())),
    ]
}
