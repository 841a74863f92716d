//! A volume dies during a download: streamed answers continue, redirected ones break visibly. The disk that a
//! download is written to fails: the client reports it.

use std::time::Duration;

use reqwest::Method;
use rustix::io::Errno;
use shared::work::blocking;
use tests::client::metric;
use tests::folder::binary;
use tests::process::Spec;
use tests::raw::Raw;
use tests::tamper::{Action, Call, Fault, Library};
use tests::tool::run_command;
use tests::{Client, Cluster, Folder, eventually, say, value};
use tokio::process::Command;

use super::three;

/// More than all sockets and buffers on the way hold.
const SIZE: usize = 96 << 20;
const FIRST: usize = 2 << 20;

/// Sends a GET and reads its first bytes, so that the rest is still on the volume's disk.
async fn begin(address: &str, target: &str) -> (Raw, Vec<u8>) {
    let (address, target) = (address.to_owned(), target.to_owned());
    blocking(move || {
        let mut raw = Raw::connect(&address);
        raw.patience(Duration::from_secs(60));
        raw.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        let first = raw.some(FIRST);
        (raw, first)
    })
    .await
}

/// Splits an answer that was read as one piece into status and body.
fn split(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    (String::from_utf8_lossy(&bytes[..end]).into_owned(), &bytes[end..])
}

/// Returns the volume that has sent body bytes since `before`.
async fn sender(cluster: &Cluster, before: &[u64]) -> usize {
    eventually(Duration::from_secs(20), "one volume is sending", async || {
        let now = sent(cluster).await;
        now.iter().zip(before).position(|(n, b)| *n > b + (1 << 20))
    })
    .await
}

async fn sent(cluster: &Cluster) -> Vec<u64> {
    let mut all = Vec::new();
    for volume in &cluster.volumes {
        let text = Client::new(volume.url()).get_text("/_/metrics").await.expect("the volume is up");
        all.push(metric(&text, "barge_http_sent_bytes_total").expect("bytes sent"));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_download_goes_on_from_another_replica() {
    let mut cluster = three("streamed").await;
    let bytes = value(1, SIZE);
    assert_eq!(cluster.client().put("k", bytes.clone()).await.unwrap().status, 201);
    let before = sent(&cluster).await;
    let (mut raw, mut got) = begin(cluster.master.address(), "/k?stream").await;
    let victim = sender(&cluster, &before).await;
    cluster.volumes[victim].kill().await;
    let (rest, clean) = blocking(move || raw.rest()).await;
    got.extend(rest);
    let (head, body) = split(&got);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(clean && body == bytes, "{} of {SIZE} bytes, clean: {clean}", body.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirected_download_shows_the_break() {
    let mut cluster = three("redirected").await;
    let bytes = value(1, SIZE);
    let client = cluster.client();
    assert_eq!(client.put("k", bytes.clone()).await.unwrap().status, 201);
    let redirect = client.once(Method::GET, &client.url("k"), &[], None).await.unwrap();
    let location: reqwest::Url = redirect.header("location").unwrap().parse().unwrap();
    let address = format!("{}:{}", location.host_str().unwrap(), location.port().unwrap());
    let target = format!("{}?{}", location.path(), location.query().unwrap());
    let (mut raw, mut got) = begin(&address, &target).await;
    let victim = cluster.volumes.iter().position(|v| v.address() == address).unwrap();
    cluster.volumes[victim].kill().await;
    let (rest, _) = blocking(move || raw.rest()).await;
    got.extend(rest);
    let (head, body) = split(&got);
    assert!(head.contains(&format!("content-length: {SIZE}")), "the client knows how long it is: {head}");
    assert!(body.len() < SIZE && bytes.starts_with(body), "{} bytes, or wrong ones", body.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn barge_get_resumes() {
    let mut cluster = three("resume").await;
    let bytes = value(1, SIZE);
    assert_eq!(cluster.client().put("k", bytes.clone()).await.unwrap().status, 201);
    let before = sent(&cluster).await;
    let home = cluster.folder().path().to_owned();
    let to = cluster.folder().join("fetched");
    let spec = Spec::new("get", "barge", ["--url", cluster.url(), "get", "k", &to.to_string_lossy()]);
    let fetching = {
        let home = home.clone();
        tokio::spawn(async move { spec.run_to_end(&home).await })
    };
    let victim = sender(&cluster, &before).await;
    let part = std::fs::read_dir(&home)
        .unwrap()
        .flatten()
        .any(|f| f.path().extension().is_some_and(|e| e == "part"));
    cluster.volumes[victim].kill().await;
    say(format_args!(
        "volume killed {} the download",
        if part { "in the middle of" } else { "before or after" }
    ));
    let (status, said) = fetching.await.unwrap();
    assert!(status.success(), "{said}");
    assert!(std::fs::read(&to).unwrap() == bytes, "other bytes");
}

/// After a power cut the file of `barge get` has its bytes and its name: it succeeds only when both are synced.
#[tokio::test(flavor = "multi_thread")]
async fn barge_get_says_when_the_bytes_or_the_name_are_not_synced() {
    let folder = Folder::new("get-synced");
    let Some(library) = Library::new(&folder, "barge_get_says_when").await else { return };
    let cluster = three("get-syncs").await;
    let bytes = value(1, 100_000);
    assert_eq!(cluster.client().put("k", bytes.clone()).await.unwrap().status, 201);
    let mut named = Vec::new();
    for at in 1.. {
        let to = folder.join(format!("fetched{at}"));
        let tamper = library.control(&folder.join("control"));
        tamper.arm(Fault { call: Call::Sync, at, action: Action::Fail(Errno::IO) });
        let mut get = Command::new(binary("barge"));
        get.args(["--url", cluster.url(), "get", "k"]).arg(&to).envs(tamper.env());
        let ran = run_command(get, None).await;
        if !tamper.happened() {
            assert_eq!(ran.code, 0, "{}", ran.err);
            assert!(std::fs::read(&to).unwrap() == bytes, "other bytes");
            break;
        }
        assert!(ran.code != 0 && ran.err.contains("cannot write"), "sync {at}: {}: {}", ran.code, ran.err);
        named.push(to.exists());
    }
    assert_eq!(named, [false, true], "the bytes are synced before the rename, the directory after it");
}

/// The same for a back-up: it may be all that is left.
#[tokio::test(flavor = "multi_thread")]
async fn barge_backup_says_when_the_bytes_or_the_name_are_not_synced() {
    let folder = Folder::new("backup-synced");
    let Some(library) = Library::new(&folder, "barge_backup_says_when").await else { return };
    let cluster = three("backup-syncs").await;
    let mut failed = 0;
    for at in 1.. {
        let to = folder.join(format!("backup{at}"));
        let tamper = library.control(&folder.join("control"));
        tamper.arm(Fault { call: Call::Sync, at, action: Action::Fail(Errno::IO) });
        let mut backup = Command::new(binary("barge"));
        backup.args(["--url", cluster.url(), "cluster", "backup"]).arg(&to);
        backup.arg("--secret-file").arg(cluster.folder().join("secret")).envs(tamper.env());
        let ran = run_command(backup, None).await;
        if !tamper.happened() {
            assert_eq!(ran.code, 0, "{}", ran.err);
            assert!(to.exists());
            break;
        }
        assert!(ran.code != 0 && ran.err.contains("cannot write"), "sync {at}: {}: {}", ran.code, ran.err);
        assert!(!to.exists(), "a back-up that may not be durable must not exist");
        failed += 1;
    }
    assert_eq!(failed, 2, "the sync of the bytes and the sync of the name each fail once");
}
