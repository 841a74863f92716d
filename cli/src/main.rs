//! The `barge` command: parses the arguments, runs one verb and returns its exit code.
//!
//! It has no logic of its own about storage or placement: servers decide, verbs ask. Started under the name of a
//! server, as in the image of docker.sh, it is that server.

mod args;
mod client;
mod commands;
mod download;
mod exit;
#[cfg(test)]
mod fake;
mod output;
mod progress;
mod signed;
mod upload;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use shared::http::trust::Trust;

use crate::args::{Args, Command};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::Output;

fn main() -> anyhow::Result<ExitCode> {
    let program = std::env::args_os().next().map(PathBuf::from);
    match program.as_deref().and_then(Path::file_name).and_then(OsStr::to_str) {
        Some("master") => master::main().map(|()| ExitCode::SUCCESS),
        Some("volume") => volume::main().map(|()| ExitCode::SUCCESS),
        _ => Ok(command()),
    }
}

fn command() -> ExitCode {
    let args = Args::parse();
    let output = Output::new(args.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return output.end(Err(Failure::new(Exit::Failure, format!("cannot start: {e}")))),
    };
    let result = runtime.block_on(run(args, output));
    // A blocked read of standard input must not keep a finished command alive.
    runtime.shutdown_timeout(Duration::from_millis(100));
    output.end(result)
}

async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    let trust = Trust::from_option(args.tls_ca.as_deref());
    let trust = trust.map_err(|e| Failure::new(Exit::Usage, e.to_string()))?;
    let client =
        || Ok::<_, Failure>(Client::trusting(&args.url, trust.clone())?.showing(args.access_key.as_ref()));
    match args.command {
        Command::Server(server) => {
            Box::pin(commands::server::run(*server, trust)).await.map_err(|e| Failure::from_server(&e))?;
            Ok(Exit::Ok)
        }
        Command::Put(put) => commands::put::run(&client()?, put, output).await,
        Command::Get(get) => commands::get::run(&client()?, get, output).await,
        Command::Cat(cat) => commands::cat::run(&client()?, cat).await,
        Command::Rm(rm) => commands::rm::run(&client()?, rm, output).await,
        Command::Ls(ls) => commands::ls::run(&client()?, ls, output).await,
        Command::Stat(stat) => commands::stat::run(&client()?, stat, output).await,
        Command::Explain(explain) => commands::explain::run(&client()?, explain, output).await,
        Command::Key(key) => commands::key::run(&client()?, key, output).await,
        Command::Cluster(cluster) => commands::cluster::run(&client()?, cluster, output).await,
        Command::Volume(volume) => commands::volume::run(volume, output).await,
        Command::Bench(bench) => Box::pin(commands::bench::run(&client()?, bench, output)).await,
    }
}
