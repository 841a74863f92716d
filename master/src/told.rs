//! Who waits until volumes have been told: a DELETE, and the refusal of an upload, are answered when the volumes that are
//! up know of it durably. Otherwise a rebuild of the metadata could bring the value back.
//!
//! The reclaim worker tells, and reports here; one entry for each request under way and volume, none for anything else.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, future, stream};
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::limits::{TOLD_ELSEWHERE, TOLD_TIMEOUT};
use shared::tombstone::{KeyHash, Tombstone};
use shared::wire::routes::DELETE;
use shared::wire::volume::{DeleteRequest, DeleteResponse};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cluster::Reachable;
use crate::master::Master;
use crate::tables::{TableError, Tables, object::Blob, tombstone};

/// Other volumes that are asked at once to keep a tombstone: one of them that hangs is not waited for.
const TELL_AT_ONCE: usize = 3;
/// Between two looks at which volumes are up.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// Requests that wait.
#[derive(Debug, Default)]
pub struct Told {
    waiting: Mutex<HashMap<VolumeId, Waiting>>,
    /// Blobs whose tombstone another volume keeps, at most `TOLD_ELSEWHERE`.
    elsewhere: Mutex<HashSet<BlobId>>,
}

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
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_elsewhere(&self, blob: BlobId) -> bool {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).contains(&blob)
    }

    fn put_elsewhere(&self, blob: BlobId) {
        let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        if elsewhere.len() >= TOLD_ELSEWHERE {
            elsewhere.clear();
        }
        elsewhere.insert(blob);
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

/// Returns when every live volume that has one of `blobs` on its reclaim list knows why, or, when there is none, another
/// volume does; and at the latest after `TOLD_TIMEOUT`. Call it when the command that put them there has been applied.
///
/// The leader tells the volumes. Another master has waited for the leader, which has waited here.
pub async fn told(master: &Master, blobs: &[Blob]) {
    if !master.group.leads() {
        return;
    }
    let deadline = Instant::now() + TOLD_TIMEOUT;
    for blob in blobs {
        let (heard, silent) = holders(master, blob, deadline).await;
        // One that knows is enough for a rebuild; without one the delete is known to nobody but the masters. Of one that is
        // only slow others are not told as well: under load that would be so for every delete.
        if heard == 0 && (silent || !tell_others(master, blob, deadline).await) {
            tracing::warn!(
                blob = %blob.id, within = ?TOLD_TIMEOUT,
                "no volume has said that it knows of a delete; should the metadata be rebuilt before one does, the value may be back"
            );
        }
    }
}

/// A DELETE that finds nothing may be the second try of one whose answer was lost: it waits like the first.
pub async fn told_again(master: &Master, key: &Key) {
    if !master.group.leads() {
        return;
    }
    let tree = master.database.tree();
    let tables = Tables::new(&tree);
    let waiting = || -> Result<Option<Blob>, TableError> {
        let Some(id) = tables.deleted(KeyHash::of(key))? else { return Ok(None) };
        let mut replicas = Vec::new();
        for volume in master.cluster.summaries() {
            if tables.reclaiming(volume.volume, id)? {
                replicas.push(volume.volume);
            }
        }
        Ok((!replicas.is_empty()).then_some(Blob { id, length: 0, replicas }))
    };
    match waiting() {
        Ok(Some(blob)) => told(master, &[blob]).await,
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "the deleted keys cannot be read"),
    }
}

/// Waits for the live ones of the volumes that hold the blob. How many of all that do know, and whether one did not answer.
async fn holders(master: &Master, blob: &Blob, deadline: Instant) -> (usize, bool) {
    let (mut heard, mut silent, mut waiters) = (0, false, Vec::new());
    let tree = master.database.tree();
    for replica in &blob.replicas {
        // First register, then look: whoever is told in between takes the entry off the list before it reports.
        let waiter = master.told.expect(*replica, blob.id);
        match Tables::new(&tree).reclaiming(*replica, blob.id) {
            Ok(false) => heard += 1,
            Ok(true) if master.cluster.alive(&[*replica]).is_empty() => {}
            Ok(true) => waiters.push(waiter),
            Err(error) => tracing::error!(%error, "the reclaim list cannot be read"),
        }
    }
    master.reclaim.notify_one();
    for waiter in &mut waiters {
        // An error inside: the volume went down.
        match tokio::time::timeout_at(deadline, &mut waiter.report).await {
            Ok(report) => heard += usize::from(report.is_ok()),
            Err(_) => {
                silent = true;
                tracing::warn!(volume = %waiter.volume, "a volume does not say that it knows of a delete");
            }
        }
    }
    (heard, silent)
}

/// None of the volumes that hold the blob says that it knows: any other one keeps the tombstone. Whether one does.
async fn tell_others(master: &Master, blob: &Blob, deadline: Instant) -> bool {
    if master.told.is_elsewhere(blob.id) {
        return true;
    }
    let tree = master.database.tree();
    let telling = async {
        loop {
            let of = |replica: &VolumeId| tombstone::of(&tree, *replica, &[blob.id]).ok();
            let tombstones: Vec<_> = blob.replicas.iter().filter_map(of).flatten().take(1).collect();
            if tombstones.is_empty() {
                // Off the list: its volume knows by now.
                return;
            }
            let mut others = master.cluster.all_alive();
            others.sort_by_key(|v| blob.replicas.contains(&v.volume));
            let told = stream::iter(others).map(|other| tell(master, other, tombstones.clone()));
            if told.buffer_unordered(TELL_AT_ONCE).any(future::ready).await {
                master.told.put_elsewhere(blob.id);
                return;
            }
            // A master that has just begun has not heard of its volumes yet.
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout_at(deadline, telling).await.is_ok()
}

async fn tell(master: &Master, volume: Reachable, tombstones: Vec<Tombstone>) -> bool {
    let message = DeleteRequest {
        cluster: master.cluster.id(),
        volume: volume.volume,
        blobs: Vec::new(),
        tombstones,
        settled_before: None,
    };
    let told: Result<DeleteResponse, _> =
        master.peers.call_within(&volume.address, DELETE, &message, TOLD_TIMEOUT).await;
    if let Err(error) = &told {
        tracing::debug!(volume = volume.address, %error, "a volume does not take a tombstone");
    }
    told.is_ok()
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

    #[test]
    fn what_is_kept_elsewhere_is_remembered_for_a_while() {
        let told = Told::default();
        told.put_elsewhere(blob(1));
        assert!(told.is_elsewhere(blob(1)) && !told.is_elsewhere(blob(2)));
        (0..TOLD_ELSEWHERE as u64).for_each(|n| told.put_elsewhere(blob(n + 2)));
        assert!(told.elsewhere.lock().unwrap().len() <= TOLD_ELSEWHERE && !told.is_elsewhere(blob(1)));
    }
}
