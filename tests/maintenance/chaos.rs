//! Six volumes, three replicas, and every fault a volume can have: killed, frozen, cut off, wiped, full; two added,
//! one drained; under a load with an oracle. At the end everything acknowledged is there, with three replicas.
//!
//! Each fault occurs at least once in every run; `BARGE_CHAOS_SECONDS=1200` for confidence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shared::limits::COMMIT_TIMEOUT;
use shared::wire::master::{ClusterStatus, VolumeState};
use tests::load::{Load, Shape, audit};
use tests::network::{Cut, Network};
use tests::wait::moment;
use tests::{Cluster, Dice, Options, Oracle, amount, eventually, say};

use super::zones;

/// The repair queue is empty within this time after the faults have ended, however long it was.
const PAID: Duration = Duration::from_secs(600);

/// What happens to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    Freeze,
    Wipe,
    Fill,
    Partition,
}

/// Milliseconds of silence, at most: longer than it takes to declare a volume down, so that some are.
fn longest() -> u64 {
    amount("BARGE_CHAOS_SILENCE_MS", 5_000, 9_000)
}

struct Chaos {
    dice: Dice,
    /// Faults that have yet to occur before all may repeat.
    deck: Vec<Fault>,
    counts: BTreeMap<Fault, u32>,
    /// Volumes without faults: they are drained.
    spared: Vec<usize>,
}

impl Chaos {
    fn count(&mut self, fault: Fault) {
        *self.counts.entry(fault).or_default() += 1;
    }

    fn faults(cluster: &Cluster) -> Vec<Fault> {
        use Fault::{Fill, Freeze, Kill, Partition, Wipe};
        let partition = cluster.network().is_some().then_some(Partition);
        [Kill, Freeze, Wipe, Fill].into_iter().chain(partition).collect()
    }

    fn draw(&mut self, cluster: &Cluster) -> Fault {
        if self.deck.is_empty() {
            self.deck = Self::faults(cluster);
        }
        self.deck.swap_remove(self.dice.index(self.deck.len()))
    }

    fn victim(&mut self, cluster: &Cluster) -> usize {
        loop {
            let victim = self.dice.index(cluster.volumes.len());
            if !self.spared.contains(&victim) {
                return victim;
            }
        }
    }

    async fn strike(&mut self, cluster: &mut Cluster) {
        let victim = self.victim(cluster);
        match self.draw(cluster) {
            Fault::Kill => self.kill(cluster, victim).await,
            Fault::Freeze => self.freeze(cluster, victim).await,
            Fault::Wipe => self.wipe(cluster, victim).await,
            Fault::Fill => self.fill(cluster, victim).await,
            Fault::Partition => self.partition(cluster, victim).await,
        }
        moment(Duration::from_millis(self.dice.below(2000))).await;
    }

    async fn kill(&mut self, cluster: &mut Cluster, victim: usize) {
        self.count(Fault::Kill);
        cluster.volumes[victim].kill().await;
        // Sometimes so long that its replicas are re-created.
        let longest = if self.dice.once_in(3) { 12_000 } else { 2_000 };
        moment(Duration::from_millis(self.dice.below(longest))).await;
        restart(cluster, victim).await;
    }

    async fn freeze(&mut self, cluster: &Cluster, victim: usize) {
        self.count(Fault::Freeze);
        cluster.volumes[victim].freeze();
        moment(Duration::from_millis(200 + self.dice.below(longest()))).await;
        cluster.volumes[victim].thaw();
    }

    /// The volume's disk is replaced by an empty one. All other faults end before: what has fewer than three replicas
    /// may have its last ones there.
    async fn wipe(&mut self, cluster: &mut Cluster, victim: usize) {
        if !almost_paid(cluster).await {
            // Not now.
            return self.deck.push(Fault::Wipe);
        }
        self.count(Fault::Wipe);
        cluster.volumes[victim].kill().await;
        std::fs::remove_dir_all(cluster.volume_folder(victim).join("segments")).expect("segments");
        moment(Duration::from_millis(self.dice.below(6_000))).await;
        restart(cluster, victim).await;
    }

    /// The volume has no room left; what it holds stays.
    async fn fill(&mut self, cluster: &mut Cluster, victim: usize) {
        self.count(Fault::Fill);
        cluster.volumes[victim].kill().await;
        let args = cluster.volumes[victim].spec_mut().args.clone();
        cluster.volumes[victim].spec_mut().args.extend(["--capacity", "1000000"].map(Into::into));
        restart(cluster, victim).await;
        moment(Duration::from_millis(self.dice.below(6_000))).await;
        cluster.volumes[victim].kill().await;
        cluster.volumes[victim].spec_mut().args = args;
        restart(cluster, victim).await;
    }

    /// The volume is cut off in both directions, or the masters do not receive its traffic.
    async fn partition(&mut self, cluster: &Cluster, victim: usize) {
        self.count(Fault::Partition);
        let network = cluster.network().expect("a network");
        let (site, others) = (1 + victim, 1 + cluster.volumes.len());
        match self.dice.below(3) {
            0 => (0..others).filter(|n| *n != site).for_each(|n| network.cut(n, site, Cut::Everything)),
            1 => network.cut(site, 0, Cut::Everything),
            _ => network.cut(0, site, Cut::Everything),
        }
        moment(Duration::from_millis(500 + self.dice.below(longest()))).await;
        network.heal();
    }
}

async fn restart(cluster: &mut Cluster, victim: usize) {
    let started = cluster.volumes[victim].restart().await;
    started.unwrap_or_else(|why| panic!("it does not restart without help: {why}"));
}

/// Reports whether everything but the values being written has its replicas, on volumes that are up.
async fn almost_paid(cluster: &Cluster) -> bool {
    let within = Instant::now();
    while within.elapsed() < Duration::from_secs(30) {
        if let Some(status) = cluster.status().await {
            let up = |v: &shared::wire::master::VolumeSummary| {
                matches!(v.state, VolumeState::Up | VolumeState::Draining | VolumeState::Drained)
            };
            if status.under_replicated == 0 && status.volumes.iter().all(up) {
                return true;
            }
        }
        moment(Duration::from_millis(200)).await;
    }
    false
}

/// Returns the time from the permanent loss of a volume until everything has its replicas again.
async fn full_again(cluster: &mut Cluster, victim: usize) -> (Duration, u64) {
    let bytes = cluster.volume_status(victim).await.expect("the volume is up").report.live_bytes;
    cluster.volumes[victim].kill().await;
    let began = Instant::now();
    eventually(PAID, "its replicas are re-created", async || {
        let status: ClusterStatus = cluster.status().await?;
        let id = cluster.ids[victim];
        let lost = status.volumes.iter().any(|v| v.volume == id && v.state == VolumeState::Down);
        let repair = status.repair?;
        (lost && repair.queued_blobs == 0 && repair.replicated_bytes > 0 && began.elapsed().as_secs() > 6)
            .then_some(())
    })
    .await;
    (began.elapsed(), bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_whatever_happens_to_volumes() {
    let length = Duration::from_secs(amount("BARGE_CHAOS_SECONDS", 10, 400));
    let network = Network::new(9, "nothing_is_lost_whatever_happens_to_volumes").map(Arc::new);
    let options = Options { volume_sites: network.is_some(), network, ..zones(6, 3) };
    let mut cluster = Cluster::start("chaos", options).await;
    let mut dice = Dice::of_run();
    let oracle = Oracle::with_journal(&cluster.folder().join("journal"));
    let bytes_max = amount("BARGE_CHAOS_VALUE_MIB", 4, 4) << 20;
    let keys = amount("BARGE_CHAOS_KEYS", 40, 40);
    let shape = Shape { writers: 4, hot_keys: 2, readers: 2, keys, bytes_min: 64 << 10, bytes_max };
    let load = Load::start(&cluster, &oracle, shape, &mut dice).await;
    let mut chaos =
        Chaos { dice: dice.split(), deck: Vec::new(), counts: BTreeMap::new(), spared: Vec::new() };
    let faults = Chaos::faults(&cluster);
    let began = Instant::now();
    while (began.elapsed() < length || chaos.counts.len() < faults.len()) && !load.failed() {
        if cluster.volumes.len() < 8 && began.elapsed() > length / 3 {
            cluster.add_volume().await;
            cluster.add_volume().await;
        }
        if chaos.spared.is_empty() && began.elapsed() > length / 2 {
            cluster.drain(0, &[]).await;
            chaos.spared.push(0);
        }
        chaos.strike(&mut cluster).await;
    }
    let counts = load.end().await;
    let lasted = began.elapsed();
    // By then every commit that a volume still delivers is decided.
    moment(COMMIT_TIMEOUT).await;
    let mended = Instant::now();
    let status = cluster.paid(PAID).await;
    say(format_args!(
        "{lasted:?}: {:?}; {counts:?}; all repaired after {:?}; {:?}",
        chaos.counts,
        mended.elapsed(),
        status.repair
    ));
    assert!(counts.acknowledged.load(Ordering::Relaxed) > 50, "too few acknowledged changes for a load");
    let found = audit(&cluster.client(), &oracle).await.unwrap_or_else(|wrong| panic!("VIOLATIONS\n{wrong}"));
    assert_eq!(found as u64, oracle.keys().len() as u64);
    assert_eq!(
        cluster.blobs().await.iter().sum::<u64>(),
        3 * status.objects,
        "three replicas of each, and nothing else"
    );
    assert_eq!(cluster.blobs().await[0], 0, "the drained volume is empty");
    let report = cluster.orphans().await;
    assert_eq!((report.orphans, report.missing), (0, 0), "{report:?}");
    let (took, bytes) = full_again(&mut cluster, 3).await;
    say(format_args!(
        "a volume with {} MB was lost: everything had three replicas again after {took:?}",
        bytes / 1_000_000
    ));
    cluster.volumes[3].restart().await.expect("the volume starts");
    cluster.paid(PAID).await;
    cluster.assert_no_secrets_in_logs();
    cluster.check_offline().await;
}
