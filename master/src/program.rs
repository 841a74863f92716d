//! The program `master`: parses arguments, binds sockets, runs the server.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use shared::limits::HEAL_AGAIN_AFTER;
use shared::work::Shutdown;
use tokio::net::TcpListener;

use crate::args::Args;
use crate::config::Config;
use crate::{Listeners, RunError};

/// How long shutdown waits for tasks on the blocking pool. A disk that hangs must not keep the process alive.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// Runs a master with this process's arguments until a signal ends it; restarts it to replace corrupt metadata.
///
/// # Errors
/// When it cannot start or cannot continue.
pub fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    shared::telemetry::init_logs(args.log_format);
    shared::descriptors::raise_limit();
    shared::file_permissions::set_private_umask();
    let shutdown = signals()?;
    let (mut sockets, mut healed) = (None, None::<Instant>);
    loop {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        shared::watchdog::end_when_stuck(runtime.handle())?;
        let ended = runtime.block_on(serve(args.clone(), &mut sockets, shutdown.clone()));
        // This drops every task that holds the tables.
        runtime.shutdown_timeout(LAST_MOMENT);
        let failed = ended.as_ref().err().and_then(|e| e.downcast_ref::<RunError>());
        let heals = failed.zip(sockets.as_ref()).is_some_and(|(e, sockets)| e.heals(&sockets.data));
        if !heals || healed.is_some_and(|at| at.elapsed() < HEAL_AGAIN_AFTER) {
            return ended;
        }
        healed = Some(Instant::now());
    }
}

/// Handles the signals that end this process, also between the end of a master and its restart.
fn signals() -> std::io::Result<Shutdown> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shutdown = runtime.block_on(async { Shutdown::on_signals() })?;
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    Ok(shutdown)
}

/// A master's listening sockets: kept open while it restarts, so that no client is refused meanwhile.
struct Sockets {
    data: PathBuf,
    native: std::net::TcpListener,
    s3: Option<std::net::TcpListener>,
    resp: Option<std::net::TcpListener>,
}

async fn serve(args: Args, sockets: &mut Option<Sockets>, shutdown: Shutdown) -> anyhow::Result<()> {
    let (s3, resp) = (args.s3_listen(), args.resp_listen());
    let (config, listen) = args.into_config()?;
    let Sockets { native, s3, resp, .. } = match sockets {
        Some(sockets) => sockets,
        None => sockets.insert(bind(&config, listen, s3, resp)?),
    };
    let again = |socket: &std::net::TcpListener| TcpListener::from_std(socket.try_clone()?);
    let listeners = Listeners {
        native: again(native)?,
        s3: s3.as_ref().map(again).transpose()?,
        resp: resp.as_ref().map(again).transpose()?,
    };
    Ok(crate::run(config, listeners, shutdown).await?)
}

fn bind(
    config: &Config,
    listen: SocketAddr,
    s3: Option<SocketAddr>,
    resp: Option<SocketAddr>,
) -> anyhow::Result<Sockets> {
    let scheme = shared::http::tls::scheme(config.tls.as_ref());
    let bound = |at: SocketAddr| {
        let listener = shared::http::socket::listen(at).and_then(TcpListener::into_std);
        listener.with_context(|| format!("cannot listen on {at}"))
    };
    let native = bound(listen)?;
    // One line per socket on standard output: a caller that asked for port 0 learns the port from it.
    let mut out = std::io::stdout();
    writeln!(out, "master listening on {scheme}://{}", native.local_addr()?)?;
    let s3 = s3.map(bound).transpose()?;
    if let Some(listener) = &s3 {
        writeln!(out, "master answers S3 on {scheme}://{}", listener.local_addr()?)?;
    }
    let resp = resp.map(bound).transpose()?;
    if let Some(listener) = &resp {
        writeln!(out, "master answers Redis clients on {}", listener.local_addr()?)?;
    }
    Ok(Sockets { data: config.data.clone(), native, s3, resp })
}
