//! `barge server`: masters and volumes in one process, ready for `curl -L`.
//!
//! They are the same servers as `master` and `volume`, each on its own port with its own directory, and they
//! talk to each other over HTTP as if on different machines.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use master::{Audit, Listeners, OPEN_SECRET, Replication};
use shared::clock::Clock;
use shared::http::body::collect_answer;
use shared::http::client::{HttpClient, PeerClient, base_url_by};
use shared::http::exposure;
use shared::http::tls::{Tls, scheme};
use shared::http::trust::Trust;
use shared::limits::{CALL_TIMEOUT, MASTERS_MAX};
use shared::secret::ClusterSecret;
use shared::wire::access::{AccessKeysPage, ListAccessKeys};
use shared::wire::routes::{HEALTH, KEYS};
use shared::work::{Shutdown, ShutdownTrigger};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::args::ServerArgs;

/// The most volumes in one process: use more machines for more.
const VOLUMES_MAX: usize = 64;
/// The port where S3 clients expect a local store.
const S3_PORT: u16 = 9000;
/// The port of the Redis protocol: after the one of Redis, which may run on the same machine.
const RESP_PORT: u16 = 6380;
/// The interval between checks of whether the cluster is ready.
const READY_POLL: Duration = Duration::from_millis(10);
/// A start that takes longer is worth a warning.
const READY_SOON: Duration = Duration::from_secs(10);

/// Runs the servers until the shutdown signal, or until one of them fails.
pub(crate) async fn run(args: ServerArgs, trust: Trust) -> anyhow::Result<()> {
    shared::file_permissions::set_private_umask();
    shared::telemetry::init_logs(args.log_format);
    shared::descriptors::raise_limit();
    shared::watchdog::end_when_stuck(&tokio::runtime::Handle::current())?;
    for listen in listening(&args) {
        exposure::log_exposure(listen, args.insecure_no_auth);
    }
    let setup = Setup::new(&args, trust)?;
    let signals = Shutdown::on_signals()?;
    let (trigger, shutdown) = Shutdown::new();
    let mut servers = JoinSet::new();

    let (mut master_urls, mut s3_url, mut resp_port) = (Vec::new(), None, None);
    for n in 1..=args.masters {
        let (listener, address) = setup.listen(if n == 1 { 0 } else { args.volumes + n - 1 })?;
        let (config, url) = setup.master(n, address, &master_urls);
        let (s3, resp) = (s3_listener(&args, n)?, resp_listener(&args, n)?);
        if n == 1 {
            s3_url = s3.as_ref().and_then(|l| setup.own_url(l));
            resp_port = resp.as_ref().and_then(|l| Some(l.local_addr().ok()?.port()));
        }
        let (ending, what) = (shutdown.clone(), format!("master{n} stopped"));
        let listeners = Listeners { native: listener, s3, resp };
        servers.spawn(async move { master::run(config, listeners, ending).await.context(what) });
        master_urls.push(url);
    }
    for n in 1..=args.volumes {
        let (listener, address) = setup.listen(n)?;
        let config = setup.volume(n, address, &master_urls);
        let (ending, what) = (shutdown.clone(), format!("volume{n} stopped"));
        servers.spawn(async move { volume::run(config, listener, ending).await.context(what) });
    }
    let peers = PeerClient::new(setup.secret.clone(), Clock::System).trusting(setup.trust.clone());
    let master_url = &master_urls[0];
    let public = setup.public_url().unwrap_or_else(|| master_url.clone());
    let opening = async {
        ready(peers.http(), master_url).await;
        let known = &ListAccessKeys { after: None };
        peers.call::<_, AccessKeysPage>(master_url, KEYS, known).await.map(|page| !page.keys.is_empty())
    };
    tokio::select! {
        // If it is unknown whether there are access keys, print nothing that may be wrong.
        keys = opening => invite(&public, s3_url.as_deref(), resp_port, keys.ok().map(|keys| setup.let_in(keys)))?,
        // Ended before it was ready: the loop below says why.
        () = signals.wait() => trigger.fire(),
        Some(ended) = servers.join_next() => { trigger.fire(); ended??; }
    }
    wait(servers, &signals, &trigger).await
}

/// Whom the masters serve.
#[derive(Clone, Copy, Debug)]
enum LetIn {
    /// Callers with an access key.
    Keys,
    /// Everyone, because there is no access key.
    Everybody,
    /// Nobody: there is no access key, and other machines can reach them.
    Nobody,
}

/// What all servers of the process share.
struct Setup<'a> {
    args: &'a ServerArgs,
    replication: Replication,
    secret: ClusterSecret,
    tls: Option<Tls>,
    trust: Trust,
    audit: Option<Audit>,
}

impl<'a> Setup<'a> {
    /// Validates the arguments.
    fn new(args: &'a ServerArgs, trust: Trust) -> anyhow::Result<Self> {
        if args.volumes == 0 || args.volumes > VOLUMES_MAX {
            bail!("--volumes must be between 1 and {VOLUMES_MAX}");
        }
        let replication = Replication::new(args.replicas, args.min_replicas)?;
        if replication.min() > args.volumes {
            bail!(
                "{} volumes cannot hold {} replicas: change --volumes or --replicas",
                args.volumes,
                replication.min()
            );
        }
        if args.masters == 0 || args.masters > MASTERS_MAX {
            bail!("--masters must be between 1 and {MASTERS_MAX}");
        }
        let tls = Tls::from_options(args.tls_cert.as_deref(), args.tls_key.as_deref())?;
        none_left_out(&args.data, args.masters)?;
        let secret = args.secret.find()?;
        let audit = args.audit_log.as_deref().map(Audit::open).transpose()?;
        Ok(Self { args, replication, secret, tls, trust, audit })
    }

    /// Opens a listener on the n-th port after the first master's; returns the address at which this process
    /// reaches it, too.
    fn listen(&self, n: usize) -> anyhow::Result<(TcpListener, SocketAddr)> {
        let listener = bind(port_after(self.args.listen, n)?)?;
        let address = reachable(listener.local_addr()?);
        Ok((listener, address))
    }

    fn scheme(&self) -> &'static str {
        scheme(self.tls.as_ref())
    }

    fn own_url(&self, listener: &TcpListener) -> Option<String> {
        let address = reachable(listener.local_addr().ok()?);
        Some(format!("{}://{address}", self.scheme()))
    }

    /// Whom the masters serve, given whether there are access keys.
    fn let_in(&self, keys: bool) -> LetIn {
        match exposure::open_without_keys(listening(self.args), self.args.insecure_no_auth) {
            _ if keys => LetIn::Keys,
            true => LetIn::Everybody,
            false => LetIn::Nobody,
        }
    }

    fn public_url(&self) -> Option<String> {
        self.args.public_url.as_deref().map(|url| base_url_by(self.scheme(), url))
    }

    /// A server's URL for the other servers, and for clients where that differs. A certificate names what clients
    /// use, seldom a loopback address: so with TLS the servers use that name, too.
    fn urls(&self, first: bool, address: SocketAddr) -> (String, Option<String>) {
        let public = self.public_url();
        let public =
            if first { public } else { public.and_then(|public| with_port(&public, address.port())) };
        let own = format!("{}://{address}", self.scheme());
        (public.clone().filter(|_| self.tls.is_some()).unwrap_or(own), public)
    }

    fn master(&self, n: usize, address: SocketAddr, others: &[String]) -> (master::Config, String) {
        let name = if n == 1 { "master".to_owned() } else { format!("master{n}") };
        let data = self.args.data.join(name);
        let mut config = master::Config::new(data, self.secret.clone(), self.replication);
        let (url, public) = self.urls(n == 1, address);
        config.join = others.to_vec();
        config.open = exposure::open_without_keys(listening(self.args), self.args.insecure_no_auth);
        config.any_host = self.args.insecure_no_auth;
        config.no_redirect = self.args.no_redirect;
        self.args.repair.apply(&mut config);
        self.args.s3.apply(&mut config);
        config.tls.clone_from(&self.tls);
        config.audit.clone_from(&self.audit);
        config.trust = self.trust.clone();
        config.public_url = public;
        config.advertise = Some(url.clone());
        (config, url)
    }

    fn volume(&self, n: usize, address: SocketAddr, masters: &[String]) -> volume::Config {
        let data = self.args.data.join(format!("volume{n}"));
        let mut config = volume::Config::new(data, self.secret.clone());
        let (url, public) = self.urls(false, address);
        config.masters = masters.to_vec();
        config.tls.clone_from(&self.tls);
        config.trust = self.trust.clone();
        config.public_url = public;
        config.advertise = Some(url);
        config.reserve_bytes = self.args.reserve.0;
        config
    }
}

/// Refuses to start fewer masters than before: the rest might wait for a majority forever.
pub(super) fn none_left_out(data: &Path, masters: usize) -> anyhow::Result<()> {
    let exists = |n: &usize| data.join(format!("master{n}")).exists();
    let Some(last) = (masters + 1..=MASTERS_MAX).rfind(exists) else { return Ok(()) };
    let data = data.display();
    bail!(
        "{data}/master{last} belongs to a master that would not be started: use --masters {last}; or remove it with \
         `barge cluster masters remove` while all masters run, then move that directory away"
    )
}

/// Waits for the shutdown signal, or the end of one server; then ends all.
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
                    // The first failure is the cause; the others follow from it.
                    outcome = outcome.and(ended);
                }
            },
        }
    }
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    shared::http::socket::listen(address).with_context(|| {
        format!("cannot listen on {address}: is another Barge running? Choose another address with --listen")
    })
}

/// The addresses given for the masters, of all their APIs.
fn listening(args: &ServerArgs) -> impl Iterator<Item = SocketAddr> {
    [Some(args.listen), args.s3.s3_listen, args.resp_listen].into_iter().flatten()
}

/// The n-th master's listener for S3 clients.
fn s3_listener(args: &ServerArgs, n: usize) -> anyhow::Result<Option<TcpListener>> {
    let port = if args.listen.port() == 0 { 0 } else { S3_PORT };
    more(args.s3.s3_listen, SocketAddr::new(args.listen.ip(), port), n, "S3", "--s3-listen")
}

/// The n-th master's listener for Redis clients.
fn resp_listener(args: &ServerArgs, n: usize) -> anyhow::Result<Option<TcpListener>> {
    let port = if args.listen.port() == 0 { 0 } else { RESP_PORT };
    more(args.resp_listen, SocketAddr::from(([127, 0, 0, 1], port)), n, "Redis", "--resp-listen")
}

/// One more listener of the n-th master. A default address that is in use is skipped with a warning.
fn more(
    given: Option<SocketAddr>,
    default: SocketAddr,
    n: usize,
    clients: &str,
    option: &str,
) -> anyhow::Result<Option<TcpListener>> {
    let address = port_after(given.unwrap_or(default), n - 1)?;
    match shared::http::socket::listen(address) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if given.is_none() => {
            tracing::warn!(%address, %error, "{clients} clients are not served: choose another address with {option}");
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address} for {clients} clients")),
    }
}

/// The port of the n-th server: after the master's, or any free port if the master's is any.
fn port_after(master: SocketAddr, n: usize) -> anyhow::Result<SocketAddr> {
    let port = match master.port() {
        0 => 0,
        port => u16::try_from(usize::from(port) + n)
            .context("the servers' ports are above 65535: choose a lower port with --listen")?,
    };
    Ok(SocketAddr::new(master.ip(), port))
}

/// The address at which the servers of this process reach `listening`.
fn reachable(listening: SocketAddr) -> SocketAddr {
    if listening.ip().is_unspecified() {
        return SocketAddr::from(([127, 0, 0, 1], listening.port()));
    }
    listening
}

/// The same URL with another port.
fn with_port(url: &str, port: u16) -> Option<String> {
    let mut url = reqwest::Url::parse(url).ok()?;
    url.set_port(Some(port)).ok()?;
    Some(url.as_str().trim_end_matches('/').to_owned())
}

/// Returns when the master accepts values. If that takes long, logs the master's reason.
async fn ready(http: &HttpClient, master_url: &str) {
    let url = format!("{master_url}{HEALTH}");
    let asked = async || {
        let answer = http.get(&url, CALL_TIMEOUT).await.map_err(|e| e.to_string())?;
        let good = answer.status().is_success();
        let said = collect_answer(answer.into_body()).await.map_err(|e| e.to_string())?;
        Ok::<_, String>((good, String::from_utf8_lossy(&said).into_owned()))
    };
    let mut tell_at = Instant::now() + READY_SOON;
    loop {
        let said = match asked().await {
            Ok((true, _)) => return,
            Ok((false, said)) => said,
            Err(error) => error,
        };
        if Instant::now() >= tell_at {
            tracing::warn!(master = master_url, said, "not ready yet");
            tell_at = Instant::now() + READY_SOON;
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

/// Prints three lines to copy and paste, and how S3 and Redis clients connect.
fn invite(url: &str, s3: Option<&str>, resp: Option<u16>, let_in: Option<LetIn>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Barge is ready on {url}\n")?;
    writeln!(out, "  curl -L -T FILE {url}/KEY          # store a file")?;
    writeln!(out, "  curl -L {url}/KEY -o FILE          # fetch it")?;
    writeln!(out, "  curl -L -X DELETE {url}/KEY        # delete it; its space is freed at once\n")?;
    if let Some(s3) = s3 {
        let shown = match let_in {
            None => "see docs/access-keys.md".to_owned(),
            Some(LetIn::Keys) => "with an access key (`barge key list`)".to_owned(),
            Some(LetIn::Nobody) => {
                "with an access key: make the first one with `barge key create`".to_owned()
            }
            Some(LetIn::Everybody) => format!(
                "while there are no keys (`barge key create`) any access key id, and the\n  secret {OPEN_SECRET}"
            ),
        };
        writeln!(out, "  S3 clients: endpoint {s3}; {shown}\n")?;
    }
    if let Some(port) = resp {
        let tls = if url.starts_with("https:") { " --tls" } else { "" };
        writeln!(out, "  Redis clients: redis-cli{tls} -p {port}\n")?;
    }
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests;
