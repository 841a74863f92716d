//! An interrupted snapshot transfer resumes where it stopped, and a master that dies while it installs one
//! restarts without help.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::Method;
use tests::cluster::{SETTLED, add};
use tests::wait::moment;
use tests::{Client, Cluster, Dice, Options, amount, eventually, say, value};

/// Few, so that an empty master needs a snapshot; enough that no newer one replaces it meanwhile.
const KEPT: u64 = 100;
const KEYS: usize = 800;
/// User metadata makes the snapshot long: a dozen parts.
const METADATA_BYTES: usize = 7000;
/// Attempts, as a snapshot may complete before it is interrupted.
const TRIES: usize = 10;
/// Latest moment after the start of an installation at which a master dies.
const INSTALLING_MS: u64 = 400;

fn metadata(n: usize) -> String {
    format!("{n:0METADATA_BYTES$}")
}

/// Returns the received bytes of a snapshot.
fn received(master: &Path) -> Option<u64> {
    let files = std::fs::read_dir(master.join("snapshots")).ok()?.flatten();
    let mut parts = files.filter(|f| f.file_name().to_string_lossy().starts_with("received-"));
    parts.next()?.metadata().ok().map(|m| m.len()).filter(|length| *length > 0)
}

/// Returns the value of `name=` in the last log line that contains `what`.
fn last_said(log: &str, what: &str, name: &str) -> Option<u64> {
    let line = log.lines().rfind(|line| line.contains(what))?;
    line.split_whitespace().find_map(|word| word.strip_prefix(&format!("{name}=")))?.parse().ok()
}

async fn cluster(name: &str) -> Cluster {
    let options = Options { masters: 3, volumes: 2, log_entries_kept: Some(KEPT), ..Options::default() };
    let cluster = Cluster::start(name, options).await;
    let client = cluster.client();
    for n in 0..KEYS {
        let header = [("barge-meta-long", &*metadata(n))];
        let put = client.send(Method::PUT, &format!("long/{n}"), &header, Some(value(1, 10))).await;
        assert_eq!(put.expect("an answer").status, 201);
    }
    cluster
}

/// A master that joins with an empty directory.
struct Late {
    leader: usize,
    place: usize,
    folder: PathBuf,
}

impl Late {
    /// Wipes a follower and restarts it.
    async fn begin(cluster: &mut Cluster) -> Self {
        let leader = cluster.leader().await.expect("a leader");
        let place = if leader == 2 { 1 } else { 2 };
        let folder = cluster.folder().join(format!("master{}", place + 1));
        let leader_url = cluster.masters().nth(leader).expect("three").url().to_owned();
        let server = cluster.master_mut(place);
        server.kill().await;
        std::fs::remove_dir_all(&folder).expect("its directory");
        add(server.spec_mut(), "--join", leader_url);
        server.begin();
        Self { leader, place, folder }
    }

    async fn has_everything(&self, cluster: &Cluster) {
        let client = Client::new(cluster.masters().nth(self.place).expect("three").url());
        for n in [0, KEYS / 2, KEYS - 1] {
            let head = client.send(Method::HEAD, &format!("long/{n}?stale"), &[], None).await;
            assert_eq!(head.expect("an answer").header("barge-meta-long"), Some(metadata(n)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_an_interrupted_snapshot_goes_on() {
    let mut cluster = cluster("masters_snapshots").await;
    for attempt in 1..=TRIES {
        let late = Late::begin(&mut cluster).await;
        let began = Instant::now();
        let came = loop {
            match received(&late.folder) {
                Some(length) => break Some(length),
                None if began.elapsed() > SETTLED => break None,
                None => moment(Duration::from_millis(1)).await,
            }
        };
        assert!(came.is_some(), "no snapshot arrived");
        let broken = |cluster: &Cluster| {
            let log = cluster.masters().nth(late.leader).expect("three").log();
            log.matches("a snapshot was not sent").count()
        };
        let before = broken(&cluster);
        cluster.master_mut(late.place).kill().await;
        let length = received(&late.folder);
        if length.is_none() {
            // It was complete.
            cluster.master_mut(late.place).restart().await.expect("the master joins again");
            cluster.settled().await;
            continue;
        }
        eventually(SETTLED, "the leader sees it", async || (broken(&cluster) > before).then_some(())).await;
        cluster.master_mut(late.place).restart().await.expect("the master joins again");
        cluster.settled().await;
        let log = cluster.masters().nth(late.leader).expect("three").log();
        let from = last_said(&log, "sending a snapshot", "from").expect("the leader has sent a snapshot");
        let bytes = last_said(&log, "sending a snapshot", "bytes").expect("the log names its length");
        say(format_args!("attempt {attempt}: {length:?} of {bytes} bytes had arrived, resumed from {from}"));
        if let Some(length) = length.filter(|length| *length < bytes) {
            assert_eq!(from, length, "the transfer resumes where it stopped");
            late.has_everything(&cluster).await;
            return;
        }
    }
    panic!("no snapshot could be interrupted in {TRIES} attempts");
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_a_death_while_a_snapshot_is_installed() {
    let mut dice = Dice::of_run();
    let mut cluster = cluster("masters_installing").await;
    for _ in 0..amount("BARGE_DEATHS", 3, 30) {
        let late = Late::begin(&mut cluster).await;
        let installs = |cluster: &Cluster| {
            let log = cluster.masters().nth(late.place).expect("three").log();
            log.matches("installing a snapshot").count()
        };
        let before = installs(&cluster);
        eventually(SETTLED, "a snapshot is installed", async || (installs(&cluster) > before).then_some(()))
            .await;
        moment(Duration::from_millis(dice.below(INSTALLING_MS))).await;
        let server = cluster.master_mut(late.place);
        server.kill().await;
        server.restart().await.unwrap_or_else(|why| panic!("it does not restart without help: {why}"));
        cluster.settled().await;
        late.has_everything(&cluster).await;
    }
}
