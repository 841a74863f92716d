//! The `volume` program: parses arguments and runs the server.

use std::io::Write;

use anyhow::Context;
use clap::Parser;
use shared::work::Shutdown;

use crate::args::Args;

/// Runs a volume with the arguments of this process until a signal ends it.
///
/// # Errors
/// When it cannot start, or stops with an error.
#[tokio::main]
pub async fn main() -> anyhow::Result<()> {
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
