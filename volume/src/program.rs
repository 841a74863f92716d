//! The `volume` program: parses arguments and runs the server.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use shared::work::Shutdown;

use crate::args::Args;

/// How long shutdown waits for tasks on the blocking pool. A disk that hangs must not keep the process alive.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// Runs a volume with the arguments of this process until a signal ends it.
///
/// # Errors
/// When it cannot start, or stops with an error.
pub fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(serve());
    runtime.shutdown_timeout(LAST_MOMENT);
    ended
}

async fn serve() -> anyhow::Result<()> {
    let args = Args::parse();
    shared::telemetry::init_logs(args.log_format);
    shared::descriptors::raise_limit();
    shared::file_permissions::set_private_umask();
    shared::watchdog::end_when_stuck(&tokio::runtime::Handle::current())?;
    let (config, listen) = args.into_config()?;
    let scheme = shared::http::tls::scheme(config.tls.as_ref());
    let shutdown = Shutdown::on_signals()?;
    let listener =
        shared::http::socket::listen(listen).with_context(|| format!("cannot listen on {listen}"))?;
    let address = listener.local_addr()?;
    // The only line on standard output: a caller that passed port 0 reads the port from it.
    writeln!(std::io::stdout(), "volume listening on {scheme}://{address}")?;
    Ok(crate::run(config, listener, shutdown).await?)
}
