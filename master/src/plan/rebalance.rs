//! Plans a rebalance (balancer): which values to move so that all volumes are about equally full, relative to
//! their size. The plan is a function of what the volumes report and can be recomputed at any time; there is no
//! state to lose.
//!
//! Zones take precedence. If there are at most as many zones as replicas, volumes are compared only within their
//! zone, since every zone must hold its share of the replicas. Otherwise all volumes are compared, and a value moves
//! between zones only if no zone gets more of its replicas than necessary.

use std::collections::BTreeMap;

use shared::ids::VolumeId;
use shared::ring::Zone;
use shared::size::record_bytes_max;

use super::repair::BlobReplicas;
use crate::cluster::topology::{Availability, Topology, TopologyVolume};

/// Relative deviation from its share within which a volume counts as balanced. Less than half of the 5 % promised to
/// users, because values move whole and new ones are written meanwhile.
pub const TOLERANCE: f64 = 0.02;

/// The surplus or deficit of each volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Bytes to move away, by volume.
    pub over: BTreeMap<VolumeId, u64>,
    /// Bytes to receive, by volume.
    pub under: BTreeMap<VolumeId, u64>,
    /// Shares of the volumes in `under`. The largest is served first: it has the fewest values to choose from.
    shares: BTreeMap<VolumeId, u64>,
}

impl Balance {
    /// Computes the balance for a replication factor of `copies`.
    pub fn of(topology: &Topology, copies: usize) -> Self {
        let within_zones = topology.zones() <= copies;
        let mut groups: BTreeMap<Option<&Zone>, Vec<(VolumeId, &TopologyVolume)>> = BTreeMap::new();
        for (id, entry) in topology.volumes().filter(|(_, entry)| takes_part(entry)) {
            let group = if within_zones { entry.zone.as_ref() } else { None };
            groups.entry(group).or_default().push((id, entry));
        }
        // No volume holds two replicas of a value.
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
    fn add(&mut self, group: &[(VolumeId, &TopologyVolume)], apart: usize) {
        let shares = shares(group, apart);
        let far = |(entry, share): (&TopologyVolume, f64)| {
            (entry.live_bytes as f64 - share).abs() > TOLERANCE * share
        };
        if !group.iter().zip(&shares).any(|((_, entry), share)| far((entry, *share))) {
            return;
        }
        for ((id, entry), share) in group.iter().zip(shares) {
            let differs = entry.live_bytes as f64 - share;
            if differs >= 1.0 {
                self.over.insert(*id, differs as u64);
            } else if differs <= -1.0 && entry.availability == Availability::Writable {
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

    /// Chooses where to move the replica of a blob from `from`, if at all: to the volume with the largest share among
    /// those with a deficit, and only if the move brings both nearer to their share. Counts the move as done.
    pub fn take(&mut self, from: VolumeId, held: &BlobReplicas, topology: &Topology) -> Option<VolumeId> {
        let settled = held.replicas.len() == held.wanted && held.pending.is_empty();
        if !settled || !held.replicas.iter().all(|v| topology.has_verified_replica(*v, held.blob)) {
            return None;
        }
        // A move of more than twice the rest would only reverse the imbalance.
        let helps = |left: u64| left >= held.length.div_ceil(2);
        if !helps(*self.over.get(&from)?) {
            return None;
        }
        let fits = |(to, left): &(&VolumeId, &u64)| {
            let room =
                || topology.volume(**to).is_some_and(|s| s.available_bytes >= record_bytes_max(held.length));
            helps(**left)
                && !held.replicas.contains(to)
                && !held.excluded.contains(to)
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

/// Returns the bytes that each volume should hold: the same fraction of its capacity as the others, but at most one
/// replica of everything.
#[expect(clippy::cast_precision_loss, reason = "shares of bytes")]
fn shares(group: &[(VolumeId, &TopologyVolume)], apart: usize) -> Vec<f64> {
    let all: f64 = group.iter().map(|(_, s)| s.live_bytes as f64).sum();
    let most = all / apart.max(1) as f64;
    let mut shares: Vec<Option<f64>> = vec![None; group.len()];
    loop {
        let open = || shares.iter().zip(group).filter(|(share, _)| share.is_none()).map(|(_, (_, s))| s);
        let capacity: f64 = open().map(|s| s.capacity_bytes.max(1) as f64).sum();
        let left = all - shares.iter().flatten().sum::<f64>();
        let share = |s: &TopologyVolume| left.max(0.0) * s.capacity_bytes.max(1) as f64 / capacity;
        let bound = (0..group.len()).find(|n| shares[*n].is_none() && share(group[*n].1) > most);
        match bound {
            Some(n) => shares[n] = Some(most),
            None => {
                let of = |(fixed, (_, s)): (&Option<f64>, &(VolumeId, &TopologyVolume))| {
                    fixed.unwrap_or_else(|| share(s))
                };
                return shares.iter().zip(group).map(of).collect();
            }
        }
    }
}

fn takes_part(entry: &TopologyVolume) -> bool {
    entry.compared && matches!(entry.availability, Availability::Writable | Availability::ReadOnly)
}

fn less(left: &mut BTreeMap<VolumeId, u64>, volume: VolumeId, bytes: u64) {
    if let Some(n) = left.get_mut(&volume) {
        *n = n.saturating_sub(bytes);
        if *n == 0 {
            left.remove(&volume);
        }
    }
}

/// Whether after the move no zone has more replicas than necessary, or than the zone it leaves had.
fn keeps_apart(from: VolumeId, to: VolumeId, held: &BlobReplicas, topology: &Topology) -> bool {
    let (leaves, enters) = (topology.zone(from), topology.zone(to));
    if leaves == enters {
        return true;
    }
    let count = |zone: Option<&Zone>| held.replicas.iter().filter(|v| topology.zone(**v) == zone).count();
    // The replica leaves a zone with at least as many as the other then has.
    count(enters) < count(leaves).max(held.replicas.len().div_ceil(topology.zones()))
}

#[cfg(test)]
mod tests;
