//! One wrong answer for each check, and each of them caught: a check that has never failed is not known to work.

use super::*;

fn a() -> Change {
    Change::put(b"first value")
}

fn b() -> Change {
    Change::put(b"second value")
}

fn sees(oracle: &Oracle, seen: Change) -> Result<(), Violation> {
    oracle.check("k", oracle.moment(), &seen)
}

#[test]
fn an_acknowledged_value_stays() {
    let oracle = Oracle::default();
    oracle.intend("k", a()).ok();
    assert_eq!(sees(&oracle, a()), Ok(()));
    assert!(sees(&oracle, Change::Delete).unwrap_err().0.contains("gone"));
    assert!(sees(&oracle, b()).unwrap_err().0.contains("never written"));
}

#[test]
fn part_of_a_value_and_other_bytes_of_its_length_are_caught() {
    let oracle = Oracle::default();
    oracle.intend("k", a()).ok();
    assert!(sees(&oracle, Change::put(b"first val")).is_err());
    assert!(sees(&oracle, Change::put(b"first valuE")).is_err());
    assert!(sees(&oracle, Change::put(b"")).is_err());
}

#[test]
fn a_deleted_value_stays_deleted() {
    let oracle = Oracle::default();
    oracle.intend("k", a()).ok();
    oracle.intend("k", Change::Delete).ok();
    assert_eq!(sees(&oracle, Change::Delete), Ok(()));
    assert!(sees(&oracle, a()).unwrap_err().0.contains("stale"));
}

#[test]
fn an_overwritten_value_does_not_come_back() {
    let oracle = Oracle::default();
    oracle.intend("k", a()).ok();
    oracle.intend("k", b()).ok();
    assert_eq!(sees(&oracle, b()), Ok(()));
    assert!(sees(&oracle, a()).is_err());
}

#[test]
fn an_unknown_change_may_have_happened_or_not() {
    let oracle = Oracle::default();
    oracle.intend("k", a()).ok();
    oracle.intend("k", b()).unknown();
    assert_eq!([a(), b()].map(|c| sees(&oracle, c)), [Ok(()), Ok(())]);
    assert!(sees(&oracle, Change::Delete).is_err());
    drop(oracle.intend("k", Change::Delete));
    assert_eq!(sees(&oracle, Change::Delete), Ok(()));
    oracle.intend("k", a()).ok();
    assert!(sees(&oracle, b()).is_err());
}

#[test]
fn an_unknown_put_may_happen_after_a_delete_but_not_after_a_put() {
    let oracle = Oracle::default();
    oracle.intend("k", a()).unknown();
    oracle.intend("k", Change::Delete).ok();
    assert_eq!(sees(&oracle, a()), Ok(()));
    oracle.intend("k", b()).ok();
    oracle.intend("k", Change::Delete).ok();
    assert!(sees(&oracle, a()).is_err() && sees(&oracle, b()).is_err());
}

#[test]
fn a_refused_change_never_happens() {
    let oracle = Oracle::default();
    oracle.intend("k", a()).ok();
    oracle.intend("k", b()).refused();
    assert!(sees(&oracle, b()).is_err());
    oracle.intend("k", Change::Delete).refused();
    assert!(sees(&oracle, Change::Delete).is_err());
}

#[test]
fn a_read_may_see_what_changed_while_it_ran_and_nothing_older() {
    let oracle = Oracle::default();
    let empty = oracle.moment();
    oracle.intend("k", a()).ok();
    let began = oracle.moment();
    let writing = oracle.intend("k", b());
    for seen in [a(), b()] {
        assert_eq!(oracle.check("k", began, &seen), Ok(()));
    }
    assert!(oracle.check("k", began, &Change::Delete).is_err());
    assert_eq!(oracle.check("k", empty, &Change::Delete), Ok(()));
    writing.ok();
    assert_eq!(oracle.check("k", began, &a()), Ok(()));
    assert!(sees(&oracle, a()).is_err());
}

#[test]
fn keys_are_apart() {
    let oracle = Oracle::default();
    oracle.intend("other", b()).ok();
    oracle.intend("k", a()).ok();
    assert!(sees(&oracle, b()).unwrap_err().0.contains("never written"));
    assert_eq!(oracle.keys(), ["k", "other"]);
}

#[test]
fn a_delete_that_finds_nothing_excuses_no_loss() {
    let oracle = Oracle::default();
    oracle.intend("k", a()).ok();
    let since = oracle.moment();
    oracle.intend("k", Change::Delete).refused();
    assert!(oracle.check("k", since, &Change::Delete).unwrap_err().0.contains("gone"));
}
