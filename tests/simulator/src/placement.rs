//! Placement by the ring, the moves of a rebalance after volumes are added, and the volumes that take part in the
//! repair of a lost one.
//!
//! Each sampled key represents many blobs of the mean length. The scatter of the sample itself is known, and is
//! subtracted where the text says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::tests::Dice;
use master::internals::{Availability, Balance, BlobReplicas, RepairStep, Topology, next_step};
use shared::ids::VolumeId;
use shared::ring::Ring;

use crate::chance::{Mean, whole};
use crate::metadata::busy_seconds;
use crate::site::{SIZES_TB, Set, Site, TB, blob, index_of, key, mean_length};

/// The factor by which varying lengths increase the variance of bytes: one and a twelfth.
const SPREAD: f64 = 13.0 / 12.0;
/// Limit of the passes of a rebalance: more than it ever needed.
const PASSES_MAX: u32 = 20;

/// A site with the blobs that the ring placed on it.
pub struct Placed<'a> {
    pub site: &'a Site,
    pub ring: Arc<Ring>,
    /// By key: its volumes.
    pub sets: Vec<Set>,
    /// Replicas of each key.
    pub copies: usize,
    /// Bytes that one replica of the mean key represents.
    pub bytes: u64,
}

/// How full volumes are, relative to the mean of all.
#[derive(Clone, Debug)]
pub struct Evenness {
    /// By size in TB.
    pub by_size: Vec<(u64, f64)>,
    pub scatter: f64,
    /// The scatter of a perfect ring in a sample of this size.
    pub of_sample: f64,
    /// The fullest volume, as counted.
    pub fullest: f64,
    /// The fraction of all capacity that is used.
    pub full: f64,
}

impl Evenness {
    /// The scatter of the ring itself.
    pub fn of_ring(&self) -> f64 {
        (self.scatter.powi(2) - self.of_sample.powi(2)).max(0.0).sqrt()
    }
}

/// The result of a rebalance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moved {
    /// Planned moves: `Balance::bytes`, as a fraction of all bytes.
    pub planned: f64,
    /// Moves of all passes, as a fraction of all bytes.
    pub moved: f64,
    pub passes: u32,
    /// The largest relative difference between a volume and its fair share, afterwards.
    pub farthest: f64,
}

/// The loss of one volume.
#[derive(Clone, Copy, Debug, Default)]
pub struct Death {
    /// Bytes it held.
    pub bytes: f64,
    /// Its blobs in the sample.
    pub sampled: f64,
    /// Volumes that hold other replicas of them.
    pub sources: usize,
    /// Volumes that receive new replicas.
    pub destinations: usize,
    pub others: usize,
    /// The fraction of the new replicas on the busiest destination.
    pub busiest: f64,
    /// The largest other volume's fraction of their capacity: the fair share of the busiest destination.
    pub largest: f64,
    /// New replicas in a zone that already had one.
    pub crowded: u64,
    /// CPU time of one repair decision.
    pub judge_seconds: f64,
}

impl<'a> Placed<'a> {
    /// Places this many blobs on a site, represented by a sample.
    pub fn new(site: &'a Site, ring: &Arc<Ring>, sets: Vec<Set>, copies: usize, objects: f64) -> Self {
        let bytes = whole(objects / sets.len() as f64 * mean_length());
        Self { site, ring: Arc::clone(ring), sets, copies, bytes }
    }

    /// Live bytes by volume.
    pub fn live_bytes(&self) -> Vec<u64> {
        let mut bytes = vec![0; self.site.volumes.len()];
        for (number, set) in self.sets.iter().enumerate() {
            for volume in &set[..self.copies] {
                bytes[usize::from(*volume)] += self.length(number);
            }
        }
        bytes
    }

    pub fn all_bytes(&self) -> f64 {
        self.live_bytes().iter().sum::<u64>() as f64
    }

    /// Bytes that a key represents: half to one and a half times the mean. With equal lengths, the excess of all
    /// volumes of one size would be rounded the same way.
    fn length(&self, number: usize) -> u64 {
        self.bytes / 2 + Dice::new(number as u64).below(self.bytes)
    }

    pub fn evenness(&self) -> Evenness {
        let (all, capacity) = (self.all_bytes(), self.site.capacity());
        let (mut scatter, mut sizes) = (Mean::default(), BTreeMap::<u64, Mean>::new());
        let (mut fullest, mut variance) = (0f64, Mean::default());
        for (live, volume) in self.live_bytes().iter().zip(&self.site.volumes) {
            let fair = all * volume.capacity as f64 / capacity;
            let ratio = *live as f64 / fair;
            scatter.add(ratio - 1.0);
            variance.add(SPREAD * self.bytes as f64 / fair);
            sizes.entry(volume.capacity).or_default().add(ratio);
            fullest = fullest.max(ratio);
        }
        let by_size = SIZES_TB.iter().zip(sizes.values()).map(|(size, mean)| (*size, mean.mean())).collect();
        let of_sample = variance.mean().sqrt();
        Evenness { by_size, scatter: scatter.scatter(), of_sample, fullest, full: all / capacity }
    }

    fn topology(&self, condition: impl Fn(usize) -> Availability) -> Topology {
        self.site.topology(&self.ring, &self.live_bytes(), condition)
    }

    fn held(&self, number: usize) -> BlobReplicas {
        let id = |volume: &u16| self.site.volumes[usize::from(*volume)].id;
        BlobReplicas {
            blob: blob(number as u64),
            length: self.length(number),
            wanted: self.copies,
            replicas: self.sets[number][..self.copies].iter().map(id).collect(),
            pending: Vec::new(),
            excluded: Vec::new(),
        }
    }

    /// Runs a rebalance as the master does, pass after pass, until it ends.
    pub fn rebalance(&mut self) -> Moved {
        let mut done = Moved::default();
        let mut balance = Balance::of(&self.topology(|_| Availability::Writable), self.copies);
        done.planned = balance.bytes() as f64 / self.all_bytes();
        while !balance.is_even() && done.passes < PASSES_MAX {
            let moved = self.pass(&mut balance);
            if moved == 0 {
                break;
            }
            done.passes += 1;
            done.moved += moved as f64 / self.all_bytes();
            balance = Balance::of(&self.topology(|_| Availability::Writable), self.copies);
        }
        let fair = self.all_bytes() / self.site.capacity();
        let far =
            |(live, v): (u64, &crate::site::Volume)| (live as f64 / (fair * v.capacity as f64) - 1.0).abs();
        done.farthest = self.live_bytes().into_iter().zip(&self.site.volumes).map(far).fold(0.0, f64::max);
        done
    }

    /// Runs one pass over all volumes that are too full. Returns the bytes moved.
    fn pass(&mut self, balance: &mut Balance) -> u64 {
        let topology = self.topology(|_| Availability::Writable);
        let mut on: BTreeMap<VolumeId, Vec<usize>> =
            balance.over.keys().map(|id| (*id, Vec::new())).collect();
        for (number, set) in self.sets.iter().enumerate() {
            for volume in &set[..self.copies] {
                if let Some(list) = on.get_mut(&self.site.volumes[usize::from(*volume)].id) {
                    list.push(number);
                }
            }
        }
        let mut moved = 0;
        for (from, numbers) in on.into_iter().rev() {
            for number in numbers {
                if !balance.over.contains_key(&from) {
                    break;
                }
                if let Some(to) = balance.take(from, &self.held(number), &topology) {
                    let old = index_of(from);
                    self.sets[number].iter_mut().filter(|v| **v == old).for_each(|v| *v = index_of(to));
                    moved += self.length(number);
                }
            }
        }
        moved
    }

    /// Counts the keys with two replicas in one zone.
    pub fn crowded(&self) -> usize {
        let crowd = |set: &&Set| {
            let mut zones: Vec<u16> = set[..self.copies].iter().map(|v| self.site.zone_of(*v)).collect();
            zones.sort_unstable();
            zones.windows(2).any(|w| w[0] == w[1])
        };
        self.sets.iter().filter(crowd).count()
    }

    /// Decides the repair of every replica of a lost volume.
    pub fn death(&self, dead: u16) -> Death {
        let condition = |n| if n == usize::from(dead) { Availability::Lost } else { Availability::Writable };
        let topology = self.topology(condition);
        let (mut sources, mut destinations) = (BTreeMap::<u16, u64>::new(), BTreeMap::<u16, u64>::new());
        let mut death = Death { others: self.site.volumes.len() - 1, ..Death::default() };
        let mut took = 0.0;
        for number in (0..self.sets.len()).filter(|n| self.sets[*n][..self.copies].contains(&dead)) {
            death.sampled += 1.0;
            let (key, mut held) = (key(number as u64), self.held(number));
            held.length = whole(mean_length());
            let others = || self.sets[number][..self.copies].iter().filter(|v| **v != dead);
            others().for_each(|v| *sources.entry(*v).or_default() += 1);
            let begun = busy_seconds();
            let verdict = next_step(&key, &held, &topology);
            took += busy_seconds() - begun;
            let RepairStep::AddReplica { to, .. } = verdict else { continue };
            let to = index_of(to);
            *destinations.entry(to).or_default() += 1;
            death.crowded += u64::from(others().any(|v| self.site.zone_of(*v) == self.site.zone_of(to)));
        }
        let copied: u64 = destinations.values().sum();
        let alive = || self.site.volumes.iter().enumerate().filter(|(n, _)| *n != usize::from(dead));
        let most = alive().map(|(_, v)| v.capacity).max().unwrap_or(0) as f64;
        death.bytes = self.live_bytes()[usize::from(dead)] as f64;
        death.busiest = destinations.values().copied().max().unwrap_or(0) as f64 / copied.max(1) as f64;
        death.largest = most / alive().map(|(_, v)| v.capacity as f64).sum::<f64>();
        death.judge_seconds = took / death.sampled.max(1.0);
        (death.sources, death.destinations) = (sources.len(), destinations.len());
        death
    }
}

/// The fraction of all replicas that the ring places elsewhere after volumes are added.
pub fn moved_if_placed_again(before: &[Set], after: &[Set], copies: usize) -> f64 {
    let other = |(a, b): (&Set, &Set)| b[..copies].iter().filter(|v| !a[..copies].contains(v)).count();
    let other: usize = before.iter().zip(after).map(other).sum();
    other as f64 / (before.len() * copies) as f64
}

/// Bytes in TB.
pub fn tb(bytes: f64) -> f64 {
    bytes / TB
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> (Site, Arc<Ring>, Vec<Set>) {
        let site = Site::new(20, 5, 11);
        let ring = site.ring();
        let sets = site.sample(&ring, 6_000);
        (site, ring, sets)
    }

    #[test]
    fn evenness_is_counted() {
        let (site, ring, sets) = small();
        let placed = Placed::new(&site, &ring, sets, 3, 600_000.0);
        assert_eq!(placed.live_bytes().iter().sum::<u64>() as f64, placed.all_bytes());
        let even = placed.evenness();
        // Looser bounds than for the ring's usual 1.4 %: zones of few volumes distort the shares a little.
        assert!(even.fullest < 1.25 && even.of_ring() < 0.12 && even.of_sample < 0.05, "{even:?}");
        assert_eq!(even.by_size.len(), 4);
    }

    #[test]
    fn a_rebalance_moves_what_is_new_and_no_more() {
        let (site, ring, sets) = small();
        let mut before = Placed::new(&site, &ring, sets.clone(), 2, 600_000.0);
        before.rebalance();
        let mut site = site.clone();
        site.grow([16, 16].into_iter().map(|tb| tb * 1_000_000_000_000));
        let ring = site.ring();
        let mut after = Placed::new(&site, &ring, before.sets, 2, 600_000.0);
        let moved = after.rebalance();
        let least = 32e12 / site.capacity();
        assert!((moved.planned - least).abs() < 0.01, "{moved:?}, {least}");
        assert!((moved.moved - least).abs() < 0.01 && moved.farthest < 0.03, "{moved:?}, {least}");
        assert_eq!(after.crowded(), 0);
        // The ring itself would move about as much.
        let again = moved_if_placed_again(&sets, &site.sample(&ring, 6_000), 2);
        assert!((0.7 * least..1.5 * least).contains(&again), "{again} {least}");
    }

    #[test]
    fn all_others_take_part_in_a_repair() {
        let (site, ring, sets) = small();
        let on_seven = sets.iter().filter(|set| set[..2].contains(&7)).count();
        let placed = Placed::new(&site, &ring, sets, 2, 600_000.0);
        let death = placed.death(7);
        assert_eq!((death.sampled, death.others, death.crowded), (on_seven as f64, 19, 0));
        // The zone of the lost volume holds no other replica of its blobs, and receives new ones.
        assert_eq!((death.sources, death.destinations), (16, 19));
        assert!(death.busiest > death.largest / 2.0 && death.busiest < 3.0 * death.largest, "{death:?}");
    }
}
