//! `master`: arguments in, server out.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use master::args::Args;
use shared::work::Shutdown;

/// What is under way on the blocking pool gets so long at the end. A disk that hangs must not keep the process.
const LAST_MOMENT: Duration = Duration::from_secs(5);

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(args));
    runtime.shutdown_timeout(LAST_MOMENT);
    ended
}

async fn serve(args: Args) -> anyhow::Result<()> {
    shared::telemetry::init_logs(args.log_format);
    shared::descriptors::raise_limit();
    shared::private::keep_private();
    let s3 = args.s3_listen();
    let (config, listen) = args.into_config()?;
    let scheme = shared::http::tls::scheme(config.tls.as_ref());
    let shutdown = Shutdown::on_signals()?;
    let listener =
        shared::http::socket::listen(listen).with_context(|| format!("cannot listen on {listen}"))?;
    let address = listener.local_addr()?;
    // One line for each on standard output: who started us with port 0 learns the port from it.
    let mut out = std::io::stdout();
    writeln!(out, "master listening on {scheme}://{address}")?;
    let s3 = s3.map(|at| shared::http::socket::listen(at).with_context(|| format!("cannot listen on {at}")));
    let s3 = s3.transpose()?;
    if let Some(listener) = &s3 {
        writeln!(out, "master answers S3 on {scheme}://{}", listener.local_addr()?)?;
    }
    Ok(master::run(config, listener, s3, shutdown).await?)
}
