//! A cluster over TLS: values by redirect and through the master, certificates that are replaced at run time, and
//! refused clients that do not verify or do not encrypt.

mod ending;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use reqwest::tls::TlsInfo;
use shared::http::trust::Trust;
use shared::wire::master::{ClusterStatus, MasterRole, Masters};
use tests::authority::Authority;
use tests::cluster::{add, free_port};
use tests::folder::binary;
use tests::tool::{Ran, curl, run_command};
use tests::{Client, Folder, Server, Spec, eventually, value};

const UP: Duration = Duration::from_secs(60);
/// Servers check for a new certificate once a second.
const RELOADED: Duration = Duration::from_secs(20);

/// Certificates and their paths.
struct Site {
    folder: Folder,
    authority: Authority,
    ca: PathBuf,
    chain: PathBuf,
    key: PathBuf,
    /// The certificate that servers show at first.
    first: Vec<u8>,
}

impl Site {
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let (ca, chain, key) = (folder.join("ca.pem"), folder.join("chain.pem"), folder.join("key.pem"));
        let authority = Authority::new(&ca);
        let (cert_pem, key_pem, first) = authority.issue();
        std::fs::write(&chain, cert_pem).expect("a file");
        std::fs::write(&key, key_pem).expect("a file");
        Self { folder, authority, ca, chain, key, first }
    }

    fn trust(&self) -> Trust {
        Trust::from_file(&self.ca).expect("our own authority")
    }

    fn client(&self, url: &str) -> Client {
        Client::trusting(url, &self.trust())
    }

    fn spec(&self, name: &str, program: &'static str, args: &[&str]) -> Spec {
        let mut spec = Spec::new(name, program, args.iter().copied());
        add(&mut spec, "--tls-cert", &self.chain);
        add(&mut spec, "--tls-key", &self.key);
        add(&mut spec, "--tls-ca", &self.ca);
        add(&mut spec, "--secret-file", self.folder.join("secret"));
        spec
    }

    async fn start(&self, name: &str, program: &'static str, args: &[&str]) -> Server {
        let mut spec = self.spec(name, program, args);
        add(&mut spec, "--listen", format!("127.0.0.1:{}", free_port()));
        let server = Server::start(spec, self.folder.path()).await.expect("it starts");
        assert!(server.url().starts_with("https://"), "{}", server.url());
        server
    }

    /// A master and two volumes.
    async fn cluster(&self) -> (Server, [Server; 2]) {
        let master = self.start("master", "master", &["meta"]).await;
        let volume = async |n: usize| {
            let (name, data) = (format!("volume{n}"), format!("data{n}"));
            self.start(&name, "volume", &[&data, "--master", master.url(), "--reserve", "16777216"]).await
        };
        let volumes = [volume(1).await, volume(2).await];
        self.healthy(master.url()).await;
        (master, volumes)
    }

    async fn healthy(&self, url: &str) {
        let client = self.client(url);
        eventually(UP, "values can be stored", async || client.get_text("/_/health").await).await;
    }

    async fn barge(&self, url: &str, args: &[&str]) -> Ran {
        self.barge_trusting(&self.ca, url, args).await
    }

    /// Runs `barge` on a system that trusts our authority, with another one named.
    async fn barge_trusting(&self, ca: &Path, url: &str, args: &[&str]) -> Ran {
        let mut command = tokio::process::Command::new(binary("barge"));
        command.current_dir(self.folder.path()).env("HOME", self.folder.path());
        command.env("SSL_CERT_FILE", &self.ca);
        command.args(["--url", url, "--tls-ca"]).arg(ca).args(args);
        run_command(command, None).await
    }

    /// Returns the certificate that a server shows to a new connection.
    async fn shown(&self, url: &str) -> Option<Vec<u8>> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_info(true)
            .tls_backend_preconfigured((*self.trust().config()).clone());
        let answer = http.build().expect("a client").get(format!("{url}/_/health")).send().await.ok()?;
        let info = answer.extensions().get::<TlsInfo>()?;
        info.peer_certificate().map(<[u8]>::to_vec)
    }

    async fn shows(&self, url: &str, wanted: &[u8]) {
        eventually(RELOADED, "the certificate is shown", async || {
            (self.shown(url).await? == wanted).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_go_in_and_out_verified() {
    let site = Site::new("tls");
    let (master, volumes) = site.cluster().await;
    let client = site.client(master.url());
    let status: ClusterStatus = client.json("/_/status").await.expect("a status");
    for volume in &status.volumes {
        assert!(volume.address.starts_with("https://") && volume.public_url.starts_with("https://"));
    }

    // curl waits and is redirected; reqwest is streamed.
    let bytes = value(1, 5 << 20);
    let (file, ca) = (site.folder.file("sent", &bytes).display().to_string(), site.ca.display().to_string());
    let url = format!("{}/a/curl", master.url());
    let stored = curl(&site.folder, ["--cacert", &ca, "-L", "-T", &file, &url]).await;
    assert_eq!((stored.status, stored.redirects), (201, 1), "{}", stored.err);
    assert!(stored.text().contains("\"replicas\":2"), "{}", stored.text());
    let got = curl(&site.folder, ["--cacert", &ca, "-L", &url]).await;
    assert!(got.status == 200 && got.redirects == 1 && got.body == bytes);
    assert_eq!(client.put("a/stream", bytes.clone()).await.expect("an answer").status, 201);
    let got = client.get("a/stream").await.expect("an answer");
    assert!(got.status == 200 && got.hops == 1 && got.body == bytes);
    assert!(client.get_streamed("a/curl").await.expect("an answer").body == bytes);
    let redirect = client.once(Method::GET, &url, &[], None).await.expect("an answer");
    assert!(redirect.header("location").expect("a redirect").starts_with("https://"));

    // A client that does not trust the authority gets nothing, nor does one without TLS.
    assert_eq!(curl(&site.folder, ["-L", &url]).await.code, 60);
    assert!(Client::new(master.url()).get("a/curl").await.is_err());
    let other = site.folder.join("other.pem");
    Authority::new(&other);
    let ran = site.barge_trusting(&other, master.url(), &["stat", "a/curl"]).await;
    assert_ne!(ran.code, 0, "--tls-ca names all authorities: {}", ran.text());
    for server in std::iter::once(&master).chain(&volumes) {
        let plain = format!("http://{}", server.address());
        assert!(Client::new(&plain).get("_/health").await.is_err(), "{plain} answers without TLS");
    }

    for args in [
        &["put", &file, "a/barge"][..],
        &["stat", "a/barge"],
        &["bench", "--op", "mixed", "--size", "1MiB", "--count", "4", "--keys", "2", "--verify"],
        &["cluster", "status"],
        &["cluster", "backup", "backup", "--secret-file", "secret"],
        &["key", "list", "--secret-file", "secret"],
    ] {
        let ran = site.barge(master.url(), args).await;
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
    }
    let got = site.barge(master.url(), &["cat", "a/barge"]).await;
    assert!(got.code == 0 && got.out == bytes, "{}", got.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_while_servers_run() {
    let site = Site::new("tls_reload");
    let (master, volumes) = site.cluster().await;
    let servers = || std::iter::once(&master).chain(&volumes);
    let client = site.client(master.url());
    for server in servers() {
        assert_eq!(site.shown(server.url()).await.expect("a certificate"), site.first);
    }
    // A new certificate without its key is invalid: the old one stays in use.
    let (chain, key, second) = site.authority.issue();
    std::fs::write(&site.chain, chain).expect("a file");
    for server in servers() {
        eventually(RELOADED, "the change is seen", async || {
            assert_eq!(site.shown(server.url()).await.expect("a certificate"), site.first);
            server.log().contains("the old one stays in use").then_some(())
        })
        .await;
    }
    std::fs::write(&site.key, key).expect("a file");
    for server in servers() {
        site.shows(server.url(), &second).await;
    }
    // By a rename, as most tools do it; with connections that are already open.
    assert_eq!(client.put("k", value(2, 100_000)).await.expect("an answer").status, 201);
    let (chain, key, third) = site.authority.issue();
    for (path, text) in [(&site.key, key), (&site.chain, chain)] {
        std::fs::rename(site.folder.file("draft", text.as_bytes()), path).expect("a file in its place");
    }
    for server in servers() {
        site.shows(server.url(), &third).await;
    }
    assert!(client.get("k").await.expect("an answer").body == value(2, 100_000));
    for server in servers() {
        let log = server.log();
        assert!(!log.contains("PRIVATE KEY") && !log.contains("panicked"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_others_can_read_is_warned_of() {
    for (mode, warned) in [(0o644, true), (0o640, true), (0o604, true), (0o600, false)] {
        let site = Site::new("tls_mode");
        std::fs::set_permissions(&site.key, Permissions::from_mode(mode)).expect("the file is ours");
        let server = site.start("volume", "volume", &["data", "--master", "https://127.0.0.1:1"]).await;
        let todo = format!("chmod 600 {}", site.key.display());
        let said = server.log().lines().any(|line| line.contains("WARN") && line.contains(&todo));
        assert_eq!(said, warned, "{mode:o}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_masters_in_one_process_speak_tls() {
    let site = Site::new("tls_server");
    let args = ["server", "--masters", "3", "--volumes", "2", "--reserve", "16MiB", "--data", "data"];
    let mut spec = site.spec("server", "barge", &args);
    add(&mut spec, "--listen", "127.0.0.1:0");
    let server = Server::start(spec, site.folder.path()).await.expect("it starts");
    site.healthy(server.url()).await;
    let client = site.client(server.url());
    assert_eq!(client.put("k", value(3, 100_000)).await.expect("an answer").status, 201);
    assert!(client.get("k").await.expect("an answer").body == value(3, 100_000));
    eventually(UP, "three masters with a vote", async || {
        let known: Masters = client.json("/_/masters").await?;
        assert!(known.masters.iter().all(|m| m.address.starts_with("https://")));
        let voters = known.masters.iter().filter(|m| m.role != MasterRole::Learner).count();
        (voters == 3).then_some(())
    })
    .await;
    let ran = site.barge(server.url(), &["cluster", "masters"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
}

/// Waits until this master sees all masters as voters at their own addresses; returns the addresses.
async fn agreed(client: &Client, secure: usize) {
    eventually(UP, "three masters at their new addresses", async || {
        let known: Masters = client.json("/_/masters").await?;
        known.leader()?;
        let voters = known.masters.iter().filter(|m| m.role != MasterRole::Learner);
        let there = known.masters.iter().filter(|m| m.address.starts_with("https://")).count();
        (voters.count() == 3 && there == secure).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_a_cluster_is_switched_one_server_at_a_time() {
    let site = Site::new("tls_switch");
    let start = async |name: &str, program, args: &[&str]| {
        let mut spec = Spec::new(name, program, args.iter().copied());
        add(&mut spec, "--tls-ca", &site.ca);
        add(&mut spec, "--secret-file", site.folder.join("secret"));
        add(&mut spec, "--listen", format!("127.0.0.1:{}", free_port()));
        Server::start(spec, site.folder.path()).await.expect("it starts")
    };
    let mut masters = vec![start("master1", "master", &["meta1"]).await];
    for n in 2..=3 {
        let (name, data) = (format!("master{n}"), format!("meta{n}"));
        masters.push(start(&name, "master", &[&data, "--join", masters[0].url()]).await);
    }
    let list = |masters: &[Server]| masters.iter().map(Server::url).collect::<Vec<_>>().join(",");
    let first = list(&masters);
    let mut volumes = Vec::new();
    for n in 1..=2 {
        let (name, data) = (format!("volume{n}"), format!("data{n}"));
        let args = [&data, "--master", &first, "--reserve", "16777216"];
        volumes.push(start(&name, "volume", &args).await);
    }
    for master in &masters {
        site.healthy(master.url()).await;
    }
    agreed(&site.client(masters[0].url()), 0).await;
    let secure = async |server: &mut Server| {
        assert!(server.terminate().await.success());
        add(server.spec_mut(), "--tls-cert", &site.chain);
        add(server.spec_mut(), "--tls-key", &site.key);
        server.restart().await.expect("the master restarts");
        site.healthy(server.url()).await;
    };
    for n in 0..3 {
        secure(&mut masters[n]).await;
        for master in &masters {
            agreed(&site.client(master.url()), n + 1).await;
        }
        let client = site.client(masters[n].url());
        assert_eq!(client.put(&format!("k{n}"), value(4, 50_000)).await.expect("an answer").status, 201);
    }
    let now = list(&masters);
    for volume in &mut volumes {
        for arg in &mut volume.spec_mut().args {
            if *arg == *first {
                *arg = now.clone().into();
            }
        }
        secure(volume).await;
    }
    let client = site.client(masters[0].url());
    eventually(UP, "both volumes are back", async || {
        let answer = client.put("last", value(5, 50_000)).await.ok()?;
        (answer.is_success() && answer.text().contains("\"replicas\":2")).then_some(())
    })
    .await;
    for n in 0..3 {
        let got = client.get(&format!("k{n}")).await.expect("an answer");
        assert!(got.status == 200 && got.body == value(4, 50_000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_go_together_does_not_start() {
    let site = Site::new("tls_refused");
    let refused = async |mut spec: Spec, why: &str| {
        add(&mut spec, "--listen", "127.0.0.1:0");
        let (status, said) = spec.run_to_end(site.folder.path()).await;
        assert!(!status.success() && said.contains(why), "{why}: {said}");
    };
    let zero_copy = ["data", "--master", "http://127.0.0.1:9", "--reads", "zero-copy"];
    refused(site.spec("volume", "volume", &zero_copy), "--reads zero-copy").await;
    let mut half = Spec::new("half", "master", ["meta"]);
    add(&mut half, "--tls-cert", &site.chain);
    refused(half, "--tls-key").await;
    std::fs::write(&site.key, "nothing").expect("a file");
    refused(site.spec("bad", "master", &["meta"]), "private key").await;
    let (_, other, _) = site.authority.issue();
    std::fs::write(&site.key, other).expect("a file");
    refused(site.spec("unfit", "master", &["meta"]), "does not go with").await;
    std::fs::remove_file(&site.chain).expect("the file exists");
    refused(site.spec("gone", "master", &["meta"]), "chain.pem").await;
}
