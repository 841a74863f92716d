//! Fault injection: an error at each change in turn. The log stops and acknowledges nothing more, and everything that
//! was acknowledged is there after reopening, with or without a power cut in between.

use super::super::sim_disk::Fault;
use super::*;

/// Runs every kind of step once. Returns the number of acknowledged steps, and the first error.
async fn steps(store: &mut Store) -> (usize, Option<Failed>) {
    let mut done = 0;
    macro_rules! step {
        ($future:expr) => {
            match $future.await {
                Ok(()) => done += 1,
                Err(e) => return (done, Some(e)),
            }
        };
    }
    step!(store.save_vote(&Vote::new(2, 1)));
    step!(append(store, 1, 0..4));
    step!(append(store, 1, 4..9));
    step!(append(store, 1, 9..12));
    step!(store.truncate(id(1, 10)));
    step!(store.purge(id(1, 4)));
    step!(append(store, 2, 10..12));
    step!(store.save_vote(&Vote::new(3, 1)));
    step!(store.purge(id(4, 30)));
    step!(append(store, 4, 31..33));
    (done, None)
}

/// The expected contents after this many steps.
fn expected(steps: usize) -> Seen {
    let log = |purged, entries: &[(u64, u64)]| (purged, entries.to_vec());
    let ones = |range: std::ops::Range<u64>| range.map(|i| (1, i)).collect::<Vec<_>>();
    let (purged, entries) = match steps {
        0 | 1 => log(None, &[]),
        2 => log(None, &ones(0..4)),
        3 => log(None, &ones(0..9)),
        4 => log(None, &ones(0..12)),
        5 => log(None, &ones(0..10)),
        6 => log(Some(id(1, 4)), &ones(5..10)),
        7 | 8 => log(Some(id(1, 4)), &[ones(5..10), vec![(2, 10), (2, 11)]].concat()),
        9 => log(Some(id(4, 30)), &[]),
        _ => log(Some(id(4, 30)), &[(4, 31), (4, 32)]),
    };
    let vote =
        [None, Some(Vote::new(2, 1)), Some(Vote::new(3, 1))][(steps > 0) as usize + (steps > 7) as usize];
    Seen { vote, purged, entries }
}

#[test]
fn every_error_stops_the_log_and_loses_nothing() {
    for (cut, seed) in [(false, 3), (true, 5), (true, 7), (true, 11)] {
        for n in 0.. {
            let disk = SimDisk::new(seed + n);
            let mut store = open(&disk).unwrap();
            disk.fault(Some((n, Fault::Eio)));
            let (done, error) = run(steps(&mut store));
            let Some(error) = error else {
                assert_eq!(done, 10);
                assert!(n > 30, "enough changes were hit by errors");
                break;
            };
            assert!(error.into_io().is_some() && disk.fault_came());
            run(all_is_refused(&mut store));
            drop(store);
            let disk = if cut { disk.power_cut() } else { disk.restart() };
            let found = run(async { seen(&mut open(&disk).unwrap()).await.unwrap() });
            let (before, after) = (expected(done), expected(done + 1));
            let partly = before.entries.len() <= found.entries.len()
                && found.entries[..] == after.entries[..found.entries.len().min(after.entries.len())]
                && (found.vote, found.purged) == (before.vote, before.purged);
            assert!(found == before || found == after || partly, "step {done}, change {n}: {found:?}");
        }
    }
}

async fn all_is_refused(store: &mut Store) {
    let next = 1000;
    assert!(store.save_vote(&Vote::new(9, 1)).await.is_err());
    assert!(store.read_vote().await.is_err());
    assert!(append(store, 9, next..next + 1).await.is_err());
    assert!(store.truncate(id(1, 1)).await.is_err());
    assert!(store.purge(id(9, 2000)).await.is_err());
    assert!(store.get_log_state().await.is_err());
    assert!(store.try_get_log_entries(..).await.is_err());
    assert!(store.get_log_reader().await.limited_get_log_entries(0, 1).await.is_err());
    assert!(store.begin_at(id(1, 1), Vote::new(1, 1)).await.is_err());
}

#[test]
fn a_beginning_elsewhere_happens_or_does_not() {
    let finished =
        Seen { vote: Some(Vote::new_committed(3, 1)), purged: Some(id(3, 70)), entries: Vec::new() };
    for fault in [Fault::Eio, Fault::Stop] {
        for seed in 1..20 {
            for n in 0.. {
                let disk = SimDisk::new(seed);
                let mut store = open(&disk).unwrap();
                disk.fault(Some((n, fault)));
                let done = run(store.begin_at(id(3, 70), Vote::new_committed(3, 1))).is_ok();
                drop(store);
                let mut store = open(&disk.power_cut()).unwrap();
                if done {
                    assert_eq!(run(seen(&mut store)).unwrap(), finished);
                    break;
                }
                assert!(store.is_new() || run(seen(&mut store)).unwrap() == finished, "change {n}");
            }
        }
    }
}
