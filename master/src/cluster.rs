//! This master's live view of the volumes (liveness, placement): when each last sent a heartbeat, which accept
//! writes, which can serve a replica. In memory only; heartbeats rebuild it after a restart.

mod duplicate_id;
mod liveness;
pub mod topology;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use shared::ids::{BlobId, ClusterId, VolumeId};
use shared::key::Key;
use shared::limits::CORRUPT_SHOWN;
use shared::ring::{Member, Ring};
use shared::wire::cluster::Event;
use shared::wire::master::VolumeSummary;
use shared::wire::volume::VolumeReport;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::config::Replication;
use crate::tables::volume::VolumeRecord;
use liveness::{LivenessTimeouts, VolumeEntry};

/// The live view of all volumes.
#[derive(Debug)]
pub struct Cluster {
    id: ClusterId,
    times: LivenessTimeouts,
    view: RwLock<View>,
    /// Notified of every heartbeat.
    heartbeats: Notify,
}

#[derive(Debug, Default)]
struct View {
    volumes: HashMap<VolumeId, VolumeEntry>,
    ring: Arc<Ring>,
    /// State transitions, the newest last.
    events: VecDeque<Event>,
    /// Whether this master runs reconciliation: only the leader does.
    compares: bool,
}

/// The addresses of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeAddress {
    pub volume: VolumeId,
    /// Where peers reach it.
    pub address: String,
    /// Where clients reach it.
    pub public_url: String,
}

/// Why no volumes can be chosen for a value.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlacementError {
    #[error("{usable} of {known} volumes take writes, and {needed} are needed ({why})")]
    TooFewVolumes {
        /// Volumes that take writes.
        usable: usize,
        /// Volumes that have ever joined.
        known: usize,
        /// Minimum of replicas.
        needed: usize,
        /// Why the others do not take writes.
        why: String,
    },
    /// Enough volumes take writes, but too few have room.
    #[error(
        "the value needs {needed_bytes} bytes on each of {copies} volumes; free bytes on the emptiest volumes: \
         {available_bytes:?}"
    )]
    NoSpace {
        /// Free bytes needed on each volume.
        needed_bytes: u64,
        copies: usize,
        /// Free bytes of the volumes, most first.
        available_bytes: Vec<u64>,
    },
}

/// Why the heartbeat of a volume is refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum HeartbeatError {
    #[error("the volume belongs to cluster {theirs}, this master to cluster {ours}")]
    OtherCluster { theirs: ClusterId, ours: ClusterId },
    /// Another live volume has the same id.
    #[error(
        "volume {volume} is already running at {known}; another volume with the same id reports from {address}"
    )]
    DuplicateId {
        volume: VolumeId,
        /// Address of the volume that was there first.
        known: String,
        /// Address of the refused one.
        address: String,
    },
}

impl Cluster {
    /// Returns a view of the volumes in `records`, none of which has sent a heartbeat yet. A volume that is silent
    /// for `down_after` is not used; after `repair_after` its replicas no longer count.
    pub fn new(
        id: ClusterId,
        down_after: Duration,
        repair_after: Duration,
        records: Vec<VolumeRecord>,
    ) -> Self {
        let entries = records.into_iter().map(|record| (record.volume, VolumeEntry::new(record))).collect();
        let mut view = View { volumes: entries, ..View::default() };
        view.rebuild_ring();
        Self {
            id,
            times: LivenessTimeouts { down_after, repair_after, began: Instant::now() },
            view: RwLock::new(view),
            heartbeats: Notify::new(),
        }
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn id(&self) -> ClusterId {
        self.id
    }

    /// Records a heartbeat. Returns the volume's record to be stored in the tables.
    ///
    /// # Errors
    /// When the volume belongs to another cluster, or has the id of a live volume at another address.
    pub fn record_heartbeat(&self, report: VolumeReport) -> Result<VolumeRecord, HeartbeatError> {
        if let Some(theirs) = report.cluster.filter(|c| *c != self.id) {
            return Err(HeartbeatError::OtherCluster { theirs, ours: self.id });
        }
        let record = VolumeRecord {
            volume: report.volume,
            address: report.address.clone(),
            public_url: report.public_url.clone(),
            zone: report.zone.clone(),
            capacity_bytes: report.capacity_bytes,
        };
        let mut view = self.view_mut();
        let entry = view.volumes.entry(record.volume).or_insert_with(|| VolumeEntry::new(record.clone()));
        entry.same(&report, self.times)?;
        let known = std::mem::replace(&mut entry.record, record.clone());
        let new = entry.report.is_none();
        entry.record_heartbeat(report, self.times);
        if new || known != record {
            view.rebuild_ring();
        }
        drop(view);
        self.heartbeats.notify_waiters();
        Ok(record)
    }

    /// Waits for the next heartbeat of any volume after this call, even before the future is polled.
    pub fn next_heartbeat(&self) -> Notified<'_> {
        self.heartbeats.notified()
    }

    /// Marks a volume to which a call failed as suspect: it is not used until its next heartbeat.
    pub fn suspect(&self, volume: VolumeId) {
        let mut view = self.view_mut();
        if let Some(entry) = view.volumes.get_mut(&volume)
            && entry.suspect()
        {
            tracing::warn!(%volume, address = entry.record.address, "a call failed; the volume is suspect");
        }
    }

    /// Returns the volumes for a new value of `key` (placement by `Ring::place`), those of `prefer` first: as many as
    /// wanted, or fewer if fewer are usable, but never fewer than the minimum.
    ///
    /// # Errors
    /// When there are not enough, with the reason.
    pub fn choose_volumes(
        &self,
        key: &Key,
        bytes: u64,
        replication: Replication,
        prefer: &[VolumeId],
        avoid: &[VolumeId],
    ) -> Result<Vec<VolumeAddress>, PlacementError> {
        let view = self.view();
        let up = |v: VolumeId| {
            !avoid.contains(&v) && view.volumes.get(&v).is_some_and(|s| s.is_writable(self.times))
        };
        let takes = |v: VolumeId| up(v) && view.volumes[&v].available() >= bytes;
        let mut chosen: Vec<_> = prefer.iter().copied().filter(|v| takes(*v)).collect();
        if chosen.len() < replication.wanted() {
            let proposed = view.ring.place(key, replication.wanted(), takes);
            let more: Vec<_> = proposed.into_iter().filter(|v| !chosen.contains(v)).collect();
            chosen.extend(more);
        }
        chosen.truncate(replication.wanted());
        if chosen.len() >= replication.min() {
            return Ok(chosen
                .into_iter()
                .filter_map(|v| view.volumes.get(&v))
                .map(VolumeEntry::address)
                .collect());
        }
        let mut available: Vec<u64> =
            view.volumes.iter().filter(|(v, _)| up(**v)).map(|(_, s)| s.available()).collect();
        if available.len() >= replication.min() {
            available.sort_unstable_by(|a, b| b.cmp(a));
            available.truncate(replication.wanted());
            let copies = replication.min();
            return Err(PlacementError::NoSpace { needed_bytes: bytes, copies, available_bytes: available });
        }
        let why = view
            .volumes
            .values()
            .filter_map(|s| {
                let (_, reason) = s.state(self.times, view.compares);
                reason.map(|r| format!("{}: {r}", s.record.address))
            })
            .collect::<Vec<_>>()
            .join("; ");
        Err(PlacementError::TooFewVolumes {
            usable: available.len(),
            known: view.volumes.len(),
            needed: replication.min(),
            why: if why.is_empty() { "no volume has joined".to_owned() } else { why },
        })
    }

    /// Returns the live volumes among `replicas`, in their order.
    pub fn alive(&self, replicas: &[VolumeId]) -> Vec<VolumeAddress> {
        let view = self.view();
        replicas
            .iter()
            .filter_map(|v| view.volumes.get(v).filter(|s| s.is_up(self.times)))
            .map(VolumeEntry::address)
            .collect()
    }

    /// Returns the peer address of a volume, whether or not it is up.
    pub fn address_of(&self, volume: VolumeId) -> Option<String> {
        self.view().volumes.get(&volume).map(|entry| entry.record.address.clone())
    }

    pub fn all_alive(&self) -> Vec<VolumeAddress> {
        let view = self.view();
        view.volumes.values().filter(|s| s.is_up(self.times)).map(VolumeEntry::address).collect()
    }

    /// Whether all volumes that ever joined, except decommissioned ones, are alive.
    pub fn is_complete(&self) -> bool {
        let view = self.view();
        view.volumes.values().all(|s| s.is_up(self.times) || s.is_decommissioned())
    }

    /// Returns all volumes as the status shows them, ordered by id.
    pub fn summaries(&self) -> Vec<VolumeSummary> {
        let view = self.view();
        let mut all: Vec<_> = view.volumes.values().map(|s| s.summary(self.times, view.compares)).collect();
        all.sort_by_key(|s| s.volume);
        all
    }

    /// Returns the corrupt records that volumes report, at most `CORRUPT_SHOWN` per volume.
    pub fn corrupt(&self) -> Vec<(VolumeId, BlobId)> {
        let view = self.view();
        let of_seat = |(volume, entry): (&VolumeId, &VolumeEntry)| {
            let blobs = entry.report.iter().flat_map(|r| r.corrupt.iter().take(CORRUPT_SHOWN));
            blobs.map(|blob| (*volume, *blob)).collect::<Vec<_>>()
        };
        view.volumes.iter().flat_map(of_seat).collect()
    }

    pub fn writable(&self) -> usize {
        let view = self.view();
        view.volumes.values().filter(|s| s.is_writable(self.times)).count()
    }
}

impl View {
    fn rebuild_ring(&mut self) {
        let members: Vec<Member> = self
            .volumes
            .values()
            .filter(|s| !s.is_decommissioned())
            .map(|s| Member {
                id: s.record.volume,
                weight: s.record.capacity_bytes,
                zone: s.record.zone.clone(),
            })
            .collect();
        self.ring = Arc::new(Ring::new(&members));
    }
}
