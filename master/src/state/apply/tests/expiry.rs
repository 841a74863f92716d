//! Values that expire, by the group's time.

use crate::state::expiry::{ExpiryCondition, ExpiryOrder};
use crate::tables::expiry::Expiring;
use crate::tables::object::Expiry;

use super::*;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(ms)
}

fn expiring(k: u8, b: u8, condition: WriteCondition, expiry: NewExpiry) -> Command {
    let Command::Commit(commit) = commit(k, b, &[0, 1], condition) else { panic!() };
    Command::CommitExpiring { commit: Box::new(commit), expiry }
}

fn set(k: u8, ms: Option<u64>, condition: ExpiryCondition) -> Command {
    Command::SetExpiry { key: key(k), at: ms.map(at), condition, generation: None }
}

fn due(k: u8, b: u8, ms: u64) -> Expiring {
    Expiring { at: at(ms), key: key(k), generation: blob(b) }
}

fn advance(db: &sled::Tree, ms: u64) {
    assert_eq!(run(db, &Command::AdvanceTime { to: at(ms) }), Outcome::Done);
}

fn value(db: &sled::Tree, k: u8) -> Option<Object> {
    object::read(db, &key(k)).unwrap()
}

/// Commands about expiry, of few times, so that many of them have come.
pub fn command() -> impl Strategy<Value = Command> {
    let expiry = prop_oneof![(0u64..20).prop_map(|ms| NewExpiry::At(at(ms))), Just(NewExpiry::Keep)];
    let order = prop_oneof![Just(None), Just(Some(ExpiryOrder::Greater)), Just(Some(ExpiryOrder::Less))];
    let permitted = (prop::option::of(any::<bool>()), order);
    prop_oneof![
        2 => (0u8..3, 0u8..40, condition(), expiry).prop_map(|(k, b, c, e)| expiring(k, b, c, e)),
        2 => (0u8..3, prop::option::of(0u64..20), permitted).prop_map(|(k, ms, (present, order))| {
            set(k, ms, ExpiryCondition { present, order })
        }),
        1 => (0u64..20).prop_map(|ms| Command::AdvanceTime { to: at(ms) }),
        1 => prop::collection::vec((0u8..3, 0u8..40, 0u64..20), 0..6).prop_map(|all| Command::RemoveExpired {
            objects: all.into_iter().map(|(k, b, ms)| due(k, b, ms)).collect(),
        }),
    ]
}

#[test]
fn a_value_is_gone_from_its_time_on_and_before_it_is_removed() {
    let db = database();
    run(&db, &expiring(1, 1, WriteCondition::None, NewExpiry::At(at(10))));
    advance(&db, 9);
    assert_eq!(value(&db, 1).unwrap().expiry, Expiry { at: Some(at(10)), revision: 1 });
    advance(&db, 10);
    assert_eq!(value(&db, 1), None);
    advance(&db, 3);
    assert_eq!(value(&db, 1), None, "time does not run back");
    let delete = Command::Delete { key: key(1), condition: WriteCondition::None };
    assert_eq!(run(&db, &delete), Outcome::NotFound);
    assert_eq!(run(&db, &set(1, Some(99), ExpiryCondition::default())), Outcome::NotFound);
    let tag = Command::Tag { key: key(1), generation: blob(1), tags: vec![] };
    assert_eq!(run(&db, &tag), Outcome::NotFound);
    assert!(object::read_stored(&db, &key(1)).unwrap().is_some(), "its replicas are still referenced");
    let remove = Command::RemoveExpired { objects: vec![due(1, 1, 10), due(2, 1, 10)] };
    assert_eq!(run(&db, &remove), Outcome::Done);
    assert_eq!(object::read_stored(&db, &key(1)).unwrap(), None);
    let there = tombstone::key_tombstone(&db, KeyHash::of(&key(1))).unwrap();
    assert_eq!(there, Some(blob(1)), "an older value does not come back");
    assert_eq!(meta::counters(&db).unwrap().reclaim_pending, 2);
    validate(&db);
}

#[test]
fn an_expired_value_is_absent_for_conditions_and_its_successor_starts_fresh() {
    let db = database();
    run(&db, &expiring(1, 1, WriteCondition::None, NewExpiry::At(at(10))));
    advance(&db, 10);
    let present = run(&db, &commit(1, 2, &[0], WriteCondition::AnyPresent));
    assert_eq!(present, Outcome::Commit(CommitOutcome::ConditionFailed, 1));
    let absent = run(&db, &commit(1, 3, &[0], WriteCondition::Absent));
    assert_eq!(absent, Outcome::Commit(CommitOutcome::Created, 1));
    assert_eq!(value(&db, 1).unwrap().expiry, Expiry::default());
    // What was found expired a moment ago is not removed with its successor.
    run(&db, &Command::RemoveExpired { objects: vec![due(1, 1, 10), due(1, 3, 10)] });
    assert!(value(&db, 1).is_some());
    validate(&db);
}

#[test]
fn a_new_value_keeps_the_expiry_only_if_it_is_told_to() {
    let db = database();
    run(&db, &expiring(1, 1, WriteCondition::None, NewExpiry::At(at(10))));
    run(&db, &expiring(1, 2, WriteCondition::None, NewExpiry::Keep));
    assert_eq!(value(&db, 1).unwrap().expiry.at, Some(at(10)));
    run(&db, &commit(1, 3, &[0], WriteCondition::None));
    assert_eq!(value(&db, 1).unwrap().expiry.at, None);
    run(&db, &expiring(1, 4, WriteCondition::None, NewExpiry::At(at(10))));
    advance(&db, 10);
    run(&db, &expiring(1, 5, WriteCondition::None, NewExpiry::Keep));
    assert_eq!(value(&db, 1).unwrap().expiry.at, None, "it had expired");
    validate(&db);
}

#[test]
fn what_was_kept_is_no_history_for_a_late_commit() {
    let db = database();
    run(&db, &expiring(1, 2, WriteCondition::None, NewExpiry::Keep));
    let late = run(&db, &expiring(1, 1, WriteCondition::None, NewExpiry::At(at(5))));
    assert_eq!(late, Outcome::Commit(CommitOutcome::Overtaken, 2));
    run(&db, &commit(2, 4, &[0], WriteCondition::None));
    let late = run(&db, &expiring(2, 3, WriteCondition::None, NewExpiry::Keep));
    assert_eq!(late, Outcome::Commit(CommitOutcome::Overtaken, 2));
    validate(&db);
}

#[test]
fn an_expiry_is_set_for_the_generation_that_was_read() {
    let db = database();
    run(&db, &commit(1, 1, &[0], WriteCondition::None));
    let set = |generation| Command::SetExpiry {
        key: key(1),
        at: Some(at(10)),
        condition: ExpiryCondition::default(),
        generation: Some(blob(generation)),
    };
    assert_eq!(run(&db, &set(2)), Outcome::ConditionFailed);
    assert_eq!(run(&db, &set(1)), Outcome::Done);
}

#[test]
fn revisions_after_a_restore_are_greater() {
    let db = database();
    run(&db, &commit(1, 1, &[0], WriteCondition::None));
    run(&db, &set(1, Some(1 << 41), ExpiryCondition::default()));
    assert_eq!(value(&db, 1).unwrap().expiry.revision, 1);
    let mut tables = Tables::new(&db);
    tables.begin_again(at(1 << 40)).unwrap();
    db.apply_batch(tables.into_batch().unwrap()).unwrap();
    run(&db, &set(1, Some(1 << 41), ExpiryCondition::default()));
    assert_eq!(value(&db, 1).unwrap().expiry.revision, u32::try_from((1u64 << 40) / 1000).unwrap());
}

#[test]
fn an_expiry_is_changed_where_its_condition_holds() {
    let db = database();
    run(&db, &commit(1, 1, &[0], WriteCondition::None));
    let (some, none) = (Some(true), Some(false));
    let (greater, less) = (Some(ExpiryOrder::Greater), Some(ExpiryOrder::Less));
    // No expiry is the latest.
    for (present, order, to, done) in [
        (some, None, Some(10), false),
        (None, greater, Some(10), false),
        (None, less, Some(10), true),
        (none, None, Some(20), false),
        (None, greater, Some(10), false),
        (some, greater, Some(11), true),
        (None, less, Some(11), false),
        (some, None, None, true),
        (none, None, Some(7), true),
    ] {
        let before = value(&db, 1).unwrap().expiry;
        let outcome = run(&db, &set(1, to, ExpiryCondition { present, order }));
        let after = value(&db, 1).unwrap().expiry;
        let changed = Expiry { at: to.map(at), revision: before.revision + 1 };
        assert_eq!(outcome, if done { Outcome::Done } else { Outcome::ConditionFailed });
        assert_eq!(after, if done { changed } else { before }, "{present:?} {order:?} {to:?}");
        validate(&db);
    }
}
