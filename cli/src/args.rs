//! What the command line may say. Environment variables are read here and nowhere else.

mod bench;
mod cluster;
pub(crate) mod keys;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use master::{CareArgs, S3Args};
use shared::key::Key;
use shared::limits::{LIST_LIMIT, LIST_LIMIT_MAX};
use shared::secret::{ClusterSecret, SecretError};
use shared::size::ByteSize;
use shared::telemetry::LogFormat;

pub(crate) use self::bench::{BenchArgs, BenchOp};
pub(crate) use self::cluster::{
    BackupArgs, ClusterCommand, DoctorArgs, DutyArgs, InitArgs, LookArgs, MastersCommand, OrphansArgs,
    RebalanceArgs, RebuildArgs, ReplicationArgs, RestoreArgs, StatusArgs, Steer, WatchArgs,
};
use self::keys::{KeyCommand, Shown};

/// As `shared::limits::RESERVE_BYTES`; a test holds them together.
const RESERVE: &str = "256MiB";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed in another way than these
  2  the command line is wrong
  3  there is no such key
  4  the key exists, is not the version that was expected, or the state of the cluster forbids it
  5  the cluster is out of reach, busy or full: try again
  6  the bytes are not the ones that were stored";

/// Barge: a blob store for large values.
#[derive(Debug, Parser)]
#[command(name = "barge", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Args {
    /// The master, as a base URL; several, separated by commas, are tried in turns
    #[arg(long, global = true, env = "BARGE_URL", default_value = "http://localhost:3000")]
    pub(crate) url: String,
    /// Results and errors as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The access key to show to the masters; better in the environment, where other users do not see it
    #[arg(long, global = true, env = "BARGE_ACCESS_KEY", hide_env_values = true, value_name = "ID:SECRET")]
    pub(crate) access_key: Option<Shown>,
    /// Trust servers whose certificates are signed by one in this PEM file [default: the system's authorities]
    #[arg(long, global = true, env = "BARGE_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a master and volumes in this one process
    Server(Box<ServerArgs>),
    /// Store a file, or standard input, under a key
    Put(PutArgs),
    /// Fetch a value into a file; goes on where an interrupted download stopped
    Get(GetArgs),
    /// Write a value, or a range of it, to standard output
    Cat(CatArgs),
    /// Delete keys
    Rm(RmArgs),
    /// List keys
    Ls(LsArgs),
    /// Show what the cluster knows of a key
    Stat(StatArgs),
    /// Show where a value is, and why it is there
    Explain(ExplainArgs),
    /// Make, list and revoke access keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Look after the cluster
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Look at a volume's disk while the volume does not run; changes nothing
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Generate load and measure it
    Bench(BenchArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// Where master and volumes keep their directories
    #[arg(long, value_name = "DIR", default_value = "./barge-data")]
    pub(crate) data: PathBuf,
    /// Masters to run: one, or three that replace each other
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) masters: usize,
    /// Volumes to run
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) volumes: usize,
    /// Copies of each value
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) replicas: usize,
    /// Copies without which an upload fails [default: the majority of --replicas]
    #[arg(long, value_name = "N")]
    pub(crate) min_replicas: Option<usize>,
    /// Where the first master listens; volumes take the ports after it, further masters those after them
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) care: CareArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
    /// Where clients reach the master, when that differs from --listen
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// As long as there is no access key, let anybody do anything who reaches an address that is not loopback, for any Host
    #[arg(long)]
    pub(crate) insecure_no_auth: bool,
    /// Stream all values through the masters, for clients that cannot follow a redirect to a volume
    #[arg(long)]
    pub(crate) no_redirect: bool,
    /// Speak TLS only, with the certificate chain in this PEM file; it is read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of that certificate, as a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Note every request in this file, as lines of JSON; it is opened again at SIGHUP
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<PathBuf>,
    /// How log lines look: text or json
    #[arg(long, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Free bytes of each volume that are never given to values
    #[arg(long, value_name = "BYTES", default_value = RESERVE)]
    pub(crate) reserve: ByteSize,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PutArgs {
    /// The file, or - for standard input
    pub(crate) file: PathBuf,
    /// The key
    pub(crate) key: Key,
    /// Its media type, given back with the value
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
    /// User metadata, given back as Barge-Meta-NAME
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub(crate) meta: Vec<(String, String)>,
    /// Only if the key has no value yet
    #[arg(long, conflicts_with = "if_match")]
    pub(crate) if_absent: bool,
    /// Only if the value is this one (its BLAKE3, as `barge stat` shows it)
    #[arg(long, value_name = "ETAG")]
    pub(crate) if_match: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// The key
    pub(crate) key: Key,
    /// The file, a directory, or - for standard output [default: the last segment of the key]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CatArgs {
    /// The key
    pub(crate) key: Key,
    /// Only these bytes: FIRST-LAST, FIRST- or -COUNT
    #[arg(long, allow_hyphen_values = true, value_parser = range)]
    pub(crate) range: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// The keys
    #[arg(required = true)]
    pub(crate) keys: Vec<Key>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// Keys that begin with this
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    /// Show what keys share up to this character once, like a folder
    #[arg(long, value_name = "CHAR")]
    pub(crate) delimiter: Option<char>,
    /// Keys to show at most [default: one page]
    #[arg(long, value_name = "N", conflicts_with = "all")]
    pub(crate) limit: Option<usize>,
    /// All of them, page by page
    #[arg(long)]
    pub(crate) all: bool,
    /// Begin after this key
    #[arg(long, value_name = "KEY")]
    pub(crate) start: Option<String>,
    /// Size, date and digest as well
    #[arg(long, short)]
    pub(crate) long: bool,
}

impl LsArgs {
    /// How many entries in all.
    pub(crate) fn entries_max(&self) -> usize {
        if self.all { usize::MAX } else { self.limit.unwrap_or(LIST_LIMIT) }
    }

    /// How many to ask for when so many are still wanted.
    pub(crate) fn page(&self, wanted: usize) -> usize {
        wanted.min(if self.all { LIST_LIMIT } else { LIST_LIMIT_MAX })
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatArgs {
    /// The key
    pub(crate) key: Key,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// The key
    pub(crate) key: Key,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

/// What calls to servers are signed with.
#[derive(Debug, clap::Args)]
pub(crate) struct SecretArgs {
    /// The cluster's secret [default: the one in your configuration folder]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    #[arg(long, env = "XDG_CONFIG_HOME", hide = true)]
    xdg_config_home: Option<String>,
    #[arg(long, env = "HOME", hide = true)]
    home: Option<String>,
}

impl SecretArgs {
    /// Whether a file was named, and not looked for.
    pub(crate) fn is_named(&self) -> bool {
        self.secret_file.is_some()
    }

    /// The secret.
    pub(crate) fn find(&self) -> Result<ClusterSecret, SecretError> {
        let (config, home) = (self.xdg_config_home.as_deref(), self.home.as_deref());
        ClusterSecret::find(self.secret_file.as_deref(), config, home)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Read every byte and verify it; exits with 6 when anything is bad
    Check(VolumeCheckArgs),
    /// Show what is in its segments, by indexes and headers alone
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
    /// Every record, instead of every segment
    #[arg(long)]
    pub(crate) records: bool,
}

fn name_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || !name.bytes().all(token) {
        return Err("a name has letters, digits, - and _");
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn range(text: &str) -> Result<String, &'static str> {
    let number = |s: &str| s.is_empty() || s.parse::<u64>().is_ok();
    match text.split_once('-') {
        Some((first, last)) if number(first) && number(last) && text.len() > 1 => Ok(text.to_owned()),
        _ => Err("write FIRST-LAST, FIRST- or -COUNT, in bytes"),
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
