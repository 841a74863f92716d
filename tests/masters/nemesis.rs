//! Faults of the masters while clients work: they are killed, frozen, partitioned from each other and from the
//! volumes, and their clocks are shifted. Usually one fault at a time, sometimes two, each followed by a pause.

use std::collections::BTreeMap;
use std::time::Duration;

use tests::clock::ShiftedClock;
use tests::network::Cut;
use tests::wait::moment;
use tests::{Cluster, Dice};

const HOUR_MS: i64 = 3_600_000;

/// The faults, and how often each was injected.
pub struct Nemesis {
    clocks: Vec<ShiftedClock>,
    dice: Dice,
    counts: BTreeMap<&'static str, u32>,
}

impl Nemesis {
    /// Uses these clocks, one per master.
    pub fn new(clocks: Vec<ShiftedClock>, dice: Dice) -> Self {
        Self { clocks, dice, counts: BTreeMap::new() }
    }

    /// How often each fault was injected.
    pub fn counts(&self) -> &BTreeMap<&'static str, u32> {
        &self.counts
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Returns a master: more often than not the leader.
    async fn victim(&mut self, cluster: &Cluster) -> usize {
        let any = self.dice.index(cluster.masters().count());
        if self.dice.once_in(3) { any } else { cluster.leader().await.unwrap_or(any) }
    }

    /// One fault and its end.
    pub async fn strike(&mut self, cluster: &mut Cluster) {
        let partitions = cluster.network().is_some();
        match self.dice.below(if partitions { 14 } else { 6 }) {
            0..2 => self.kill(cluster).await,
            2..4 => self.freeze(cluster).await,
            4..6 => self.step_a_clock(cluster).await,
            6 => self.kill_behind_a_partition(cluster).await,
            7..9 => self.cut_from_volumes(cluster).await,
            _ => self.partition(cluster).await,
        }
        moment(Duration::from_millis(self.dice.below(2500))).await;
    }

    async fn kill(&mut self, cluster: &mut Cluster) {
        let victim = self.victim(cluster).await;
        self.count("kill");
        cluster.master_mut(victim).kill().await;
        // Sometimes at once: before another master starts an election.
        if self.dice.once_in(2) {
            moment(Duration::from_millis(self.dice.below(3000))).await;
        }
        restart(cluster, victim).await;
    }

    async fn freeze(&mut self, cluster: &mut Cluster) {
        let victim = self.victim(cluster).await;
        self.count("freeze");
        cluster.master_mut(victim).freeze();
        moment(Duration::from_millis(200 + self.dice.below(5800))).await;
        cluster.master_mut(victim).thaw();
    }

    /// Tolerated clock steps come last; a master that is hours off is shut out and rejoins when its clock is right.
    async fn step_a_clock(&mut self, cluster: &Cluster) {
        let victim = self.victim(cluster).await;
        let sign = [-1, 1][self.dice.index(2)];
        if self.dice.once_in(3) {
            self.count("clock off by hours");
            let hours = i64::try_from(1 + self.dice.below(30)).expect("small");
            self.clocks[victim].set(sign * hours * HOUR_MS);
            moment(Duration::from_millis(500 + self.dice.below(4000))).await;
            self.clocks[victim].set(0);
        } else {
            self.count("clock step");
            self.clocks[victim].set(sign * i64::try_from(self.dice.below(25_000)).expect("small"));
        }
    }

    /// Cuts one master off from the others, or the link between two, in both directions or one.
    fn cut(&mut self, cluster: &Cluster, victim: usize) {
        let network = cluster.network().expect("partitions need a network");
        let others: Vec<usize> = (0..cluster.masters().count()).filter(|n| *n != victim).collect();
        let other = others[self.dice.index(others.len())];
        let lines: Vec<usize> = if self.dice.once_in(3) { vec![other] } else { others };
        let requests = |to: usize| Cut::RequestsTo(port(cluster, to));
        let shape = self.dice.below(5);
        for other in lines {
            match shape {
                0 => network.cut(victim, other, Cut::Everything),
                1 => network.cut(other, victim, Cut::Everything),
                2 => network.cut(victim, other, requests(other)),
                3 => network.cut(other, victim, requests(victim)),
                _ => {
                    network.cut(victim, other, Cut::Everything);
                    network.cut(other, victim, Cut::Everything);
                }
            }
        }
        self.count(match shape {
            0 | 1 => "partition, one way",
            2 | 3 => "partition, requests in one direction",
            _ => "partition",
        });
    }

    async fn partition(&mut self, cluster: &Cluster) {
        let victim = self.victim(cluster).await;
        self.cut(cluster, victim);
        moment(Duration::from_millis(500 + self.dice.below(5500))).await;
        cluster.network().expect("there is a cut").heal();
    }

    /// The masters reach each other, but one of them gets no traffic, or no requests, from volumes and clients.
    async fn cut_from_volumes(&mut self, cluster: &Cluster) {
        let victim = self.victim(cluster).await;
        let requests = Cut::RequestsTo(port(cluster, victim));
        let cut = [Cut::Everything, requests][self.dice.index(2)];
        self.count("cut from the volumes");
        let network = cluster.network().expect("partitions need a network");
        network.cut_host(victim, cut);
        moment(Duration::from_millis(500 + self.dice.below(5500))).await;
        network.heal();
    }

    /// The leader is cut off, another one is elected, and then one of the two is killed.
    async fn kill_behind_a_partition(&mut self, cluster: &mut Cluster) {
        let victim = self.victim(cluster).await;
        self.cut(cluster, victim);
        moment(Duration::from_millis(500 + self.dice.below(3500))).await;
        let killed = self.victim(cluster).await;
        self.count("kill");
        cluster.master_mut(killed).kill().await;
        moment(Duration::from_millis(self.dice.below(1000))).await;
        cluster.network().expect("there is a cut").heal();
        restart(cluster, killed).await;
    }

    /// Removes all faults.
    pub fn end(&self, cluster: &Cluster) {
        self.clocks.iter().for_each(|clock| clock.set(0));
        if let Some(network) = cluster.network() {
            network.heal();
        }
    }
}

fn port(cluster: &Cluster, master: usize) -> u16 {
    let server = cluster.masters().nth(master).expect("a master of this cluster");
    server.address().rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port")
}

async fn restart(cluster: &mut Cluster, master: usize) {
    let started = cluster.master_mut(master).restart().await;
    started.unwrap_or_else(|why| panic!("it does not restart without help: {why}"));
}
