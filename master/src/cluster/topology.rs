//! The volumes as the planners see them: what each can be used for now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::ring::{Member, Ring, Zone};

/// What a volume can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Its replicas count, and it accepts more.
    Writable,
    /// Its replicas count, but it accepts none: it is read-only or full, or not yet compared with the tables.
    ReadOnly,
    /// Silent for less than `repair_after`: its replicas count, but cannot be read.
    Down,
    /// Silent for `repair_after` or longer: its replicas no longer count.
    Lost,
    /// Draining or decommissioned: its replicas no longer count, but can be read while it is up.
    Draining { up: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyVolume {
    /// Its failure domain.
    pub zone: Option<Zone>,
    pub availability: Availability,
    /// Whether reconciliation has compared it with the tables since it was last down or restarted.
    pub compared: bool,
    /// Bytes it may use.
    pub capacity_bytes: u64,
    /// Bytes free for values.
    pub available_bytes: u64,
    /// Bytes of its records.
    pub live_bytes: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Topology {
    volumes: BTreeMap<VolumeId, TopologyVolume>,
    ring: Arc<Ring>,
    zones: usize,
    /// Corrupt replicas that their volumes cannot heal.
    bad: BTreeSet<(VolumeId, BlobId)>,
}

impl TopologyVolume {
    /// Returns live bytes by capacity: 1 is full.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn fullness(&self) -> f64 {
        self.live_bytes as f64 / self.capacity_bytes.max(1) as f64
    }
}

impl Topology {
    /// Returns a topology of these volumes and builds its ring.
    pub fn new(entries: impl IntoIterator<Item = (VolumeId, TopologyVolume)>) -> Self {
        let entries: BTreeMap<_, _> = entries.into_iter().collect();
        let member = |(id, s): (&VolumeId, &TopologyVolume)| Member {
            id: *id,
            weight: s.capacity_bytes,
            zone: s.zone.clone(),
        };
        let members: Vec<_> = entries.iter().map(member).collect();
        let ring = Arc::new(Ring::new(&members));
        Self::on(ring, entries)
    }

    /// Returns a topology of these volumes on an existing ring.
    pub fn on(ring: Arc<Ring>, entries: impl IntoIterator<Item = (VolumeId, TopologyVolume)>) -> Self {
        let entries: BTreeMap<_, _> = entries.into_iter().collect();
        let zones = entries.values().map(|entry| &entry.zone).collect::<BTreeSet<_>>().len();
        Self { volumes: entries, ring, zones, bad: BTreeSet::new() }
    }

    /// Returns the same topology with corrupt replicas that do not count.
    #[must_use]
    pub fn with_bad(self, bad: impl IntoIterator<Item = (VolumeId, BlobId)>) -> Self {
        Self { bad: bad.into_iter().collect(), ..self }
    }

    /// Returns the corrupt replicas, which do not count.
    pub fn bad(&self) -> impl Iterator<Item = (VolumeId, BlobId)> {
        self.bad.iter().copied()
    }

    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Returns a volume; `None` if it is unknown.
    pub fn volume(&self, volume: VolumeId) -> Option<&TopologyVolume> {
        self.volumes.get(&volume)
    }

    #[cfg(test)]
    pub(crate) fn volume_mut(&mut self, volume: VolumeId) -> &mut TopologyVolume {
        self.volumes.get_mut(&volume).expect("a volume of the topology")
    }

    /// Returns the availability of a volume; an unknown one is lost.
    pub fn availability(&self, volume: VolumeId) -> Availability {
        self.volume(volume).map_or(Availability::Lost, |entry| entry.availability)
    }

    /// Returns all volumes, ordered by id.
    pub fn volumes(&self) -> impl Iterator<Item = (VolumeId, &TopologyVolume)> {
        self.volumes.iter().map(|(id, entry)| (*id, entry))
    }

    pub fn zone(&self, volume: VolumeId) -> Option<&Zone> {
        self.volume(volume).and_then(|entry| entry.zone.as_ref())
    }

    /// Returns the number of zones; volumes without a zone count as one.
    pub fn zones(&self) -> usize {
        self.zones
    }

    /// Whether the replicas of a volume count.
    pub fn counts(&self, volume: VolumeId) -> bool {
        matches!(
            self.availability(volume),
            Availability::Writable | Availability::ReadOnly | Availability::Down
        )
    }

    /// Whether its replica of this blob counts.
    pub fn counts_for(&self, volume: VolumeId, blob: BlobId) -> bool {
        self.counts(volume) && !self.bad.contains(&(volume, blob))
    }

    /// Whether it accepts a new replica of this blob.
    pub fn accepts_replica(&self, volume: VolumeId, blob: BlobId) -> bool {
        self.availability(volume) == Availability::Writable && !self.bad.contains(&(volume, blob))
    }

    /// Whether its replicas can be read now.
    pub fn is_readable(&self, volume: VolumeId) -> bool {
        matches!(
            self.availability(volume),
            Availability::Writable | Availability::ReadOnly | Availability::Draining { up: true }
        )
    }

    /// Whether its replicas count, can be read, and are known to exist because it was compared.
    pub fn is_verified(&self, volume: VolumeId) -> bool {
        let entry = self.volume(volume).filter(|entry| entry.compared);
        entry.is_some_and(|entry| {
            matches!(entry.availability, Availability::Writable | Availability::ReadOnly)
        })
    }

    /// Whether its replica of this blob counts, can be read, and is known to exist.
    pub fn has_verified_replica(&self, volume: VolumeId, blob: BlobId) -> bool {
        self.is_verified(volume) && !self.bad.contains(&(volume, blob))
    }

    /// Chooses the volume for one more replica of `blob`, which belongs to `key`. `held` have or get a replica;
    /// `barred` must not get one. Takes a zone with the fewest counting replicas, and within it the first volume
    /// of the ring.
    pub fn destination(
        &self,
        (key, blob): (&Key, BlobId),
        bytes: u64,
        held: &[VolumeId],
        barred: &[VolumeId],
    ) -> Option<VolumeId> {
        let fits = |id: VolumeId, entry: &TopologyVolume| {
            let free = !held.contains(&id) && !barred.contains(&id);
            free && self.accepts_replica(id, blob) && entry.available_bytes >= bytes
        };
        let counted: Vec<_> = held.iter().filter(|v| self.counts_for(**v, blob)).collect();
        let in_zone = |zone: Option<&Zone>| counted.iter().filter(|v| self.zone(***v) == zone).count();
        let usable = self.volumes().filter(|(id, entry)| fits(*id, entry));
        let fewest = usable.map(|(_, entry)| in_zone(entry.zone.as_ref())).min()?;
        let chosen = |id| {
            let entry = self.volume(id);
            entry.is_some_and(|entry| fits(id, entry) && in_zone(entry.zone.as_ref()) == fewest)
        };
        self.ring.place(key, 1, chosen).first().copied()
    }
}
