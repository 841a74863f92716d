//! What a master that leads knows of the work on copies: what is under way, what was done, what is owed, and who is to be woken. Lost
//! with the process; the next leader finds what is to be done in the tables.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::ids::{BlobId, VolumeId};
use shared::limits::COPIES_IN_MAX;
use shared::wire::cluster::RepairStatus;
use tokio::sync::{Notify, Semaphore};

use crate::plan::repair::Stuck;
use crate::plan::survey::Survey;

/// The rate is that of so long.
const RATE_WINDOW: Duration = Duration::from_secs(20);
/// What went wrong is shown for so long.
const TROUBLE_SHOWN: Duration = Duration::from_secs(60);

/// Work on copies.
#[derive(Debug, Default)]
pub struct Care {
    /// Wakes the worker that repairs.
    pub repair: Arc<Notify>,
    /// Wakes the worker that compares inventories.
    pub compare: Arc<Notify>,
    /// Wakes the worker that moves values.
    pub rebalance: Arc<Notify>,
    asked: AtomicBool,
    ledger: Mutex<Ledger>,
    busy: Mutex<HashSet<BlobId>>,
    /// Blobs that failed: how often, and until when they rest.
    failed: Mutex<HashMap<BlobId, (u32, Instant)>>,
    /// Room for copies into each volume.
    lanes: Mutex<HashMap<VolumeId, Arc<Semaphore>>>,
}

#[derive(Debug, Default)]
struct Ledger {
    status: RepairStatus,
    /// Copies that were made of late: when, and their bytes.
    made: VecDeque<(Instant, u64)>,
    trouble: Option<(Instant, String)>,
}

/// A blob that failed rests for so long, and twice as long each time, up to ...
const REST_MIN: Duration = Duration::from_secs(2);
const REST_MAX: Duration = Duration::from_secs(300);
/// Blobs that failed of which a master remembers it.
const FAILED_MAX: usize = 100_000;

/// Nobody else touches the copies of a blob while this lives.
#[derive(Debug)]
pub struct Busy<'c> {
    care: &'c Care,
    blob: BlobId,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        locked(&self.care.busy).remove(&self.blob);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Care {
    /// Takes a blob; none while somebody else has it.
    pub fn take(&self, blob: BlobId) -> Option<Busy<'_>> {
        locked(&self.busy).insert(blob).then(|| Busy { care: self, blob })
    }

    /// Blobs that somebody has.
    pub fn busy(&self) -> HashSet<BlobId> {
        locked(&self.busy).clone()
    }

    /// Something about a blob could not be done.
    pub fn failed(&self, blob: BlobId) {
        let mut failed = locked(&self.failed);
        let tries = failed.get(&blob).map_or(0, |(tries, _)| *tries);
        if failed.len() < FAILED_MAX || tries > 0 {
            let rest = REST_MIN.saturating_mul(1 << tries.min(16)).min(REST_MAX);
            failed.insert(blob, (tries + 1, Instant::now() + rest));
        }
    }

    pub fn succeeded(&self, blob: BlobId) {
        locked(&self.failed).remove(&blob);
    }

    /// Blobs that failed and are not tried yet again. What rested for long is forgotten.
    pub fn resting(&self) -> HashSet<BlobId> {
        let now = Instant::now();
        let mut failed = locked(&self.failed);
        failed.retain(|_, (_, until)| *until + REST_MAX > now);
        failed.iter().filter(|(_, (_, until))| *until > now).map(|(blob, _)| *blob).collect()
    }

    /// What failed is tried again at once: something has changed.
    pub fn try_again(&self) {
        locked(&self.failed).clear();
        self.repair.notify_one();
    }

    /// Room for copies into a volume.
    pub fn lane(&self, volume: VolumeId) -> Arc<Semaphore> {
        let mut lanes = locked(&self.lanes);
        Arc::clone(lanes.entry(volume).or_insert_with(|| Arc::new(Semaphore::new(COPIES_IN_MAX))))
    }

    /// All inventories are to be compared at once.
    pub fn look_now(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.compare.notify_one();
    }

    /// Whether that was asked for since the last time.
    pub fn was_asked(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }

    /// All has been looked through.
    pub fn surveyed(&self, found: &Survey) {
        let status = &mut locked(&self.ledger).status;
        status.owed_blobs = found.owed_blobs;
        status.owed_bytes = found.owed_bytes;
        status.owed_by_copies.clone_from(&found.by_copies);
        let stuck = |why| found.stuck.get(&why).copied().unwrap_or(0);
        status.without_source = stuck(Stuck::NoSource);
        status.without_destination = stuck(Stuck::NoDestination);
        status.deleting = stuck(Stuck::Deleting);
    }

    /// A copy was made: one that was owed, or one for a move.
    pub fn copied(&self, bytes: u64, owed: bool) {
        let mut ledger = locked(&self.ledger);
        ledger.status.copied_blobs += 1;
        ledger.status.copied_bytes += bytes;
        if owed {
            ledger.status.owed_blobs = ledger.status.owed_blobs.saturating_sub(1);
            ledger.status.owed_bytes = ledger.status.owed_bytes.saturating_sub(bytes);
        }
        ledger.made.push_back((Instant::now(), bytes));
    }

    /// A copy was taken away.
    pub fn dropped(&self) {
        let status = &mut locked(&self.ledger).status;
        status.dropped_blobs += 1;
        status.owed_blobs = status.owed_blobs.saturating_sub(1);
    }

    /// Something went wrong.
    pub fn trouble(&self, what: String) {
        locked(&self.ledger).trouble = Some((Instant::now(), what));
    }

    /// Somebody else leads: what was owed is not known here any more.
    pub fn forget(&self) {
        *locked(&self.ledger) = Ledger::default();
    }

    /// How it stands.
    pub fn status(&self) -> RepairStatus {
        let mut ledger = locked(&self.ledger);
        while ledger.made.front().is_some_and(|(at, _)| at.elapsed() > RATE_WINDOW) {
            ledger.made.pop_front();
        }
        let bytes: u64 = ledger.made.iter().map(|(_, bytes)| bytes).sum();
        let over = ledger.made.front().map_or(0, |(at, _)| at.elapsed().as_millis());
        let rate = u64::try_from(u128::from(bytes) * 1000 / over.max(1000)).unwrap_or(u64::MAX);
        let mut status = ledger.status.clone();
        status.bytes_per_second = rate;
        status.eta_secs = (rate > 0 && status.owed_bytes > 0).then(|| status.owed_bytes.div_ceil(rate));
        let shown = ledger.trouble.as_ref().filter(|(at, _)| at.elapsed() < TROUBLE_SHOWN);
        status.trouble = shown.map(|(_, what)| what.clone());
        status
    }
}

#[cfg(test)]
mod tests {
    use shared::clock::Timestamp;

    use super::*;

    #[test]
    fn a_blob_is_one_workers_and_the_sums_are_kept() {
        let care = Care::default();
        let blob = BlobId::next(None, Timestamp::from_unix_ms(1), [1; 10]);
        let taken = care.take(blob);
        assert!(taken.is_some() && care.take(blob).is_none() && care.busy().contains(&blob));
        drop(taken);
        assert!(care.take(blob).is_some());
        let found = Survey { owed_blobs: 3, owed_bytes: 5000, by_copies: vec![0, 3], ..Survey::default() };
        care.surveyed(&found);
        care.copied(2000, true);
        let status = care.status();
        assert_eq!((status.owed_blobs, status.owed_bytes, status.copied_bytes), (2, 3000, 2000));
        assert_eq!((status.bytes_per_second, status.eta_secs), (2000, Some(2)));
        care.forget();
        assert_eq!(care.status(), RepairStatus::default());
        care.failed(blob);
        assert!(care.resting().contains(&blob));
        care.succeeded(blob);
        assert!(care.resting().is_empty());
    }
}
