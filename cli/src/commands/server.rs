//! `barge server`: a master and volumes in one process, ready for `curl -L`.
//!
//! The same servers as `master` and `volume`, each on its own port with its own directory; they talk to
//! each other over HTTP like those on different machines.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use master::config::Replication;
use master::s3::auth::OPEN_SECRET;
use shared::http::client::base_url;
use shared::http::exposure;
use shared::limits::MASTERS_MAX;
use shared::wire::routes::HEALTH;
use shared::work::{Shutdown, ShutdownTrigger};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::args::ServerArgs;

/// Volumes of one process at most: more belong on more machines.
const VOLUMES_MAX: usize = 64;
/// Where S3 clients look for a store of their own.
const S3_PORT: u16 = 9000;
/// Between two looks at whether the cluster is ready.
const READY_POLL: Duration = Duration::from_millis(10);
/// So long nobody wonders.
const READY_SOON: Duration = Duration::from_secs(10);

/// Runs them until the process is told to end, or one of them fails.
pub(crate) async fn run(args: ServerArgs) -> anyhow::Result<()> {
    shared::telemetry::init_logs(args.log_format);
    shared::descriptors::raise_limit();
    exposure::say(args.listen, args.insecure_no_auth);
    if args.volumes == 0 || args.volumes > VOLUMES_MAX {
        bail!("--volumes must be between 1 and {VOLUMES_MAX}");
    }
    let replication = Replication::new(args.replicas, args.min_replicas)?;
    if replication.min() > args.volumes {
        bail!(
            "{} volumes cannot hold {} copies: say --volumes or --replicas",
            args.volumes,
            replication.min()
        );
    }
    if args.masters == 0 || args.masters > MASTERS_MAX {
        bail!("--masters must be between 1 and {MASTERS_MAX}");
    }
    none_left_out(&args.data, args.masters)?;
    let secret = args.secret.find()?;
    let signals = Shutdown::on_signals()?;
    let (trigger, shutdown) = Shutdown::new();
    let mut servers = JoinSet::new();

    let listener = bind(args.listen)?;
    let master_url = format!("http://{}", reachable(listener.local_addr()?));
    let mut config = master::config::Config::new(args.data.join("master"), secret.clone(), replication);
    config.open = exposure::open_without_keys(args.listen, args.insecure_no_auth);
    config.advertise = Some(master_url.clone());
    config.public_url = args.public_url.as_deref().map(base_url);
    args.s3.apply(&mut config);
    let s3 = s3_listener(&args, 1)?;
    let s3_url = s3.as_ref().and_then(|l| l.local_addr().ok()).map(|a| format!("http://{}", reachable(a)));
    let ending = shutdown.clone();
    servers
        .spawn(async move { master::run(config, listener, s3, ending).await.context("the master stopped") });
    let mut master_urls = vec![master_url.clone()];
    for n in 2..=args.masters {
        let (url, listener) = another(&args, args.volumes + n - 1)?;
        let mut config =
            master::config::Config::new(args.data.join(format!("master{n}")), secret.clone(), replication);
        config.join.clone_from(&master_urls);
        config.open = exposure::open_without_keys(args.listen, args.insecure_no_auth);
        config.public_url = args.public_url.as_deref().and_then(|public| with_port(public, port_of(&url)));
        config.advertise = Some(url.clone());
        args.s3.apply(&mut config);
        let s3 = s3_listener(&args, n)?;
        let (ending, what) = (shutdown.clone(), format!("master{n} stopped"));
        servers.spawn(async move { master::run(config, listener, s3, ending).await.context(what) });
        master_urls.push(url);
    }

    for n in 1..=args.volumes {
        let (url, listener) = another(&args, n)?;
        let mut config = volume::config::Config::new(args.data.join(format!("volume{n}")), secret.clone());
        config.masters.clone_from(&master_urls);
        config.public_url = args.public_url.as_deref().and_then(|public| with_port(public, port_of(&url)));
        config.advertise = Some(url);
        config.reserve_bytes = args.reserve.0;
        let ending = shutdown.clone();
        let what = format!("volume{n} stopped");
        servers.spawn(async move { volume::run(config, listener, ending).await.context(what) });
    }
    let public = args.public_url.as_deref().map_or_else(|| master_url.clone(), base_url);
    tokio::select! {
        () = ready(&master_url) => invite(&public, s3_url.as_deref())?,
        // Ended before it was ready: the loop below says why.
        () = signals.wait() => trigger.fire(),
        Some(ended) = servers.join_next() => { trigger.fire(); ended??; }
    }
    wait(servers, &signals, &trigger).await
}

/// With fewer masters than before the others might wait for a majority for ever.
pub(super) fn none_left_out(data: &Path, masters: usize) -> anyhow::Result<()> {
    let exists = |n: &usize| data.join(format!("master{n}")).exists();
    let Some(last) = (masters + 1..=MASTERS_MAX).rfind(exists) else { return Ok(()) };
    let data = data.display();
    bail!(
        "{data}/master{last} belongs to a master that is not to be started: say --masters {last}; or take it out with \
         `barge cluster masters remove` while all run, and then move that directory away"
    )
}

/// Until the signal, or the end of one of them; then all end.
async fn wait(
    mut servers: JoinSet<anyhow::Result<()>>,
    signals: &Shutdown,
    trigger: &ShutdownTrigger,
) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    loop {
        tokio::select! {
            () = signals.wait(), if !trigger.fired() => trigger.fire(),
            ended = servers.join_next() => match ended {
                None => return outcome,
                Some(ended) => {
                    trigger.fire();
                    let ended = ended.context("a server panicked").and_then(|e| e);
                    // The first failure is the cause, the others follow from it.
                    outcome = outcome.and(ended);
                }
            },
        }
    }
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    shared::http::socket::listen(address).with_context(|| {
        format!("cannot listen on {address}: is another Barge running? Choose another place with --listen")
    })
}

/// Where the n-th master answers S3 clients. Who asked for no address in particular can do without when it is taken.
fn s3_listener(args: &ServerArgs, n: usize) -> anyhow::Result<Option<TcpListener>> {
    let wanted = args.s3.s3_listen.unwrap_or_else(|| {
        let port = if args.listen.port() == 0 { 0 } else { S3_PORT };
        SocketAddr::new(args.listen.ip(), port)
    });
    let address = port_after(wanted, n - 1)?;
    match shared::http::socket::listen(address) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if args.s3.s3_listen.is_none() => {
            tracing::warn!(%address, %error, "S3 clients are not answered: choose another place with --s3-listen");
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address} for S3 clients")),
    }
}

/// A listener on the n-th port after the first master's, and how the servers of this process reach it.
fn another(args: &ServerArgs, n: usize) -> anyhow::Result<(String, TcpListener)> {
    let listener = bind(port_after(args.listen, n)?)?;
    let address = reachable(listener.local_addr()?);
    Ok((format!("http://{address}"), listener))
}

fn port_of(url: &str) -> u16 {
    url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0)
}

/// The address of the n-th server: the ports after the master's, or any when that is any.
fn port_after(master: SocketAddr, n: usize) -> anyhow::Result<SocketAddr> {
    let port = match master.port() {
        0 => 0,
        port => u16::try_from(usize::from(port) + n).context("the volumes' ports are above 65535")?,
    };
    Ok(SocketAddr::new(master.ip(), port))
}

/// How the servers of this process reach `listening`.
fn reachable(listening: SocketAddr) -> SocketAddr {
    if listening.ip().is_unspecified() {
        return SocketAddr::from(([127, 0, 0, 1], listening.port()));
    }
    listening
}

/// The same host with another port.
fn with_port(url: &str, port: u16) -> Option<String> {
    let mut url = reqwest::Url::parse(&base_url(url)).ok()?;
    url.set_port(Some(port)).ok()?;
    Some(base_url(url.as_str()))
}

/// Returns when the master says that values can be stored. When that takes long it tells what the master says.
async fn ready(master_url: &str) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap_or_default();
    let asked = || async {
        let answer = http.get(format!("{master_url}{HEALTH}")).send().await?;
        let good = answer.status().is_success();
        Ok::<_, reqwest::Error>((good, answer.text().await?))
    };
    let mut tell_at = Instant::now() + READY_SOON;
    loop {
        let said = match asked().await {
            Ok((true, _)) => return,
            Ok((false, said)) => said,
            Err(error) => error.to_string(),
        };
        if Instant::now() >= tell_at {
            tracing::warn!(master = master_url, said, "not ready yet");
            tell_at = Instant::now() + READY_SOON;
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

/// Three lines to copy and paste.
fn invite(url: &str, s3: Option<&str>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Barge is ready on {url}\n")?;
    writeln!(out, "  curl -L -T FILE {url}/KEY          # store a file")?;
    writeln!(out, "  curl -L {url}/KEY -o FILE          # fetch it")?;
    writeln!(out, "  curl -L -X DELETE {url}/KEY        # delete it; its space is back at once\n")?;
    if let Some(s3) = s3 {
        writeln!(
            out,
            "  S3 clients: endpoint {s3}; while there are no keys (`barge key create`) any access key id, and the"
        )?;
        writeln!(out, "  secret {OPEN_SECRET}\n")?;
    }
    out.flush()?;
    Ok(())
}
