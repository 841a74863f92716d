//! `barge cluster`: inspects and maintains masters, volumes and the metadata.

mod backup;
mod diff;
mod doctor;
mod maintenance;
mod masters;
mod query;
mod rebuild;

mod status;

pub(crate) use maintenance::ask_leader;

use shared::wire::cluster::WantedAdminState;

use crate::args::ClusterCommand;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(crate) async fn run(client: &Client, command: ClusterCommand, output: Output) -> Result<Exit, Failure> {
    // Backups and restored metadata hold the names of all keys.
    shared::file_permissions::set_private_umask();
    match command {
        ClusterCommand::Status(status) => status::run(client, status, output).await,
        ClusterCommand::Repair(watch) => maintenance::repair(client, &watch, output).await,
        ClusterCommand::Drain(drain) => {
            maintenance::drain(client, drain, WantedAdminState::Drain, output).await
        }
        ClusterCommand::Decommission(args) => {
            maintenance::drain(client, args, WantedAdminState::Decommission, output).await
        }
        ClusterCommand::Rebalance(rebalance) => maintenance::rebalance(client, rebalance, output).await,
        ClusterCommand::Orphans(orphans) => maintenance::orphans(client, orphans, output).await,
        ClusterCommand::Replication(replication) => {
            maintenance::replication(client, replication, output).await
        }
        ClusterCommand::Events(look) => maintenance::events(client, &look, output).await,
        ClusterCommand::Doctor(doctor) => doctor::run(client, doctor, output).await,
        ClusterCommand::Init(init) => masters::init(client, init, output).await,
        ClusterCommand::Masters { command, secret } => masters::run(client, command, &secret, output).await,
        ClusterCommand::Backup(backup) => backup::run(client, backup, output).await,
        ClusterCommand::Rebuild(rebuild) => Box::pin(rebuild::run(client, rebuild, output)).await,
        ClusterCommand::Restore(restore) => backup::restore(restore, output).await,
    }
}
