//! Who waits until volumes have been told: a DELETE, and the refusal of an upload, are answered when the volumes that are
//! up know of it durably. Otherwise a rebuild of the metadata could bring the value back.
//!
//! The reclaim worker tells, and reports here; one entry for each request under way and volume, none for anything else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use shared::ids::{BlobId, VolumeId};
use shared::limits::TOLD_TIMEOUT;
use shared::wire::routes::DELETE;
use shared::wire::volume::{DeleteRequest, DeleteResponse};
use tokio::sync::oneshot;

use crate::master::Master;
use crate::tables::{Tables, object::Blob, tombstone};

/// Requests that wait.
#[derive(Debug, Default)]
pub struct Told(Mutex<HashMap<VolumeId, Waiting>>);

type Waiting = HashMap<BlobId, Vec<oneshot::Sender<()>>>;

/// Waits for one volume to know of one blob's end.
struct Waiter<'a> {
    told: &'a Told,
    volume: VolumeId,
    blob: BlobId,
    report: oneshot::Receiver<()>,
}

impl Told {
    fn expect(&self, volume: VolumeId, blob: BlobId) -> Waiter<'_> {
        let (sender, report) = oneshot::channel();
        self.waiting().entry(volume).or_default().entry(blob).or_default().push(sender);
        Waiter { told: self, volume, blob, report }
    }

    /// `volume` knows of the end of these blobs.
    pub fn report(&self, volume: VolumeId, blobs: &[BlobId]) {
        let mut waiting = self.waiting();
        let Some(of_volume) = waiting.get_mut(&volume) else { return };
        for sender in blobs.iter().filter_map(|blob| of_volume.remove(blob)).flatten() {
            // Whoever asked may have gone.
            let _ = sender.send(());
        }
        if of_volume.is_empty() {
            waiting.remove(&volume);
        }
    }

    /// At most `limit` blobs of which somebody waits for `volume` to know.
    pub fn awaited(&self, volume: VolumeId, limit: usize) -> Vec<BlobId> {
        let waiting = self.waiting();
        waiting.get(&volume).into_iter().flat_map(|blobs| blobs.keys().copied()).take(limit).collect()
    }

    /// `volume` cannot be reached: nobody waits for it.
    pub fn give_up(&self, volume: VolumeId) {
        self.waiting().remove(&volume);
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<VolumeId, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.report.close();
        let mut waiting = self.told.waiting();
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

/// Returns when every live volume that has one of `blobs` on its reclaim list knows why, and at the latest after
/// `TOLD_TIMEOUT`. Call it when the command that put them there has been applied.
///
/// The leader tells the volumes. Another master has waited for the leader, which has waited here.
pub async fn told(master: &Master, blobs: &[Blob]) {
    if !master.group.leads() {
        return;
    }
    let mut waiters = Vec::new();
    for blob in blobs {
        let alive = master.cluster.alive(&blob.replicas);
        if alive.is_empty() {
            tell_another(master, blob).await;
        }
        for replica in alive {
            // First register, then look: whoever is told in between takes the entry off the list before it reports.
            let waiter = master.told.expect(replica.volume, blob.id);
            match Tables::new(&master.database.tree()).reclaiming(replica.volume, blob.id) {
                Ok(false) => {}
                Ok(true) => waiters.push(waiter),
                Err(error) => tracing::error!(%error, "the reclaim list cannot be read"),
            }
        }
    }
    master.reclaim.notify_one();
    let all = async {
        for waiter in &mut waiters {
            // An error: the volume went down.
            let _ = (&mut waiter.report).await;
        }
    };
    if tokio::time::timeout(TOLD_TIMEOUT, all).await.is_err() {
        tracing::warn!(
            within = ?TOLD_TIMEOUT,
            "a volume has not said that it knows of a delete; should the metadata be rebuilt before it does, the value may be back"
        );
    }
}

/// None of the volumes that hold the blob is up: another one keeps the tombstone.
async fn tell_another(master: &Master, blob: &Blob) {
    let tree = master.database.tree();
    let tombstones = blob.replicas.iter().find_map(|replica| {
        tombstone::of(&tree, *replica, &[blob.id]).ok().filter(|found| !found.is_empty())
    });
    let (Some(tombstones), Some(other)) = (tombstones, master.cluster.all_alive().pop()) else { return };
    let message = DeleteRequest {
        cluster: master.cluster.id(),
        volume: other.volume,
        blobs: Vec::new(),
        tombstones,
        settled_before: None,
    };
    let told: Result<DeleteResponse, _> =
        master.peers.call_within(&other.address, DELETE, &message, TOLD_TIMEOUT).await;
    if let Err(error) = told {
        tracing::warn!(volume = other.address, %error, "no volume that is up knows of a delete");
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
        let told = Told::default();
        let volume = VolumeId::from_bytes([1; 16]);
        told.report(volume, &[blob(1)]);
        let (mut one, mut same) = (told.expect(volume, blob(1)), told.expect(volume, blob(1)));
        let mut other = told.expect(volume, blob(2));
        let gone = told.expect(volume, blob(3));
        drop(gone);
        told.report(volume, &[blob(1), blob(3)]);
        assert_eq!((&mut one.report).await, Ok(()));
        assert_eq!((&mut same.report).await, Ok(()));
        assert!(other.report.try_recv().is_err());
        told.give_up(volume);
        assert!((&mut other.report).await.is_err());
        drop((one, same, other));
        assert!(told.waiting().is_empty());
        let (first, second) = (told.expect(volume, blob(4)), told.expect(volume, blob(4)));
        drop(first);
        assert_eq!(told.waiting().len(), 1);
        drop(second);
        assert!(told.waiting().is_empty());
    }
}
