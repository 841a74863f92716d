//! Decides whether the history of a key is linearizable: whether all its operations can have happened one after the
//! other, each at a moment between its start and its end.
//!
//! Wing and Gong's search with Lowe's memoization, in order of time: a candidate is a state of the key plus the
//! operations in progress that have taken effect in it. An operation whose outcome is unknown stays in progress
//! forever and need not happen. Of two candidates that differ only in such operations, the one that used fewer of
//! them is enough.

use std::collections::{HashMap, VecDeque};

use shared::ids::BlobId;

use crate::history::{self, Call, NEVER, Operation, Outcome, ValueId};

/// Candidates at one moment; a history with more is too hard.
const CANDIDATES_MAX: usize = 100_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An order exists.
    Linearizable,
    /// No order exists: these operations show why, and the last of them does not fit.
    Violation(Vec<Operation>),
    /// Too many orders are possible.
    Undecided,
}

/// Judges the operations on one key, which starts without a value.
pub fn judge(operations: &[Operation]) -> Verdict {
    let Some(last) = (match search(operations) {
        Found::Order => return Verdict::Linearizable,
        Found::TooMany => return Verdict::Undecided,
        Found::NoPlaceFor(place) => operations.get(place),
    }) else {
        return Verdict::Undecided;
    };
    // Later operations say nothing; of those without an effect only the decisive ones are shown.
    let mut kept: Vec<Operation> =
        operations.iter().filter(|o| o.invoked <= last.returned).cloned().collect();
    kept.sort_by_key(|o| o.invoked);
    let mut step = kept.len();
    while step > 0 {
        let mut place = 0;
        while place < kept.len() {
            let within = |n: &usize| (place..place + step).contains(n);
            let fewer: Vec<Operation> = kept
                .iter()
                .enumerate()
                .filter(|(n, o)| !(within(n) && o.is_harmless() && *o != last))
                .map(|(_, o)| o.clone())
                .collect();
            if fewer.len() < kept.len() && matches!(search(&fewer), Found::NoPlaceFor(_)) {
                kept = fewer;
            } else {
                place += step;
            }
        }
        step /= 2;
    }
    Verdict::Violation(kept)
}

enum Found {
    Order,
    NoPlaceFor(usize),
    TooMany,
}

/// A state of the key and the operations in progress that have taken effect, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Candidate {
    state: Option<ValueId>,
    done: u128,
}

/// Candidates, without those that used more unknown operations than another one for the same result.
#[derive(Default)]
struct Best {
    unknown: u128,
    seen: HashMap<Candidate, Vec<u128>>,
    count: usize,
}

impl Best {
    fn admits(&mut self, candidate: Candidate) -> bool {
        let used = candidate.done & self.unknown;
        let others =
            self.seen.entry(Candidate { done: candidate.done & !self.unknown, ..candidate }).or_default();
        if others.iter().any(|other| other & used == *other) {
            return false;
        }
        others.retain(|other| used & other != used);
        others.push(used);
        self.count += 1;
        true
    }
}

/// The operations in progress, one bit each.
struct UnderWay<'o> {
    operations: &'o [Operation],
    values: HashMap<BlobId, ValueId>,
    slots: [Option<usize>; 128],
    unknown: u128,
}

impl UnderWay<'_> {
    /// Returns the state after an operation, or `None` if it cannot happen in this state.
    fn step(&self, state: Option<ValueId>, operation: &Operation) -> Option<Option<ValueId>> {
        let Operation { call, outcome, .. } = operation;
        let holds = match *call {
            Call::Put(_) => true,
            Call::PutIfAbsent(_) => state.is_none(),
            Call::PutIfMatch { expected, .. } => state == Some(expected),
            Call::Delete => match operation.generation.and_then(|g| self.values.get(&g)) {
                Some(deleted) => state == Some(*deleted),
                None => state.is_some(),
            },
            Call::Read => false,
        };
        match *outcome {
            Outcome::Saw(seen) => (seen == state).then_some(state),
            Outcome::Refused => (!holds).then_some(state),
            Outcome::Done => holds.then_some(call.brings()),
            Outcome::Unknown => Some(if holds { call.brings() } else { state }),
        }
    }

    fn others(&self, done: u128) -> impl Iterator<Item = (u128, &Operation)> {
        let bits = (0..128).map(|n| 1u128 << n);
        let slots = bits.zip(&self.slots).filter(move |(bit, _)| done & bit == 0);
        slots.filter_map(|(bit, slot)| Some((bit, &self.operations[(*slot)?])))
    }

    /// An operation that fits and changes nothing happens now: later would be no better.
    fn settle(&self, mut candidate: Candidate) -> Candidate {
        for (bit, operation) in self.others(candidate.done) {
            if operation.is_harmless() && self.step(candidate.state, operation).is_some() {
                candidate.done |= bit;
            }
        }
        candidate
    }

    /// Returns all candidates in which the operation at `bit` has taken effect.
    fn with(&self, bit: u128, candidates: Vec<Candidate>) -> Option<Vec<Candidate>> {
        let best = || Best { unknown: self.unknown, ..Best::default() };
        let (mut tried, mut ended) = (best(), best());
        let (mut work, mut found) = (VecDeque::from(candidates), Vec::new());
        while let Some(candidate) = work.pop_front() {
            let candidate = self.settle(candidate);
            if !tried.admits(candidate) {
                continue;
            }
            if tried.count > CANDIDATES_MAX {
                return None;
            }
            if candidate.done & bit != 0 {
                let candidate = Candidate { done: candidate.done & !bit, ..candidate };
                if ended.admits(candidate) {
                    found.push(candidate);
                }
                continue;
            }
            for (other, operation) in self.others(candidate.done) {
                if let Some(state) = self.step(candidate.state, operation)
                    && state != candidate.state
                {
                    work.push_back(Candidate { state, done: candidate.done | other });
                }
            }
        }
        Some(found)
    }
}

fn search(operations: &[Operation]) -> Found {
    // Starts sort before ends at the same moment: they overlap.
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (place, operation) in operations.iter().enumerate() {
        events.push((operation.invoked, false, place));
        if operation.returned != NEVER {
            events.push((operation.returned, true, place));
        }
    }
    events.sort_unstable();
    let values = history::values(operations);
    let mut under_way = UnderWay { operations, values, slots: [None; 128], unknown: 0 };
    let mut candidates = vec![Candidate { state: None, done: 0 }];
    for (_, ends, place) in events {
        if !ends {
            let Some(slot) = under_way.slots.iter().position(Option::is_none) else { return Found::TooMany };
            under_way.slots[slot] = Some(place);
            under_way.unknown |= u128::from(operations[place].returned == NEVER) << slot;
            continue;
        }
        let slot = under_way.slots.iter().position(|s| *s == Some(place)).expect("the operation has started");
        match under_way.with(1 << slot, candidates) {
            None => return Found::TooMany,
            Some(found) if found.is_empty() => return Found::NoPlaceFor(place),
            Some(found) => candidates = found,
        }
        under_way.slots[slot] = None;
    }
    Found::Order
}

#[cfg(test)]
mod tests;
