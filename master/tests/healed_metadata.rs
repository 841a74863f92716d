//! A master whose metadata is corrupt, or differs from that of the other masters, detects it and recovers
//! theirs by itself: flipped bits in its file, a silent return to an older version of a key, a missing record
//! with a matching digest.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use master::internals::Tables;
use master::offline::Database;
use reqwest::Method;
use tests::cluster::SETTLED;
use tests::{Client, Cluster, Options, eventually, say, value};

const KEYS: usize = 40;
/// So few log entries that the log alone cannot restore the tables.
const KEPT: u64 = 10;
/// The unit in which a disk loses data, in bytes.
const PAGE: u64 = 4096;
const HEALED: &str = "the corrupt metadata was replaced by that of another master";

fn key(n: usize) -> String {
    format!("kept/{n:04}")
}

async fn put(client: &Client, n: usize, seed: u64) {
    let put = client.send(Method::PUT, &key(n), &[], Some(value(seed, 100))).await;
    assert!([200, 201].contains(&put.expect("an answer").status));
}

async fn cluster(name: &str) -> Cluster {
    let cluster = Cluster::start(
        name,
        Options { masters: 3, volumes: 2, log_entries_kept: Some(KEPT), ..Options::default() },
    )
    .await;
    for n in 0..KEYS {
        put(&cluster.client(), n, n as u64).await;
    }
    cluster
}

fn folder(cluster: &Cluster, place: usize) -> PathBuf {
    let name = if place == 0 { "master".into() } else { format!("master{}", place + 1) };
    cluster.folder().join(name)
}

/// Opens the metadata of a stopped master, and closes it like a clean shutdown.
fn edit(folder: &Path, edit: impl FnOnce(&Database)) {
    let database = Database::open(folder).expect("the tables of a stopped master");
    edit(&database);
    database.checkpoint().expect("a checkpoint");
    database.mark_closed().expect("a mark");
    database.close().expect("it closes");
}

/// The raw record of a key in the tables.
fn record(folder: &Path, n: usize) -> Vec<u8> {
    let mut found = None;
    edit(folder, |database| found = database.tree().get(format!("o{}", key(n))).expect("a tree"));
    found.expect("the record of a key").to_vec()
}

fn times_healed(cluster: &Cluster, place: usize) -> usize {
    cluster.masters().nth(place).expect("three").log().matches(HEALED).count()
}

/// Waits until a master has recovered its metadata, and checks that it equals that of the others.
async fn heals(cluster: &mut Cluster, place: usize, times: usize, values: &[u64]) {
    eventually(SETTLED, "it recovers the metadata of another master", async || {
        (times_healed(cluster, place) >= times).then_some(())
    })
    .await;
    cluster.settled().await;
    let client = Client::new(cluster.masters().nth(place).expect("three").url());
    for (n, seed) in values.iter().enumerate() {
        let got = client.send(Method::GET, &format!("{}?stale", key(n)), &[], None).await.expect("an answer");
        assert_eq!((got.status, &got.body[..]), (200, &value(*seed, 100)[..]), "{}", key(n));
    }
    assert!(cluster.master_mut(place).runs(), "the process that found the corruption continues");
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_flipped_bits_are_healed_by_the_others() {
    let mut cluster = cluster("masters_flipped_bits").await;
    let values: Vec<u64> = (0..KEYS as u64).collect();
    let leader = cluster.leader().await.expect("a leader");
    let follower = (leader + 1) % 3;
    for (round, place) in [follower, leader].into_iter().enumerate() {
        cluster.master_mut(place).kill().await;
        let path = folder(&cluster, place).join("sled/db");
        let file = std::fs::File::options().read(true).write(true).open(&path).expect("sled's file");
        let length = file.metadata().expect("its length").len();
        for at in (0..length).step_by(usize::try_from(PAGE).expect("a page")) {
            let (at, mut byte) = (at + (at / PAGE * 769 % PAGE).min(length - at - 1), [0]);
            file.read_exact_at(&mut byte, at).expect("a byte");
            file.write_all_at(&[byte[0] ^ 1 << (at % 8)], at).expect("a byte");
        }
        say(format_args!("round {round}: a bit flipped in each of {} pages", length.div_ceil(PAGE)));
        // Two of three masters continue.
        put(&Client::new(cluster.masters().nth((place + 1) % 3).expect("three").url()), KEYS + round, 1)
            .await;
        cluster.master_mut(place).restart().await.expect("it starts");
        heals(&mut cluster, place, 1, &values).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_an_old_version_and_a_missing_record_are_healed_by_the_others() {
    let mut cluster = cluster("masters_old_version").await;
    let mut values: Vec<u64> = (0..KEYS as u64).collect();
    let place = cluster.leader().await.expect("a leader");
    let place_folder = folder(&cluster, place);
    cluster.master_mut(place).terminate().await;
    let old = record(&place_folder, 7);
    cluster.master_mut(place).restart().await.expect("it starts");
    cluster.settled().await;
    values[7] = 1000;
    put(&cluster.client(), 7, 1000).await;

    // As sled does when a piece of its file is corrupt: it returns the previous version, without an error.
    cluster.master_mut(place).terminate().await;
    edit(&place_folder, |database| {
        let newer = database.tree().insert(format!("o{}", key(7)), old.clone()).expect("a tree");
        assert_ne!(newer.as_deref(), Some(&old[..]));
    });
    cluster.master_mut(place).restart().await.expect("it starts");
    heals(&mut cluster, place, 1, &values).await;

    // The tables hold what was written to them, and still differ from those of the others. This process recovered a
    // moment ago; the next one may do so again.
    cluster.master_mut(place).terminate().await;
    edit(&place_folder, |database| {
        let tree = database.tree();
        let mut tables = Tables::new(&tree);
        tables.remove_object(&key(3).parse().expect("a key")).expect("a table");
        database.commit(tables).expect("a commit");
    });
    cluster.master_mut(place).restart().await.expect("it starts");
    heals(&mut cluster, place, 2, &values).await;
}
