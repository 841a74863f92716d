//! kill -9 of any process at any moment, again and again, under load, with the oracle watching.
//!
//! `BARGE_ROUNDS` says how often, `BARGE_SEED` repeats the choices of a run.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shared::limits::{COMMIT_TIMEOUT, INDEX_ROOM_BYTES, PAGE_BYTES};
use tests::load::{Load, Shape, audit};
use tests::wait::moment;
use tests::{Change, Cluster, Dice, Options, Oracle, eventually, say, setting};

const SHAPE: Shape =
    Shape { writers: 4, hot_keys: 2, readers: 3, keys: 6, bytes_min: 64 << 10, bytes_max: 8 << 20 };
/// A record that nobody committed is collected after this.
const GRACE: Duration = Duration::from_secs(4);
/// Header and trailer of a record, padding included, and what the file system adds to a file.
const PER_BLOB: u64 = 8 * PAGE_BYTES as u64;
/// What was punched out leaves its header page behind: room for some hundred of them in each volume.
const PUNCHED: u64 = 4 << 20;
const PER_SEGMENT: u64 = 4 * PAGE_BYTES as u64 + INDEX_ROOM_BYTES;

#[tokio::test(flavor = "multi_thread")]
async fn crash_rounds() {
    let rounds = setting("BARGE_ROUNDS", 25);
    let mut dice = Dice::of_run();
    let options = Options {
        volumes: 3,
        replicas: 2,
        min_replicas: 2,
        // Small: sealing is to be hit as well.
        segment_bytes: 48 << 20,
        orphan_grace: GRACE,
        down_after: Duration::from_secs(2),
        ..Options::default()
    };
    let mut cluster = Cluster::start("crash", options).await;
    let oracle = Oracle::with_journal(&cluster.folder().join("journal"));
    let load = Load::start(cluster.url(), &oracle, SHAPE, &mut dice).await;
    let started = Instant::now();
    for round in 0..rounds {
        crash_once(&mut cluster, &mut dice).await;
        cluster.settled().await;
        if load.failed() {
            say(format_args!("somebody saw a violation in round {round}"));
            break;
        }
        let counts = load.counts();
        let acknowledged = counts.acknowledged.load(Ordering::Relaxed);
        eventually(Duration::from_secs(60), "writes go on after a crash", async || {
            (load.failed() || counts.acknowledged.load(Ordering::Relaxed) > acknowledged + 3).then_some(())
        })
        .await;
    }
    let counts = load.end().await;
    say(format_args!("{rounds} rounds in {:?}: {counts:?}", started.elapsed()));
    cluster.settled().await;
    // What a volume still brings to its commit is decided by then.
    moment(COMMIT_TIMEOUT.min(GRACE)).await;
    let keys = audit(&cluster.client(), &oracle).await.unwrap_or_else(|wrong| panic!("VIOLATIONS\n{wrong}"));
    say(format_args!("{keys} keys are what they may be"));
    space_is_back(&cluster, &oracle).await;
    cluster.assert_no_secrets_in_logs();
}

/// The audit is proved on lies, told behind the oracle's back to a real cluster.
#[tokio::test(flavor = "multi_thread")]
async fn crash_audit_catches_planted_lies() {
    let cluster = Cluster::start("lies", Options { volumes: 2, ..Options::default() }).await;
    let (client, oracle) = (cluster.client(), Oracle::default());
    for key in ["lost", "changed", "back", "cut"] {
        let intent = oracle.intend(key, Change::put(b"as acknowledged"));
        assert_eq!(client.put(key, b"as acknowledged".to_vec()).await.unwrap().status, 201);
        intent.ok();
    }
    let intent = oracle.intend("back", Change::Delete);
    assert_eq!(client.delete("back").await.unwrap().status, 200);
    intent.ok();
    assert_eq!(audit(&client, &oracle).await, Ok(4));
    assert_eq!(client.delete("lost").await.unwrap().status, 200);
    for (key, bytes) in
        [("changed", &b"As acknowledged"[..]), ("back", b"as acknowledged"), ("cut", b"as ack")]
    {
        assert!(client.put(key, bytes.to_vec()).await.unwrap().is_success());
    }
    let wrong = audit(&client, &oracle).await.unwrap_err();
    for (key, why) in
        [("lost", "gone"), ("changed", "never written"), ("back", "over"), ("cut", "never written")]
    {
        let caught = wrong.lines().filter(|l| l.starts_with(&format!("{key}:")) && l.contains(why)).count();
        assert_eq!(caught, 2, "{key} is to be caught both ways: {wrong}");
    }
}

/// One crash: one process or two, sometimes one more while they start again.
async fn crash_once(cluster: &mut Cluster, dice: &mut Dice) {
    moment(Duration::from_millis(100 + dice.below(900))).await;
    let first = dice.index(4);
    let mut victims = vec![first];
    if dice.once_in(4) {
        victims.push((first + 1 + dice.index(3)) % 4);
    }
    for victim in &victims {
        cluster.servers_mut().remove(*victim).kill().await;
    }
    moment(Duration::from_millis(dice.below(600))).await;
    for victim in &victims {
        let again = dice.once_in(4);
        let mut servers = cluster.servers_mut();
        let server = &mut *servers[*victim];
        server.restart().await.unwrap_or_else(|why| panic!("it does not come back by itself: {why}"));
        if again {
            moment(Duration::from_millis(dice.below(80))).await;
            server.kill().await;
            server.restart().await.unwrap_or_else(|why| panic!("it does not come back by itself: {why}"));
        }
    }
}

/// All space of failed uploads is back: the volumes hold what the objects refer to, and no more.
async fn space_is_back(cluster: &Cluster, oracle: &Oracle) {
    let client = cluster.client();
    let mut present = 0;
    for key in oracle.keys() {
        let head = client.send(reqwest::Method::HEAD, &key, &[], None).await.expect("an answer");
        present += u64::from(head.status == 200);
    }
    let deadline = Instant::now() + GRACE * 10 + Duration::from_secs(30);
    loop {
        let status = cluster.status().await.expect("a master that is up");
        let held = cluster.footprint().await;
        assert_eq!(status.objects, present, "keys that the master counts");
        let copies = present * 2;
        let blobs: u64 = held.blobs.iter().sum();
        let mut excess = Vec::new();
        for n in 0..3 {
            let (allocated, segments) = cluster.segment_bytes(n);
            let most = held.live_bytes[n] + held.blobs[n] * PER_BLOB + segments * PER_SEGMENT;
            if allocated > most + PUNCHED {
                excess.push(format!(
                    "volume{}: {allocated} bytes in {segments} segments, {most} expected",
                    n + 1
                ));
            }
        }
        let now = format!(
            "reclaim_pending {}, {blobs} blobs for {copies} copies, {held:?}, {excess:?}",
            status.reclaim_pending
        );
        if status.reclaim_pending == 0 && blobs == copies && excess.is_empty() && held.uploads == 0 {
            say(format_args!("space is back: {now}"));
            return;
        }
        assert!(Instant::now() < deadline, "space is not back: {now}");
        moment(Duration::from_millis(200)).await;
    }
}
