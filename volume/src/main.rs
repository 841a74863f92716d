//! `volume`: arguments in, server out.

use std::io::Write;

use anyhow::Context;
use clap::Parser;
use shared::work::Shutdown;
use volume::args::Args;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    shared::telemetry::init_logs(args.log_format);
    shared::descriptors::raise_limit();
    shared::private::keep_private();
    let (config, listen) = args.into_config()?;
    let scheme = shared::http::tls::scheme(config.tls.as_ref());
    let shutdown = Shutdown::on_signals()?;
    let listener =
        shared::http::socket::listen(listen).with_context(|| format!("cannot listen on {listen}"))?;
    let address = listener.local_addr()?;
    // The one line on standard output: who started us with port 0 learns the port from it.
    writeln!(std::io::stdout(), "volume listening on {scheme}://{address}")?;
    Ok(volume::run(config, listener, shutdown).await?)
}
