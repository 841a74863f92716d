//! `barge cluster`: looks after masters, volumes and the metadata.

mod backup;
mod care;
mod diff;
mod doctor;
mod look;
mod masters;
mod rebuild;

mod status;

pub(crate) use care::ask_leader;

use shared::wire::cluster::DutyWish;

use crate::args::ClusterCommand;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(crate) async fn run(client: &Client, command: ClusterCommand, output: Output) -> Result<Exit, Failure> {
    // Back-ups and restored metadata hold all names.
    shared::private::keep_private();
    match command {
        ClusterCommand::Status(status) => status::run(client, status, output).await,
        ClusterCommand::Repair(watch) => care::repair(client, &watch, output).await,
        ClusterCommand::Drain(drain) => care::duty(client, drain, DutyWish::Drain, output).await,
        ClusterCommand::Retire(retire) => care::duty(client, retire, DutyWish::Retire, output).await,
        ClusterCommand::Rebalance(rebalance) => care::rebalance(client, rebalance, output).await,
        ClusterCommand::Orphans(orphans) => care::orphans(client, orphans, output).await,
        ClusterCommand::Replication(replication) => care::replication(client, replication, output).await,
        ClusterCommand::Events(look) => care::events(client, &look, output).await,
        ClusterCommand::Doctor(doctor) => doctor::run(client, doctor, output).await,
        ClusterCommand::Init(init) => masters::init(client, init, output).await,
        ClusterCommand::Masters { command, secret } => masters::run(client, command, &secret, output).await,
        ClusterCommand::Backup(backup) => backup::run(client, backup, output).await,
        ClusterCommand::Rebuild(rebuild) => Box::pin(rebuild::run(client, rebuild, output)).await,
        ClusterCommand::Restore(restore) => backup::restore(restore, output).await,
    }
}
