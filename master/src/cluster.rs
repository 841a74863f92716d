//! The volumes as this master sees them now: who was heard of when, who can take a write, who holds a
//! live copy. Fed by heartbeats; lost with the process and rebuilt within a heartbeat.

mod life;
pub mod topology;
mod twin;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use shared::ids::{BlobId, ClusterId, VolumeId};
use shared::key::Key;
use shared::limits::DAMAGED_SHOWN;
use shared::ring::{Member, Ring};
use shared::wire::cluster::Event;
use shared::wire::master::VolumeSummary;
use shared::wire::volume::VolumeReport;

use crate::config::Replication;
use crate::tables::volume::VolumeRecord;
use life::{Seat, Times};

/// The live view of all volumes.
#[derive(Debug)]
pub struct Cluster {
    id: ClusterId,
    times: Times,
    view: RwLock<View>,
}

#[derive(Debug, Default)]
struct View {
    seats: HashMap<VolumeId, Seat>,
    ring: Arc<Ring>,
    /// What became of them, the newest last.
    events: VecDeque<Event>,
    /// Whether this master compares what volumes hold: the leader does.
    compares: bool,
}

/// A volume that can be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reachable {
    pub volume: VolumeId,
    /// Where peers reach it.
    pub address: String,
    /// Where clients reach it.
    pub public_url: String,
}

/// No place for a value now.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum NoPlace {
    /// Too few volumes take writes.
    #[error("{usable} of {known} volumes take writes, and {needed} are needed ({why})")]
    TooFewVolumes {
        /// That take writes.
        usable: usize,
        /// That there are.
        known: usize,
        /// That are needed.
        needed: usize,
        /// What is wrong with the others.
        why: String,
    },
    /// Enough volumes, none with the room.
    #[error(
        "the value needs {needed_bytes} bytes on {copies} volumes; the roomiest have {available_bytes:?} bytes left for values"
    )]
    NoSpace {
        /// Bytes a volume must have.
        needed_bytes: u64,
        /// Volumes that must have them.
        copies: usize,
        /// What the volumes have, most first.
        available_bytes: Vec<u64>,
    },
}

/// A volume may not join.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum HeardError {
    /// It has another master.
    #[error("the volume belongs to cluster {theirs}, this master to cluster {ours}")]
    OtherCluster {
        /// Whose the volume is.
        theirs: ClusterId,
        /// Whose the master is.
        ours: ClusterId,
    },
    /// There is one with its id.
    #[error(
        "volume {volume} is at {known} and is heard of there; another one with the same id is at {address}"
    )]
    Twin {
        /// The id that both report.
        volume: VolumeId,
        /// Where it is.
        known: String,
        /// Where the other is.
        address: String,
    },
}

impl Cluster {
    /// A view of the volumes that `records` name, none of them heard of yet. One that has been silent for `down_after` is not
    /// used; for `repair_after`, and its copies count no more.
    pub fn new(
        id: ClusterId,
        down_after: Duration,
        repair_after: Duration,
        records: Vec<VolumeRecord>,
    ) -> Self {
        let seats = records.into_iter().map(|record| (record.volume, Seat::new(record))).collect();
        let mut view = View { seats, ..View::default() };
        view.rebuild_ring();
        Self { id, times: Times { down_after, repair_after, began: Instant::now() }, view: RwLock::new(view) }
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose master this is.
    pub fn id(&self) -> ClusterId {
        self.id
    }

    /// A volume was heard of. Returns what is to be kept of it.
    ///
    /// # Errors
    /// When it belongs to another cluster, or has the id of one that is heard of elsewhere.
    pub fn heard(&self, report: VolumeReport) -> Result<VolumeRecord, HeardError> {
        if let Some(theirs) = report.cluster.filter(|c| *c != self.id) {
            return Err(HeardError::OtherCluster { theirs, ours: self.id });
        }
        let record = VolumeRecord {
            volume: report.volume,
            address: report.address.clone(),
            public_url: report.public_url.clone(),
            zone: report.zone.clone(),
            capacity_bytes: report.capacity_bytes,
        };
        let mut view = self.view_mut();
        let seat = view.seats.entry(record.volume).or_insert_with(|| Seat::new(record.clone()));
        seat.same(&report, self.times)?;
        let known = std::mem::replace(&mut seat.record, record.clone());
        let new = seat.report.is_none();
        seat.hear(report, self.times);
        if new || known != record {
            view.rebuild_ring();
        }
        Ok(record)
    }

    /// A call to the volume failed: it is passed over until it is heard of again.
    pub fn suspect(&self, volume: VolumeId) {
        let mut view = self.view_mut();
        if let Some(seat) = view.seats.get_mut(&volume)
            && seat.suspect()
        {
            tracing::warn!(%volume, address = seat.record.address, "volume does not answer");
        }
    }

    /// The volumes for a new value of `key`, those of `prefer` first: as many as wanted, fewer when fewer are usable, never fewer than the minimum.
    ///
    /// # Errors
    /// When there are not enough, with the reason.
    pub fn place(
        &self,
        key: &Key,
        bytes: u64,
        replication: Replication,
        prefer: &[VolumeId],
        avoid: &[VolumeId],
    ) -> Result<Vec<Reachable>, NoPlace> {
        let view = self.view();
        let up = |v: VolumeId| {
            !avoid.contains(&v) && view.seats.get(&v).is_some_and(|s| s.takes_writes(self.times))
        };
        let takes = |v: VolumeId| up(v) && view.seats[&v].available() >= bytes;
        let mut chosen: Vec<_> = prefer.iter().copied().filter(|v| takes(*v)).collect();
        if chosen.len() < replication.wanted() {
            let proposed = view.ring.place(key, replication.wanted(), takes);
            let more: Vec<_> = proposed.into_iter().filter(|v| !chosen.contains(v)).collect();
            chosen.extend(more);
        }
        chosen.truncate(replication.wanted());
        if chosen.len() >= replication.min() {
            return Ok(chosen.into_iter().filter_map(|v| view.seats.get(&v)).map(Seat::reachable).collect());
        }
        let mut available: Vec<u64> =
            view.seats.iter().filter(|(v, _)| up(**v)).map(|(_, s)| s.available()).collect();
        if available.len() >= replication.min() {
            available.sort_unstable_by(|a, b| b.cmp(a));
            available.truncate(replication.wanted());
            let copies = replication.min();
            return Err(NoPlace::NoSpace { needed_bytes: bytes, copies, available_bytes: available });
        }
        let why = view
            .seats
            .values()
            .filter_map(|s| {
                let (_, reason) = s.state(self.times, view.compares);
                reason.map(|r| format!("{}: {r}", s.record.address))
            })
            .collect::<Vec<_>>()
            .join("; ");
        Err(NoPlace::TooFewVolumes {
            usable: available.len(),
            known: view.seats.len(),
            needed: replication.min(),
            why: if why.is_empty() { "no volume has joined".to_owned() } else { why },
        })
    }

    /// Those of `replicas` that are alive, in their order.
    pub fn alive(&self, replicas: &[VolumeId]) -> Vec<Reachable> {
        let view = self.view();
        replicas
            .iter()
            .filter_map(|v| view.seats.get(v).filter(|s| s.is_up(self.times)))
            .map(Seat::reachable)
            .collect()
    }

    /// Where peers reach a volume, whether or not it is up; none when it is not known.
    pub fn address_of(&self, volume: VolumeId) -> Option<String> {
        self.view().seats.get(&volume).map(|seat| seat.record.address.clone())
    }

    /// All volumes that are alive.
    pub fn all_alive(&self) -> Vec<Reachable> {
        let view = self.view();
        view.seats.values().filter(|s| s.is_up(self.times)).map(Seat::reachable).collect()
    }

    /// Whether all volumes that ever joined are alive.
    pub fn is_complete(&self) -> bool {
        let view = self.view();
        view.seats.values().all(|s| s.is_up(self.times) || s.is_gone())
    }

    /// All volumes as the status shows them, by id.
    pub fn summaries(&self) -> Vec<VolumeSummary> {
        let view = self.view();
        let mut all: Vec<_> = view.seats.values().map(|s| s.summary(self.times, view.compares)).collect();
        all.sort_by_key(|s| s.volume);
        all
    }

    /// What the volumes can neither read nor heal.
    pub fn damaged(&self) -> Vec<(VolumeId, BlobId)> {
        let view = self.view();
        let of_seat = |(volume, seat): (&VolumeId, &Seat)| {
            let blobs = seat.report.iter().flat_map(|r| r.damaged.iter().take(DAMAGED_SHOWN));
            blobs.map(|blob| (*volume, *blob)).collect::<Vec<_>>()
        };
        view.seats.iter().flat_map(of_seat).collect()
    }

    /// How many volumes take writes.
    pub fn writable(&self) -> usize {
        let view = self.view();
        view.seats.values().filter(|s| s.takes_writes(self.times)).count()
    }
}

impl View {
    fn rebuild_ring(&mut self) {
        let members: Vec<Member> = self
            .seats
            .values()
            .filter(|s| !s.is_gone())
            .map(|s| Member {
                id: s.record.volume,
                weight: s.record.capacity_bytes,
                zone: s.record.zone.clone(),
            })
            .collect();
        self.ring = Arc::new(Ring::new(&members));
    }
}
