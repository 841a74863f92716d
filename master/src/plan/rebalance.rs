//! Which values move so that all volumes are about equally full, whatever their sizes. It is worked out anew from what the volumes
//! report as often as anybody likes: there is nothing to remember, so nothing to lose.
//!
//! Zones come first. Where there are no more of them than copies, each must hold the same copies, and volumes are compared within
//! their zone; otherwise all with all, and a value moves between zones only when no zone gets more of its copies than it has to.

use std::collections::BTreeMap;

use shared::ids::VolumeId;
use shared::ring::Zone;
use shared::size::record_bytes_max;

use super::repair::Held;
use crate::cluster::topology::{Condition, Seat, Topology};

/// A volume that holds what it should to this part is as full as the others: less than half of the 5 % that users are promised,
/// because values are moved whole, and written meanwhile.
pub const TOLERANCE: f64 = 0.02;

/// What each volume has too much, or too little.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Bytes to go, by volume.
    pub over: BTreeMap<VolumeId, u64>,
    /// Bytes to come, by volume.
    pub under: BTreeMap<VolumeId, u64>,
    /// Bytes those should hold. Who should hold most is served first: it has the fewest values to choose from.
    shares: BTreeMap<VolumeId, u64>,
}

impl Balance {
    /// What is to be moved where `copies` of each value are wanted.
    pub fn of(topology: &Topology, copies: usize) -> Self {
        let within_zones = topology.zones() <= copies;
        let mut groups: BTreeMap<Option<&Zone>, Vec<(VolumeId, &Seat)>> = BTreeMap::new();
        for (id, seat) in topology.seats().filter(|(_, seat)| takes_part(seat)) {
            let group = if within_zones { seat.zone.as_ref() } else { None };
            groups.entry(group).or_default().push((id, seat));
        }
        // No volume holds two copies of a value.
        let apart = if within_zones { copies.div_ceil(topology.zones().max(1)) } else { copies };
        let mut balance = Self::default();
        for group in groups.values() {
            balance.add(group, apart);
        }
        balance
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "shares of bytes"
    )]
    fn add(&mut self, group: &[(VolumeId, &Seat)], apart: usize) {
        let shares = shares(group, apart);
        let far = |(seat, share): (&Seat, f64)| (seat.live_bytes as f64 - share).abs() > TOLERANCE * share;
        if !group.iter().zip(&shares).any(|((_, seat), share)| far((seat, *share))) {
            return;
        }
        for ((id, seat), share) in group.iter().zip(shares) {
            let differs = seat.live_bytes as f64 - share;
            if differs >= 1.0 {
                self.over.insert(*id, differs as u64);
            } else if differs <= -1.0 && seat.condition == Condition::Up {
                self.under.insert(*id, (-differs) as u64);
                self.shares.insert(*id, share as u64);
            }
        }
    }

    /// Whether nothing is to be moved.
    pub fn is_even(&self) -> bool {
        self.over.is_empty() || self.under.is_empty()
    }

    /// Bytes to be moved.
    pub fn bytes(&self) -> u64 {
        self.over.values().sum::<u64>().min(self.under.values().sum())
    }

    /// Where one copy of a blob moves from `from`, if it is to: to the volume that should hold most of those that lack something,
    /// and only when that brings both nearer to where they should be. The balance is as if it had.
    pub fn take(&mut self, from: VolumeId, held: &Held, topology: &Topology) -> Option<VolumeId> {
        let settled = held.replicas.len() == held.wanted && held.arriving.is_empty();
        if !settled || !held.replicas.iter().all(|v| topology.keeps_of(*v, held.blob)) {
            return None;
        }
        // A move of more than twice what is left would only turn it round.
        let helps = |left: u64| left >= held.length.div_ceil(2);
        if !helps(*self.over.get(&from)?) {
            return None;
        }
        let fits = |(to, left): &(&VolumeId, &u64)| {
            let room =
                || topology.seat(**to).is_some_and(|s| s.available_bytes >= record_bytes_max(held.length));
            helps(**left)
                && !held.replicas.contains(to)
                && !held.barred.contains(to)
                && room()
                && keeps_apart(from, **to, held, topology)
        };
        let to =
            *self.under.iter().filter(fits).max_by_key(|(to, left)| (self.shares.get(*to), **left, **to))?.0;
        less(&mut self.over, from, held.length);
        less(&mut self.under, to, held.length);
        Some(to)
    }
}

/// Bytes that each of the volumes should hold: as much of its capacity as the others, but no more than one copy of everything.
#[expect(clippy::cast_precision_loss, reason = "shares of bytes")]
fn shares(group: &[(VolumeId, &Seat)], apart: usize) -> Vec<f64> {
    let all: f64 = group.iter().map(|(_, s)| s.live_bytes as f64).sum();
    let most = all / apart.max(1) as f64;
    let mut shares: Vec<Option<f64>> = vec![None; group.len()];
    loop {
        let open = || shares.iter().zip(group).filter(|(share, _)| share.is_none()).map(|(_, (_, s))| s);
        let capacity: f64 = open().map(|s| s.capacity_bytes.max(1) as f64).sum();
        let left = all - shares.iter().flatten().sum::<f64>();
        let share = |s: &Seat| left.max(0.0) * s.capacity_bytes.max(1) as f64 / capacity;
        let bound = (0..group.len()).find(|n| shares[*n].is_none() && share(group[*n].1) > most);
        match bound {
            Some(n) => shares[n] = Some(most),
            None => {
                let of =
                    |(fixed, (_, s)): (&Option<f64>, &(VolumeId, &Seat))| fixed.unwrap_or_else(|| share(s));
                return shares.iter().zip(group).map(of).collect();
            }
        }
    }
}

fn takes_part(seat: &Seat) -> bool {
    seat.compared && matches!(seat.condition, Condition::Up | Condition::Serving)
}

fn less(left: &mut BTreeMap<VolumeId, u64>, volume: VolumeId, bytes: u64) {
    if let Some(n) = left.get_mut(&volume) {
        *n = n.saturating_sub(bytes);
        if *n == 0 {
            left.remove(&volume);
        }
    }
}

/// Whether no zone has more copies after the move than the fullest has to have, or than it had.
fn keeps_apart(from: VolumeId, to: VolumeId, held: &Held, topology: &Topology) -> bool {
    let (leaves, enters) = (topology.zone(from), topology.zone(to));
    if leaves == enters {
        return true;
    }
    let count = |zone: Option<&Zone>| held.replicas.iter().filter(|v| topology.zone(**v) == zone).count();
    // The zone it leaves has at least as many as the other one gets.
    count(enters) < count(leaves).max(held.replicas.len().div_ceil(topology.zones()))
}

#[cfg(test)]
mod tests;
