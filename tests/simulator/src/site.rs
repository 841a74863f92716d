//! The simulated site: volumes of several sizes in zones, and a sample of keys with their placement by the ring.
//!
//! Nothing is modelled here: the ring and the topology are those of the product.

use std::sync::Arc;

use ::tests::Dice;
use master::internals::{Availability, Topology, TopologyVolume};
use shared::clock::Timestamp;
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::ring::{Member, Ring, Zone};

use crate::chance::whole;

/// Replicas of each sampled key. A smaller replication factor uses the first ones.
pub const COPIES_MAX: usize = 3;
/// Sizes of volumes in TB: common disks of today.
pub const SIZES_TB: [u64; 4] = [8, 12, 16, 20];
pub const TB: f64 = 1e12;
/// The shortest and the longest value in bytes: the range that Barge is built for.
const LENGTHS: (f64, f64) = (1e6, 1e9);

/// The volumes of one key, as indices into `Site::volumes`.
pub type Set = [u16; COPIES_MAX];

#[derive(Clone, Debug)]
pub struct Volume {
    /// Its last bytes are the index of the volume.
    pub id: VolumeId,
    pub zone: u16,
    /// Size in bytes.
    pub capacity: u64,
}

#[derive(Clone, Debug)]
pub struct Site {
    pub volumes: Vec<Volume>,
    pub zones: u16,
    seed: u64,
}

impl Site {
    /// Creates volumes of random sizes.
    pub fn new(volumes: u16, zones: u16, seed: u64) -> Self {
        let mut site = Self { volumes: Vec::new(), zones, seed };
        let mut dice = Dice::new(seed);
        site.grow((0..volumes).map(|_| SIZES_TB[dice.index(SIZES_TB.len())] * 1_000_000_000_000));
        site
    }

    /// Adds volumes of these sizes, zone after zone.
    pub fn grow(&mut self, sizes: impl Iterator<Item = u64>) {
        for capacity in sizes {
            let index = u16::try_from(self.volumes.len()).expect("the arguments are 16 bits wide");
            let mut id = [0; 16];
            id.copy_from_slice(&::tests::value(self.seed ^ u64::from(index) << 40, 16));
            id[14..].copy_from_slice(&index.to_be_bytes());
            self.volumes.push(Volume { id: VolumeId::from_bytes(id), zone: index % self.zones, capacity });
        }
    }

    /// The ring of these volumes.
    pub fn ring(&self) -> Arc<Ring> {
        let member = |v: &Volume| Member { id: v.id, weight: v.capacity, zone: Some(zone(v.zone)) };
        Arc::new(Ring::new(&self.volumes.iter().map(member).collect::<Vec<_>>()))
    }

    /// The topology of these volumes, with these live bytes and conditions.
    pub fn topology(
        &self,
        ring: &Arc<Ring>,
        live_bytes: &[u64],
        condition: impl Fn(usize) -> Availability,
    ) -> Topology {
        let entry = |(n, v): (usize, &Volume)| {
            let available_bytes = v.capacity.saturating_sub(live_bytes[n]);
            let (capacity_bytes, live_bytes) = (v.capacity, live_bytes[n]);
            let (zone, condition) = (Some(zone(v.zone)), condition(n));
            (
                v.id,
                TopologyVolume {
                    zone,
                    availability: condition,
                    compared: true,
                    capacity_bytes,
                    available_bytes,
                    live_bytes,
                },
            )
        };
        Topology::on(Arc::clone(ring), self.volumes.iter().enumerate().map(entry).collect::<Vec<_>>())
    }

    /// The capacity of all volumes, in bytes.
    pub fn capacity(&self) -> f64 {
        self.volumes.iter().map(|v| v.capacity as f64).sum()
    }

    pub fn zone_of(&self, volume: u16) -> u16 {
        self.volumes[usize::from(volume)].zone
    }

    /// Returns the placement of the first `keys` keys. It uses two threads; the result does not depend on that.
    pub fn sample(&self, ring: &Ring, keys: u64) -> Vec<Set> {
        let place = |n: u64| {
            let chosen = ring.place(&key(n), COPIES_MAX, |_| true);
            std::array::from_fn(|copy| index_of(chosen[copy]))
        };
        let half = keys / 2;
        std::thread::scope(|scope| {
            let other = scope.spawn(|| (half..keys).map(place).collect::<Vec<Set>>());
            let mut sets: Vec<Set> = (0..half).map(place).collect();
            sets.extend(other.join().expect("the other half ended"));
            sets
        })
    }
}

fn zone(number: u16) -> Zone {
    format!("zone-{number}").parse().expect("a zone's name")
}

/// Returns the index of a volume from its id.
pub fn index_of(id: VolumeId) -> u16 {
    let bytes = id.as_bytes();
    u16::from_be_bytes([bytes[14], bytes[15]])
}

pub fn key(n: u64) -> Key {
    format!("photos/2025/{:02}/{n:012}.raw", n % 97).parse().expect("a key")
}

/// The id of the nth blob.
pub fn blob(n: u64) -> BlobId {
    let mut random = [0; 10];
    random.copy_from_slice(&::tests::value(n, 10));
    BlobId::next(None, Timestamp::from_unix_ms((1 << 40) + n), random)
}

/// The length of a value in bytes: 1 MB to 1 GB, bounded Pareto with exponent 1/2 (mean 31.6 MB, median 3.8 MB).
pub fn length(chance: f64) -> u64 {
    let (least, most) = LENGTHS;
    let root = least.sqrt().recip() - chance * (least.sqrt().recip() - most.sqrt().recip());
    whole(root.powi(-2))
}

/// The mean of `length`.
pub fn mean_length() -> f64 {
    (LENGTHS.0 * LENGTHS.1).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::{Mean, unit};

    #[test]
    fn sampling_is_placing_one_key_after_the_other() {
        let site = Site::new(24, 4, 7);
        let ring = site.ring();
        let sets = site.sample(&ring, 101);
        assert_eq!(sets.len(), 101);
        for (n, set) in (0..).zip(&sets) {
            let chosen = ring.place(&key(n), 2, |_| true);
            assert_eq!(chosen.iter().map(|id| index_of(*id)).collect::<Vec<_>>(), set[..2]);
            let mut zones = set.map(|v| site.zone_of(v));
            zones.sort_unstable();
            assert!(zones.windows(2).all(|w| w[0] != w[1]), "{zones:?}");
        }
        assert_ne!(sets, Site::new(24, 4, 8).sample(&Site::new(24, 4, 8).ring(), 101));
    }

    #[test]
    fn lengths_have_the_mean_that_is_said() {
        let (mut dice, mut mean) = (Dice::new(3), Mean::default());
        for _ in 0..400_000 {
            mean.add(length(unit(&mut dice)) as f64);
        }
        assert!((mean.mean() - mean_length()).abs() < 1.5 * mean.half(), "{mean:?}");
        assert_eq!((length(0.0), length(0.5)), (1_000_000, 3_758_531));
    }
}
