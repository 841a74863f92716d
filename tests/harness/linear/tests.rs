//! Tests of the checker itself: handmade histories, valid and invalid.

use super::*;
use crate::Dice;

/// Returns an operation from `invoked` to `returned`.
fn op(invoked: u64, returned: u64, call: Call, outcome: Outcome) -> Operation {
    Operation { client: 0, call, outcome, invoked, returned, generation: None, via: String::new() }
}

fn put(from: u64, to: u64, value: ValueId) -> Operation {
    op(from, to, Call::Put(value), Outcome::Done)
}

fn lost(from: u64, call: Call) -> Operation {
    op(from, NEVER, call, Outcome::Unknown)
}

fn read(from: u64, to: u64, value: ValueId) -> Operation {
    op(from, to, Call::Read, Outcome::Saw(Some(value)))
}

fn absent(from: u64, to: u64) -> Operation {
    op(from, to, Call::Read, Outcome::Saw(None))
}

fn swap(from: u64, to: u64, expected: ValueId, value: ValueId, outcome: Outcome) -> Operation {
    op(from, to, Call::PutIfMatch { expected, value }, outcome)
}

fn delete(from: u64, to: u64, outcome: Outcome) -> Operation {
    op(from, to, Call::Delete, outcome)
}

fn good(name: &str, operations: &[Operation]) {
    assert_eq!(judge(operations), Verdict::Linearizable, "{name}");
}

fn bad(name: &str, operations: &[Operation]) -> Vec<Operation> {
    match judge(operations) {
        Verdict::Violation(why) => why,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn good_histories_pass() {
    use Outcome::{Done, Refused};
    good("nothing", &[]);
    good(
        "one after the other",
        &[absent(0, 1), put(2, 3, 1), read(4, 5, 1), delete(6, 7, Done), absent(8, 9)],
    );
    good("overlapping writes, either order", &[put(0, 10, 1), put(0, 10, 2), read(11, 12, 1)]);
    good("overlapping writes, either order", &[put(0, 10, 1), put(0, 10, 2), read(11, 12, 2)]);
    good("a read beside a write sees either", &[put(0, 1, 1), put(2, 9, 2), read(3, 4, 2), read(5, 6, 2)]);
    good("a read beside a write sees either", &[put(0, 1, 1), put(2, 9, 2), read(3, 4, 1), read(5, 6, 2)]);
    good(
        "an unknown write that happens late",
        &[put(0, 1, 1), lost(2, Call::Put(2)), read(3, 4, 1), read(90, 91, 2)],
    );
    good("an unknown write that never happens", &[put(0, 1, 1), lost(2, Call::Put(2)), read(90, 91, 1)]);
    good(
        "an unknown delete that happens late",
        &[put(0, 1, 1), lost(2, Call::Delete), read(3, 4, 1), absent(90, 91)],
    );
    good(
        "an unknown swap",
        &[put(0, 1, 1), lost(2, Call::PutIfMatch { expected: 1, value: 2 }), read(3, 4, 2)],
    );
    let chain = [put(0, 1, 1), swap(2, 8, 1, 2, Done), swap(2, 8, 2, 3, Done), read(9, 10, 3)];
    good("swaps that need an order", &chain);
    good(
        "a swap that came too late",
        &[put(0, 1, 1), put(2, 3, 2), swap(4, 5, 1, 3, Refused), read(6, 7, 2)],
    );
    good(
        "a delete of nothing",
        &[delete(0, 1, Refused), put(2, 3, 1), delete(4, 5, Done), delete(6, 7, Refused)],
    );
}

#[test]
fn a_stale_read_is_caught() {
    let why = bad("stale", &[put(0, 1, 1), put(2, 3, 2), read(4, 5, 2), read(6, 7, 1), put(8, 9, 3)]);
    assert_eq!(why, [put(0, 1, 1), put(2, 3, 2), read(6, 7, 1)], "no more is shown than is needed");
    bad("two readers, one behind", &[put(0, 1, 1), put(2, 20, 2), read(3, 4, 2), read(5, 6, 1)]);
    bad("an acknowledged first write", &[put(0, 1, 1), absent(2, 3)]);
    bad("a value before it was written", &[read(0, 1, 1), put(2, 3, 1)]);
    bad("a value that was never written", &[put(0, 1, 1), read(2, 3, 9)]);
}

#[test]
fn a_lost_update_is_caught() {
    use Outcome::Done;
    let both = [put(0, 1, 1), swap(2, 9, 1, 2, Done), swap(2, 9, 1, 3, Done)];
    bad("two swaps of one value", &both);
    bad("a swap that left no trace", &[put(0, 1, 1), swap(2, 3, 1, 2, Done), read(4, 5, 1)]);
    bad("a swap of a replaced value", &[put(0, 1, 1), put(2, 3, 2), swap(4, 5, 1, 3, Done)]);
    bad("refused for nothing", &[put(0, 1, 1), swap(2, 3, 1, 2, Outcome::Refused)]);
}

#[test]
fn a_resurrected_value_is_caught() {
    use Outcome::{Done, Refused};
    bad("deleted and back", &[put(0, 1, 1), delete(2, 3, Done), read(4, 5, 1)]);
    let beside = [put(0, 1, 1), lost(0, Call::Put(2)), delete(2, 3, Done), read(4, 5, 1)];
    bad("deleted and back, whatever else is in progress", &beside);
    good("an unknown write after a delete", &[lost(0, Call::Put(2)), delete(2, 3, Refused), read(4, 5, 2)]);
    bad("deleted twice", &[put(0, 1, 1), delete(2, 3, Done), delete(4, 5, Done)]);
    bad("nothing to delete", &[put(0, 1, 1), delete(2, 3, Refused)]);
}

#[test]
fn what_was_deleted_is_known_by_its_generation() {
    let generation = |n: u8| Some(BlobId::next(None, shared::clock::Timestamp::from_unix_ms(1), [n; 10]));
    let named = |o: Operation, n| Operation { generation: generation(n), ..o };
    let writes = [named(put(0, 1, 1), 1), named(put(2, 9, 2), 2)];
    let history =
        |deleted| [&writes[..], &[named(delete(3, 4, Outcome::Done), deleted), read(10, 11, 2)]].concat();
    good("the first", &history(1));
    bad("the second, which is still there", &history(2));
}

#[test]
fn two_winners_of_one_place_are_caught() {
    use Outcome::{Done, Refused};
    let create = |from, to, v, outcome| op(from, to, Call::PutIfAbsent(v), outcome);
    bad("two winners", &[create(0, 9, 1, Done), create(0, 9, 2, Done)]);
    good("one winner", &[create(0, 9, 1, Done), create(0, 9, 2, Refused)]);
    good("one after a delete", &[create(0, 9, 1, Done), delete(0, 9, Done), create(0, 9, 2, Done)]);
    bad("no winner", &[create(0, 9, 1, Refused), create(0, 9, 2, Refused)]);
    good("an unknown winner", &[lost(0, Call::PutIfAbsent(3)), create(0, 9, 1, Refused), read(10, 11, 3)]);
}

/// Many unknown writes of one key and eight clients at once: more than a run has.
#[test]
fn hard_histories_are_decided() {
    let mut dice = Dice::new(7);
    for round in 0..20 {
        let mut operations = simulated(&mut dice, 300, 8);
        good(&format!("round {round}"), &operations);
        // A read that sees a value replaced long ago.
        let reads: Vec<_> =
            (200..300).filter(|n| matches!(operations[*n].outcome, Outcome::Saw(_))).collect();
        let old = operations[..20].iter().find(|o| o.outcome == Outcome::Done).and_then(|o| o.call.brings());
        if let (Some(read), Some(old)) = (reads.last(), old) {
            operations[*read].outcome = Outcome::Saw(Some(old));
            bad(&format!("round {round}"), &operations);
        }
    }
}

/// A history of a correct register, `clients` at a time; some answers get lost.
fn simulated(dice: &mut Dice, count: u64, clients: u64) -> Vec<Operation> {
    let mut state = None;
    let mut operations = Vec::new();
    for n in 1..=count {
        let at = n * 100;
        let (from, to) = (at - dice.below(100 * clients / 2).min(at), at + dice.below(100 * clients / 2));
        let call = match dice.below(10) {
            0..2 => Call::Put(n),
            2 => Call::PutIfAbsent(n),
            3..5 => Call::PutIfMatch { expected: state.unwrap_or(n), value: n },
            5 => Call::Delete,
            _ => Call::Read,
        };
        let holds = match call {
            Call::Put(_) => true,
            Call::PutIfAbsent(_) => state.is_none(),
            Call::PutIfMatch { expected, .. } => state == Some(expected),
            Call::Delete => state.is_some(),
            Call::Read => false,
        };
        let outcome = match call {
            Call::Read => Outcome::Saw(state),
            _ if holds => Outcome::Done,
            _ => Outcome::Refused,
        };
        if holds {
            state = call.brings();
        }
        let unknown = call != Call::Read && dice.once_in(20);
        operations.push(if unknown { lost(from, call) } else { op(from, to, call, outcome) });
    }
    operations
}
