//! Checks that `apply` repeats: a command was checked when it was proposed, and may have become wrong since.

use crate::state::command::Drop;
use crate::tables::reclaim;
use crate::tables::standing::{Duty, Standing};

use super::*;

fn spot(k: u8) -> Spot {
    Spot::object(&key(k))
}

fn standing(duty: Duty) -> Standing {
    Standing { duty, since: Timestamp::from_unix_ms(1) }
}

#[test]
fn a_late_commit_with_a_condition_is_refused_even_where_the_condition_holds() {
    let db = database();
    run(&db, &commit(1, 1, &[0], WriteCondition::None));
    run(&db, &commit(1, 5, &[0], WriteCondition::None));
    // Of the value that is there now; before it stood another one, for which it would not have held.
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
    let duty = |duty| run(&db, &Command::SetDuty { volume: volume(0), standing: standing(duty) });
    run(&db, &commit(1, 1, &[0, 1], WriteCondition::None));
    assert_eq!(duty(Duty::Gone), Outcome::LastCopies, "nobody has asked for it");
    assert_eq!(duty(Duty::Leave), Outcome::Done);
    assert_eq!(duty(Duty::Gone), Outcome::LastCopies, "it holds a copy");
    // It goes elsewhere; now one is on its way to the volume all the same.
    let blobs = vec![(blob(1), spot(1))];
    run(&db, &Command::Expect { volume: volume(2), blobs });
    run(&db, &Command::Arrived { volume: volume(2), blobs: vec![(blob(1), 2, spot(1))] });
    let keep = vec![volume(1), volume(2)];
    let drop = Drop { volume: volume(0), blob: blob(1), spot: spot(1), keep };
    assert_eq!(run(&db, &Command::Drop(drop)), Outcome::Done);
    run(&db, &commit(2, 2, &[1], WriteCondition::None));
    run(&db, &Command::Expect { volume: volume(0), blobs: vec![(blob(2), spot(2))] });
    assert_eq!(duty(Duty::Gone), Outcome::LastCopies, "a copy is on its way to it");
    run(&db, &Command::Forgo { volume: volume(0), blobs: vec![(blob(2), 3)] });
    assert_eq!(duty(Duty::Gone), Outcome::Done);
    validate(&db);
}

#[test]
fn the_last_copies_stay() {
    let db = database();
    run(&db, &commit(1, 1, &[0, 1, 2], WriteCondition::None));
    let drop = |from: u8, keep: &[u8]| {
        let keep = keep.iter().map(|v| volume(*v)).collect();
        run(&db, &Command::Drop(Drop { volume: volume(from), blob: blob(1), spot: spot(1), keep }))
    };
    assert_eq!(drop(0, &[1]), Outcome::LastCopies, "one that said yes, and two are wanted");
    assert_eq!(drop(0, &[1, 1]), Outcome::LastCopies, "one said it twice");
    assert_eq!(drop(0, &[1, 3]), Outcome::LastCopies, "one that has none");
    assert_eq!(drop(0, &[0, 1]), Outcome::LastCopies, "the one that is to go");
    assert_eq!(drop(0, &[1, 2]), Outcome::Done);
    validate(&db);
}

#[test]
fn what_a_commit_named_meanwhile_is_no_orphan() {
    let db = database();
    let orphaned = Command::Orphaned { volume: volume(0), blobs: vec![(blob(1), 2), (blob(2), 3)] };
    // Both were seen without a name; since then one was committed, and one is on its way.
    run(&db, &commit(1, 1, &[0, 1], WriteCondition::None));
    run(&db, &commit(2, 2, &[1], WriteCondition::None));
    run(&db, &Command::Expect { volume: volume(0), blobs: vec![(blob(2), spot(2))] });
    run(&db, &orphaned);
    assert_eq!(meta::progress(&db).unwrap().reclaim_pending, 0);
    validate(&db);
    run(&db, &Command::Orphaned { volume: volume(0), blobs: vec![(blob(9), 1)] });
    assert_eq!(meta::progress(&db).unwrap().reclaim_pending, 1);
}

#[test]
fn no_copy_is_expected_where_it_may_be_deleted_once_more() {
    let db = database();
    let arriving = || unsettled::arriving(&db).map(|item| item.unwrap().1).collect::<Vec<_>>();
    let expect = |n| run(&db, &Command::Expect { volume: volume(n), blobs: vec![(blob(1), spot(1))] });
    run(&db, &commit(1, 1, &[0, 1, 2], WriteCondition::None));
    expect(0);
    assert_eq!(arriving(), [], "it has one");
    let keep = vec![volume(0), volume(1)];
    run(&db, &Command::Drop(Drop { volume: volume(2), blob: blob(1), spot: spot(1), keep }));
    expect(2);
    assert_eq!(arriving(), [], "its copy is on the reclaim list");
    let at = Timestamp::from_unix_ms(1000);
    run(&db, &Command::Reclaimed { volume: volume(2), blobs: vec![blob(1)], at });
    expect(2);
    assert_eq!(arriving(), [], "its copy was deleted a moment ago, and the call may come again");
    for duty in [Duty::Leave, Duty::Gone] {
        assert_eq!(
            run(&db, &Command::SetDuty { volume: volume(3), standing: standing(duty) }),
            Outcome::Done
        );
    }
    expect(3);
    assert_eq!(arriving(), [], "it has left");
    let graves = reclaim::graves(&db, Timestamp::from_unix_ms(1001), 10).unwrap();
    run(&db, &Command::Purge { graves });
    expect(2);
    assert_eq!(arriving(), [volume(2)]);
    validate(&db);
}
