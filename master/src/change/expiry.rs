//! Tells volumes when their blobs expire, so that a rebuild of the metadata knows it. What is to be told while a call to a
//! volume is under way goes with the next one: the volume syncs once for many.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::limits::{DELETE_ACK_TIMEOUT, RECLAIM_BATCH};
use shared::tombstone::{BlobExpiry, Tombstone};
use shared::wire::routes::DELETE;
use shared::wire::volume::{DeleteRequest, DeleteResponse};
use tokio::sync::oneshot;

use super::Changes;
use crate::cluster::VolumeAddress;
use crate::tables::TableError;
use crate::tables::object::{self, Object};
use crate::volumes::Volumes;

/// What volumes are to be told.
#[derive(Debug, Default)]
pub struct ExpiryNotes(Mutex<HashMap<VolumeId, Waiting>>);

/// What waits for the call to a volume that is under way: the newest expiry of each blob, and who waits for it.
type Waiting = BTreeMap<BlobId, (BlobExpiry, Vec<oneshot::Sender<()>>)>;

impl ExpiryNotes {
    fn all(&self) -> MutexGuard<'_, HashMap<VolumeId, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an expiry. Returns whether no call is under way, so that the caller has to make it.
    fn add(&self, volume: VolumeId, expiry: BlobExpiry, told: oneshot::Sender<()>) -> bool {
        let mut all = self.all();
        let idle = !all.contains_key(&volume);
        let (newest, waiting) =
            all.entry(volume).or_default().entry(expiry.blob).or_insert((expiry, Vec::new()));
        if expiry.revision > newest.revision {
            *newest = expiry;
        }
        waiting.push(told);
        idle
    }

    /// Takes what the next call tells; none if nothing waits. Then no call is under way.
    fn take(&self, volume: VolumeId) -> Option<Waiting> {
        let mut all = self.all();
        let waiting = all.get_mut(&volume)?;
        if waiting.is_empty() {
            all.remove(&volume);
            return None;
        }
        let rest = waiting.keys().nth(RECLAIM_BATCH).copied();
        let rest = rest.map(|blob| waiting.split_off(&blob)).unwrap_or_default();
        Some(std::mem::replace(waiting, rest))
    }
}

impl Changes {
    /// Tells the live volumes that hold the value of a key when it expires; waits `DELETE_ACK_TIMEOUT` at most. Only
    /// the leader does: a follower's proposal returns after that.
    pub(super) async fn tell_expiry(&self, key: &Key) {
        if !self.metadata.is_leader() {
            return;
        }
        let object = match object::read_stored(&self.metadata.database.tree(), key) {
            Ok(object) => object,
            Err(error) => return tracing::error!(%key, %error, "the expiry of a value cannot be read"),
        };
        let Some(expiry) = object.as_ref().and_then(told) else { return };
        let holders = object.into_iter().flat_map(|object| object.blobs).flat_map(|blob| blob.replicas);
        let alive = self.volumes.cluster.alive(&holders.collect::<Vec<_>>());
        let told = join_all(alive.into_iter().map(|volume| self.send_expiry(volume, expiry))).await;
        if !told.contains(&true) {
            tracing::warn!(
                %key, within = ?DELETE_ACK_TIMEOUT,
                "no volume has recorded when a value expires; a metadata rebuild may restore it without an expiry"
            );
        }
    }

    /// Tells a volume, which is about to hold the value of a key, when it expires. Returns whether it knows, or need not
    /// know.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub async fn tell_expiry_to(&self, key: &Key, volume: VolumeId) -> Result<bool, TableError> {
        let object = object::read_stored(&self.metadata.database.tree(), key)?;
        let Some(expiry) = object.as_ref().and_then(told) else { return Ok(true) };
        match self.volumes.cluster.alive(&[volume]).into_iter().next() {
            Some(volume) => Ok(self.send_expiry(volume, expiry).await),
            None => Ok(false),
        }
    }

    /// Returns whether the volume has recorded an expiry.
    async fn send_expiry(&self, volume: VolumeAddress, expiry: BlobExpiry) -> bool {
        let (told, recorded) = oneshot::channel();
        if self.expiry_notes.add(volume.volume, expiry, told) {
            let (notes, volumes) = (Arc::clone(&self.expiry_notes), Arc::clone(&self.volumes));
            tokio::spawn(async move {
                while let Some(waiting) = notes.take(volume.volume) {
                    call(&volumes, &volume, waiting).await;
                }
            });
        }
        tokio::time::timeout(DELETE_ACK_TIMEOUT, recorded).await.is_ok_and(|recorded| recorded.is_ok())
    }
}

async fn call(volumes: &Volumes, volume: &VolumeAddress, waiting: Waiting) {
    let message = DeleteRequest {
        cluster: volumes.cluster_id(),
        volume: volume.volume,
        blobs: Vec::new(),
        tombstones: waiting.values().map(|(expiry, _)| Tombstone::Expires(*expiry)).collect(),
        reclaimed_before: None,
    };
    let told: Result<DeleteResponse, _> =
        volumes.peers.call_within(&volume.address, DELETE, &message, DELETE_ACK_TIMEOUT).await;
    match told {
        Ok(_) => {
            for told in waiting.into_values().flat_map(|(_, waiting)| waiting) {
                // Who has gone waits no longer.
                let _ = told.send(());
            }
        }
        Err(error) => tracing::debug!(volume = volume.address, %error, "a volume did not record an expiry"),
    }
}

/// Returns what the volumes are told about an object; none if it never had an expiry.
fn told(object: &Object) -> Option<BlobExpiry> {
    let (at, revision) = (object.expiry.at, object.expiry.revision);
    (revision > 0).then_some(BlobExpiry { blob: object.generation, at, revision })
}

#[cfg(test)]
mod tests {
    use shared::clock::Timestamp;

    use super::*;

    #[test]
    fn one_call_tells_the_newest_of_what_came_meanwhile() {
        let (notes, volume) = (ExpiryNotes::default(), VolumeId::from_bytes([1; 16]));
        let add = |n: u64, revision| {
            let blob = BlobId::next(None, Timestamp::from_unix_ms(n), [1; 10]);
            let (told, recorded) = oneshot::channel();
            (notes.add(volume, BlobExpiry { blob, at: None, revision }, told), recorded)
        };
        let (first, _recorded) = add(1, 1);
        assert!(first);
        assert_eq!(notes.take(volume).unwrap().len(), 1);
        let kept: Vec<_> = [(2, 2), (2, 1), (3, 1)].map(|(n, revision)| add(n, revision)).into();
        assert!(kept.iter().all(|(idle, _)| !idle), "a call is under way");
        let taken: Vec<_> = notes.take(volume).unwrap().into_values().collect();
        let told: Vec<_> = taken.iter().map(|(expiry, waiting)| (expiry.revision, waiting.len())).collect();
        assert_eq!(told, [(2, 2), (1, 1)]);
        assert!(notes.take(volume).is_none());
        let all: Vec<_> = (0..RECLAIM_BATCH as u64 + 1).map(|n| add(n, 1)).collect();
        assert!(all[0].0 && !all[1].0, "that call has ended");
        assert_eq!(notes.take(volume).unwrap().len(), RECLAIM_BATCH);
        assert_eq!(notes.take(volume).unwrap().len(), 1);
    }
}
