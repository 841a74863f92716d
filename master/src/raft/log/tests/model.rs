//! Model test: any order of calls, errors, kills and power cuts. What was acknowledged is there, what was truncated
//! or purged does not reappear, and the vote never goes back. A call that failed may have happened, completely or,
//! for appends, up to any entry. The same test must detect the loss when syncs do nothing.

use futures_util::future::join_all;
use proptest::prelude::*;

use super::super::sim_disk::Fault;
use super::*;

#[derive(Debug, Clone)]
enum Op {
    /// Concurrent appends, with the number of entries of each.
    Append(Vec<u64>),
    /// Truncates this many entries from the end.
    Truncate(u64),
    /// Purges this many of the oldest entries.
    Purge(u64),
    /// Purges up to this far beyond the last entry.
    Snapshot(u64),
    /// Purges up to an entry that conflicts with the log, this far from the end.
    Conflict(u64),
    Vote,
    Begin(u64),
    /// Restarts the process, after a power cut or not. `fault`: an error after this many changes from the opening on.
    End {
        power: bool,
        fault: Option<(u64, Fault)>,
    },
}

struct World {
    disk: SimDisk,
    store: Option<Store>,
    /// The possible contents of the log.
    possible: Vec<Seen>,
    term: u64,
}

impl World {
    fn now(&self) -> Seen {
        self.possible[0].clone()
    }

    /// Restarts the process and reopens the log, after another power cut if the opening failed.
    async fn reopen(&mut self, power: bool, fault: Option<(u64, Fault)>) -> Result<(), String> {
        self.store = None;
        self.disk = if power { self.disk.power_cut() } else { self.disk.restart() };
        self.disk.fault(fault);
        let mut opened = open(&self.disk);
        if matches!(&opened, Err(OpenError::Io { .. })) && self.disk.fault_came() {
            self.disk = self.disk.power_cut();
            opened = open(&self.disk);
        }
        let mut store = opened.map_err(|e| e.to_string())?;
        let found = normal(seen(&mut store).await.map_err(|e| e.to_string())?);
        if !self.possible.contains(&found) {
            return Err(format!("found {found:?}, possible were {:?}", self.possible));
        }
        self.possible = vec![found];
        self.store = Some(store);
        Ok(())
    }

    async fn step(&mut self, op: &Op) -> Result<(), String> {
        let Some(mut store) = self.store.clone() else { return Err("it is closed".to_owned()) };
        let now = self.now();
        let first = now.purged.map_or(0, |p| p.index + 1);
        let next = now.entries.last().map_or(first, |e| e.1 + 1);
        let (result, states) = match op {
            Op::Append(sizes) => self.append(&mut store, next, sizes).await,
            Op::Truncate(back) => {
                let index = next.saturating_sub(*back).max(first);
                let states = vec![truncated(&now, index)];
                (store.truncate(id(self.term, index)).await, states)
            }
            Op::Purge(count) => {
                let Some((term, index)) = now.entries.get(usize::try_from(*count).unwrap()).copied() else {
                    return Ok(());
                };
                (store.purge(id(term, index)).await, vec![purged(&now, id(term, index))])
            }
            Op::Snapshot(beyond) => {
                let upto = id(self.term, next + beyond);
                (store.purge(upto).await, vec![purged(&now, upto)])
            }
            Op::Conflict(back) => {
                self.term += 1;
                let index = next.saturating_sub(*back).max(first);
                let cut = truncated(&now, index);
                let upto = id(self.term, index);
                (store.purge(upto).await, vec![purged(&cut, upto), cut])
            }
            Op::Vote => {
                self.term += 1;
                let vote = Vote::new(self.term, 1);
                (store.save_vote(&vote).await, vec![Seen { vote: Some(vote), ..now.clone() }])
            }
            Op::Begin(index) if store.is_new() => {
                self.term += 1;
                let (upto, vote) = (id(self.term, *index), Vote::new(self.term, 2));
                let state = Seen { vote: Some(vote), purged: Some(upto), entries: Vec::new() };
                (store.begin_at(upto, vote).await, vec![state])
            }
            Op::Begin(_) => return Ok(()),
            Op::End { power, fault } => {
                drop(store);
                return self.reopen(*power, *fault).await;
            }
        };
        self.conclude(store, &now, states, result).await
    }

    /// Checks the contents: after a success the first of `states`, after a failure any of them, or `before`.
    async fn conclude(
        &mut self,
        mut store: Store,
        before: &Seen,
        states: Vec<Seen>,
        result: Result<(), Failed>,
    ) -> Result<(), String> {
        if matches!(result, Err(StorageError::Defensive { .. })) {
            return Err(format!("the model is wrong: {result:?}"));
        }
        self.possible = states;
        if result.is_ok() {
            self.possible.truncate(1);
            let found = normal(seen(&mut store).await.map_err(|e| e.to_string())?);
            return if found == self.now() {
                Ok(())
            } else {
                Err(format!("sees {found:?}, expected {:?}", self.now()))
            };
        }
        if seen(&mut store).await.is_ok() {
            return Err("it went on after an error".to_owned());
        }
        if !self.possible.iter().any(|s| s.entries.len() > before.entries.len()) {
            self.possible.push(before.clone());
        }
        drop(store);
        let power = self.term.is_multiple_of(3) || self.possible.len().is_multiple_of(2);
        self.reopen(power, None).await
    }

    async fn append(
        &mut self,
        store: &mut Store,
        next: u64,
        sizes: &[u64],
    ) -> (Result<(), Failed>, Vec<Seen>) {
        self.term += 1;
        let (term, now) = (self.term, self.now());
        let (mut at, mut calls) = (next, Vec::new());
        for size in sizes {
            let (mut store, range) = (store.clone(), at..at + size);
            at += size;
            calls.push(async move { (range.end, append(&mut store, term, range).await) });
        }
        let results = join_all(calls).await;
        let acknowledged =
            results.iter().filter(|(_, r)| r.is_ok()).map(|(end, _)| *end).max().unwrap_or(next);
        let upto = |end| {
            let mut seen = now.clone();
            seen.entries.extend((next..end).map(|i| (term, i)));
            seen
        };
        let states = (acknowledged..=at).rev().map(upto).collect();
        (results.into_iter().find_map(|(_, r)| r.err()).map_or(Ok(()), Err), states)
    }
}

fn truncated(seen: &Seen, index: u64) -> Seen {
    let mut seen = seen.clone();
    seen.entries.retain(|e| e.1 < index);
    seen
}

fn purged(seen: &Seen, upto: LogId<u64>) -> Seen {
    let mut seen = seen.clone();
    seen.entries.retain(|e| e.1 > upto.index);
    seen.purged = Some(upto);
    seen
}

/// Removes openraft's implicit vote, which may or may not have been written.
fn normal(mut seen: Seen) -> Seen {
    seen.vote = seen.vote.filter(|v| *v != Vote::default());
    seen
}

fn check(ops: &[Op], seed: u64, lying: bool) -> Result<(), String> {
    run(async {
        let disk = SimDisk::new(seed);
        if lying {
            disk.lie();
        }
        let store = open(&disk).map_err(|e| e.to_string())?;
        let mut world = World { disk, store: Some(store), possible: vec![Seen::default()], term: 0 };
        for op in ops {
            world.step(op).await?;
        }
        world.reopen(true, None).await
    })
}

fn op() -> impl Strategy<Value = Op> {
    let fault = || (0u64..25, prop_oneof![Just(Fault::Stop), Just(Fault::Eio)]);
    prop_oneof![
        8 => prop::collection::vec(1u64..5, 1..5).prop_map(Op::Append),
        2 => (0u64..12).prop_map(Op::Truncate),
        2 => (0u64..20).prop_map(Op::Purge),
        1 => (0u64..5).prop_map(Op::Snapshot),
        1 => (1u64..8).prop_map(Op::Conflict),
        2 => Just(Op::Vote),
        1 => (0u64..30).prop_map(Op::Begin),
        4 => (any::<bool>(), prop::option::weighted(0.8, fault()))
            .prop_map(|(power, fault)| Op::End { power, fault }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn what_was_acknowledged_is_there(ops in prop::collection::vec(op(), 1..40), seed in any::<u64>()) {
        prop_assert_eq!(check(&ops, seed, false), Ok(()));
    }
}

#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    let end = || Op::End { power: true, fault: None };
    let ops = [Op::Append(vec![2, 1]), end(), Op::Append(vec![3]), end(), Op::Vote, end()];
    let found = (1..=20).filter(|seed| check(&ops, *seed, true).is_err()).count();
    assert!(found >= 15, "{found} of 20");
    assert_eq!(check(&ops, 1, false), Ok(()), "it is the syncs");
}
