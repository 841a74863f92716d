//! Power cuts: each server has its own disk, and what was not synced is lost. kill -9 alone finds no
//! missing fsync: the page cache survives it.
//!
//! The power fails under load, during seals, scrubs and compactions, and again while the servers reopen their files.
//!
//! `BARGE_POWER_ROUNDS` sets the number of rounds. `power/proof.rs` proves that the cuts find a missing sync.

mod order;
mod proof;
mod site;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tests::disk::{Disk, FileSystem, available, cutter};
use tests::load::{Load, Shape, audit_after_restart};
use tests::tamper::Library;
use tests::wait::moment;
use tests::{Client, Dice, Folder, Oracle, amount, eventually, say};

use site::{Plan, Site};

const SHAPE: Shape =
    Shape { writers: 4, hot_keys: 1, readers: 1, keys: 12, bytes_min: 4 << 10, bytes_max: 1 << 20 };
/// Maximum number of cuts while a server reopens its files.
const CUTS_WHILE_OPENING: u64 = 5;

/// One server, all of them, all masters, or the leader.
async fn victims(site: &Site, dice: &mut Dice) -> Vec<usize> {
    let masters = site.cluster.masters().count();
    let servers = masters + site.cluster.volumes.len();
    match dice.below(5) {
        0 => vec![site.cluster.leader().await.unwrap_or(0)],
        1 => vec![dice.index(servers)],
        2 => (0..masters).collect(),
        _ => (0..servers).collect(),
    }
}

/// What is cut in a round.
#[derive(Clone, Debug)]
struct Cuts {
    victims: Vec<usize>,
    /// How many more times, during the restart.
    while_opening: u64,
}

/// One round under load: returns the number of acknowledged changes, or what the oracle found.
async fn round(site: &mut Site, oracle: &Oracle, dice: &mut Dice, cuts: &Cuts) -> Result<u64, String> {
    let load = Load::start(&site.cluster, oracle, SHAPE, dice).await;
    let wanted = 20 + dice.below(40);
    let counts = load.counts();
    eventually(Duration::from_secs(60), "the load works", async || {
        (load.failed() || counts.acknowledged.load(Ordering::Relaxed) >= wanted).then_some(())
    })
    .await;
    site.cut(&cuts.victims).await;
    load.stop();
    site.restore(&cuts.victims, cuts.while_opening, dice).await?;
    site.cluster.settled().await;
    let acknowledged = load.finish().await?;
    moment(Duration::from_millis(500)).await;
    for master in site.cluster.masters() {
        audit_after_restart(&Client::new(master.url()), oracle).await?;
    }
    Ok(acknowledged)
}

async fn power_cuts_lose_nothing(test: &str, file_system: FileSystem, masters: usize) {
    if !available(test) {
        return;
    }
    let folder = Folder::new("power-library");
    let library = Library::new(&folder, "power cuts of a volume without holes").await;
    // The second volume frees space only by compaction, so its compactions are hit as well.
    let volume_env = vec![vec![], library.as_ref().map(Library::without_holes).unwrap_or_default()];
    let rounds = amount("BARGE_POWER_ROUNDS", 2, 40);
    let mut dice = Dice::of_run();
    // On the other file system the log has its production size, and the tables are seldom durable.
    let log_entries_kept = (file_system == FileSystem::Xfs).then_some(16);
    let plan = Plan { masters, volume_env, log_entries_kept, ..Plan::usual(file_system) };
    let mut site = Site::new(test, plan).await;
    let oracle = Oracle::with_journal(&site.cluster.folder().join("journal"));
    let (started, mut all, mut moved) = (Instant::now(), 0, 0);
    for n in 0..rounds {
        // The first round cuts everything at once, whatever the dice say: that is a real power cut.
        let victims = if n == 0 { (0..masters + 2).collect() } else { victims(&site, &mut dice).await };
        let while_opening = if dice.once_in(2) { 1 + dice.below(CUTS_WHILE_OPENING) } else { 0 };
        let cuts = Cuts { victims, while_opening };
        match round(&mut site, &oracle, &mut dice, &cuts).await {
            Ok(acknowledged) => say(format_args!("round {n}: {cuts:?} after {acknowledged} changes")),
            Err(wrong) => panic!("VIOLATIONS in round {n}, {cuts:?}\n{wrong}"),
        }
        all += 1 + while_opening;
        moved += site.cluster.volume_status(1).await.map_or(0, |s| s.moved_bytes);
    }
    say(format_args!(
        "{rounds} rounds, {all} power cuts in {:?}, {moved} bytes moved by compactions",
        started.elapsed()
    ));
    site.cluster.check_offline().await;
    site.cluster.assert_no_secrets_in_logs();
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_lose_nothing_on_ext4() {
    power_cuts_lose_nothing("power_cuts_lose_nothing_on_ext4", FileSystem::Ext4, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_lose_nothing_on_xfs() {
    power_cuts_lose_nothing("power_cuts_lose_nothing_on_xfs", FileSystem::Xfs, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_of_three_masters_lose_nothing_on_ext4() {
    power_cuts_lose_nothing("power_cuts_of_three_masters_lose_nothing_on_ext4", FileSystem::Ext4, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_of_three_masters_lose_nothing_on_xfs() {
    power_cuts_lose_nothing("power_cuts_of_three_masters_lose_nothing_on_xfs", FileSystem::Xfs, 3).await;
}

/// The cut itself is proved: what was not synced is lost, what was synced is there.
#[tokio::test(flavor = "multi_thread")]
async fn power_is_really_cut() {
    if !available("power_is_really_cut") {
        return;
    }
    let folder = Folder::new("cut");
    let cutter = cutter(&folder).await;
    for (file_system, name) in [(FileSystem::Ext4, "ext4"), (FileSystem::Xfs, "xfs")] {
        let mut disk = Disk::with(file_system, &folder, name, 300).await;
        let write = |path: &Path, sync: bool| {
            use std::io::Write;
            let mut file = std::fs::File::create(path).unwrap();
            file.write_all(b"bytes").unwrap();
            if sync {
                file.sync_all().unwrap();
                std::fs::File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
            }
        };
        write(&disk.path().join("synced"), true);
        write(&disk.path().join("not synced"), false);
        disk.cut(&cutter).await;
        disk.unmount().await;
        disk.mount().await;
        assert_eq!(std::fs::read(disk.path().join("synced")).unwrap(), b"bytes");
        let lost = std::fs::read(disk.path().join("not synced")).map_or(true, |bytes| bytes != b"bytes");
        assert!(lost, "unsynced data survived the cut on {name}");
    }
}
