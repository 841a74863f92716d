//! Clusters of any shape: moved until nothing is to be moved any more, all volumes are about equally full, and no zone has more
//! copies of a value than it had to have.

use proptest::prelude::*;
use shared::clock::Timestamp;
use shared::ids::BlobId;
use shared::key::Key;
use shared::ring::{Member, Ring};

use super::*;

const MIB: u64 = 1 << 20;

fn volume(n: usize) -> VolumeId {
    VolumeId::from_bytes([u8::try_from(n + 1).unwrap(); 16])
}

struct World {
    seats: Vec<(VolumeId, Seat)>,
    blobs: Vec<Held>,
}

impl World {
    /// Values on the first volumes, as the ring puts them there; then all of the volumes.
    fn new(shapes: &[(u64, usize)], old: usize, copies: usize) -> Self {
        let mut seats: Vec<_> = shapes
            .iter()
            .enumerate()
            .map(|(n, (gib, zone))| {
                let seat = Seat {
                    zone: Some(format!("z{zone}").parse().unwrap()),
                    condition: Condition::Up,
                    compared: true,
                    capacity_bytes: gib << 30,
                    available_bytes: gib << 30,
                    live_bytes: 0,
                };
                (volume(n), seat)
            })
            .collect();
        let member =
            |(id, s): &(VolumeId, Seat)| Member { id: *id, weight: s.capacity_bytes, zone: s.zone.clone() };
        let ring = Ring::new(&seats[..old].iter().map(member).collect::<Vec<_>>());
        let mut blobs = Vec::new();
        for n in 0..1500u64 {
            let length = MIB + (n * 7919 % 17) * MIB / 2;
            let replicas = ring.place(&Key::new(&format!("k{n}")).unwrap(), copies, |_| true);
            for (_, seat) in seats.iter_mut().filter(|(id, _)| replicas.contains(id)) {
                seat.live_bytes += length;
            }
            let blob = BlobId::next(None, Timestamp::from_unix_ms(n), [1; 10]);
            blobs.push(Held {
                blob,
                length,
                wanted: replicas.len(),
                replicas,
                arriving: vec![],
                barred: vec![],
            });
        }
        Self { seats, blobs }
    }

    fn topology(&self) -> Topology {
        Topology::new(self.seats.clone())
    }

    fn crowd(&self, held: &Held) -> usize {
        let zone = |v: &VolumeId| self.seats.iter().find(|(id, _)| id == v).map(|(_, s)| s.zone.clone());
        let zones: Vec<_> = held.replicas.iter().map(zone).collect();
        zones.iter().map(|z| zones.iter().filter(|other| *other == z).count()).max().unwrap_or(0)
    }

    /// One pass over all blobs; bytes moved.
    fn pass(&mut self, copies: usize) -> u64 {
        let topology = self.topology();
        let mut balance = Balance::of(&topology, copies);
        let mut moved = 0;
        for n in 0..self.blobs.len() {
            let before = self.crowd(&self.blobs[n]);
            let sources: Vec<_> =
                self.blobs[n].replicas.iter().copied().filter(|v| balance.over.contains_key(v)).collect();
            for from in sources {
                let Some(to) = balance.take(from, &self.blobs[n], &topology) else { continue };
                let held = &mut self.blobs[n];
                held.replicas.retain(|v| *v != from);
                held.replicas.push(to);
                moved += held.length;
                for (id, seat) in &mut self.seats {
                    seat.live_bytes += if *id == to { held.length } else { 0 };
                    seat.live_bytes -= if *id == from { held.length } else { 0 };
                }
                assert!(self.crowd(&self.blobs[n]) <= before.max(1), "a zone got one more");
                break;
            }
        }
        moved
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn volumes_of_any_size_end_equally_full(
        shapes in prop::collection::vec((40u64..200, 0usize..1), 4..9), old in 2usize..4, copies in 1usize..3,
    ) {
        let mut world = World::new(&shapes, old, copies);
        let planned = Balance::of(&world.topology(), copies).bytes();
        let mut moved = 0;
        for _ in 0..20 {
            match world.pass(copies) {
                0 => break,
                bytes => moved += bytes,
            }
        }
        prop_assert_eq!(world.pass(copies), 0, "it ends");
        let live: u64 = world.seats.iter().map(|(_, s)| s.live_bytes).sum();
        let most = live as f64 / copies as f64;
        // Those that could hold more than one copy of everything do not count.
        let bound = |s: &Seat| s.live_bytes as f64 >= 0.95 * most;
        let free: Vec<_> = world.seats.iter().filter(|(_, s)| !bound(s)).map(|(_, s)| s).collect();
        let (held, capacity): (u64, u64) =
            (free.iter().map(|s| s.live_bytes).sum(), free.iter().map(|s| s.capacity_bytes).sum());
        let mean = held as f64 / capacity.max(1) as f64;
        // Beside one that holds a copy of almost everything, a single move may not help where two would.
        let near = if free.len() == world.seats.len() { 0.05 } else { 0.1 };
        for seat in free {
            // Where little is stored a few values are more than that, and not a hundredth of the room.
            let near = f64::max(near * mean, 0.01);
            prop_assert!((seat.fullness() - mean).abs() <= near, "{} beside {mean}", seat.fullness());
        }
        prop_assert!(moved <= planned + planned / 20 + 16 * MIB, "{moved} moved, {planned} planned");
    }

    #[test]
    fn zones_keep_what_they_must(shapes in prop::collection::vec((40u64..200, 0usize..3), 5..10), copies in 2usize..4) {
        let old = shapes.len() - 1;
        let mut world = World::new(&shapes, old, copies);
        for _ in 0..20 {
            if world.pass(copies) == 0 {
                break;
            }
        }
        prop_assert_eq!(world.pass(copies), 0, "it ends");
    }
}

#[test]
fn what_is_even_stays() {
    let mut world = World::new(&[(100, 0), (100, 0), (100, 0)], 3, 1);
    for (_, seat) in &mut world.seats {
        seat.live_bytes = 50 << 30;
    }
    assert!(Balance::of(&world.topology(), 1).is_even());
    world.seats[0].1.live_bytes = 48 << 30;
    let balance = Balance::of(&world.topology(), 1);
    assert!(!balance.is_even() && balance.bytes() > 1 << 30 && balance.bytes() < 2 << 30);
}

#[test]
fn nothing_moves_to_a_volume_that_was_just_told_to_delete_it() {
    let mut world = World::new(&[(100, 0), (100, 0), (100, 0)], 1, 1);
    let topology = world.topology();
    let mut balance = Balance::of(&topology, 1);
    let held = &mut world.blobs[0];
    held.barred = vec![volume(2)];
    assert_eq!(balance.take(volume(0), held, &topology), Some(volume(1)));
    held.barred.push(volume(1));
    assert_eq!(balance.take(volume(0), held, &topology), None);
    held.barred.clear();
    assert_eq!(balance.take(volume(0), held, &topology), Some(volume(2)));
}
