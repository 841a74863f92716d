//! The command line of `master`, and how it becomes a `Config`. The one place of this crate where an
//! environment variable is read, by clap.

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
use crate::tables::mode::Mode;

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
    /// Copies of each value.
    #[arg(long, default_value_t = 2)]
    replicas: usize,
    /// Copies without which an upload fails; the majority of --replicas by default.
    #[arg(long)]
    min_replicas: Option<usize>,
    /// Where volumes reach this master, as http://HOST:PORT.
    #[arg(long)]
    advertise: Option<String>,
    /// Where clients reach this master, as http://HOST:PORT.
    #[arg(long)]
    public_url: Option<String>,
    /// A volume that is silent for so long is not used.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "3s")]
    down_after: Duration,
    #[command(flatten)]
    care: CareArgs,
    /// A record that no key names is collected when it is this old.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10m")]
    orphan_grace: Duration,
    /// Masters of a cluster to join, as http://HOST:PORT separated by commas, when the directory is new.
    #[arg(long, value_delimiter = ',', conflicts_with = "wait")]
    join: Vec<String>,
    /// Wait for `barge cluster init` or `barge cluster masters add` when the directory is new.
    #[arg(long)]
    wait: bool,
    /// Entries of the log that are kept for masters that were away.
    #[arg(long, default_value_t = RAFT_ENTRIES_KEPT, hide = true)]
    log_entries_kept: u64,
    /// The cluster's secret; by default one in your configuration folder, made at the first start.
    #[arg(long)]
    secret_file: Option<PathBuf>,
    /// As long as there is no access key, let anybody do anything who reaches an address that is not loopback, for any Host.
    #[arg(long)]
    insecure_no_auth: bool,
    /// Stream all values through this master, for clients that cannot follow a redirect to a volume.
    #[arg(long)]
    no_redirect: bool,
    /// Speak TLS only, with the certificate chain in this PEM file; it is read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of that certificate, as a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Trust other servers whose certificates are signed by one in this PEM file; by default the system's authorities.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Note every request in this file, as lines of JSON; it is opened again at SIGHUP.
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,
    #[command(flatten)]
    s3: S3Args,
    /// text or json.
    #[arg(long, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    #[arg(long, env = "XDG_CONFIG_HOME", hide = true)]
    xdg_config_home: Option<String>,
    #[arg(long, env = "HOME", hide = true)]
    home: Option<String>,
}

/// How a cluster looks after its copies; the same for `master` and `barge server`.
#[derive(Clone, Debug, clap::Args)]
pub struct CareArgs {
    /// Silence after which the replicas of a volume are re-created on others
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10m")]
    repair_after: Duration,
    /// Bytes a second of copies that each volume takes in while values are repaired or moved; 0 is no limit
    #[arg(long, value_name = "BYTES", default_value_t = REPAIR_RATE, value_parser = size::bytes)]
    repair_rate: u64,
    /// When an upload is acknowledged: sync, when all copies are durable; quorum, when the majority is; async, when one is
    #[arg(long, value_name = "MODE", default_value_t = Mode::Sync)]
    replication: Mode,
    /// How often the missing replicas of async uploads are made
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10s")]
    async_every: Duration,
}

impl CareArgs {
    /// Puts them where a master finds them.
    pub fn apply(&self, config: &mut Config) {
        config.repair_after = self.repair_after;
        config.repair_rate = self.repair_rate;
        config.mode = self.replication;
        config.async_every = self.async_every;
    }
}

/// The arguments do not go together.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// Copies.
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    /// The secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl Args {
    /// Where S3 clients are answered, if they are.
    pub fn s3_listen(&self) -> Option<SocketAddr> {
        self.s3.s3_listen
    }

    /// Checks them. The second part is where to listen.
    ///
    /// # Errors
    /// When they do not go together, or the secret cannot be read.
    pub fn into_config(self) -> Result<(Config, SocketAddr), ArgsError> {
        let listen = self.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], self.port)));
        for listen in [Some(listen), self.s3.s3_listen].into_iter().flatten() {
            exposure::say(listen, self.insecure_no_auth);
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
        self.care.apply(&mut config);
        self.s3.apply(&mut config);
        let listening = [Some(listen), self.s3.s3_listen].into_iter().flatten();
        config.open = exposure::open_without_keys(listening, self.insecure_no_auth);
        config.any_host = self.insecure_no_auth;
        config.no_redirect = self.no_redirect;
        Ok((config, listen))
    }
}
