//! Checks the invariants of `apply` for random commands in random order.

use crate::tables::repair_queue::BlobRef;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use shared::clock::Timestamp;
use shared::digest::Digest;

use super::*;
use crate::tables::object::Object;
use crate::tables::{self, Kind, meta, object, repair_queue, scan, tombstone};

mod expiry;
mod guards;
mod uploads;

fn volume(n: u8) -> VolumeId {
    VolumeId::from_bytes([n; 16])
}

fn blob(n: u8) -> BlobId {
    BlobId::next(None, Timestamp::from_unix_ms((1 << 40) + u64::from(n)), [0; 10])
}

fn key(n: u8) -> Key {
    format!("k{n}").parse().unwrap()
}

fn commit(k: u8, b: u8, replicas: &[u8], condition: WriteCondition) -> Command {
    Command::Commit(Commit {
        key: key(k),
        blob: blob(b),
        size: u64::from(b) + 1,
        digest: Digest::of(&[b]),
        content_type: None,
        metadata: vec![],
        replicas: replicas.iter().map(|v| volume(*v)).collect(),
        wanted: 2,
        min_replicas: 1,
        condition,
    })
}

fn run(db: &sled::Tree, command: &Command) -> Outcome {
    let mut tables = Tables::new(db);
    let outcome = apply(&mut tables, command).unwrap();
    db.apply_batch(tables.into_batch().unwrap()).unwrap();
    outcome
}

fn database() -> sled::Db {
    sled::Config::new().temporary(true).open().unwrap()
}

/// Checks everything that must hold after any command.
fn validate(db: &sled::Tree) {
    let objects: BTreeMap<Vec<u8>, Object> = scan(db, Kind::Object, b"", None).map(Result::unwrap).collect();
    let places = |kind| -> BTreeSet<Vec<u8>> {
        db.scan_prefix([kind as u8]).map(|r| r.unwrap().0[1..].to_vec()).collect()
    };
    let (referenced, reclaiming) = (places(Kind::Replica), places(Kind::Reclaim));
    let mut expected = BTreeSet::new();
    for object in objects.values() {
        for blob in &object.blobs {
            assert_eq!(blob.id, object.generation);
            for v in &blob.replicas {
                expected.insert([&v.as_bytes()[..], &blob.id.as_bytes()[..]].concat());
            }
        }
    }
    assert_eq!(referenced, expected, "the replica index matches the objects");
    assert!(referenced.is_disjoint(&reclaiming), "nothing referenced is ever reclaimed");
    assert!(
        places(Kind::OutgoingTombstone).is_subset(&reclaiming),
        "every tombstone accompanies an entry of the reclaim list"
    );
    let queued: BTreeSet<_> = repair_queue::after(db, None).map(|r| r.unwrap().0).collect();
    let due = objects.values().flat_map(|o| o.blobs.iter().map(|b| (b, usize::from(o.wanted))));
    let due: BTreeSet<_> = due.filter(|(b, wanted)| b.replicas.len() != *wanted).map(|(b, _)| b.id).collect();
    assert_eq!(queued, due, "the repair queue holds exactly the under- and over-replicated blobs");
    for item in repair_queue::pending_replicas(db) {
        let (blob, volume, blob_ref) = item.unwrap();
        let object = &objects[blob_ref.key.as_str().as_bytes()];
        assert_eq!(object.generation, blob, "an unreferenced blob has a pending replica");
        assert!(!object.blobs[0].replicas.contains(&volume));
        let place = [&volume.as_bytes()[..], &blob.as_bytes()[..]].concat();
        assert!(!reclaiming.contains(&place), "a pending replica is on the reclaim list");
    }
    let expiring: BTreeSet<_> =
        tables::expiry::after(db, None).map(|e| e.unwrap()).map(|e| (e.at, e.generation, e.key)).collect();
    let due = objects.iter().filter_map(|(path, object)| {
        let key = std::str::from_utf8(path).unwrap().parse().unwrap();
        object.expiry.at.map(|at| (at, object.generation, key))
    });
    assert_eq!(expiring, due.collect(), "the index has exactly the objects that expire");
    let progress = meta::counters(db).unwrap();
    assert_eq!(progress.objects, objects.len() as u64);
    assert_eq!(progress.bytes, objects.values().map(|o| o.size).sum::<u64>());
    assert_eq!(
        progress.under_replicated,
        objects.values().filter(|o| o.is_under_replicated()).count() as u64
    );
    assert_eq!(progress.reclaim_pending, reclaiming.len() as u64);
}

fn condition() -> impl Strategy<Value = WriteCondition> {
    prop_oneof![
        3 => Just(WriteCondition::None),
        1 => Just(WriteCondition::Absent),
        1 => Just(WriteCondition::AnyPresent),
        1 => (0u8..40).prop_map(|b| WriteCondition::Matches(vec![Digest::of(&[b])])),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let replicas = prop::collection::btree_set(0u8..3, 0..=3).prop_map(Vec::from_iter);
    prop_oneof![
        4 => (0u8..3, 0u8..40, replicas, condition()).prop_map(|(k, b, r, c)| commit(k, b, &r, c)),
        1 => (0u8..3, condition()).prop_map(|(k, condition)| Command::Delete { key: key(k), condition }),
        1 => (0u8..3, prop::collection::vec(0u8..40, 0..10)).prop_map(|(v, b)| Command::Reclaimed {
            volume: volume(v),
            blobs: b.into_iter().map(blob).collect(),
            at: Timestamp::from_unix_ms(7),
        }),
        1 => (0u8..3, prop::collection::vec(0u8..40, 0..10)).prop_map(|(v, b)| Command::ReclaimOrphans {
            volume: volume(v),
            blobs: b.into_iter().map(|b| (blob(b), 1)).collect(),
        }),
        6 => moving(),
        2 => expiry::command(),
    ]
}

/// Commands on replicas, mostly of existing values.
fn moving() -> impl Strategy<Value = Command> {
    let one =
        || (0u8..4, 0u8..3, 0u8..40).prop_map(|(v, k, b)| (volume(v), blob(b), BlobRef::object(&key(k))));
    let keep = prop::collection::vec(0u8..4, 0..3);
    prop_oneof![
        3 => one().prop_map(|(volume, b, blob_ref)| Command::AddPendingReplica { volume, blobs: vec![(b, blob_ref)] }),
        3 => one().prop_map(|(volume, b, blob_ref)| Command::ReplicaAdded { volume, blobs: vec![(b, 1, blob_ref)] }),
        1 => one().prop_map(|(volume, b, _)| Command::CancelPendingReplica { volume, blobs: vec![(b, 1)] }),
        2 => (one(), keep).prop_map(|((volume, blob, blob_ref), keep)| {
            let keep = keep.into_iter().map(self::volume).collect();
            Command::RemoveReplica(crate::state::command::RemoveReplica { volume, blob, blob_ref, keep })
        }),
        1 => one().prop_map(|(volume, b, blob_ref)| Command::ReplicaLost { volume, blobs: vec![(b, blob_ref)] }),
        1 => one().prop_map(|(_, b, blob_ref)| Command::EnqueueRepair { blobs: vec![(b, blob_ref)], last: false }),
    ]
}

/// Redirects a random command on replicas to the current blob of its key.
fn aimed(db: &sled::Tree, command: &Command) -> Command {
    let mut command = command.clone();
    let now = |blob_ref: &BlobRef| object::read(db, &blob_ref.key).unwrap().map(|o| o.generation);
    match &mut command {
        Command::AddPendingReplica { blobs, .. } | Command::ReplicaLost { blobs, .. } => {
            blobs.iter_mut().for_each(|(blob, blob_ref)| *blob = now(blob_ref).unwrap_or(*blob));
        }
        Command::ReplicaAdded { blobs, .. } => {
            blobs.iter_mut().for_each(|(blob, _, blob_ref)| *blob = now(blob_ref).unwrap_or(*blob));
        }
        Command::RemoveReplica(drop) => drop.blob = now(&drop.blob_ref).unwrap_or(drop.blob),
        _ => {}
    }
    command
}

/// The current blob of each key, and its number of replicas.
fn copies(db: &sled::Tree) -> BTreeMap<Key, (BlobId, usize)> {
    let of = |k: u8| {
        object::read(db, &key(k)).unwrap().map(|o| (key(k), (o.generation, o.blobs[0].replicas.len())))
    };
    (0..3).filter_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]
    #[test]
    fn invariants_hold_and_generations_grow(commands in prop::collection::vec(command(), 1..60)) {
        let db = database();
        // A blob id is allocated once, for one key.
        let mut owner = BTreeMap::new();
        let mut present: BTreeMap<Key, BlobId> = BTreeMap::new();
        for command in &commands {
            let committed = match command {
                Command::Commit(c) => Some(c),
                Command::CommitExpiring { commit, .. } => Some(&**commit),
                _ => None,
            };
            if let Some(c) = committed
                && *owner.entry(c.blob).or_insert_with(|| c.key.clone()) != c.key
            {
                continue;
            }
            let before = copies(&db);
            let command = aimed(&db, command);
            run(&db, &command);
            validate(&db);
            for (key, (blob, copies)) in copies(&db) {
                let Some((_, had)) = before.get(&key).filter(|(same, _)| *same == blob) else { continue };
                let fewer = if matches!(command, Command::ReplicaLost { .. }) { 1 } else { (*had).min(2) };
                prop_assert!(copies >= fewer, "{:?} took one of {} copies", command, had);
            }
            for k in 0..3 {
                let now = object::read(&db, &key(k)).unwrap().map(|o| o.generation);
                if let (Some(before), Some(now)) = (present.get(&key(k)), now) {
                    prop_assert!(now >= *before, "a generation went back");
                }
                // A delete in between does not change that.
                present.extend(now.map(|g| (key(k), g)));
            }
        }
    }

    #[test]
    fn one_batch_is_the_same_as_many(commands in prop::collection::vec(command(), 1..30)) {
        let (one, many) = (database(), database());
        let mut tables = Tables::new(&one);
        for c in &commands {
            apply(&mut tables, c).unwrap();
        }
        one.apply_batch(tables.into_batch().unwrap()).unwrap();
        for c in &commands {
            run(&many, c);
        }
        prop_assert_eq!(one.iter().collect::<Vec<_>>(), many.iter().collect::<Vec<_>>());
    }
}

#[test]
fn create_replace_supersede_delete() {
    let db = database();
    let created = |n| Outcome::Commit(CommitOutcome::Created, n);
    assert_eq!(run(&db, &commit(1, 5, &[0, 1], WriteCondition::Absent)), created(2));
    assert_eq!(run(&db, &commit(1, 5, &[0, 1], WriteCondition::Absent)), created(2), "sent again");
    let refused = Outcome::Commit(CommitOutcome::ConditionFailed, 2);
    assert_eq!(run(&db, &commit(1, 6, &[0, 1], WriteCondition::Absent)), refused);
    let replaced = Outcome::Commit(CommitOutcome::Replaced, 1);
    assert_eq!(run(&db, &commit(1, 7, &[2], WriteCondition::None)), replaced);
    // The older one arrives late: acknowledged and ordered before, but not the current value.
    let late = Outcome::Commit(CommitOutcome::Replaced, 2);
    assert_eq!(run(&db, &commit(1, 4, &[0, 1], WriteCondition::None)), late);
    assert_eq!(object::read(&db, &key(1)).unwrap().unwrap().generation, blob(7));
    let delete = Command::Delete { key: key(1), condition: WriteCondition::None };
    assert!(matches!(run(&db, &delete), Outcome::Deleted(_)));
    assert_eq!(run(&db, &delete), Outcome::NotFound);
    // 5, 6 and 4 on volumes 0 and 1, 7 on volume 2.
    assert_eq!(meta::counters(&db).unwrap().reclaim_pending, 7);
    validate(&db);
}

#[test]
fn a_late_commit_does_not_go_behind_a_condition() {
    let db = database();
    let outcome = |c: &Command| match run(&db, c) {
        Outcome::Commit(outcome, _) => outcome,
        other => panic!("{other:?}"),
    };
    let if_first = || WriteCondition::Matches(vec![Digest::of(&[1])]);
    assert_eq!(outcome(&commit(1, 1, &[0], WriteCondition::None)), CommitOutcome::Created);
    assert_eq!(outcome(&commit(1, 5, &[0], if_first())), CommitOutcome::Replaced);
    // Ordered before 5, it would have been the value that 5 replaced; ordered after it, the current value.
    assert_eq!(outcome(&commit(1, 4, &[0], WriteCondition::None)), CommitOutcome::Overtaken);
    assert_eq!(outcome(&commit(1, 7, &[0], WriteCondition::None)), CommitOutcome::Replaced);
    assert_eq!(outcome(&commit(1, 6, &[0], WriteCondition::None)), CommitOutcome::Replaced);
    validate(&db);
    let delete = Command::Delete { key: key(1), condition: WriteCondition::None };
    assert!(matches!(run(&db, &delete), Outcome::Deleted(_)));
    assert_eq!(db.scan_prefix([Kind::Conditional as u8]).count(), 0, "nothing is left of a key");
}

#[test]
fn a_commit_that_comes_again_brings_nothing_back() {
    let db = database();
    run(&db, &commit(1, 1, &[0, 1], WriteCondition::Absent));
    run(&db, &Command::Delete { key: key(1), condition: WriteCondition::None });
    let again = commit(1, 1, &[0, 1], WriteCondition::Absent);
    let refused = Outcome::Commit(CommitOutcome::NotEnoughReceipts, 0);
    assert_eq!(run(&db, &again), refused, "while its bytes wait to be reclaimed");
    for v in 0..2 {
        let at = Timestamp::from_unix_ms(1000);
        run(&db, &Command::Reclaimed { volume: volume(v), blobs: vec![blob(1)], at });
    }
    assert_eq!(run(&db, &again), refused, "when they are gone");
    assert_eq!(object::read(&db, &key(1)).unwrap(), None);
    let tombstones =
        crate::tables::reclaim::expired_replica_tombstones(&db, Timestamp::from_unix_ms(1001), 10).unwrap();
    assert_eq!(tombstones.len(), 2);
    assert_eq!(
        crate::tables::reclaim::expired_replica_tombstones(&db, Timestamp::from_unix_ms(1000), 10).unwrap(),
        vec![]
    );
    run(&db, &Command::PurgeReplicaTombstones { tombstones });
    assert_eq!(db.scan_prefix([Kind::ReplicaTombstone as u8]).count(), 0);
    validate(&db);
}

#[test]
fn a_copy_on_its_way_out_does_not_count() {
    let db = database();
    run(&db, &Command::ReclaimOrphans { volume: volume(0), blobs: vec![(blob(1), 9)] });
    let outcome = run(&db, &commit(1, 1, &[0], WriteCondition::None));
    assert_eq!(outcome, Outcome::Commit(CommitOutcome::NotEnoughReceipts, 0));
    assert_eq!(object::read(&db, &key(1)).unwrap(), None);
    // A referenced record is no orphan, even if the worker took it for one.
    run(&db, &commit(2, 2, &[0], WriteCondition::None));
    run(&db, &Command::ReclaimOrphans { volume: volume(0), blobs: vec![(blob(2), 9)] });
    validate(&db);
}

fn tombstones(db: &sled::Tree) -> Vec<Tombstone> {
    scan(db, Kind::OutgoingTombstone, b"", None).map(|r| r.unwrap().1).collect()
}

#[test]
fn deletes_and_refusals_leave_tombstones_and_nothing_else_does() {
    let db = database();
    run(&db, &commit(1, 1, &[0, 1], WriteCondition::None));
    run(&db, &commit(1, 2, &[0], WriteCondition::None));
    run(&db, &Command::ReclaimOrphans { volume: volume(2), blobs: vec![(blob(9), 9)] });
    assert_eq!(tombstones(&db), vec![]);
    run(&db, &commit(1, 3, &[1], WriteCondition::Absent));
    assert_eq!(tombstones(&db), vec![Tombstone::Refused { blob: blob(3) }]);
    run(&db, &Command::Delete { key: key(1), condition: WriteCondition::None });
    let deleted = Tombstone::Deleted { key: KeyHash::of(&key(1)), generation: blob(2) };
    assert_eq!(tombstones(&db), vec![deleted, Tombstone::Refused { blob: blob(3) }]);
    let at = Timestamp::from_unix_ms(7);
    run(&db, &Command::Reclaimed { volume: volume(0), blobs: vec![blob(1), blob(2)], at });
    assert_eq!(tombstones(&db), vec![Tombstone::Refused { blob: blob(3) }]);
    validate(&db);
}

#[test]
fn a_commit_that_is_older_than_what_was_deleted_is_refused() {
    let db = database();
    run(&db, &commit(1, 5, &[0], WriteCondition::None));
    run(&db, &Command::Delete { key: key(1), condition: WriteCondition::None });
    let (created, overtaken) =
        (Outcome::Commit(CommitOutcome::Created, 1), Outcome::Commit(CommitOutcome::Overtaken, 1));
    assert_eq!(run(&db, &commit(1, 4, &[1], WriteCondition::None)), overtaken);
    assert_eq!(object::read(&db, &key(1)).unwrap(), None);
    assert_eq!(run(&db, &commit(1, 3, &[1], WriteCondition::Absent)), overtaken);
    assert_eq!(run(&db, &commit(1, 6, &[1], WriteCondition::Absent)), created);
    run(&db, &Command::Delete { key: key(1), condition: WriteCondition::None });
    // Purges the tombstone of that generation, not of a later one.
    run(&db, &Command::PurgeKeyTombstones { keys: vec![(KeyHash::of(&key(1)), blob(5))] });
    assert_eq!(tombstone::key_tombstone(&db, KeyHash::of(&key(1))).unwrap(), Some(blob(6)));
    run(&db, &Command::PurgeKeyTombstones { keys: vec![(KeyHash::of(&key(1)), blob(6))] });
    assert_eq!(tombstone::key_tombstone(&db, KeyHash::of(&key(1))).unwrap(), None);
    validate(&db);
}

#[test]
fn one_dead_copy_refuses_the_others() {
    let db = database();
    run(&db, &commit(1, 1, &[0], WriteCondition::None));
    run(&db, &commit(1, 2, &[0], WriteCondition::Absent));
    let refused = Outcome::Commit(CommitOutcome::NotEnoughReceipts, 1);
    assert_eq!(run(&db, &commit(2, 2, &[0, 1], WriteCondition::None)), refused);
    assert_eq!(object::read(&db, &key(2)).unwrap(), None);
    validate(&db);
}

#[test]
fn a_delete_buries_what_a_time_of_which_nothing_is_known_may_have_brought() {
    let db = database();
    run(&db, &commit(1, 1, &[0], WriteCondition::None));
    let mut tables = Tables::new(&db);
    tables.begin_again(blob(5).created()).unwrap();
    db.apply_batch(tables.into_batch().unwrap()).unwrap();
    let end = meta::gap(&db).unwrap().unwrap().end();
    assert!(end > blob(9) && meta::counters(&db).unwrap().last_blob == Some(end));
    run(&db, &Command::Delete { key: key(1), condition: WriteCondition::None });
    let hash = KeyHash::of(&key(1));
    assert_eq!(tombstones(&db), vec![Tombstone::Deleted { key: hash, generation: end }]);
    let overtaken = Outcome::Commit(CommitOutcome::Overtaken, 1);
    assert_eq!(run(&db, &commit(1, 9, &[1], WriteCondition::None)), overtaken, "from that time");
    validate(&db);
}
