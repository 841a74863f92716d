//! Access keys as clients see them: sent as Bearer and as Basic, with permissions and scopes, revoked on all masters
//! at once, still there after a restart, and never readable anywhere.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use shared::wire::error::ErrorCode;
use tests::cluster::{add, free_port};
use tests::folder::binary;
use tests::tool::{Ran, curl, run_command};
use tests::{Client, Cluster, Folder, Options, Server, Spec, eventually, value};

/// A created key.
struct Key {
    id: String,
    secret: String,
}

impl Key {
    fn pair(&self) -> String {
        format!("{}:{}", self.id, self.secret)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.pair())
    }

    fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(self.pair()))
    }
}

/// Runs `barge` with a secret against these masters.
struct Barge {
    urls: String,
    secret: std::path::PathBuf,
    home: std::path::PathBuf,
}

impl Barge {
    fn of(cluster: &Cluster) -> Self {
        // The first master leads: the command asks a follower first.
        let mut urls: Vec<_> = cluster.masters().map(Server::url).collect();
        urls.reverse();
        let home = cluster.folder().path().to_owned();
        Self { urls: urls.join(","), secret: cluster.folder().join("secret"), home }
    }

    async fn run(&self, key: Option<&Key>, args: &[&str]) -> Ran {
        let mut command = tokio::process::Command::new(binary("barge"));
        command.current_dir(&self.home).env("HOME", &self.home).env_remove("BARGE_ACCESS_KEY");
        command.args(["--url", &self.urls]).args(args);
        if let Some(key) = key {
            command.env("BARGE_ACCESS_KEY", key.pair());
        }
        run_command(command, None).await
    }

    async fn signed(&self, args: &[&str]) -> Ran {
        let secret = self.secret.to_string_lossy();
        let ran = self.run(None, &[args, &["--secret-file", &secret, "--json"]].concat()).await;
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        ran
    }

    async fn create(&self, args: &[&str]) -> Key {
        let made = self.signed(&[&["key", "create"], args].concat()).await;
        let made: serde_json::Value = serde_json::from_slice(&made.out).expect("JSON");
        let field = |name: &str| made[name].as_str().expect("a string").to_owned();
        Key { id: field("id"), secret: field("secret") }
    }
}

async fn ask(url: &str, method: Method, path: &str, shown: Option<&str>) -> (u16, Option<ErrorCode>) {
    let client = Client::new(url);
    let headers: Vec<_> = shown.iter().map(|s| ("authorization", *s)).collect();
    let body = [Method::PUT, Method::POST].contains(&method).then(|| b"value".to_vec());
    let answer = client.once(method, &client.url(path), &headers, body).await.expect("an answer");
    if answer.status == 401 {
        assert_eq!(answer.header("www-authenticate").as_deref(), Some("Basic realm=\"barge\""));
    }
    (answer.status, answer.code())
}

const UNAUTHORIZED: (u16, Option<ErrorCode>) = (401, Some(ErrorCode::Unauthorized));
const FORBIDDEN: (u16, Option<ErrorCode>) = (403, Some(ErrorCode::Forbidden));

#[tokio::test(flavor = "multi_thread")]
async fn crash_keys_permit_what_they_say_until_they_are_revoked() {
    let options = Options { masters: 3, volumes: 2, ..Options::default() };
    let mut cluster = Cluster::start("keys", options).await;
    let barge = Barge::of(&cluster);
    let urls: Vec<String> = cluster.masters().map(|m| m.url().to_owned()).collect();
    assert_eq!(
        ask(&urls[0], Method::PUT, "data/open", None).await.0,
        201,
        "without access keys there is no check"
    );

    let admin = barge.create(&["--permission", "admin", "--note", "all"]).await;
    let reader = barge.create(&["--permission", "read", "--scope", "data"]).await;
    let writer = barge.create(&["--scope", "data/in/"]).await;
    for url in &urls {
        nobody_passes(url).await;
        permitted(url, &admin, &reader, &writer).await;
    }
    with_curl(&cluster, &urls[1], &writer).await;
    with_barge(&cluster, &barge, &reader, &writer).await;
    let listed = String::from_utf8(barge.signed(&["key", "list"]).await.out).unwrap();
    for key in [&admin, &reader, &writer] {
        assert!(listed.contains(&key.id) && !listed.contains(&key.secret));
    }

    // Revoked on one master, refused at once by all; the other keys still work.
    barge.signed(&["key", "revoke", &writer.id]).await;
    for url in &urls {
        assert_eq!(ask(url, Method::HEAD, "data/in/a", Some(&writer.bearer())).await, UNAUTHORIZED_HEAD);
        assert_eq!(ask(url, Method::PUT, "data/in/a", Some(&writer.basic())).await, UNAUTHORIZED);
        assert_eq!(ask(url, Method::GET, "data/in/a?stream", Some(&reader.basic())).await.0, 200);
    }
    let secret = cluster.folder().join("secret").display().to_string();
    let again = barge.run(None, &["key", "revoke", &writer.id, "--secret-file", &secret]).await;
    assert_eq!(again.code, 3, "{}", again.err);

    for n in 0..3 {
        cluster.master_mut(n).kill().await;
    }
    for n in 0..3 {
        cluster.master_mut(n).restart().await.expect("the master restarts");
    }
    cluster.settled().await;
    for url in &urls {
        assert_eq!(ask(url, Method::GET, "data/in/a", None).await, UNAUTHORIZED);
        assert_eq!(ask(url, Method::GET, "data/in/a?stream", Some(&reader.bearer())).await.0, 200);
        assert_eq!(ask(url, Method::PUT, "data/in/a", Some(&writer.bearer())).await, UNAUTHORIZED);
    }

    cluster.assert_no_secrets_in_logs();
    for key in [&admin, &reader, &writer] {
        assert_nowhere(cluster.folder().path(), key.secret.as_bytes());
        assert_nowhere(cluster.folder().path(), STANDARD.encode(key.pair()).as_bytes());
    }

    // Without any key the cluster is open again.
    for key in [&admin, &reader] {
        barge.signed(&["key", "revoke", &key.id]).await;
    }
    for url in &urls {
        assert_eq!(ask(url, Method::PUT, "data/open", None).await.0, 200);
    }
}

/// A HEAD answer has no body for an error code.
const UNAUTHORIZED_HEAD: (u16, Option<ErrorCode>) = (401, None);

/// Without a key, and with an invalid one.
async fn nobody_passes(url: &str) {
    for path in ["data/open", "data/open?stream", "data/open?stale", "data/none", "?list", "data/?list"] {
        assert_eq!(ask(url, Method::GET, path, None).await, UNAUTHORIZED, "{path}");
    }
    assert_eq!(ask(url, Method::HEAD, "data/open", None).await, UNAUTHORIZED_HEAD);
    for method in [Method::PUT, Method::POST, Method::DELETE, Method::PATCH] {
        assert_eq!(ask(url, method, "data/open", None).await, UNAUTHORIZED);
    }
    for shown in ["Bearer x:y", "Basic eDp5", "Bearer", "Negotiate abc"] {
        assert_eq!(ask(url, Method::GET, "data/open", Some(shown)).await, UNAUTHORIZED, "{shown}");
    }
    for open in ["", "_/health", "_/metrics"] {
        assert_eq!(ask(url, Method::GET, open, None).await.0, 200, "{open}");
    }
    for told in ["_/status", "_/masters", "_/events"] {
        assert_eq!(ask(url, Method::GET, told, None).await, UNAUTHORIZED, "{told}");
        assert_eq!(ask(url, Method::GET, told, Some("Bearer x:y")).await, UNAUTHORIZED, "{told}");
        assert_eq!(ask(url, Method::POST, told, None).await, (403, Some(ErrorCode::NotSigned)), "{told}");
    }
    for signed in ["_/keys", "_/keys/put", "_/keys/revoke"] {
        assert_eq!(ask(url, Method::POST, signed, None).await, (403, Some(ErrorCode::NotSigned)), "{signed}");
    }
}

/// Each key permits what it says and nothing else.
async fn permitted(url: &str, admin: &Key, reader: &Key, writer: &Key) {
    for shown in [admin.bearer(), admin.basic()] {
        let may = async |method, path| ask(url, method, path, Some(&shown)).await.0;
        assert_eq!(may(Method::GET, "data/open?stream").await, 200);
        assert_eq!(may(Method::GET, "?list").await, 200);
        for told in ["_/status", "_/masters", "_/events"] {
            assert_eq!(may(Method::GET, told).await, 200, "{told}");
        }
        assert!([200, 201].contains(&may(Method::PUT, "elsewhere/k").await));
        assert_eq!(may(Method::DELETE, "elsewhere/k").await, 200);
        assert_eq!(may(Method::GET, "data/%00x").await, 400, "a full key gets the specific error");
    }
    for shown in [reader.bearer(), reader.basic()] {
        let may = async |method, path| ask(url, method, path, Some(&shown)).await;
        assert_eq!(may(Method::GET, "data/open?stream").await.0, 200);
        assert_eq!(may(Method::GET, "data/open?stale").await.0, 307);
        assert_eq!(may(Method::HEAD, "data/open").await.0, 200);
        assert_eq!(may(Method::GET, "data/?list").await.0, 200);
        for path in [
            "_/status",
            "_/masters",
            "_/events",
            "data?list",
            "?list",
            "data2/?list",
            "data2/k",
            "data",
            "data%2F..%2Fx",
        ] {
            assert_eq!(may(Method::GET, path).await, FORBIDDEN, "{path}");
        }
        for method in [Method::PUT, Method::POST, Method::DELETE] {
            assert_eq!(may(method, "data/open").await, FORBIDDEN);
        }
    }
    for shown in [writer.bearer(), writer.basic()] {
        let may = async |method, path| ask(url, method, path, Some(&shown)).await;
        assert!([200, 201].contains(&may(Method::PUT, "data/in/a").await.0));
        assert_eq!(may(Method::GET, "data/in/a?stream").await.0, 200);
        assert_eq!(may(Method::GET, "data/in/?list").await.0, 200);
        for path in ["data/?list", "data/in?list", "data/open", "data/inner"] {
            assert_eq!(may(Method::GET, path).await, FORBIDDEN, "{path}");
        }
        assert_eq!(may(Method::PUT, "data/out").await, FORBIDDEN);
    }
    let mixed = format!("Bearer {}:{}", admin.id, reader.secret);
    assert_eq!(ask(url, Method::GET, "data/open", Some(&mixed)).await, UNAUTHORIZED);
}

/// curl waits with its body, is redirected with the ticket only, and sends no body to a server that refuses.
async fn with_curl(cluster: &Cluster, url: &str, writer: &Key) {
    let (folder, bytes) = (cluster.folder(), value(7, 3 << 20));
    let file = folder.join("sent");
    std::fs::write(&file, &bytes).expect("a file");
    let (file, url, pair) = (file.display().to_string(), format!("{url}/data/in/curl"), writer.pair());
    let refused = curl(folder, ["-L", "-T", &file, &url]).await;
    assert_eq!((refused.status, refused.code), (401, 0), "{}", refused.err);
    let stored = curl(folder, ["-L", "-u", &pair, "-T", &file, &url]).await;
    assert_eq!((stored.status, stored.redirects), (201, 1), "{}", stored.text());
    let got = curl(folder, ["-L", "-u", &pair, &url]).await;
    assert!(got.status == 200 && got.redirects == 1 && got.body == bytes);
    let bearer = format!("Authorization: {}", writer.bearer());
    let got = curl(folder, ["-L", "-H", &bearer, &url]).await;
    assert!(got.status == 200 && got.body == bytes);
    std::fs::remove_file(file).expect("the file exists");
}

async fn with_barge(cluster: &Cluster, barge: &Barge, reader: &Key, writer: &Key) {
    let file = cluster.folder().join("file");
    std::fs::write(&file, value(8, 2 << 20)).expect("a file");
    let file = file.display().to_string();
    let stored = barge.run(Some(writer), &["put", &file, "data/in/barge"]).await;
    assert_eq!(stored.code, 0, "{}", stored.err);
    let got = barge.run(Some(reader), &["cat", "data/in/barge"]).await;
    assert!(got.code == 0 && got.out == value(8, 2 << 20), "{}", got.err);
    assert_eq!(barge.run(Some(reader), &["ls", "data/"]).await.code, 0);
    for (key, args) in
        [(None, ["ls", "data/"]), (Some(reader), ["rm", "data/in/barge"]), (Some(writer), ["ls", "data/"])]
    {
        let refused = barge.run(key, &args).await;
        assert_eq!(refused.code, 1, "{args:?}: {}", refused.err);
    }
    let load =
        ["bench", "--op", "mixed", "--size", "1MiB", "--count", "4", "--prefix", "data/in/b", "--keys", "2"];
    let ran = barge.run(Some(writer), &load).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
}

/// Checks that no file below `folder` contains these bytes.
fn assert_nowhere(folder: &Path, bytes: &[u8]) {
    for entry in std::fs::read_dir(folder).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            assert_nowhere(&path, bytes);
        } else if let Ok(content) = std::fs::read(&path) {
            let found = content.windows(bytes.len()).any(|w| w == bytes);
            assert!(!found, "{} holds a secret", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_others_can_reach_serves_nobody_until_there_is_a_key() {
    for insecure in [false, true] {
        let folder = Folder::new("exposed");
        let secret = folder.join("secret");
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let mut spec = Spec::new("master", "master", [folder.join("meta")]);
        add(&mut spec, "--listen", format!("0.0.0.0:{port}"));
        add(&mut spec, "--advertise", &url);
        add(&mut spec, "--replicas", "1");
        add(&mut spec, "--secret-file", &secret);
        if insecure {
            spec.args.push(OsString::from("--insecure-no-auth"));
        }
        let master = Server::start(spec, folder.path()).await.unwrap();
        let mut spec = Spec::new("volume", "volume", [folder.join("volume")]);
        let volume = free_port();
        add(&mut spec, "--listen", format!("0.0.0.0:{volume}"));
        add(&mut spec, "--advertise", format!("http://127.0.0.1:{volume}"));
        add(&mut spec, "--master", &url);
        add(&mut spec, "--reserve", "16777216");
        add(&mut spec, "--secret-file", &secret);
        let _volume = Server::start(spec, folder.path()).await.unwrap();
        eventually(Duration::from_secs(60), "values can be stored", async || {
            Client::new(&url).get_text("/_/health").await
        })
        .await;
        assert!(master.log().contains("can be reached from other machines"));
        let (closed, stored) =
            if insecure { ((404, Some(ErrorCode::NotFound)), 201) } else { (FORBIDDEN, 403) };
        assert_eq!(ask(&url, Method::GET, "b/k", None).await, closed);
        assert_eq!(ask(&url, Method::PUT, "b/k", None).await.0, stored);

        let barge = Barge { urls: url.clone(), secret, home: folder.path().to_owned() };
        let key = barge.create(&["--id", "SCRIPTED", "--secret", "given/secret+1234"]).await;
        assert_eq!(key.pair(), "SCRIPTED:given/secret+1234");
        assert_eq!(ask(&url, Method::PUT, "b/k", None).await, UNAUTHORIZED);
        assert!([200, 201].contains(&ask(&url, Method::PUT, "b/k", Some(&key.basic())).await.0));
        barge.signed(&["key", "revoke", "SCRIPTED"]).await;
        assert_eq!(ask(&url, Method::GET, "b/k", None).await.0, if insecure { 307 } else { 403 });
    }
}
