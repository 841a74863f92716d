//! An ordered parallel map: several threads work on items, and one takes the results in the order of the items, so
//! the outcome does not depend on the threads. At most twice as many results as threads exist at once.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, mpsc};

use crate::store::lock;

/// Calls `work` for every item, and `take` with the results, on this thread and in order; stops at its first error.
/// With one thread or one item, everything runs on this thread.
pub(super) fn in_order<T: Sync, R: Send, E>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(&T, R) -> Result<(), E>,
) -> Result<(), E> {
    let threads = threads.min(items.len());
    if threads <= 1 {
        return items.iter().try_for_each(|item| take(item, work(item)));
    }
    let (give, jobs) = mpsc::channel::<usize>();
    let (jobs, work) = (&Mutex::new(jobs), &work);
    std::thread::scope(|scope| {
        // Dropped with this closure, however it ends, which ends the threads.
        let give = give;
        let (done, results) = mpsc::channel();
        for _ in 0..threads {
            let done = done.clone();
            scope.spawn(move || {
                let next = || lock(jobs).recv();
                while let Ok(number) = next() {
                    let result = catch_unwind(AssertUnwindSafe(|| work(&items[number])));
                    // It fails if the results are no longer wanted.
                    let _ = done.send((number, result));
                }
            });
        }
        let mut ahead = 0..items.len();
        let mut another = || {
            if let Some(number) = ahead.next() {
                give.send(number).expect("this thread borrows its other end");
            }
        };
        (0..2 * threads).for_each(|_| another());
        let mut early = BTreeMap::new();
        for (number, item) in items.iter().enumerate() {
            let result = loop {
                if let Some(result) = early.remove(&number) {
                    break result;
                }
                let (number, result) = results.recv().expect("this thread holds a sender");
                early.insert(number, result);
            };
            take(item, result.unwrap_or_else(|panic| resume_unwind(panic)))?;
            another();
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(threads: usize, stop: usize) -> (Vec<usize>, Result<(), usize>) {
        let items: Vec<usize> = (0..100).collect();
        let mut seen = Vec::new();
        let work = |n: &usize| {
            // Later items are done earlier.
            for n in 0..(100 - n) * 1000 {
                std::hint::black_box(n);
            }
            n * 2
        };
        let result = in_order(&items, threads, work, |n, twice| {
            assert_eq!(twice, 2 * n);
            seen.push(*n);
            if *n == stop { Err(*n) } else { Ok(()) }
        });
        (seen, result)
    }

    #[test]
    fn results_come_in_the_order_of_the_items_up_to_the_first_error() {
        for threads in [0, 1, 2, 7, 200] {
            assert_eq!(taken(threads, 100), ((0..100).collect(), Ok(())));
            assert_eq!(taken(threads, 40), ((0..=40).collect(), Err(40)));
        }
    }

    #[test]
    #[should_panic(expected = "item 3")]
    fn a_panic_is_passed_on() {
        let work = |n: &u8| assert!(*n != 3, "item 3");
        let _ = in_order(&[1_u8, 2, 3, 4], 2, work, |_, ()| Ok::<_, ()>(()));
    }
}
