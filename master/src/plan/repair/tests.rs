//! Any cluster, any blob: repeated repair steps lead to as many replicas as wanted, and never remove one
//! that is needed.

use proptest::prelude::*;
use shared::clock::Timestamp;

use super::*;
use crate::cluster::topology::TopologyVolume;

fn volume(n: usize) -> VolumeId {
    VolumeId::from_bytes([u8::try_from(n + 1).unwrap(); 16])
}

fn condition(n: u8) -> Availability {
    match n {
        0..=3 => Availability::Writable,
        4 => Availability::ReadOnly,
        5 => Availability::Down,
        6 => Availability::Lost,
        7 => Availability::Draining { up: true },
        _ => Availability::Draining { up: false },
    }
}

#[derive(Clone, Debug)]
struct World {
    topology: Topology,
    held: BlobReplicas,
}

fn worlds() -> impl Strategy<Value = World> {
    let entry = (0u8..9, 0usize..3, any::<bool>(), 0u64..100);
    let entries = prop::collection::vec(entry, 1..9);
    (entries, 1usize..4, any::<[u16; 4]>()).prop_map(|(entries, wanted, [has, comes, deletes, spoils])| {
        let entries: Vec<_> = entries
            .into_iter()
            .enumerate()
            .map(|(n, (kind, zone, compared, live))| {
                let zone = Some(format!("z{zone}").parse().unwrap());
                let entry = TopologyVolume {
                    zone,
                    availability: condition(kind),
                    compared: compared || kind == 0,
                    capacity_bytes: 100 << 30,
                    available_bytes: 50 << 30,
                    live_bytes: live << 30,
                };
                (volume(n), entry)
            })
            .collect();
        let of = |bits: u16| -> Vec<_> {
            (0..entries.len()).filter(|n| bits & (1 << n) != 0).map(volume).collect()
        };
        let mut replicas = of(has);
        replicas.truncate(wanted + 2);
        let pending = of(comes & !has).into_iter().take(2).collect();
        let barred = of(deletes & !has & !comes);
        let blob = BlobId::next(None, Timestamp::from_unix_ms(1), [1; 10]);
        let bad = of(has & spoils);
        World {
            topology: Topology::new(entries).with_bad(bad.into_iter().map(|v| (v, blob))),
            held: BlobReplicas { blob, length: 5 << 20, wanted, replicas, pending, excluded: barred },
        }
    })
}

/// Whether no other possible destination is in a zone with fewer counting or pending replicas.
fn spread(topology: &Topology, held: &BlobReplicas, to: VolumeId) -> bool {
    let good = |v: &&VolumeId| topology.counts_for(**v, held.blob);
    let named = || held.replicas.iter().chain(&held.pending).filter(good);
    let copies = |zone| named().filter(|v| topology.zone(**v) == zone).count();
    let taken =
        |v: &VolumeId| held.replicas.contains(v) || held.pending.contains(v) || held.excluded.contains(v);
    let free =
        topology.volumes().map(|(v, _)| v).filter(|v| topology.accepts_replica(*v, held.blob) && !taken(v));
    free.map(|v| copies(topology.zone(v))).min() == Some(copies(topology.zone(to)))
}

fn carry_out(held: &mut BlobReplicas, verdict: &RepairStep) {
    match verdict {
        RepairStep::AddReplica { to, .. } => {
            assert!(!held.replicas.contains(to), "a volume gets a second replica");
            held.pending.retain(|v| v != to);
            held.replicas.push(*to);
        }
        RepairStep::RemoveReplica { from, keep } => {
            assert!(!keep.contains(from) && keep.iter().all(|v| held.replicas.contains(v)));
            held.replicas.retain(|v| v != from);
        }
        RepairStep::CancelAddReplica { to } => held.pending.retain(|v| v != to),
        RepairStep::Healthy | RepairStep::Blocked(_) => {}
    }
}

proptest! {
    #[test]
    fn it_ends_and_frees_nothing_that_is_needed(world in worlds()) {
        let World { topology, mut held } = world;
        let key = Key::new("b/k").unwrap();
        let blob = held.blob;
        let keepers = |held: &BlobReplicas| held.replicas.iter().filter(|v| topology.has_verified_replica(**v, blob)).count();
        let counting = |held: &BlobReplicas| held.replicas.iter().filter(|v| topology.counts_for(**v, held.blob)).count();
        let began = keepers(&held);
        let mut last = None;
        for _ in 0..40 {
            let verdict = next_step(&key, &held, &topology);
            if let RepairStep::RemoveReplica { keep, .. } = &verdict {
                prop_assert!(keep.len() >= held.wanted && keep.iter().all(|v| topology.has_verified_replica(*v, held.blob)));
            }
            if let RepairStep::AddReplica { to, live } = &verdict {
                prop_assert_eq!(topology.availability(*to), Availability::Writable);
                prop_assert!(*live < held.wanted || held.pending.contains(to));
                prop_assert!(!held.excluded.contains(to), "the new replica would be deleted at once");
                prop_assert!(held.pending.contains(to) || spread(&topology, &held, *to), "another zone has fewer replicas");
            }
            carry_out(&mut held, &verdict);
            prop_assert!(keepers(&held) >= began.min(held.wanted), "fewer verified replicas than before and than wanted");
            let over = matches!(verdict, RepairStep::Healthy | RepairStep::Blocked(_));
            last = Some(verdict);
            if over {
                break;
            }
        }
        match last {
            Some(RepairStep::Healthy) => {
                prop_assert!(counting(&held) >= held.wanted);
                prop_assert!(held.pending.is_empty());
                let bad = topology.bad().any(|(v, _)| held.replicas.contains(&v) && topology.counts(v));
                prop_assert!(!bad || keepers(&held) < held.wanted, "a corrupt replica stays beside enough good ones");
            }
            Some(RepairStep::Blocked(Blocked::NoSource)) => prop_assert!(!held.replicas.iter().any(|v| topology.is_readable(*v))),
            Some(RepairStep::Blocked(why @ (Blocked::NoDestination | Blocked::Deleting))) => {
                let free = |(id, _): &(VolumeId, &TopologyVolume)| {
                    topology.accepts_replica(*id, blob) && !held.replicas.contains(id) && !held.pending.contains(id)
                };
                let free: Vec<_> = topology.volumes().filter(free).map(|(id, _)| id).collect();
                prop_assert!(free.iter().all(|id| held.excluded.contains(id)));
                prop_assert_eq!(free.is_empty(), why == Blocked::NoDestination);
            }
            other => prop_assert!(false, "no end: {:?}", other),
        }
    }
}

fn entries(conditions: &[(Availability, &str)]) -> Topology {
    Topology::new(conditions.iter().enumerate().map(|(n, (condition, zone))| {
        let entry = TopologyVolume {
            zone: Some(zone.parse().unwrap()),
            availability: *condition,
            compared: true,
            capacity_bytes: 100,
            available_bytes: 1 << 40,
            live_bytes: n as u64,
        };
        (volume(n), entry)
    }))
}

fn blob(wanted: usize, replicas: &[usize]) -> BlobReplicas {
    BlobReplicas {
        blob: BlobId::next(None, Timestamp::from_unix_ms(1), [1; 10]),
        length: 9,
        wanted,
        replicas: replicas.iter().map(|n| volume(*n)).collect(),
        pending: vec![],
        excluded: vec![],
    }
}

#[test]
fn copies_go_where_the_zone_has_none() {
    use Availability::{Lost, Writable};
    let key = Key::new("k").unwrap();
    let topology =
        entries(&[(Writable, "a"), (Lost, "b"), (Writable, "a"), (Writable, "a"), (Writable, "b")]);
    let verdict = next_step(&key, &blob(2, &[0, 1]), &topology);
    assert_eq!(verdict, RepairStep::AddReplica { to: volume(4), live: 1 });
    // Back with all three: the zone with two of them loses one.
    let topology =
        entries(&[(Writable, "a"), (Writable, "b"), (Writable, "a"), (Writable, "a"), (Writable, "b")]);
    let verdict = next_step(&key, &blob(2, &[0, 1, 4]), &topology);
    assert_eq!(verdict, RepairStep::RemoveReplica { from: volume(4), keep: vec![volume(0), volume(1)] });
}

#[test]
fn a_copy_that_was_begun_on_a_volume_without_room_goes_elsewhere() {
    use Availability::Writable;
    let key = Key::new("k").unwrap();
    let mut topology = entries(&[(Writable, "a"), (Writable, "b"), (Writable, "c")]);
    let mut held = BlobReplicas { pending: vec![volume(1)], ..blob(2, &[0]) };
    assert_eq!(next_step(&key, &held, &topology), RepairStep::AddReplica { to: volume(1), live: 1 });
    topology.volume_mut(volume(1)).available_bytes = 1;
    assert_eq!(next_step(&key, &held, &topology), RepairStep::AddReplica { to: volume(2), live: 1 });
    held.replicas.push(volume(2));
    assert_eq!(next_step(&key, &held, &topology), RepairStep::CancelAddReplica { to: volume(1) });
    // Without a source, the pending replica may exist already.
    held.replicas.clear();
    assert_eq!(next_step(&key, &held, &topology), RepairStep::AddReplica { to: volume(1), live: 0 });
}

#[test]
fn a_bad_copy_does_not_keep_others_from_its_zone() {
    use Availability::Writable;
    let topology = entries(&[
        (Writable, "a"),
        (Writable, "b"),
        (Writable, "a"),
        (Writable, "b"),
        (Writable, "b"),
        (Writable, "b"),
    ]);
    let held = blob(2, &[0, 1]);
    let topology = topology.with_bad([(volume(0), held.blob)]);
    let key = Key::new("k").unwrap();
    assert_eq!(next_step(&key, &held, &topology), RepairStep::AddReplica { to: volume(2), live: 1 });
    let verdict = next_step(&key, &blob(2, &[0, 1, 2]), &topology);
    assert_eq!(verdict, RepairStep::RemoveReplica { from: volume(0), keep: vec![volume(1), volume(2)] });
}

#[test]
fn a_volume_that_has_just_come_back_frees_nobody() {
    use Availability::{ReadOnly, Writable};
    let mut topology = entries(&[(ReadOnly, "a"), (Writable, "a"), (Writable, "a")]);
    assert!(matches!(
        next_step(&Key::new("k").unwrap(), &blob(2, &[0, 1, 2]), &topology),
        RepairStep::RemoveReplica { .. }
    ));
    topology.volume_mut(volume(0)).compared = false;
    assert_eq!(next_step(&Key::new("k").unwrap(), &blob(2, &[0, 1, 2]), &topology), RepairStep::Healthy);
}
