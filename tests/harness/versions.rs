//! A quick check of a key's history by the generations that its answers named. It finds less than `linear`, on
//! histories of any length, and says plainly what is wrong.
//!
//! Generations grow with time, with one exception: a write that started before a delete may take effect after it.

use std::collections::HashMap;

use shared::ids::BlobId;

use crate::history::{Call, Operation, Outcome, ValueId};

/// Checks a history for contradictions.
///
/// # Errors
/// The operations that contradict each other.
pub fn check(operations: &[Operation]) -> Result<(), String> {
    one_value_each(operations)?;
    let mut by_start: Vec<&Operation> = operations.iter().filter(|o| observes(o)).collect();
    let mut by_end = by_start.clone();
    by_start.sort_by_key(|o| o.invoked);
    by_end.sort_by_key(|o| o.returned);
    let deletes: Vec<&Operation> = operations.iter().filter(|o| o.call == Call::Delete).collect();
    let mut ended = by_end.into_iter().peekable();
    let mut newest: Option<&Operation> = None;
    for operation in by_start {
        while let Some(before) = ended.next_if(|o| o.precedes(operation)) {
            if before.generation > newest.and_then(|o| o.generation) {
                newest = Some(before);
            }
        }
        let Some(before) = newest else { continue };
        let writes = operation.call != Call::Read;
        let older = if writes {
            operation.generation <= before.generation
        } else {
            operation.generation < before.generation
        };
        let between = |d: &&Operation| {
            d.outcome != Outcome::Refused && d.invoked < operation.returned && d.returned > before.invoked
        };
        if older && (writes || !deletes.iter().any(between)) {
            return Err(format!("an older generation after a newer one:\n{before}\n{operation}"));
        }
    }
    Ok(())
}

/// The operations that say something about generations: acknowledged writes, and reads. A read that finds nothing has
/// none, which sorts before all.
fn observes(operation: &Operation) -> bool {
    match operation.outcome {
        Outcome::Saw(value) => value.is_none() || operation.generation.is_some(),
        Outcome::Done => operation.call != Call::Delete && operation.generation.is_some(),
        Outcome::Refused | Outcome::Unknown => false,
    }
}

/// A generation has one value, and none before its write started.
fn one_value_each(operations: &[Operation]) -> Result<(), String> {
    let mut values: HashMap<BlobId, (ValueId, &Operation)> = HashMap::new();
    let begun: HashMap<ValueId, &Operation> =
        operations.iter().filter_map(|o| Some((o.call.brings()?, o))).collect();
    for operation in operations {
        let value = match (operation.call, operation.outcome) {
            (_, Outcome::Saw(Some(value))) => value,
            (call, Outcome::Done) if call.brings().is_some() => call.brings().expect("it was asked"),
            _ => continue,
        };
        match begun.get(&value) {
            None => return Err(format!("a value that was never written:\n{operation}")),
            Some(write) if operation.precedes(write) => {
                return Err(format!("a value seen before it was written:\n{operation}\n{write}"));
            }
            Some(_) => {}
        }
        let Some(generation) = operation.generation else { continue };
        let (known, first) = *values.entry(generation).or_insert((value, operation));
        if known != value {
            return Err(format!("two values of one generation:\n{first}\n{operation}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::NEVER;
    use shared::clock::Timestamp;

    fn generation(n: u8) -> Option<BlobId> {
        (n > 0).then(|| BlobId::next(None, Timestamp::from_unix_ms(1000 + u64::from(n)), [0; 10]))
    }

    fn op(invoked: u64, returned: u64, call: Call, outcome: Outcome, made: u8) -> Operation {
        let generation = generation(made);
        Operation { client: 0, call, outcome, invoked, returned, generation, via: String::new() }
    }

    fn put(from: u64, to: u64, n: u8) -> Operation {
        op(from, to, Call::Put(n.into()), Outcome::Done, n)
    }

    fn read(from: u64, to: u64, n: u8) -> Operation {
        op(from, to, Call::Read, Outcome::Saw((n > 0).then_some(n.into())), n)
    }

    fn delete(from: u64, to: u64) -> Operation {
        op(from, to, Call::Delete, Outcome::Done, 0)
    }

    #[test]
    fn good_ones_pass() {
        let lost = op(0, NEVER, Call::Put(9), Outcome::Unknown, 0);
        for history in [
            vec![read(0, 1, 0), put(2, 3, 1), read(4, 5, 1), put(6, 7, 2), read(8, 9, 2)],
            vec![put(0, 1, 1), put(2, 9, 2), read(3, 4, 1), read(5, 6, 2)],
            vec![put(0, 1, 1), delete(2, 3), read(4, 5, 0), put(6, 7, 2)],
            vec![put(0, 9, 1), put(0, 2, 2), delete(3, 4), read(10, 11, 1)],
            vec![lost, put(1, 2, 1), read(3, 4, 9)],
        ] {
            assert_eq!(check(&history), Ok(()));
        }
    }

    #[test]
    fn bad_ones_are_caught() {
        let other_value = op(4, 5, Call::Read, Outcome::Saw(Some(2)), 1);
        for (why, history) in [
            ("older", vec![put(0, 1, 1), put(2, 3, 2), read(4, 5, 1)]),
            ("older", vec![put(0, 1, 1), put(2, 9, 2), read(3, 4, 2), read(5, 6, 1)]),
            ("older", vec![put(0, 1, 2), put(2, 3, 1)]),
            ("older", vec![put(0, 1, 1), read(2, 3, 0)]),
            ("older", vec![put(0, 1, 1), delete(0, 1), put(2, 3, 2), read(4, 5, 0)]),
            ("two values", vec![put(0, 1, 1), put(2, 3, 2), other_value]),
            ("never written", vec![put(0, 1, 1), read(2, 3, 3)]),
            ("before", vec![read(0, 1, 1), put(2, 3, 1)]),
        ] {
            let found = check(&history).expect_err(why);
            assert!(found.contains(why), "{why}: {found}");
        }
    }
}
