//! Any cluster, any blob: followed to the end, the judgement leads to as many copies as are wanted, and on no way there is one
//! freed that is needed.

use proptest::prelude::*;
use shared::clock::Timestamp;

use super::*;
use crate::cluster::topology::Seat;

fn volume(n: usize) -> VolumeId {
    VolumeId::from_bytes([u8::try_from(n + 1).unwrap(); 16])
}

fn condition(n: u8) -> Condition {
    match n {
        0..=3 => Condition::Up,
        4 => Condition::Serving,
        5 => Condition::Away,
        6 => Condition::Lost,
        7 => Condition::Leaving { up: true },
        _ => Condition::Leaving { up: false },
    }
}

#[derive(Clone, Debug)]
struct World {
    topology: Topology,
    held: Held,
}

fn worlds() -> impl Strategy<Value = World> {
    let seat = (0u8..9, 0usize..3, any::<bool>(), 0u64..100);
    let seats = prop::collection::vec(seat, 1..9);
    (seats, 1usize..4, any::<[u16; 4]>()).prop_map(|(seats, wanted, [has, comes, deletes, spoils])| {
        let seats: Vec<_> = seats
            .into_iter()
            .enumerate()
            .map(|(n, (kind, zone, compared, live))| {
                let zone = Some(format!("z{zone}").parse().unwrap());
                let seat = Seat {
                    zone,
                    condition: condition(kind),
                    compared: compared || kind == 0,
                    capacity_bytes: 100 << 30,
                    available_bytes: 50 << 30,
                    live_bytes: live << 30,
                };
                (volume(n), seat)
            })
            .collect();
        let of =
            |bits: u16| -> Vec<_> { (0..seats.len()).filter(|n| bits & (1 << n) != 0).map(volume).collect() };
        let mut replicas = of(has);
        replicas.truncate(wanted + 2);
        let arriving = of(comes & !has).into_iter().take(2).collect();
        let barred = of(deletes & !has & !comes);
        let blob = BlobId::next(None, Timestamp::from_unix_ms(1), [1; 10]);
        let bad = of(has & spoils);
        World {
            topology: Topology::new(seats).with_bad(bad.into_iter().map(|v| (v, blob))),
            held: Held { blob, length: 5 << 20, wanted, replicas, arriving, barred },
        }
    })
}

/// No other volume that takes it in is in a zone with fewer copies that are good, or on their way.
fn spread(topology: &Topology, held: &Held, to: VolumeId) -> bool {
    let good = |v: &&VolumeId| topology.counts_for(**v, held.blob);
    let named = || held.replicas.iter().chain(&held.arriving).filter(good);
    let copies = |zone| named().filter(|v| topology.zone(**v) == zone).count();
    let taken =
        |v: &VolumeId| held.replicas.contains(v) || held.arriving.contains(v) || held.barred.contains(v);
    let free = topology.seats().map(|(v, _)| v).filter(|v| topology.takes(*v, held.blob) && !taken(v));
    free.map(|v| copies(topology.zone(v))).min() == Some(copies(topology.zone(to)))
}

fn carry_out(held: &mut Held, verdict: &Verdict) {
    match verdict {
        Verdict::Copy { to, .. } => {
            assert!(!held.replicas.contains(to), "a volume gets a second copy");
            held.arriving.retain(|v| v != to);
            held.replicas.push(*to);
        }
        Verdict::Drop { from, keep } => {
            assert!(!keep.contains(from) && keep.iter().all(|v| held.replicas.contains(v)));
            held.replicas.retain(|v| v != from);
        }
        Verdict::Forgo { to } => held.arriving.retain(|v| v != to),
        Verdict::Settled | Verdict::Stuck(_) => {}
    }
}

proptest! {
    #[test]
    fn it_ends_and_frees_nothing_that_is_needed(world in worlds()) {
        let World { topology, mut held } = world;
        let key = Key::new("b/k").unwrap();
        let blob = held.blob;
        let keepers = |held: &Held| held.replicas.iter().filter(|v| topology.keeps_of(**v, blob)).count();
        let counting = |held: &Held| held.replicas.iter().filter(|v| topology.counts_for(**v, held.blob)).count();
        let began = keepers(&held);
        let mut last = None;
        for _ in 0..40 {
            let verdict = judge(&key, &held, &topology);
            if let Verdict::Drop { keep, .. } = &verdict {
                prop_assert!(keep.len() >= held.wanted && keep.iter().all(|v| topology.keeps_of(*v, held.blob)));
            }
            if let Verdict::Copy { to, live } = &verdict {
                prop_assert_eq!(topology.condition(*to), Condition::Up);
                prop_assert!(*live < held.wanted || held.arriving.contains(to));
                prop_assert!(!held.barred.contains(to), "it would be deleted as soon as it is there");
                prop_assert!(held.arriving.contains(to) || spread(&topology, &held, *to), "it joins a zone that has one");
            }
            carry_out(&mut held, &verdict);
            prop_assert!(keepers(&held) >= began.min(held.wanted), "below what was there and wanted");
            let over = matches!(verdict, Verdict::Settled | Verdict::Stuck(_));
            last = Some(verdict);
            if over {
                break;
            }
        }
        match last {
            Some(Verdict::Settled) => {
                prop_assert!(counting(&held) >= held.wanted);
                prop_assert!(held.arriving.is_empty());
                let bad = topology.bad().any(|(v, _)| held.replicas.contains(&v) && topology.counts(v));
                prop_assert!(!bad || keepers(&held) < held.wanted, "a bad copy stays beside enough good ones");
            }
            Some(Verdict::Stuck(Stuck::NoSource)) => prop_assert!(!held.replicas.iter().any(|v| topology.gives(*v))),
            Some(Verdict::Stuck(why @ (Stuck::NoDestination | Stuck::Deleting))) => {
                let free = |(id, _): &(VolumeId, &Seat)| {
                    topology.takes(*id, blob) && !held.replicas.contains(id) && !held.arriving.contains(id)
                };
                let free: Vec<_> = topology.seats().filter(free).map(|(id, _)| id).collect();
                prop_assert!(free.iter().all(|id| held.barred.contains(id)));
                prop_assert_eq!(free.is_empty(), why == Stuck::NoDestination);
            }
            other => prop_assert!(false, "no end: {:?}", other),
        }
    }
}

fn seats(conditions: &[(Condition, &str)]) -> Topology {
    Topology::new(conditions.iter().enumerate().map(|(n, (condition, zone))| {
        let seat = Seat {
            zone: Some(zone.parse().unwrap()),
            condition: *condition,
            compared: true,
            capacity_bytes: 100,
            available_bytes: 1 << 40,
            live_bytes: n as u64,
        };
        (volume(n), seat)
    }))
}

fn blob(wanted: usize, replicas: &[usize]) -> Held {
    Held {
        blob: BlobId::next(None, Timestamp::from_unix_ms(1), [1; 10]),
        length: 9,
        wanted,
        replicas: replicas.iter().map(|n| volume(*n)).collect(),
        arriving: vec![],
        barred: vec![],
    }
}

#[test]
fn copies_go_where_the_zone_has_none() {
    use Condition::{Lost, Up};
    let key = Key::new("k").unwrap();
    let topology = seats(&[(Up, "a"), (Lost, "b"), (Up, "a"), (Up, "a"), (Up, "b")]);
    let verdict = judge(&key, &blob(2, &[0, 1]), &topology);
    assert_eq!(verdict, Verdict::Copy { to: volume(4), live: 1 });
    // Back with all three: the zone with two of them gives one up.
    let topology = seats(&[(Up, "a"), (Up, "b"), (Up, "a"), (Up, "a"), (Up, "b")]);
    let verdict = judge(&key, &blob(2, &[0, 1, 4]), &topology);
    assert_eq!(verdict, Verdict::Drop { from: volume(4), keep: vec![volume(0), volume(1)] });
}

#[test]
fn a_copy_that_was_begun_on_a_volume_without_room_goes_elsewhere() {
    use Condition::Up;
    let key = Key::new("k").unwrap();
    let mut topology = seats(&[(Up, "a"), (Up, "b"), (Up, "c")]);
    let mut held = Held { arriving: vec![volume(1)], ..blob(2, &[0]) };
    assert_eq!(judge(&key, &held, &topology), Verdict::Copy { to: volume(1), live: 1 });
    topology.seat_mut(volume(1)).available_bytes = 1;
    assert_eq!(judge(&key, &held, &topology), Verdict::Copy { to: volume(2), live: 1 });
    held.replicas.push(volume(2));
    assert_eq!(judge(&key, &held, &topology), Verdict::Forgo { to: volume(1) });
    // Where nobody else has it, it may be there.
    held.replicas.clear();
    assert_eq!(judge(&key, &held, &topology), Verdict::Copy { to: volume(1), live: 0 });
}

#[test]
fn a_bad_copy_does_not_keep_others_from_its_zone() {
    use Condition::Up;
    let topology = seats(&[(Up, "a"), (Up, "b"), (Up, "a"), (Up, "b"), (Up, "b"), (Up, "b")]);
    let held = blob(2, &[0, 1]);
    let topology = topology.with_bad([(volume(0), held.blob)]);
    let key = Key::new("k").unwrap();
    assert_eq!(judge(&key, &held, &topology), Verdict::Copy { to: volume(2), live: 1 });
    let verdict = judge(&key, &blob(2, &[0, 1, 2]), &topology);
    assert_eq!(verdict, Verdict::Drop { from: volume(0), keep: vec![volume(1), volume(2)] });
}

#[test]
fn a_volume_that_has_just_come_back_frees_nobody() {
    use Condition::{Serving, Up};
    let mut topology = seats(&[(Serving, "a"), (Up, "a"), (Up, "a")]);
    assert!(matches!(judge(&Key::new("k").unwrap(), &blob(2, &[0, 1, 2]), &topology), Verdict::Drop { .. }));
    topology.seat_mut(volume(0)).compared = false;
    assert_eq!(judge(&Key::new("k").unwrap(), &blob(2, &[0, 1, 2]), &topology), Verdict::Settled);
}
