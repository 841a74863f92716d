//! The command line of `master`, and its conversion to a `Config`. The only place in this crate that reads
//! environment variables (through clap).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use shared::http::client::base_url_by;
use shared::http::exposure;
use shared::http::tls::{Tls, TlsError, scheme};
use shared::http::trust::Trust;
use shared::limits::{RAFT_ENTRIES_KEPT, REPAIR_RATE};
use shared::secret::{ClusterSecret, SecretError};
use shared::size;
use shared::telemetry::LogFormat;

use crate::audit::{Audit, AuditError};
use crate::config::{Config, Replication, ReplicationError};
use crate::s3::args::S3Args;
use crate::tables::replication_mode::ReplicationMode;

/// Barge's master: key metadata, placement, tickets and commits.
///
///   master localhost:3001,localhost:3002 ./cachedb/     volumes from a list
///   master ./cachedb/                                   volumes register themselves
///   master --join http://localhost:3000 --port 3010 ./cachedb2/     one more master
#[derive(Clone, Debug, Parser)]
#[command(version, verbatim_doc_comment)]
pub struct Args {
    /// `[VOLUMES] DIR`: volumes to ask, HOST:PORT separated by commas, and the metadata directory.
    #[arg(required = true, num_args = 1..=2, value_names = ["VOLUMES", "DIR"])]
    positional: Vec<String>,
    /// Port on 127.0.0.1.
    #[arg(long, env = "PORT", default_value_t = 3000)]
    port: u16,
    /// Address to listen on instead of 127.0.0.1:PORT.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Number of replicas of each value.
    #[arg(long, default_value_t = 2)]
    replicas: usize,
    /// Durable replicas that an upload needs to succeed; by default the majority of --replicas.
    #[arg(long)]
    min_replicas: Option<usize>,
    /// URL at which volumes reach this master, as http://HOST:PORT.
    #[arg(long)]
    advertise: Option<String>,
    /// URL at which clients reach this master, as http://HOST:PORT.
    #[arg(long)]
    public_url: Option<String>,
    /// Silence after which a volume is considered down and is not used.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "3s")]
    down_after: Duration,
    #[command(flatten)]
    repair: RepairArgs,
    /// Age at which a record that no object references (an orphan) is deleted.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10m")]
    orphan_grace: Duration,
    /// If the directory is new: masters of the cluster to join, as http://HOST:PORT separated by commas.
    #[arg(long, value_delimiter = ',', conflicts_with = "wait")]
    join: Vec<String>,
    /// If the directory is new: wait for `barge cluster init` or `barge cluster masters add`.
    #[arg(long)]
    wait: bool,
    /// Log entries kept for masters that fall behind.
    #[arg(long, default_value_t = RAFT_ENTRIES_KEPT, hide = true)]
    log_entries_kept: u64,
    /// File with the cluster's secret; by default in your configuration folder, created at the first start.
    #[arg(long)]
    secret_file: Option<PathBuf>,
    /// While no access key exists, allow every request, also on addresses that are not loopback and for any Host.
    #[arg(long)]
    insecure_no_auth: bool,
    /// Stream all values through this master, for clients that cannot follow a redirect to a volume.
    #[arg(long)]
    no_redirect: bool,
    /// Speak only TLS, with the certificate chain in this PEM file; it is reloaded when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of that certificate, as a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Trust other servers whose certificates an authority in this PEM file has signed; by default
    /// the system's authorities.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Log every request to this file, one line of JSON each; SIGHUP reopens it.
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,
    #[command(flatten)]
    s3: S3Args,
    /// Address of the Redis protocol [default: none].
    #[arg(long, value_name = "ADDR")]
    resp_listen: Option<SocketAddr>,
    /// Format of the log: text or json.
    #[arg(long, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    #[arg(long, env = "XDG_CONFIG_HOME", hide = true)]
    xdg_config_home: Option<String>,
    #[arg(long, env = "HOME", hide = true)]
    home: Option<String>,
}

/// How a cluster maintains its replicas; shared by `master` and `barge server`.
#[derive(Clone, Debug, clap::Args)]
pub struct RepairArgs {
    /// Silence after which the replicas of a volume are re-created on others
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10m")]
    repair_after: Duration,
    /// Bytes per second that each volume receives for repair and rebalancing; 0 means no limit
    #[arg(long, value_name = "BYTES", default_value_t = REPAIR_RATE, value_parser = size::bytes)]
    repair_rate: u64,
    /// When an upload is acknowledged: sync, once all replicas are durable; quorum, once a majority is; async,
    /// once one is
    #[arg(long, value_name = "MODE", default_value_t = ReplicationMode::Sync)]
    replication: ReplicationMode,
    /// Interval at which the missing replicas of async uploads are added
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10s")]
    async_every: Duration,
}

impl RepairArgs {
    /// Copies these settings into `config`.
    pub fn apply(&self, config: &mut Config) {
        config.repair_after = self.repair_after;
        config.repair_rate = self.repair_rate;
        config.mode = self.replication;
        config.async_every = self.async_every;
    }
}

/// Arguments that conflict or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl Args {
    /// Returns the address of the S3 API, if it is enabled.
    pub fn s3_listen(&self) -> Option<SocketAddr> {
        self.s3.s3_listen
    }

    /// Returns the address of the Redis protocol, if it is enabled.
    pub fn resp_listen(&self) -> Option<SocketAddr> {
        self.resp_listen
    }

    /// Validates the arguments; returns the configuration and the address to listen on.
    ///
    /// # Errors
    /// When arguments conflict, or a file that they name cannot be read.
    pub fn into_config(self) -> Result<(Config, SocketAddr), ArgsError> {
        let listen = self.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], self.port)));
        for listen in [Some(listen), self.s3.s3_listen, self.resp_listen].into_iter().flatten() {
            exposure::log_exposure(listen, self.insecure_no_auth);
        }
        let secret = ClusterSecret::find(
            self.secret_file.as_deref(),
            self.xdg_config_home.as_deref(),
            self.home.as_deref(),
        )?;
        let tls = Tls::from_options(self.tls_cert.as_deref(), self.tls_key.as_deref())?;
        let base_url = |text: &str| base_url_by(scheme(tls.as_ref()), text);
        let (list, data) = match self.positional.as_slice() {
            [list, data] => (list.as_str(), data),
            [data, ..] => ("", data),
            [] => ("", &String::new()),
        };
        let replication = Replication::new(self.replicas, self.min_replicas)?;
        let mut config = Config::new(PathBuf::from(data), secret, replication);
        config.volumes = list.split(',').filter(|v| !v.is_empty()).map(base_url).collect();
        config.advertise = self.advertise.as_deref().map(base_url);
        config.public_url = self.public_url.as_deref().map(base_url);
        config.join = self.join.iter().map(|m| base_url(m)).collect();
        config.trust = Trust::from_option(self.tls_ca.as_deref())?;
        config.tls = tls;
        config.audit = self.audit_log.as_deref().map(Audit::open).transpose()?;
        config.wait = self.wait;
        config.entries_kept = self.log_entries_kept;
        config.down_after = self.down_after;
        config.orphan_grace = self.orphan_grace;
        self.repair.apply(&mut config);
        self.s3.apply(&mut config);
        let listening = [Some(listen), self.s3.s3_listen, self.resp_listen].into_iter().flatten();
        config.open = exposure::open_without_keys(listening, self.insecure_no_auth);
        config.any_host = self.insecure_no_auth;
        config.no_redirect = self.no_redirect;
        Ok((config, listen))
    }
}
