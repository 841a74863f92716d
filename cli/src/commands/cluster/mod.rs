//! `barge cluster`: looks after masters, volumes and the metadata.

mod backup;
mod diff;
mod masters;
mod rebuild;
mod status;

use crate::args::ClusterCommand;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(crate) async fn run(client: &Client, command: ClusterCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        ClusterCommand::Status => status::run(client, output).await,
        ClusterCommand::Init(init) => masters::init(client, init, output).await,
        ClusterCommand::Masters { command } => masters::run(client, command, output).await,
        ClusterCommand::Backup(backup) => backup::run(client, backup, output).await,
        ClusterCommand::Rebuild(rebuild) => Box::pin(rebuild::run(client, rebuild, output)).await,
        ClusterCommand::Restore(restore) => backup::restore(restore, output).await,
    }
}
