//! The leader's state of repair (re-replication), reconciliation and rebalancing: blobs in progress, counters, queue
//! lengths, wake-ups. In memory only; after a failover the next leader finds the work in the tables.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::ids::{BlobId, VolumeId};
use shared::limits::INCOMING_REPLICAS_MAX;
use shared::wire::cluster::RepairStatus;
use tokio::sync::{Notify, Semaphore};

use crate::plan::repair::Blocked;
use crate::plan::repair_scan::RepairScan;

/// Window over which the repair rate is averaged.
const RATE_WINDOW: Duration = Duration::from_secs(20);
/// How long the last failure is shown in the status.
const TROUBLE_SHOWN: Duration = Duration::from_secs(60);

/// Progress of repair, reconciliation and rebalancing.
#[derive(Debug, Default)]
pub struct RepairTracker {
    pub wake_repair: Arc<Notify>,
    pub wake_reconciliation: Arc<Notify>,
    pub wake_rebalance: Arc<Notify>,
    asked: AtomicBool,
    ledger: Mutex<RepairStats>,
    busy: Mutex<HashSet<BlobId>>,
    /// Failed blobs: number of failures, and the end of the back-off.
    failed: Mutex<HashMap<BlobId, (u32, Instant)>>,
    /// Concurrent incoming replicas of each volume.
    lanes: Mutex<HashMap<VolumeId, Arc<Semaphore>>>,
}

#[derive(Debug, Default)]
struct RepairStats {
    status: RepairStatus,
    /// Replicas added within `RATE_WINDOW`: when, and their bytes.
    made: VecDeque<(Instant, u64)>,
    trouble: Option<(Instant, String)>,
}

/// Back-off of a failed blob: doubles with each failure from `REST_MIN` up to `REST_MAX`.
const REST_MIN: Duration = Duration::from_secs(2);
const REST_MAX: Duration = Duration::from_secs(300);
/// Maximum of failed blobs remembered.
const FAILED_MAX: usize = 100_000;

/// Exclusive right to change the replicas of a blob, until dropped.
#[derive(Debug)]
pub struct InFlight<'c> {
    tracker: &'c RepairTracker,
    blob: BlobId,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        locked(&self.tracker.busy).remove(&self.blob);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RepairTracker {
    /// Claims a blob; `None` while another worker has it.
    pub fn begin(&self, blob: BlobId) -> Option<InFlight<'_>> {
        locked(&self.busy).insert(blob).then(|| InFlight { tracker: self, blob })
    }

    /// Returns the blobs that workers have claimed.
    pub fn in_flight(&self) -> HashSet<BlobId> {
        locked(&self.busy).clone()
    }

    /// Records a failure: the blob backs off.
    pub fn record_failure(&self, blob: BlobId) {
        let mut failed = locked(&self.failed);
        let tries = failed.get(&blob).map_or(0, |(tries, _)| *tries);
        if failed.len() < FAILED_MAX || tries > 0 {
            let rest = REST_MIN.saturating_mul(1 << tries.min(16)).min(REST_MAX);
            failed.insert(blob, (tries + 1, Instant::now() + rest));
        }
    }

    pub fn record_success(&self, blob: BlobId) {
        locked(&self.failed).remove(&blob);
    }

    /// Returns the failed blobs that are not to be retried yet. Forgets those whose back-off ended long ago.
    pub fn backing_off(&self) -> HashSet<BlobId> {
        let now = Instant::now();
        let mut failed = locked(&self.failed);
        failed.retain(|_, (_, until)| *until + REST_MAX > now);
        failed.iter().filter(|(_, (_, until))| *until > now).map(|(blob, _)| *blob).collect()
    }

    /// Ends all back-offs, because something has changed.
    pub fn retry_now(&self) {
        locked(&self.failed).clear();
        self.wake_repair.notify_one();
    }

    /// Returns the slots for concurrent incoming replicas of a volume.
    pub fn destination_slots(&self, volume: VolumeId) -> Arc<Semaphore> {
        let mut lanes = locked(&self.lanes);
        Arc::clone(lanes.entry(volume).or_insert_with(|| Arc::new(Semaphore::new(INCOMING_REPLICAS_MAX))))
    }

    /// Requests a reconciliation of all volumes now.
    pub fn request_reconciliation(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.wake_reconciliation.notify_one();
    }

    /// Whether a reconciliation was requested since the last call.
    pub fn take_reconciliation_request(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }

    /// Takes over the results of a full scan.
    pub fn record_scan(&self, found: &RepairScan) {
        let status = &mut locked(&self.ledger).status;
        status.queued_blobs = found.queued_blobs;
        status.queued_bytes = found.queued_bytes;
        status.queued_by_replicas.clone_from(&found.by_live_replicas);
        let stuck = |why| found.blocked.get(&why).copied().unwrap_or(0);
        status.without_source = stuck(Blocked::NoSource);
        status.without_destination = stuck(Blocked::NoDestination);
        status.deleting = stuck(Blocked::Deleting);
    }

    /// Records an added replica; `under_replicated` if it came from the repair queue, not from a rebalance.
    pub fn record_added(&self, bytes: u64, under_replicated: bool) {
        let mut ledger = locked(&self.ledger);
        ledger.status.replicas_added += 1;
        ledger.status.replicated_bytes += bytes;
        if under_replicated {
            ledger.status.queued_blobs = ledger.status.queued_blobs.saturating_sub(1);
            ledger.status.queued_bytes = ledger.status.queued_bytes.saturating_sub(bytes);
        }
        ledger.made.push_back((Instant::now(), bytes));
    }

    /// Records a removed replica.
    pub fn record_removed(&self) {
        let status = &mut locked(&self.ledger).status;
        status.replicas_removed += 1;
        status.queued_blobs = status.queued_blobs.saturating_sub(1);
    }

    /// Records a failure to show in the status.
    pub fn trouble(&self, what: String) {
        locked(&self.ledger).trouble = Some((Instant::now(), what));
    }

    /// Clears the counters when this master no longer leads.
    pub fn reset(&self) {
        *locked(&self.ledger) = RepairStats::default();
    }

    /// Returns the status, with the current rate and the estimated time left.
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
        status.eta_secs = (rate > 0 && status.queued_bytes > 0).then(|| status.queued_bytes.div_ceil(rate));
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
        let tracker = RepairTracker::default();
        let blob = BlobId::next(None, Timestamp::from_unix_ms(1), [1; 10]);
        let taken = tracker.begin(blob);
        assert!(taken.is_some() && tracker.begin(blob).is_none() && tracker.in_flight().contains(&blob));
        drop(taken);
        assert!(tracker.begin(blob).is_some());
        let found = RepairScan {
            queued_blobs: 3,
            queued_bytes: 5000,
            by_live_replicas: vec![0, 3],
            ..RepairScan::default()
        };
        tracker.record_scan(&found);
        tracker.record_added(2000, true);
        let status = tracker.status();
        assert_eq!((status.queued_blobs, status.queued_bytes, status.replicated_bytes), (2, 3000, 2000));
        assert_eq!((status.bytes_per_second, status.eta_secs), (2000, Some(2)));
        tracker.reset();
        assert_eq!(tracker.status(), RepairStatus::default());
        tracker.record_failure(blob);
        assert!(tracker.backing_off().contains(&blob));
        tracker.record_success(blob);
        assert!(tracker.backing_off().is_empty());
    }
}
