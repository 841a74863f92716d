//! A scan finds the same work as a check of every object, in order of priority, although it reads few of them.

use crate::plan::repair::is_last;
use proptest::prelude::*;
use shared::clock::Timestamp;
use shared::condition::WriteCondition;
use shared::digest::Digest;

use super::*;
use crate::cluster::topology::TopologyVolume;
use crate::state::apply::apply;
use crate::state::command::{Command, Commit};
use crate::tables::Tables;

fn volume(n: usize) -> VolumeId {
    VolumeId::from_bytes([u8::try_from(n + 1).unwrap(); 16])
}

fn blob(n: usize) -> BlobId {
    BlobId::next(None, Timestamp::from_unix_ms(n as u64 + 1), [1; 10])
}

fn key(n: usize) -> Key {
    format!("box/{n}").parse().unwrap()
}

fn conditions() -> impl Strategy<Value = Availability> {
    prop_oneof![
        4 => Just(Availability::Writable),
        1 => Just(Availability::ReadOnly),
        1 => Just(Availability::Down),
        1 => Just(Availability::Lost),
        1 => any::<bool>().prop_map(|up| Availability::Draining { up }),
    ]
}

/// An object: which volumes have it, how many are wanted, and which of them have a corrupt replica.
type Shape = (Vec<bool>, u8, Vec<bool>);

fn held(n: usize, (has, wanted, _): &Shape) -> BlobReplicas {
    BlobReplicas {
        blob: blob(n),
        length: n as u64 + 10,
        wanted: usize::from(*wanted),
        replicas: (0..has.len()).filter(|v| has[*v]).map(volume).collect(),
        pending: vec![],
        excluded: vec![],
    }
}

fn topology(conditions: &[Availability], shapes: &[Shape]) -> Topology {
    let entry = |condition: &Availability| TopologyVolume {
        zone: None,
        availability: *condition,
        compared: true,
        capacity_bytes: 1 << 40,
        available_bytes: 1 << 40,
        live_bytes: 0,
    };
    let bad = shapes.iter().enumerate().flat_map(|(n, (has, _, bad))| {
        (0..has.len()).filter(|v| has[*v] && bad[*v]).map(move |v| (volume(v), blob(n)))
    });
    let entries = conditions.iter().enumerate().map(|(n, condition)| (volume(n), entry(condition)));
    Topology::new(entries).with_bad(bad)
}

fn tables(shapes: &[Shape]) -> sled::Db {
    let db = sled::Config::new().temporary(true).open().unwrap();
    for (n, shape) in shapes.iter().enumerate() {
        let BlobReplicas { blob, length, replicas, .. } = held(n, shape);
        let commit = Commit {
            key: key(n),
            blob,
            size: length,
            digest: Digest::of(b""),
            content_type: None,
            metadata: vec![],
            replicas,
            wanted: shape.1,
            min_replicas: 1,
            condition: WriteCondition::None,
        };
        let mut tables = Tables::new(&db);
        apply(&mut tables, &Command::Commit(commit)).unwrap();
        db.apply_batch(tables.into_batch().unwrap()).unwrap();
    }
    db
}

proptest! {
    #[test]
    fn it_finds_what_all_objects_show(
        conditions in prop::collection::vec(conditions(), 5),
        shapes in prop::collection::vec(
            (prop::collection::vec(any::<bool>(), 5), 1u8..4, prop::collection::vec(prop::bool::weighted(0.2), 5)),
            1..12,
        ),
        busy in 0usize..24,
        resting in 0usize..24,
    ) {
        let shapes: Vec<_> = shapes.into_iter().filter(|(has, ..)| has.contains(&true)).collect();
        let (topology, db) = (topology(&conditions, &shapes), tables(&shapes));
        let question = ScanInput { topology: topology.clone(), mode: ReplicationMode::Sync, async_due: true };
        let found = scan_repairs(&db, &question, &HashSet::from([blob(busy)]), &HashSet::from([blob(resting)])).unwrap();

        let (mut copies, mut rest, mut expected) = (BTreeMap::new(), BTreeMap::new(), RepairScan::default());
        for (n, shape) in shapes.iter().enumerate().filter(|(n, _)| *n != busy) {
            let held = held(n, shape);
            let live = held.replicas.iter().filter(|v| topology.counts_for(**v, held.blob)).count();
            let verdict = next_step(&key(n), &held, &topology);
            expected.queued_blobs += u64::from(verdict != RepairStep::Healthy);
            if matches!(verdict, RepairStep::AddReplica { .. } | RepairStep::Blocked(_)) {
                expected.queued_bytes += held.length * (held.wanted - live) as u64;
                expected.by_live_replicas.resize(expected.by_live_replicas.len().max(live + 1), 0);
                expected.by_live_replicas[live] += 1;
            }
            match &verdict {
                RepairStep::Blocked(why) if n != resting => *expected.blocked.entry(*why).or_default() += 1,
                RepairStep::AddReplica { .. } if n != resting => drop(copies.insert((live, held.blob), verdict)),
                RepairStep::RemoveReplica { .. } if n != resting => drop(rest.insert(held.blob, verdict)),
                _ => {}
            }
        }
        prop_assert_eq!(found.queued_blobs, expected.queued_blobs);
        prop_assert_eq!(found.queued_bytes, expected.queued_bytes);
        prop_assert_eq!(&found.by_live_replicas, &expected.by_live_replicas);
        prop_assert_eq!(&found.blocked, &expected.blocked);
        prop_assert!(!found.more);
        let (first, last) = found.actions.split_at(copies.len());
        let planned = |action: &RepairTask| (action.replicas.blob, action.step.clone());
        let of_need: Vec<_> = copies.into_iter().map(|((_, blob), verdict)| (blob, verdict)).collect();
        prop_assert_eq!(first.iter().map(planned).collect::<Vec<_>>(), of_need);
        prop_assert_eq!(last.iter().map(planned).collect::<BTreeMap<_, _>>(), rest);
        prop_assert_eq!(last.len() + first.len(), found.actions.len());
    }
}

#[test]
fn the_last_replica_is_one_that_nobody_else_can_give() {
    let cases = [
        (Availability::Writable, true, true),
        (Availability::ReadOnly, true, true),
        (Availability::Down, true, false),
        (Availability::Lost, false, false),
        (Availability::Draining { up: true }, false, true),
        (Availability::Draining { up: false }, false, false),
    ];
    for (other, counts, gives) in cases {
        let shape = (vec![true, true], 2, vec![false, false]);
        let both = topology(&[Availability::Draining { up: true }, other], &[]);
        assert_eq!((both.counts(volume(1)), both.is_readable(volume(1))), (counts, gives), "{other:?}");
        assert_eq!(is_last(volume(0), &held(0, &shape), &both), !gives, "{other:?}");
        assert!(!is_last(volume(2), &held(0, &shape), &both), "it has none");
    }
}
