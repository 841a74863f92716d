//! Linearizability: twenty clients on a few hot keys while masters are killed, frozen and cut off, with
//! every history judged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tests::clock::ShiftedClock;
use tests::cluster::SETTLED;
use tests::network::{Cut, Network};
use tests::redis::answer_redis;
use tests::{Client, Cluster, Dice, Folder, Options, amount, eventually, say};

use super::book::Book;
use super::clients::{Ways, Worker, start};
use super::nemesis::Nemesis;

const CLIENTS: usize = 20;
/// Hot keys at a time.
const HOT: usize = 4;
/// Keys that are read once more at the end.
const REREAD: usize = 200;

fn ways(cluster: &Cluster, redis: Vec<String>, stale: bool) -> Ways {
    Ways { masters: cluster.masters().map(|s| Client::new(s.url())).collect(), redis, stale }
}

async fn start_cluster(name: &str, folder: &Folder) -> (Cluster, Vec<ShiftedClock>) {
    let clocks = ShiftedClock::several(folder, 3).await;
    let options = Options {
        masters: 3,
        volumes: 3,
        master_env: clocks[0].env(),
        more_master_env: clocks[1..].iter().map(ShiftedClock::env).collect(),
        network: Network::new(3, name).map(Arc::new),
        ..Options::default()
    };
    (Cluster::start(name, options).await, clocks)
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_keep_histories_linearizable() {
    let torment = Duration::from_secs(amount("BARGE_NEMESIS_SECONDS", 12, 250));
    let mut dice = Dice::of_run();
    let folder = Folder::new("masters-clocks");
    let (mut cluster, clocks) = start_cluster("masters_histories", &folder).await;
    let (book, stop) = (Arc::new(Book::new(HOT)), Arc::new(AtomicBool::new(false)));
    let redis = answer_redis(&mut cluster).await;
    let ways = ways(&cluster, redis, false);
    let mut nemesis = Nemesis::new(clocks, dice.split());
    let clients = start(CLIENTS, &book, &ways, &mut dice, &stop);
    let (began, mut looked) = (Instant::now(), Instant::now());
    while began.elapsed() < torment {
        nemesis.strike(&mut cluster).await;
        if looked.elapsed() > Duration::from_secs(60) {
            // Long runs end early if a violation was found.
            judge(&book, false);
            looked = Instant::now();
        }
    }
    nemesis.end(&cluster);
    say(format_args!("{:?} of {:?}", began.elapsed(), nemesis.counts()));
    cluster.settled().await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no client panics");
    }
    let progress = book.counts().get("write").copied().unwrap_or(0);
    reread(&book, &ways, &mut dice).await;
    agree(&cluster).await;
    judge(&book, true);
    assert!(progress > 2 * torment.as_secs(), "the masters made no progress: {:?}", book.counts());
    cluster.assert_no_secrets_in_logs();
}

/// Judges all histories and reports how many there were.
fn judge(book: &Book, all: bool) {
    let started = Instant::now();
    let findings = book.judge(all);
    let counts: Vec<String> = book.counts().iter().map(|(what, n)| format!("{n} {what}")).collect();
    say(format_args!(
        "{} keys judged in {:?}, {} undecided: {}",
        findings.keys,
        started.elapsed(),
        findings.undecided,
        counts.join(", ")
    ));
    assert!(findings.violations.is_empty(), "{}", findings.violations.join("\n\n"));
    assert!(
        findings.undecided * 10 <= findings.keys,
        "{} of {} histories are too hard",
        findings.undecided,
        findings.keys
    );
}

/// Reads the last keys once more from every master: part of their histories.
async fn reread(book: &Arc<Book>, ways: &Ways, dice: &mut Dice) {
    for page in book.pages().iter().rev().take(REREAD) {
        for master in 0..ways.masters.len() {
            let mut worker = Worker {
                number: CLIENTS,
                book: Arc::clone(book),
                ways: ways.clone(),
                dice: dice.split(),
                master,
                redis: None,
            };
            eventually(SETTLED, "a read without faults succeeds", async || {
                worker.read(page).await.then_some(())
            })
            .await;
        }
    }
}

/// Checks that all masters have the same tables.
async fn agree(cluster: &Cluster) {
    eventually(SETTLED, "the masters agree", async || {
        let mut pages = Vec::new();
        for server in cluster.masters() {
            let page = Client::new(server.url()).get_text("/?list&stale&limit=10000").await?;
            assert!(page.contains("hot/"), "nothing is listed: {page}");
            pages.push(page);
        }
        pages.windows(2).all(|two| two[0] == two[1]).then_some(())
    })
    .await;
}

/// The judges are proved on a real cluster: clients that accept stale reads get them from a master that was cut off,
/// and the judges find that.
#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_judges_find_stale_reads() {
    let mut dice = Dice::of_run();
    let folder = Folder::new("masters-stale-clocks");
    let (cluster, _clocks) = start_cluster("masters_stale", &folder).await;
    let (book, stop) = (Arc::new(Book::new(HOT)), Arc::new(AtomicBool::new(false)));
    if let (Some(network), Some(leader)) = (cluster.network(), cluster.leader().await) {
        for other in (0..3).filter(|n| *n != leader) {
            network.cut(leader, other, Cut::Everything);
            network.cut(other, leader, Cut::Everything);
        }
    }
    let clients = start(CLIENTS, &book, &ways(&cluster, Vec::new(), true), &mut dice, &stop);
    let began = Instant::now();
    let found = eventually(Duration::from_secs(60), "a stale read is found", async || {
        let violations = book.judge(false).violations;
        let linear = violations.iter().any(|v| v.contains("not linearizable"));
        let older = violations.iter().any(|v| v.contains("older generation"));
        (linear && older).then_some(violations)
    })
    .await;
    say(format_args!("found after {:?}: {}", began.elapsed(), found[0]));
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no client panics");
    }
}
