//! The command line: all arguments and their help texts. Environment variables are read here and nowhere else.

mod bench;
mod cluster;
pub(crate) mod keys;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use master::{RepairArgs, S3Args};
use shared::expiry::Expires;
use shared::key::Key;
use shared::limits::{LIST_LIMIT, LIST_LIMIT_MAX};
use shared::secret::{ClusterSecret, SecretError};
use shared::size::ByteSize;
use shared::telemetry::LogFormat;

pub(crate) use self::bench::{BenchArgs, BenchOp};
pub(crate) use self::cluster::{
    BackupArgs, ClusterCommand, DoctorArgs, DrainArgs, InitArgs, MastersCommand, OrphansArgs, QueryArgs,
    RebalanceArgs, RebalanceVerb, RebuildArgs, ReplicationArgs, RestoreArgs, StatusArgs, WatchArgs,
};
use self::keys::{KeyCommand, ShownKey};

/// Equals `shared::limits::RESERVE_BYTES`; a test checks this.
const RESERVE: &str = "256MiB";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  any other failure
  2  invalid command line
  3  there is no such key
  4  the key exists, is not the expected version, or the cluster's state forbids it
  5  the cluster is unreachable, busy or full: retry later
  6  the bytes do not match what was stored";

/// Barge: a blob store for large values.
#[derive(Debug, Parser)]
#[command(name = "barge", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Args {
    /// The base URL of a master; several, separated by commas, are tried in turn
    #[arg(long, global = true, env = "BARGE_URL", default_value = "http://localhost:3000")]
    pub(crate) url: String,
    /// Print results and errors as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The access key sent to the masters; safer in the environment, where other users cannot see it
    #[arg(long, global = true, env = "BARGE_ACCESS_KEY", hide_env_values = true, value_name = "ID:SECRET")]
    pub(crate) access_key: Option<ShownKey>,
    /// Trust only servers with a certificate signed by an authority in this PEM file [default:
    /// the system's authorities]
    #[arg(long, global = true, env = "BARGE_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run masters and volumes in this one process
    Server(Box<ServerArgs>),
    /// Store a file, or standard input, under a key
    Put(PutArgs),
    /// Fetch a value into a file; resumes an interrupted download
    Get(GetArgs),
    /// Write a value, or a range of it, to standard output
    Cat(CatArgs),
    /// Delete one or more keys
    Rm(RmArgs),
    /// List keys, or those with a prefix
    Ls(LsArgs),
    /// Show a key's metadata
    Stat(StatArgs),
    /// Show where a value's replicas are, and why
    Explain(ExplainArgs),
    /// Create, list and revoke access keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Inspect and maintain the cluster
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Inspect a volume's disk while the volume is stopped; changes nothing
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Generate load and measure it
    Bench(BenchArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// The directory that holds the directories of all masters and volumes
    #[arg(long, value_name = "DIR", default_value = "./barge-data")]
    pub(crate) data: PathBuf,
    /// Masters to run: 1, or 3 for failover
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) masters: usize,
    /// Volumes to run
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) volumes: usize,
    /// Replicas of each value
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) replicas: usize,
    /// Replicas without which an upload fails [default: the majority of --replicas]
    #[arg(long, value_name = "N")]
    pub(crate) min_replicas: Option<usize>,
    /// The first master's address; volumes take the ports after it, further masters the ports after those
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) repair: RepairArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
    /// Address of the Redis protocol [default: port 6380 on 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    pub(crate) resp_listen: Option<SocketAddr>,
    /// The URL at which clients reach the master, if it differs from --listen
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// Until the first access key exists, let anyone do anything on addresses that are not loopback, with
    /// any Host header
    #[arg(long)]
    pub(crate) insecure_no_auth: bool,
    /// Stream all values through the masters, for clients that cannot follow a redirect to a volume
    #[arg(long)]
    pub(crate) no_redirect: bool,
    /// Accept TLS only, with the certificate chain in this PEM file; the file is reloaded when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The private key of that certificate, as a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Log every request to this file, as lines of JSON; the file is reopened on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<PathBuf>,
    /// The format of log lines: text or json
    #[arg(long, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Free bytes on each volume that are never used for values
    #[arg(long, value_name = "BYTES", default_value = RESERVE)]
    pub(crate) reserve: ByteSize,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PutArgs {
    /// The file, or - for standard input
    pub(crate) file: PathBuf,
    /// The key to store the file under
    pub(crate) key: Key,
    /// The value's media type, returned with it
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
    /// User metadata, returned as Barge-Meta-NAME; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub(crate) meta: Vec<(String, String)>,
    /// When the value expires: after a time (90s, 12h, 7d), or at a date (2027-01-31T12:00:00Z)
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<Expires>,
    /// Store only if the key has no value yet
    #[arg(long, conflicts_with = "if_match")]
    pub(crate) if_absent: bool,
    /// Store only if the current value has this BLAKE3 digest (shown by `barge stat`)
    #[arg(long, value_name = "ETAG")]
    pub(crate) if_match: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// The key to fetch
    pub(crate) key: Key,
    /// The file, a directory, or - for standard output [default: the last path segment of the key]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CatArgs {
    /// The key to print
    pub(crate) key: Key,
    /// Only these bytes: FIRST-LAST, FIRST- or -COUNT
    #[arg(long, allow_hyphen_values = true, value_parser = range)]
    pub(crate) range: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// The keys to delete
    #[arg(required = true)]
    pub(crate) keys: Vec<Key>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// List keys that begin with this
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    /// Group keys by their prefix up to this character, like folders
    #[arg(long, value_name = "CHAR")]
    pub(crate) delimiter: Option<char>,
    /// The most entries to show [default: one page]
    #[arg(long, value_name = "N", conflicts_with = "all")]
    pub(crate) limit: Option<usize>,
    /// Show all entries, page by page
    #[arg(long)]
    pub(crate) all: bool,
    /// Start after this key
    #[arg(long, value_name = "KEY")]
    pub(crate) start: Option<String>,
    /// Also show size, date and digest
    #[arg(long, short)]
    pub(crate) long: bool,
}

impl LsArgs {
    /// The most entries to show in total.
    pub(crate) fn entries_max(&self) -> usize {
        if self.all { usize::MAX } else { self.limit.unwrap_or(LIST_LIMIT) }
    }

    /// The page size to request when `wanted` more entries are to be shown.
    pub(crate) fn page(&self, wanted: usize) -> usize {
        wanted.min(if self.all { LIST_LIMIT } else { LIST_LIMIT_MAX })
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatArgs {
    /// The key to describe
    pub(crate) key: Key,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// The key to explain
    pub(crate) key: Key,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

/// The cluster's secret, which signs calls to servers.
#[derive(Debug, clap::Args)]
pub(crate) struct SecretArgs {
    /// The file with the cluster's secret [default: barge/secret in your configuration directory]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    #[arg(long, env = "XDG_CONFIG_HOME", hide = true)]
    xdg_config_home: Option<String>,
    #[arg(long, env = "HOME", hide = true)]
    home: Option<String>,
}

impl SecretArgs {
    /// Whether the file was named on the command line, rather than searched for.
    pub(crate) fn is_named(&self) -> bool {
        self.secret_file.is_some()
    }

    /// Reads the secret.
    pub(crate) fn find(&self) -> Result<ClusterSecret, SecretError> {
        let (config, home) = (self.xdg_config_home.as_deref(), self.home.as_deref());
        ClusterSecret::find(self.secret_file.as_deref(), config, home)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Read and verify every byte; exits with 6 if anything is corrupt
    Check(VolumeCheckArgs),
    /// Show what the segments hold, by indexes and headers alone
    Inspect(VolumeInspectArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct VolumeCheckArgs {
    /// The volume's directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VolumeInspectArgs {
    /// The volume's directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Show every record instead of every segment
    #[arg(long)]
    pub(crate) records: bool,
}

fn name_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || !name.bytes().all(token) {
        return Err("a name consists of letters, digits, - and _");
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn range(text: &str) -> Result<String, &'static str> {
    let number = |s: &str| s.is_empty() || s.parse::<u64>().is_ok();
    match text.split_once('-') {
        Some((first, last)) if number(first) && number(last) && text.len() > 1 => Ok(text.to_owned()),
        _ => Err("expected FIRST-LAST, FIRST- or -COUNT, in bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn defaults_are_the_limits() {
        assert_eq!(RESERVE.parse(), Ok(ByteSize(shared::limits::RESERVE_BYTES)));
    }

    #[test]
    fn values_are_parsed_at_the_edge() {
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        assert!(parse("barge put - a/b --meta owner=me --if-absent").is_ok());
        assert!(parse("barge put f a/b --if-absent --if-match x").is_err());
        assert!(parse("barge put f a/b --expires 7d").is_ok());
        assert!(parse("barge put f a/b --expires soon").is_err());
        assert!(parse("barge put f a/../b").is_err());
        assert!(parse("barge put f k --meta owner").is_err());
        assert!(parse("barge cat k --range -5").is_ok());
        assert!(parse("barge cat k --range 5-x").is_err());
        assert!(parse("barge rm").is_err());
        assert!(parse("barge bench --op get --size 1GiB --duration 3s --json").is_ok());
        assert!(parse("barge bench --op get --concurrency 0").is_err());
        assert!(parse("barge cluster rebuild dir --volumes a:1,b:2 --replicas 3 --dry-run --json").is_ok());
        assert!(parse("barge cluster rebuild dir").is_err());
    }
}
