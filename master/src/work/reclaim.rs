//! Executes the reclaim list (garbage collection): sends deletes to volumes and records what they have durably
//! deleted. Every commit and delete wakes it, so that space is free at once. Entries of a dead volume wait for it; a
//! slow volume does not delay the others.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::clock::{Timestamp, millis};
use shared::http::client::CallError;
use shared::ids::{BlobId, VolumeId};
use shared::limits::{RECLAIM_BATCH, RECLAIM_UNNOTED, UPLOAD_TIME_MAX};
use shared::wire::routes::DELETE;
use shared::wire::volume::{DeleteRequest, DeleteResponse};
use shared::work::{TickResult, Worker};

use crate::change::Changes;
use crate::config::Config;
use crate::master::Master;
use crate::metadata::Metadata;
use crate::metrics::MasterMetrics;
use crate::plan::reclaim::{Delete, horizon, next_deletes};
use crate::state::command::Command;
use crate::tables::meta::{self, Gap};
use crate::volumes::Volumes;

pub struct ReclaimWorker(Arc<Reclaimer>);

/// What the worker's concurrent calls share.
struct Reclaimer {
    metadata: Metadata,
    volumes: Arc<Volumes>,
    changes: Arc<Changes>,
    metrics: Arc<MasterMetrics>,
    config: Arc<Config>,
    calls: Mutex<Calls>,
}

/// Calls whose result is not in the reclaim list yet.
#[derive(Debug, Default)]
struct Calls {
    /// Volumes with an unanswered call.
    busy: HashSet<VolumeId>,
    /// Blobs that a volume has deleted but that are still on the list, call by call.
    unnoted: HashMap<VolumeId, Vec<Vec<BlobId>>>,
}

impl Calls {
    /// Whether the next call to this volume may be sent.
    fn free(&self, volume: VolumeId) -> bool {
        let unnoted = self.unnoted.get(&volume).map_or(0, Vec::len);
        !self.busy.contains(&volume) && unnoted < RECLAIM_UNNOTED
    }

    /// Blobs that this volume has deleted but that are still on the list.
    fn told(&self, volume: VolumeId) -> HashSet<BlobId> {
        self.unnoted.get(&volume).into_iter().flatten().flatten().copied().collect()
    }

    fn answered(&mut self, volume: VolumeId, blobs: Vec<BlobId>) {
        self.busy.remove(&volume);
        self.unnoted.entry(volume).or_default().push(blobs);
    }

    /// The list was updated, or that failed and the volume is told again.
    fn noted(&mut self, volume: VolumeId, blobs: &[BlobId]) {
        let Some(unnoted) = self.unnoted.get_mut(&volume) else { return };
        if let Some(place) = unnoted.iter().position(|call| call == blobs) {
            unnoted.swap_remove(place);
        }
        if unnoted.is_empty() {
            self.unnoted.remove(&volume);
        }
    }
}

impl ReclaimWorker {
    pub fn new(master: &Master) -> Self {
        Self(Arc::new(Reclaimer::new(master)))
    }
}

impl Reclaimer {
    fn new(master: &Master) -> Self {
        Self {
            metadata: master.metadata.clone(),
            volumes: Arc::clone(&master.volumes),
            changes: Arc::clone(&master.changes),
            metrics: Arc::clone(&master.metrics),
            config: Arc::clone(&master.config),
            calls: Mutex::default(),
        }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blobs below this id have been reclaimed on every volume; none while a volume cannot be asked.
    fn horizon(&self, gap: Option<Gap>) -> Option<BlobId> {
        let config = &self.config;
        let past = millis(UPLOAD_TIME_MAX + config.orphan_grace * 4);
        let before = config.clock.now().unix_ms().saturating_sub(past);
        let collected = BlobId::next(None, Timestamp::from_unix_ms(before), [0; 10]);
        horizon(collected, gap).filter(|_| self.volumes.cluster.is_complete())
    }

    /// Makes one call. The next call to the same volume does not wait until the masters have recorded the result.
    async fn run_delete(&self, call: Delete) {
        let volume = call.volume.volume;
        let Some(blobs) = self.delete(call).await else {
            self.calls().busy.remove(&volume);
            return;
        };
        self.calls().answered(volume, blobs.clone());
        self.changes.delete_acks.acknowledge(volume, &blobs);
        self.changes.wake_reclaim.notify_one();
        let at = self.config.clock.now();
        let reclaimed = Command::Reclaimed { volume, blobs: blobs.clone(), at };
        if let Err(error) = self.changes.propose(reclaimed).await {
            tracing::debug!(%error, "the delete was not recorded; the volume will be told again");
        }
        self.calls().noted(volume, &blobs);
        // Again: a request may have begun to wait while the list still had these blobs.
        self.changes.delete_acks.acknowledge(volume, &blobs);
        self.changes.wake_reclaim.notify_one();
    }

    /// Sends the delete to the volume. Returns the blobs that it has durably deleted.
    async fn delete(&self, call: Delete) -> Option<Vec<BlobId>> {
        let Delete { volume, blobs, tombstones, reclaimed_before } = call;
        if self.metadata.ensure_linearizable().await.is_err() {
            return None;
        }
        let cluster = self.volumes.cluster_id();
        let message = DeleteRequest { cluster, volume: volume.volume, blobs, tombstones, reclaimed_before };
        let answer: Result<DeleteResponse, _> =
            self.volumes.peers.call(&volume.address, DELETE, &message).await;
        match answer {
            Ok(deleted) => {
                let count = message.blobs.len();
                tracing::debug!(volume = volume.address, count, bytes = deleted.bytes, "blobs reclaimed");
                self.metrics.reclaimed.inc_by(count as u64);
                Some(message.blobs)
            }
            Err(error) => {
                if let CallError::Unreachable { .. } = &error {
                    self.changes.delete_acks.cancel(volume.volume);
                }
                tracing::warn!(volume = volume.address, %error, "the volume did not delete; it will be told again");
                None
            }
        }
    }
}

impl Worker for ReclaimWorker {
    const NAME: &'static str = "reclaim";

    async fn tick(&mut self) -> TickResult {
        // A volume may get a replica again long after deleting it. A deposed leader's old list would delete that one.
        let inner = &self.0;
        if !inner.metadata.leads().await {
            return TickResult::Idle;
        }
        let mut idle = inner.volumes.cluster.all_alive();
        idle.retain(|v| inner.calls().free(v.volume));
        let (tree, acks) = (inner.metadata.database.tree(), &inner.changes.delete_acks);
        let awaited = |volume| acks.awaited(volume, RECLAIM_BATCH);
        // Read before the list, so that an entry removed in between is in neither.
        let unnoted: HashMap<_, _> = idle.iter().map(|v| (v.volume, inner.calls().told(v.volume))).collect();
        let unnoted = |volume| unnoted.get(&volume).cloned().unwrap_or_default();
        let chosen = meta::gap(&tree)
            .and_then(|gap| next_deletes(&tree, idle, RECLAIM_BATCH, inner.horizon(gap), awaited, unnoted));
        let calls = match chosen {
            Ok(calls) => calls,
            Err(error) => {
                tracing::error!(%error, "the reclaim list cannot be read");
                return TickResult::Idle;
            }
        };
        for call in calls {
            inner.calls().busy.insert(call.volume.volume);
            let inner = Arc::clone(inner);
            tokio::spawn(async move { inner.run_delete(call).await });
        }
        TickResult::Idle
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use shared::clock::Clock;
    use shared::http::client::PeerClient;
    use shared::ids::ClusterId;
    use shared::secret::ClusterSecret;
    use shared::telemetry::Metrics;
    use tokio::net::TcpListener;

    use super::*;
    use crate::cluster::VolumeAddress;
    use crate::config::{Config, Replication};
    use crate::db::Database;
    use crate::join::create_cluster;
    use crate::metrics::MasterMetrics;
    use crate::raft::Peer;
    use crate::raft::group::Group;

    /// A master without a leader: its group has not been initialized.
    async fn leaderless(folder: &Path) -> Arc<Master> {
        leaderless_at(folder, Clock::System).await
    }

    pub(in crate::work) async fn leaderless_at(folder: &Path, clock: Clock) -> Arc<Master> {
        let secret = ClusterSecret::from_bytes(b"0123456789abcdef");
        let peers = PeerClient::new(secret.clone(), Clock::System);
        let mut config = Config::new(folder.to_owned(), secret, Replication::new(1, None).unwrap());
        config.clock = clock;
        let database = Arc::new(Database::open(&config.data).unwrap());
        let me = Peer { address: "http://127.0.0.1:1".into(), public_url: "http://127.0.0.1:1".into() };
        let group = Group::start(database, me, peers.clone(), config.entries_kept, Box::new(|_, _| {}));
        let (group, metrics) = (Arc::new(group.await.unwrap()), Metrics::default());
        let policy = crate::policy(&config, group.me(), &metrics);
        let counted = MasterMetrics::new(&metrics);
        crate::assemble(config, ClusterId::random(), group, peers, counted, policy).unwrap()
    }

    #[tokio::test]
    async fn who_may_have_been_deposed_has_nothing_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let master = leaderless(&folder.path().join("meta")).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let volume =
            VolumeAddress { volume: VolumeId::from_bytes([1; 16]), public_url: address.clone(), address };
        let blobs = vec![BlobId::next(None, Timestamp::from_unix_ms(1 << 40), [1; 10])];
        let deletes = Reclaimer::new(&master);
        let call = Delete { volume, blobs, tombstones: vec![], reclaimed_before: None };
        tokio::select! {
            deleted = deletes.delete(call.clone()) => assert_eq!(deleted, None),
            _ = listener.accept() => panic!("a volume was called"),
        }
        create_cluster(&master.group).await.unwrap();
        tokio::select! {
            deleted = deletes.delete(call) => panic!("{deleted:?}, and no volume was called"),
            called = listener.accept() => drop(called.unwrap()),
        }
    }

    #[test]
    fn a_volume_is_called_again_before_the_list_knows_and_not_without_end() {
        let volume = VolumeId::from_bytes([1; 16]);
        let blob = |n: u64| BlobId::next(None, Timestamp::from_unix_ms(n), [1; 10]);
        let mut calls = Calls::default();
        for n in 0..RECLAIM_UNNOTED as u64 {
            assert!(calls.free(volume));
            calls.busy.insert(volume);
            assert!(!calls.free(volume), "it has not answered");
            calls.answered(volume, vec![blob(2 * n), blob(2 * n + 1)]);
        }
        assert!(!calls.free(volume));
        assert_eq!(calls.told(volume).len(), 2 * RECLAIM_UNNOTED);
        calls.noted(volume, &[blob(2), blob(3)]);
        assert!(calls.free(volume) && !calls.told(volume).contains(&blob(3)));
        for n in (0..RECLAIM_UNNOTED as u64).filter(|n| *n != 1) {
            calls.noted(volume, &[blob(2 * n), blob(2 * n + 1)]);
        }
        assert!(calls.unnoted.is_empty() && calls.told(volume).is_empty());
    }
}
