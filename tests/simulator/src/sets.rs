//! The sets of volumes that hold blobs, and how many blobs share one: a model of the ring's choice, compared with a
//! sample of its real choice.
//!
//! The model: the probability of a set of volumes in different zones is proportional to the product of their sizes.

use std::collections::HashMap;

use ::tests::Dice;

use crate::chance::Mean;
use crate::site::{Set, Site};

/// Draws for the estimate of the number of distinct sets.
const DRAWS: u32 = 400_000;

/// The model for a number of replicas.
#[derive(Clone, Debug)]
pub struct Sets {
    /// Replicas of a blob.
    pub copies: usize,
    /// By volume: its fraction of all capacity.
    weight: Vec<f64>,
    zone: Vec<u16>,
    /// The sum of the products of all sets.
    all: f64,
    /// The sum of their squares, over `all` squared: the probability that two keys have the same set.
    pub same: f64,
}

/// Pairs of keys with the same set in a sample.
#[derive(Clone, Copy, Debug)]
pub struct Coincidence {
    pub seen: f64,
    /// The number that the model expects.
    pub expected: f64,
}

impl Sets {
    /// The model of a site.
    pub fn new(site: &Site, copies: usize) -> Self {
        let capacity = site.capacity();
        let weight: Vec<f64> = site.volumes.iter().map(|v| v.capacity as f64 / capacity).collect();
        let zone: Vec<u16> = site.volumes.iter().map(|v| v.zone).collect();
        let by_zone = |power: i32| {
            let mut sums = vec![0.0; usize::from(site.zones)];
            for (weight, zone) in weight.iter().zip(&zone) {
                sums[usize::from(*zone)] += weight.powi(power);
            }
            products(&sums, copies)
        };
        let (all, squares) = (by_zone(1), by_zone(2));
        Self { copies, same: squares / (all * all), all, weight, zone }
    }

    /// The number of volumes.
    pub fn volumes(&self) -> usize {
        self.weight.len()
    }

    /// The probability that a key has this set; 0 when two of its volumes share a zone.
    pub fn chance(&self, set: &[usize]) -> f64 {
        let apart = |(n, v): (usize, &usize)| set[..n].iter().all(|other| self.zone[*other] != self.zone[*v]);
        if !set.iter().enumerate().all(apart) {
            return 0.0;
        }
        set.iter().map(|v| self.weight[*v]).product::<f64>() / self.all
    }

    /// The number of possible sets.
    pub fn possible(&self) -> f64 {
        let mut by_zone: HashMap<u16, f64> = HashMap::new();
        for zone in &self.zone {
            *by_zone.entry(*zone).or_default() += 1.0;
        }
        let mut sizes: Vec<f64> = by_zone.into_values().collect();
        sizes.sort_by(f64::total_cmp);
        products(&sizes, self.copies)
    }

    /// Estimates the number of sets that hold at least one of `objects` blobs, from random sets.
    pub fn used(&self, objects: f64, dice: &mut Dice) -> Mean {
        let mut used = Mean::default();
        for _ in 0..DRAWS {
            let set: Vec<usize> = (0..self.copies).map(|_| dice.index(self.volumes())).collect();
            let orders = factorial(self.copies);
            let tuples = (self.volumes() as f64).powi(i32::try_from(self.copies).unwrap_or(0));
            used.add(tuples / orders * -(-objects * self.chance(&set)).exp_m1());
        }
        used
    }

    /// Counts the pairs of keys in a sample with the same set, and computes the expected number.
    pub fn coincidence(&self, sample: &[Set]) -> Coincidence {
        let mut sets: Vec<Vec<u16>> = sample.iter().map(|set| sorted(&set[..self.copies])).collect();
        sets.sort_unstable();
        let runs = sets.chunk_by(|a, b| a == b).map(|run| run.len() as f64);
        let keys = sample.len() as f64;
        Coincidence {
            seen: runs.map(|n| n * (n - 1.0) / 2.0).sum(),
            expected: keys * (keys - 1.0) / 2.0 * self.same,
        }
    }
}

fn sorted(set: &[u16]) -> Vec<u16> {
    let mut set = set.to_vec();
    set.sort_unstable();
    set
}

/// The factorial: the number of orders of `n` things.
pub fn factorial(n: usize) -> f64 {
    (1..=n).map(|i| i as f64).product()
}

/// The sum of the products of all choices of `choose` numbers (an elementary symmetric polynomial).
fn products(numbers: &[f64], choose: usize) -> f64 {
    let mut sums = vec![0.0; choose + 1];
    sums[0] = 1.0;
    for number in numbers {
        for n in (1..=choose).rev() {
            sums[n] += sums[n - 1] * number;
        }
    }
    sums[choose]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_sites_are_counted_out() {
        let site = Site::new(12, 4, 3);
        let sets = Sets::new(&site, 3);
        let (mut all, mut same, mut possible) = (0.0, 0.0, 0.0);
        for a in 0..12 {
            for b in 0..a {
                for c in 0..b {
                    let chance = sets.chance(&[a, b, c]);
                    all += chance;
                    same += chance * chance;
                    possible += if chance > 0.0 { 1.0 } else { 0.0 };
                }
            }
        }
        assert!((all - 1.0).abs() < 1e-12 && (same / sets.same - 1.0).abs() < 1e-12);
        assert_eq!((possible, sets.possible()), (108.0, 108.0));
        // With very many blobs, every set has some; with a single blob, one set has it.
        let used = |objects| sets.used(objects, &mut Dice::new(1));
        assert!((used(1e9).mean() - 108.0).abs() < 1.5 * used(1e9).half());
        assert!((used(1e-3).mean() * 1e3 - 1.0).abs() < 0.02);
    }

    #[test]
    fn the_ring_chooses_as_the_model_says() {
        let site = Site::new(24, 6, 5);
        let sample = site.sample(&site.ring(), 20_000);
        for copies in [2, 3] {
            let found = Sets::new(&site, copies).coincidence(&sample);
            assert!(found.seen > 10_000.0);
            assert!((found.seen / found.expected - 1.0).abs() < 0.1, "{found:?}");
            // Volumes of equal sizes would be another model.
            let equal = Sets { weight: vec![1.0 / 24.0; 24], ..Sets::new(&site, copies) };
            assert!(equal.chance(&[0, 1]) > 0.0);
        }
    }
}
