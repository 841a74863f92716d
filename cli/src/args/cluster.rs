//! Arguments of `barge cluster`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::SecretArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the masters and volumes and their states
    Status(StatusArgs),
    /// Initialize a cluster of masters that were started with --wait
    Init(InitArgs),
    /// Show, add or remove masters
    Masters {
        #[command(subcommand)]
        command: Option<MastersCommand>,
        #[command(flatten)]
        secret: SecretArgs,
    },
    /// Show the repair queue and the progress of repair
    Repair(WatchArgs),
    /// Move all replicas off a volume; it stays in the cluster, empty
    Drain(DrainArgs),
    /// Decommission a volume: move its replicas off, then let it leave for good; refused while it holds the last
    /// replica of any value
    Decommission(DrainArgs),
    /// Move replicas until all volumes are about equally full
    Rebalance(RebalanceArgs),
    /// Find orphans (records that no object references) and missing replicas, and collect the orphans
    Orphans(OrphansArgs),
    /// Show or set when uploads are acknowledged
    Replication(ReplicationArgs),
    /// Show recent state changes of volumes, as one master saw them
    Events(QueryArgs),
    /// Have all servers check themselves and each other, and show what needs fixing; exits with 1 if anything does
    Doctor(DoctorArgs),
    /// Write a snapshot of the metadata to a file; values stay on their volumes
    Backup(BackupArgs),
    /// Create a metadata directory from a backup, for a new first master
    Restore(RestoreArgs),
    /// Re-create the metadata from what the volumes hold, after a master's directory was lost or corrupted
    Rebuild(RebuildArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct RebuildArgs {
    /// The new metadata directory: empty or absent
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// All volumes of the cluster; they must be running
    #[arg(long, value_name = "HOST:PORT,...", required = true, value_delimiter = ',')]
    pub(crate) volumes: Vec<String>,
    /// The replication factor; use the masters' --replicas
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) replicas: usize,
    /// Write nothing: show how the volumes' contents differ from the metadata in DIR, or, if DIR holds none or a
    /// master uses it, from the cluster at --url. Exits with 0 if nothing differs, 1 if something does, 5 if there is
    /// nothing to compare with
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Continue even if a volume does not serve all its segments, or has quarantined corrupt ranges
    #[arg(long)]
    pub(crate) without_corrupt: bool,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MastersCommand {
    /// Add a master that was started with --wait or --join: it gets the metadata first, then a vote
    Add {
        /// Its address for the other masters, as http://HOST:PORT
        master: String,
        #[command(flatten)]
        secret: SecretArgs,
    },
    /// Remove a master; stop it afterwards
    Remove {
        /// Its address or id, as `barge cluster masters` shows it
        master: String,
        #[command(flatten)]
        secret: SecretArgs,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// The masters' addresses for each other, as http://HOST:PORT; the first one becomes the cluster's first master
    #[arg(required = true, value_name = "MASTER")]
    pub(crate) masters: Vec<String>,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    /// The backup file; it must not exist
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// The backup file
    pub(crate) file: PathBuf,
    /// The metadata directory to create
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Show what this one server, master or volume, reports about itself, as JSON
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WatchArgs {
    /// Update until the repair queue is empty
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DrainArgs {
    /// Its id or address, as `barge cluster status` shows it
    pub(crate) volume: String,
    /// Cancel: the volume serves normally again
    #[arg(long, conflicts_with = "watch")]
    pub(crate) cancel: bool,
    /// Show progress until it is done
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

/// The actions of `barge cluster rebalance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RebalanceVerb {
    /// Show what would be moved, and how long it would take
    Plan,
    /// Start or resume
    Start,
    /// Pause; `start` resumes
    Pause,
    /// Stop; what was moved stays where it is
    Cancel,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RebalanceArgs {
    /// What to do with the rebalance
    #[arg(default_value = "plan")]
    pub(crate) action: RebalanceVerb,
    /// Show progress until it is done
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OrphansArgs {
    /// Only show orphans and missing replicas; collect nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReplicationArgs {
    /// A bucket: the part of a key before its first slash
    pub(crate) bucket: Option<String>,
    /// sync, quorum or async; or default, for the cluster's setting
    pub(crate) mode: Option<String>,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}
