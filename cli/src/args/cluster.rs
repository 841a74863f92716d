//! What the command line may say of a cluster.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::SecretArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show masters, volumes and what the masters think of them
    Status(StatusArgs),
    /// Begin a cluster with masters that were started with --wait: the first is its first, the others follow
    Init(InitArgs),
    /// Show the masters, take one in, take one out
    Masters {
        #[command(subcommand)]
        command: Option<MastersCommand>,
        #[command(flatten)]
        secret: SecretArgs,
    },
    /// Show what is owed, and how it is being paid
    Repair(WatchArgs),
    /// Copy a volume's values to others; it stays, empty
    Drain(DutyArgs),
    /// Copy a volume's values to others, and let it leave for good; refused while it holds the last copy of anything
    Retire(DutyArgs),
    /// Move values until all volumes are about equally full
    Rebalance(RebalanceArgs),
    /// Find records that nothing refers to, and copies that are missing
    Orphans(OrphansArgs),
    /// Show or set when uploads are acknowledged
    Replication(ReplicationArgs),
    /// Show what became of volumes of late, as one master saw it
    Events(LookArgs),
    /// Have all servers look at themselves and at each other, and say what is to be mended; exits with 1 when anything is
    Doctor(DoctorArgs),
    /// Write a snapshot of the metadata into a file; values stay on their volumes
    Backup(BackupArgs),
    /// Make a metadata directory of a back-up, for a new first master
    Restore(RestoreArgs),
    /// Make the metadata anew from what the volumes hold, when a master's directory is lost or damaged
    Rebuild(RebuildArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct RebuildArgs {
    /// The new metadata directory: empty, or not there yet
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// All volumes of the cluster, running
    #[arg(long, value_name = "HOST:PORT,...", required = true, value_delimiter = ',')]
    pub(crate) volumes: Vec<String>,
    /// Copies wanted of each value, as the master is started with
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) replicas: usize,
    /// Write nothing: show how what the volumes hold differs from the metadata in DIR, or, when there is none or a
    /// master runs on it, from the cluster at --url. Exits 0 when nothing differs, 1 when something does, 5 when there is
    /// nothing to compare with
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Go on although a volume does not serve all its segments, or has set damaged ranges aside
    #[arg(long)]
    pub(crate) without_damaged: bool,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MastersCommand {
    /// Take in a master that was started with --wait, or --join: it gets the metadata first, and then a vote
    Add {
        /// Where the others reach it, as http://HOST:PORT
        master: String,
        #[command(flatten)]
        secret: SecretArgs,
    },
    /// Take a master out; stop it afterwards
    Remove {
        /// Its address or its id, as `barge cluster masters` shows them
        master: String,
        #[command(flatten)]
        secret: SecretArgs,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Where the masters reach each other, as http://HOST:PORT
    #[arg(required = true, value_name = "MASTER")]
    pub(crate) masters: Vec<String>,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    /// The file; it must not exist
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// The back-up
    pub(crate) file: PathBuf,
    /// The metadata directory to make
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// What this one server knows of itself, master or volume, as JSON
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LookArgs {
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WatchArgs {
    /// Go on showing it until nothing is owed
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DutyArgs {
    /// Its id or its address, as `barge cluster status` shows them
    pub(crate) volume: String,
    /// Call it off: the volume serves as all do
    #[arg(long, conflicts_with = "watch")]
    pub(crate) cancel: bool,
    /// Wait until it is done, and show how far it is
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

/// What to do about the moving of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Steer {
    /// Show what would be moved, and how long it takes
    Plan,
    /// Begin, or go on
    Start,
    /// Rest; `start` goes on
    Pause,
    /// End it; what was moved stays
    Cancel,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RebalanceArgs {
    /// What to do
    #[arg(default_value = "plan")]
    pub(crate) steer: Steer,
    /// Wait until it is done, and show how far it is
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OrphansArgs {
    /// Only show what there is; without this, what may go is collected
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReplicationArgs {
    /// A bucket: what stands before the first slash of a key
    pub(crate) bucket: Option<String>,
    /// sync, quorum or async; or default, as everywhere
    pub(crate) mode: Option<String>,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}
