//! The volumes as plans see them: what each can be used for now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::ring::{Member, Ring, Zone};

/// What a volume can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Its copies count, and it takes in more.
    Up,
    /// Its copies count, and it takes in none: it is read-only or full, or what it holds has not been compared yet.
    Serving,
    /// Silent, not for long: its copies count, and nobody can have them.
    Away,
    /// Silent for so long that its copies count no more.
    Lost,
    /// To be emptied: its copies count no more; whether they can be had.
    Leaving {
        /// Whether it is up.
        up: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// What it shares its fate with.
    pub zone: Option<Zone>,
    /// What it can be used for.
    pub condition: Condition,
    /// What it holds was compared with the tables since it was last away.
    pub compared: bool,
    /// Bytes it may use.
    pub capacity_bytes: u64,
    /// Bytes it has for values.
    pub available_bytes: u64,
    /// Bytes of its records.
    pub live_bytes: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Topology {
    seats: BTreeMap<VolumeId, Seat>,
    ring: Arc<Ring>,
    zones: usize,
    /// Copies that their volumes can neither read nor write anew.
    bad: BTreeSet<(VolumeId, BlobId)>,
}

impl Seat {
    /// How full it is: 1 is to the brim.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn fullness(&self) -> f64 {
        self.live_bytes as f64 / self.capacity_bytes.max(1) as f64
    }
}

impl Topology {
    /// These volumes, on the ring that is made of them.
    pub fn new(seats: impl IntoIterator<Item = (VolumeId, Seat)>) -> Self {
        let seats: BTreeMap<_, _> = seats.into_iter().collect();
        let member =
            |(id, s): (&VolumeId, &Seat)| Member { id: *id, weight: s.capacity_bytes, zone: s.zone.clone() };
        let members: Vec<_> = seats.iter().map(member).collect();
        let ring = Arc::new(Ring::new(&members));
        Self::on(ring, seats)
    }

    /// These volumes, on a ring that is there already.
    pub fn on(ring: Arc<Ring>, seats: impl IntoIterator<Item = (VolumeId, Seat)>) -> Self {
        let seats: BTreeMap<_, _> = seats.into_iter().collect();
        let zones = seats.values().map(|seat| &seat.zone).collect::<BTreeSet<_>>().len();
        Self { seats, ring, zones, bad: BTreeSet::new() }
    }

    /// The same with copies that do not count, because their volumes can neither read nor write them anew.
    #[must_use]
    pub fn with_bad(self, bad: impl IntoIterator<Item = (VolumeId, BlobId)>) -> Self {
        Self { bad: bad.into_iter().collect(), ..self }
    }

    /// Copies that do not count, because their volumes can neither read nor write them anew.
    pub fn bad(&self) -> impl Iterator<Item = (VolumeId, BlobId)> {
        self.bad.iter().copied()
    }

    /// The ring of them.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// One of them; none that is not known.
    pub fn seat(&self, volume: VolumeId) -> Option<&Seat> {
        self.seats.get(&volume)
    }

    #[cfg(test)]
    pub(crate) fn seat_mut(&mut self, volume: VolumeId) -> &mut Seat {
        self.seats.get_mut(&volume).expect("a volume of the topology")
    }

    /// What one of them can be used for. What is not known is lost.
    pub fn condition(&self, volume: VolumeId) -> Condition {
        self.seat(volume).map_or(Condition::Lost, |seat| seat.condition)
    }

    /// All of them, by id.
    pub fn seats(&self) -> impl Iterator<Item = (VolumeId, &Seat)> {
        self.seats.iter().map(|(id, seat)| (*id, seat))
    }

    /// Where a volume stands.
    pub fn zone(&self, volume: VolumeId) -> Option<&Zone> {
        self.seat(volume).and_then(|seat| seat.zone.as_ref())
    }

    /// Zones there are; volumes without one share one.
    pub fn zones(&self) -> usize {
        self.zones
    }

    /// Whether its copies count.
    pub fn counts(&self, volume: VolumeId) -> bool {
        matches!(self.condition(volume), Condition::Up | Condition::Serving | Condition::Away)
    }

    /// Whether its copy of this blob counts.
    pub fn counts_for(&self, volume: VolumeId, blob: BlobId) -> bool {
        self.counts(volume) && !self.bad.contains(&(volume, blob))
    }

    /// Whether it takes in a copy of this blob.
    pub fn takes(&self, volume: VolumeId, blob: BlobId) -> bool {
        self.condition(volume) == Condition::Up && !self.bad.contains(&(volume, blob))
    }

    /// Whether its copies can be had now.
    pub fn gives(&self, volume: VolumeId) -> bool {
        matches!(self.condition(volume), Condition::Up | Condition::Serving | Condition::Leaving { up: true })
    }

    /// Whether its copies count, can be had, and are there: it was compared.
    pub fn keeps(&self, volume: VolumeId) -> bool {
        let seat = self.seat(volume).filter(|seat| seat.compared);
        seat.is_some_and(|seat| matches!(seat.condition, Condition::Up | Condition::Serving))
    }

    /// Whether its copy of this blob counts, can be had, and is there.
    pub fn keeps_of(&self, volume: VolumeId, blob: BlobId) -> bool {
        self.keeps(volume) && !self.bad.contains(&(volume, blob))
    }

    /// The volume that is to take in one more copy of `blob`, one of `key`, where `held` have or get one and `barred` must not: in a
    /// zone with as few of those that count as can be, and there the first of the ring.
    pub fn destination(
        &self,
        (key, blob): (&Key, BlobId),
        bytes: u64,
        held: &[VolumeId],
        barred: &[VolumeId],
    ) -> Option<VolumeId> {
        let fits = |id: VolumeId, seat: &Seat| {
            let free = !held.contains(&id) && !barred.contains(&id);
            free && self.takes(id, blob) && seat.available_bytes >= bytes
        };
        let counted: Vec<_> = held.iter().filter(|v| self.counts_for(**v, blob)).collect();
        let in_zone = |zone: Option<&Zone>| counted.iter().filter(|v| self.zone(***v) == zone).count();
        let usable = self.seats().filter(|(id, seat)| fits(*id, seat));
        let fewest = usable.map(|(_, seat)| in_zone(seat.zone.as_ref())).min()?;
        let chosen = |id| {
            let seat = self.seat(id);
            seat.is_some_and(|seat| fits(id, seat) && in_zone(seat.zone.as_ref()) == fewest)
        };
        self.ring.place(key, 1, chosen).first().copied()
    }
}
