//! A survey finds what a look at every object finds, in the order of need, though it looks at few of them.

use proptest::prelude::*;
use shared::clock::Timestamp;
use shared::condition::WriteCondition;
use shared::digest::Digest;

use super::*;
use crate::cluster::topology::Seat;
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

fn conditions() -> impl Strategy<Value = Condition> {
    prop_oneof![
        4 => Just(Condition::Up),
        1 => Just(Condition::Serving),
        1 => Just(Condition::Away),
        1 => Just(Condition::Lost),
        1 => any::<bool>().prop_map(|up| Condition::Leaving { up }),
    ]
}

/// An object: which volumes have it, how many are wanted, and which of them have it in vain.
type Shape = (Vec<bool>, u8, Vec<bool>);

fn held(n: usize, (has, wanted, _): &Shape) -> Held {
    Held {
        blob: blob(n),
        length: n as u64 + 10,
        wanted: usize::from(*wanted),
        replicas: (0..has.len()).filter(|v| has[*v]).map(volume).collect(),
        arriving: vec![],
        barred: vec![],
    }
}

fn topology(conditions: &[Condition], shapes: &[Shape]) -> Topology {
    let seat = |condition: &Condition| Seat {
        zone: None,
        condition: *condition,
        compared: true,
        capacity_bytes: 1 << 40,
        available_bytes: 1 << 40,
        live_bytes: 0,
    };
    let bad = shapes.iter().enumerate().flat_map(|(n, (has, _, bad))| {
        (0..has.len()).filter(|v| has[*v] && bad[*v]).map(move |v| (volume(v), blob(n)))
    });
    let seats = conditions.iter().enumerate().map(|(n, condition)| (volume(n), seat(condition)));
    Topology::new(seats).with_bad(bad)
}

fn tables(shapes: &[Shape]) -> sled::Db {
    let db = sled::Config::new().temporary(true).open().unwrap();
    for (n, shape) in shapes.iter().enumerate() {
        let Held { blob, length, replicas, .. } = held(n, shape);
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
        let question = Question { topology: topology.clone(), mode: Mode::Sync, async_due: true };
        let found = survey(&db, &question, &HashSet::from([blob(busy)]), &HashSet::from([blob(resting)])).unwrap();

        let (mut copies, mut rest, mut expected) = (BTreeMap::new(), BTreeMap::new(), Survey::default());
        for (n, shape) in shapes.iter().enumerate().filter(|(n, _)| *n != busy) {
            let held = held(n, shape);
            let live = held.replicas.iter().filter(|v| topology.counts_for(**v, held.blob)).count();
            let verdict = judge(&key(n), &held, &topology);
            expected.owed_blobs += u64::from(verdict != Verdict::Settled);
            if matches!(verdict, Verdict::Copy { .. } | Verdict::Stuck(_)) {
                expected.owed_bytes += held.length * (held.wanted - live) as u64;
                expected.by_copies.resize(expected.by_copies.len().max(live + 1), 0);
                expected.by_copies[live] += 1;
            }
            match &verdict {
                Verdict::Stuck(why) if n != resting => *expected.stuck.entry(*why).or_default() += 1,
                Verdict::Copy { .. } if n != resting => drop(copies.insert((live, held.blob), verdict)),
                Verdict::Drop { .. } if n != resting => drop(rest.insert(held.blob, verdict)),
                _ => {}
            }
        }
        prop_assert_eq!(found.owed_blobs, expected.owed_blobs);
        prop_assert_eq!(found.owed_bytes, expected.owed_bytes);
        prop_assert_eq!(&found.by_copies, &expected.by_copies);
        prop_assert_eq!(&found.stuck, &expected.stuck);
        prop_assert!(!found.more);
        let (first, last) = found.actions.split_at(copies.len());
        let planned = |action: &Action| (action.held.blob, action.verdict.clone());
        let of_need: Vec<_> = copies.into_iter().map(|((_, blob), verdict)| (blob, verdict)).collect();
        prop_assert_eq!(first.iter().map(planned).collect::<Vec<_>>(), of_need);
        prop_assert_eq!(last.iter().map(planned).collect::<BTreeMap<_, _>>(), rest);
        prop_assert_eq!(last.len() + first.len(), found.actions.len());
    }
}

#[test]
fn the_last_replica_is_one_that_nobody_else_can_give() {
    use crate::plan::drain::is_last;
    let cases = [
        (Condition::Up, true, true),
        (Condition::Serving, true, true),
        (Condition::Away, true, false),
        (Condition::Lost, false, false),
        (Condition::Leaving { up: true }, false, true),
        (Condition::Leaving { up: false }, false, false),
    ];
    for (other, counts, gives) in cases {
        let shape = (vec![true, true], 2, vec![false, false]);
        let both = topology(&[Condition::Leaving { up: true }, other], &[]);
        assert_eq!((both.counts(volume(1)), both.gives(volume(1))), (counts, gives), "{other:?}");
        assert_eq!(is_last(volume(0), &held(0, &shape), &both), !gives, "{other:?}");
        assert!(!is_last(volume(2), &held(0, &shape), &both), "it has none");
    }
}
