//! kill -9 of any process at any moment, repeatedly, under load, with the oracle watching.
//!
//! `BARGE_ROUNDS` sets the number of rounds; `BARGE_SEED` repeats the choices of a run.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shared::limits::COMMIT_TIMEOUT;
use tests::client::metric;
use tests::load::{Load, Shape, audit};
use tests::tamper::Library;
use tests::wait::moment;
use tests::{
    Change, Client, Cluster, Dice, Folder, Options, Oracle, amount, eventually, rot, say, space, value,
};

/// Many small values: deleted, they leave mostly headers for compactions to remove.
const SHAPE: Shape =
    Shape { writers: 4, hot_keys: 2, readers: 3, keys: 10, bytes_min: 4 << 10, bytes_max: 8 << 20 };
/// An uncommitted record is collected after this.
const GRACE: Duration = Duration::from_secs(4);
/// Values that get bit rot.
const STILL: u64 = 6;
const STILL_BYTES: usize = 400_000;

#[tokio::test(flavor = "multi_thread")]
async fn crash_rounds() {
    let rounds = amount("BARGE_ROUNDS", 6, 250);
    let mut dice = Dice::of_run();
    let folder = Folder::new("crash-library");
    let library = Library::new(&folder, "crash_rounds: the volume without holes").await;
    let options = Options {
        volumes: 3,
        replicas: 2,
        min_replicas: 2,
        // Small, so that seals and compactions are hit as well; the scrub never rests.
        segment_bytes: 8 << 20,
        scrub_every: Some(Duration::from_secs(1)),
        orphan_grace: GRACE,
        down_after: Duration::from_secs(2),
        // One of them frees space only by compaction.
        volume_env: vec![vec![], vec![], library.as_ref().map(Library::without_holes).unwrap_or_default()],
        ..Options::default()
    };
    let mut cluster = Cluster::start("crash", options).await;
    let oracle = Oracle::with_journal(&cluster.folder().join("journal"));
    let mut upkeep = Upkeep::new(&cluster, &oracle).await;
    let load = Load::start(&cluster, &oracle, SHAPE, &mut dice).await;
    let started = Instant::now();
    for round in 0..rounds {
        upkeep.rot(&cluster, &mut dice);
        crash_once(&mut cluster, &mut dice).await;
        cluster.settled().await;
        upkeep.look(&cluster).await;
        if load.failed() {
            say(format_args!("a violation was found in round {round}"));
            break;
        }
        let counts = load.counts();
        let acknowledged = counts.acknowledged.load(Ordering::Relaxed);
        eventually(Duration::from_secs(60), "writes continue after a crash", async || {
            (load.failed() || counts.acknowledged.load(Ordering::Relaxed) > acknowledged + 3).then_some(())
        })
        .await;
    }
    let counts = load.end().await;
    say(format_args!("{rounds} rounds in {:?}: {counts:?}", started.elapsed()));
    cluster.settled().await;
    // By then every commit that a volume still delivers is decided.
    moment(COMMIT_TIMEOUT.min(GRACE)).await;
    let keys = audit(&cluster.client(), &oracle).await.unwrap_or_else(|wrong| panic!("VIOLATIONS\n{wrong}"));
    say(format_args!("all {keys} keys have an allowed value"));
    space::is_back(&cluster, &oracle, 2, GRACE, &[true, true, library.is_none()]).await;
    upkeep.end(&mut cluster).await;
    cluster.assert_no_secrets_in_logs();
}

/// The audit is proved on planted lies: changes to a real cluster that the oracle does not know of.
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
        [("lost", "gone"), ("changed", "never written"), ("back", "stale"), ("cut", "never written")]
    {
        let caught = wrong.lines().filter(|l| l.starts_with(&format!("{key}:")) && l.contains(why)).count();
        assert_eq!(caught, 2, "{key} must be caught both ways: {wrong}");
    }
}

/// One crash: one process or two, sometimes one more during their restart.
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
        server.restart().await.unwrap_or_else(|why| panic!("it does not restart without help: {why}"));
        if again {
            moment(Duration::from_millis(dice.below(80))).await;
            server.kill().await;
            server.restart().await.unwrap_or_else(|why| panic!("it does not restart without help: {why}"));
        }
    }
}

/// The background work of the volumes while they are killed: compactions, scrubs, and healing of values whose
/// replicas on the first volume rot. Those values never change, so the other replica is valid whichever
/// volume is down.
struct Upkeep {
    values: Vec<Vec<u8>>,
    /// Counters of the volumes, which restart at 0: healed records, moved bytes, scrubbed bytes.
    last: Vec<[u64; 3]>,
    done: [u64; 3],
    flips: u64,
    flipped: Instant,
}

impl Upkeep {
    async fn new(cluster: &Cluster, oracle: &Oracle) -> Self {
        let mut values = Vec::new();
        for n in 0..STILL {
            let bytes = value(u64::MAX - n, STILL_BYTES);
            let intent = oracle.intend(&format!("still/{n}"), Change::put(&bytes));
            let put = cluster.client().put(&format!("still/{n}"), bytes.clone()).await.expect("an answer");
            assert_eq!(put.status, 201, "{}", put.text());
            intent.ok();
            values.push(bytes);
        }
        let last = vec![[0; 3]; cluster.volumes.len()];
        Self { values, last, done: [0; 3], flips: 0, flipped: Instant::now() }
    }

    fn rot(&mut self, cluster: &Cluster, dice: &mut Dice) {
        let value = &self.values[dice.index(self.values.len())];
        // After the bytes by which the record is found.
        let offset = (64 + dice.below(STILL_BYTES as u64 - 64)).cast_signed();
        self.flips += u64::from(rot::flip(cluster.volume_folder(0), value, offset));
        self.flipped = Instant::now();
    }

    async fn look(&mut self, cluster: &Cluster) {
        for (n, server) in cluster.volumes.iter().enumerate() {
            let text = Client::new(server.url()).get_text("/_/metrics").await.unwrap_or_default();
            let names = ["barge_records_healed", "barge_compacted_bytes", "barge_scrub_verified_bytes"];
            let now = names.map(|name| metric(&text, name).unwrap_or(0));
            for ((done, last), now) in self.done.iter_mut().zip(&mut self.last[n]).zip(now) {
                *done += now.checked_sub(*last).unwrap_or(now);
                *last = now;
            }
        }
    }

    /// Waits until all rot is healed and no disk holds a corrupt byte.
    async fn end(mut self, cluster: &mut Cluster) {
        eventually(Duration::from_secs(60), "all rot is healed", async || {
            let first = &cluster.volumes[0];
            let text = Client::new(first.url()).get_text("/_/metrics").await?;
            let scrubbed = Duration::from_secs(metric(&text, "barge_scrub_oldest_seconds")? + 1);
            let healed = metric(&text, "barge_records_corrupt")? == 0;
            (healed && scrubbed < self.flipped.elapsed()).then_some(())
        })
        .await;
        self.look(cluster).await;
        let [healed, moved, scrubbed] = self.done;
        let flips = self.flips;
        say(format_args!(
            "{flips} bits flipped, {healed} records healed, {moved} bytes moved, {scrubbed} scrubbed"
        ));
        assert!(self.done.iter().all(|done| *done > 0), "some background work did not run: {:?}", self.done);
        cluster.check_offline().await;
    }
}
