//! A snapshot that is interrupted half way goes on from there.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::Method;
use tests::cluster::{SETTLED, add};
use tests::wait::moment;
use tests::{Client, Cluster, Options, say, value};

/// Few, so that who has nothing needs a snapshot; many enough that it is not replaced by a newer one meanwhile.
const KEPT: u64 = 100;
const KEYS: usize = 800;
/// User metadata makes the snapshot long: a dozen parts.
const METADATA_BYTES: usize = 7000;
/// A snapshot that gets through before it is interrupted is tried again.
const TRIES: usize = 10;

fn metadata(n: usize) -> String {
    format!("{n:0METADATA_BYTES$}")
}

/// What has come of a snapshot so far, in bytes.
fn received(master: &Path) -> Option<u64> {
    let files = std::fs::read_dir(master.join("snapshots")).ok()?.flatten();
    let mut parts = files.filter(|f| f.file_name().to_string_lossy().starts_with("received-"));
    parts.next()?.metadata().ok().map(|m| m.len()).filter(|length| *length > 0)
}

/// The word behind `name=` in the last line of a log that has `what`.
fn last_said(log: &str, what: &str, name: &str) -> Option<u64> {
    let line = log.lines().rfind(|line| line.contains(what))?;
    line.split_whitespace().find_map(|word| word.strip_prefix(&format!("{name}=")))?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_an_interrupted_snapshot_goes_on() {
    let options = Options { masters: 3, volumes: 2, log_entries_kept: Some(KEPT), ..Options::default() };
    let mut cluster = Cluster::start("masters_snapshots", options).await;
    let client = cluster.client();
    for n in 0..KEYS {
        let header = [("barge-meta-long", &*metadata(n))];
        let put = client.send(Method::PUT, &format!("long/{n}"), &header, Some(value(1, 10))).await;
        assert_eq!(put.expect("an answer").status, 201);
    }
    for attempt in 1..=TRIES {
        let leader = cluster.leader().await.expect("a leader");
        let late = if leader == 2 { 1 } else { 2 };
        let folder = cluster.folder().join(format!("master{}", late + 1));
        let leader_url = cluster.masters().nth(leader).expect("three").url().to_owned();
        cluster.master_mut(late).kill().await;
        std::fs::remove_dir_all(&folder).expect("its directory");
        add(cluster.master_mut(late).spec_mut(), "--join", leader_url);
        cluster.master_mut(late).begin();
        let began = Instant::now();
        let came = loop {
            match received(&folder) {
                Some(length) => break Some(length),
                None if began.elapsed() > SETTLED => break None,
                None => moment(Duration::from_millis(1)).await,
            }
        };
        assert!(came.is_some(), "no snapshot came");
        cluster.master_mut(late).kill().await;
        let length = received(&folder);
        cluster.master_mut(late).restart().await.expect("it goes on joining");
        cluster.settled().await;
        let log = cluster.masters().nth(leader).expect("three").log();
        let from = last_said(&log, "sending a snapshot", "from").expect("it has sent one");
        let bytes = last_said(&log, "sending a snapshot", "bytes").expect("it says how long");
        say(format_args!("attempt {attempt}: {length:?} of {bytes} bytes had come, sent again from {from}"));
        if let Some(length) = length.filter(|length| *length < bytes) {
            assert_eq!(from, length, "it goes on where it stopped");
            let late = Client::new(cluster.masters().nth(late).expect("three").url());
            for n in [0, KEYS / 2, KEYS - 1] {
                let path = format!("long/{n}?stale");
                let head = late.send(Method::HEAD, &path, &[], None).await.expect("an answer");
                assert_eq!(head.header("barge-meta-long"), Some(metadata(n)));
            }
            return;
        }
    }
    panic!("no snapshot could be interrupted in {TRIES} attempts");
}
