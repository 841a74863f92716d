//! Tests of the checks that `apply` repeats: a command that was valid when proposed may have become invalid.

use crate::state::command::RemoveReplica;
use crate::tables::admin_state::{AdminState, AdminStateRecord};
use crate::tables::reclaim;
use crate::tables::repair_queue::BlobRef;

use super::*;

fn blob_ref(k: u8) -> BlobRef {
    BlobRef::object(&key(k))
}

fn record(state: AdminState) -> AdminStateRecord {
    AdminStateRecord { state, since: Timestamp::from_unix_ms(1) }
}

#[test]
fn a_late_commit_with_a_condition_is_refused_even_where_the_condition_holds() {
    let db = database();
    run(&db, &commit(1, 1, &[0], WriteCondition::None));
    run(&db, &commit(1, 5, &[0], WriteCondition::None));
    // It holds for the current value, but not for the one before it.
    let now = WriteCondition::Matches(vec![Digest::of(&[5])]);
    let late = run(&db, &commit(1, 4, &[0], now));
    assert_eq!(late, Outcome::Commit(CommitOutcome::Overtaken, 1));
    let there = crate::tables::object::read(&db, &key(1)).unwrap().unwrap();
    assert_eq!(there.digest, Digest::of(&[5]));
    validate(&db);
}

#[test]
fn a_volume_leaves_only_when_nothing_refers_to_it() {
    let db = database();
    let state = |state| run(&db, &Command::SetAdminState { volume: volume(0), admin_state: record(state) });
    run(&db, &commit(1, 1, &[0, 1], WriteCondition::None));
    assert_eq!(state(AdminState::Decommissioned), Outcome::LastReplicas, "no decommission was requested");
    assert_eq!(state(AdminState::Decommissioning), Outcome::Done);
    assert_eq!(state(AdminState::Decommissioned), Outcome::LastReplicas, "it holds a replica");
    // Its replica moves away; then another one is pending on it.
    let blobs = vec![(blob(1), blob_ref(1))];
    run(&db, &Command::AddPendingReplica { volume: volume(2), blobs });
    run(&db, &Command::ReplicaAdded { volume: volume(2), blobs: vec![(blob(1), 2, blob_ref(1))] });
    let keep = vec![volume(1), volume(2)];
    let drop = RemoveReplica { volume: volume(0), blob: blob(1), blob_ref: blob_ref(1), keep };
    assert_eq!(run(&db, &Command::RemoveReplica(drop)), Outcome::Done);
    run(&db, &commit(2, 2, &[1], WriteCondition::None));
    run(&db, &Command::AddPendingReplica { volume: volume(0), blobs: vec![(blob(2), blob_ref(2))] });
    assert_eq!(state(AdminState::Decommissioned), Outcome::LastReplicas, "it has a pending replica");
    run(&db, &Command::CancelPendingReplica { volume: volume(0), blobs: vec![(blob(2), 3)] });
    assert_eq!(state(AdminState::Decommissioned), Outcome::Done);
    validate(&db);
}

#[test]
fn the_last_copies_stay() {
    let db = database();
    run(&db, &commit(1, 1, &[0, 1, 2], WriteCondition::None));
    let drop = |from: u8, keep: &[u8]| {
        let keep = keep.iter().map(|v| volume(*v)).collect();
        run(
            &db,
            &Command::RemoveReplica(RemoveReplica {
                volume: volume(from),
                blob: blob(1),
                blob_ref: blob_ref(1),
                keep,
            }),
        )
    };
    assert_eq!(drop(0, &[1]), Outcome::LastReplicas, "one is kept, but two are wanted");
    assert_eq!(drop(0, &[1, 1]), Outcome::LastReplicas, "the same one twice");
    assert_eq!(drop(0, &[1, 3]), Outcome::LastReplicas, "one holds no replica");
    assert_eq!(drop(0, &[0, 1]), Outcome::LastReplicas, "one is the replica to remove");
    assert_eq!(drop(0, &[1, 2]), Outcome::Done);
    validate(&db);
}

#[test]
fn what_a_commit_named_meanwhile_is_no_orphan() {
    let db = database();
    let orphaned = Command::ReclaimOrphans { volume: volume(0), blobs: vec![(blob(1), 2), (blob(2), 3)] };
    // Both were unreferenced when read; since then one was committed, and one has become a pending replica.
    run(&db, &commit(1, 1, &[0, 1], WriteCondition::None));
    run(&db, &commit(2, 2, &[1], WriteCondition::None));
    run(&db, &Command::AddPendingReplica { volume: volume(0), blobs: vec![(blob(2), blob_ref(2))] });
    run(&db, &orphaned);
    assert_eq!(meta::counters(&db).unwrap().reclaim_pending, 0);
    validate(&db);
    run(&db, &Command::ReclaimOrphans { volume: volume(0), blobs: vec![(blob(9), 1)] });
    assert_eq!(meta::counters(&db).unwrap().reclaim_pending, 1);
}

#[test]
fn no_copy_is_expected_where_it_may_be_deleted_once_more() {
    let db = database();
    let pending = || repair_queue::pending_replicas(&db).map(|item| item.unwrap().1).collect::<Vec<_>>();
    let expect =
        |n| run(&db, &Command::AddPendingReplica { volume: volume(n), blobs: vec![(blob(1), blob_ref(1))] });
    run(&db, &commit(1, 1, &[0, 1, 2], WriteCondition::None));
    expect(0);
    assert_eq!(pending(), [], "it already has a replica");
    let keep = vec![volume(0), volume(1)];
    run(
        &db,
        &Command::RemoveReplica(RemoveReplica {
            volume: volume(2),
            blob: blob(1),
            blob_ref: blob_ref(1),
            keep,
        }),
    );
    expect(2);
    assert_eq!(pending(), [], "its replica is on the reclaim list");
    let at = Timestamp::from_unix_ms(1000);
    run(&db, &Command::Reclaimed { volume: volume(2), blobs: vec![blob(1)], at });
    expect(2);
    assert_eq!(pending(), [], "its replica was just deleted, and the delete may be repeated");
    for state in [AdminState::Decommissioning, AdminState::Decommissioned] {
        assert_eq!(
            run(&db, &Command::SetAdminState { volume: volume(3), admin_state: record(state) }),
            Outcome::Done
        );
    }
    expect(3);
    assert_eq!(pending(), [], "it is decommissioned");
    let tombstones = reclaim::expired_replica_tombstones(&db, Timestamp::from_unix_ms(1001), 10).unwrap();
    run(&db, &Command::PurgeReplicaTombstones { tombstones });
    expect(2);
    assert_eq!(pending(), [volume(2)]);
    validate(&db);
}
