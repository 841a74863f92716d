//! Requests that wait for volumes to acknowledge a delete: a DELETE, and the refusal of an upload. They are
//! answered when the volumes that are up have recorded it durably. Otherwise a rebuild of the metadata could bring
//! the value back.
//!
//! The reclaim worker calls the volumes and reports here. There is one entry for each waiting request and volume.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use shared::ids::{BlobId, VolumeId};
use shared::limits::TOMBSTONES_ELSEWHERE;
use tokio::sync::oneshot;

/// Requests that wait, by volume and blob.
#[derive(Debug, Default)]
pub struct DeleteAcks {
    waiting: Mutex<HashMap<VolumeId, Waiting>>,
    /// Blobs whose tombstone another volume keeps, at most `TOMBSTONES_ELSEWHERE`.
    elsewhere: Mutex<HashSet<BlobId>>,
}

type Waiting = HashMap<BlobId, Vec<oneshot::Sender<()>>>;

/// Waits for one volume to acknowledge the delete of one blob.
pub struct Waiter<'a> {
    acks: &'a DeleteAcks,
    pub volume: VolumeId,
    blob: BlobId,
    /// Resolves to an error if the volume goes down.
    pub acknowledged: oneshot::Receiver<()>,
}

impl DeleteAcks {
    /// Registers a request that waits for `volume` to acknowledge the delete of `blob`.
    pub fn wait_for(&self, volume: VolumeId, blob: BlobId) -> Waiter<'_> {
        let (sender, acknowledged) = oneshot::channel();
        self.waiting().entry(volume).or_default().entry(blob).or_default().push(sender);
        Waiter { acks: self, volume, blob, acknowledged }
    }

    /// Records that `volume` has acknowledged the delete of these blobs.
    pub fn acknowledge(&self, volume: VolumeId, blobs: &[BlobId]) {
        let mut waiting = self.waiting();
        let Some(of_volume) = waiting.get_mut(&volume) else { return };
        for sender in blobs.iter().filter_map(|blob| of_volume.remove(blob)).flatten() {
            // The request may have been cancelled.
            let _ = sender.send(());
        }
        if of_volume.is_empty() {
            waiting.remove(&volume);
        }
    }

    /// Returns at most `limit` blobs for whose delete a request awaits an acknowledgement by `volume`.
    pub fn awaited(&self, volume: VolumeId, limit: usize) -> Vec<BlobId> {
        let waiting = self.waiting();
        waiting.get(&volume).into_iter().flat_map(|blobs| blobs.keys().copied()).take(limit).collect()
    }

    /// Ends all waiting for `volume`, which cannot be reached.
    pub fn cancel(&self, volume: VolumeId) {
        self.waiting().remove(&volume);
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<VolumeId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another volume keeps the tombstone of `blob`.
    pub fn is_elsewhere(&self, blob: BlobId) -> bool {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).contains(&blob)
    }

    /// Records that another volume keeps the tombstone of `blob`.
    pub fn put_elsewhere(&self, blob: BlobId) {
        let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        if elsewhere.len() >= TOMBSTONES_ELSEWHERE {
            elsewhere.clear();
        }
        elsewhere.insert(blob);
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.acknowledged.close();
        let mut waiting = self.acks.waiting();
        let Some(of_volume) = waiting.get_mut(&self.volume) else { return };
        if let Some(senders) = of_volume.get_mut(&self.blob) {
            senders.retain(|s| !s.is_closed());
            if senders.is_empty() {
                of_volume.remove(&self.blob);
            }
        }
        if of_volume.is_empty() {
            waiting.remove(&self.volume);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::clock::Timestamp;

    fn blob(n: u64) -> BlobId {
        BlobId::next(None, Timestamp::from_unix_ms(n), [1; 10])
    }

    #[tokio::test]
    async fn reports_wake_those_that_wait_and_nothing_is_left() {
        let acks = DeleteAcks::default();
        let volume = VolumeId::from_bytes([1; 16]);
        acks.acknowledge(volume, &[blob(1)]);
        let (mut one, mut same) = (acks.wait_for(volume, blob(1)), acks.wait_for(volume, blob(1)));
        let mut other = acks.wait_for(volume, blob(2));
        let gone = acks.wait_for(volume, blob(3));
        drop(gone);
        acks.acknowledge(volume, &[blob(1), blob(3)]);
        assert_eq!((&mut one.acknowledged).await, Ok(()));
        assert_eq!((&mut same.acknowledged).await, Ok(()));
        assert!(other.acknowledged.try_recv().is_err());
        acks.cancel(volume);
        assert!((&mut other.acknowledged).await.is_err());
        drop((one, same, other));
        assert!(acks.waiting().is_empty());
        let (first, second) = (acks.wait_for(volume, blob(4)), acks.wait_for(volume, blob(4)));
        drop(first);
        assert_eq!(acks.waiting().len(), 1);
        drop(second);
        assert!(acks.waiting().is_empty());
    }

    #[test]
    fn what_is_kept_elsewhere_is_remembered_for_a_while() {
        let acks = DeleteAcks::default();
        acks.put_elsewhere(blob(1));
        assert!(acks.is_elsewhere(blob(1)) && !acks.is_elsewhere(blob(2)));
        (0..TOMBSTONES_ELSEWHERE as u64).for_each(|n| acks.put_elsewhere(blob(n + 2)));
        assert!(acks.elsewhere.lock().unwrap().len() <= TOMBSTONES_ELSEWHERE && !acks.is_elsewhere(blob(1)));
    }
}
