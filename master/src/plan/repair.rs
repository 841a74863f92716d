//! The next repair step of a blob: add a replica, remove one, or nothing. Repair (re-replication), draining and
//! the second half of a rebalance all use this one function, until it finds the blob healthy; so each step may
//! be lost or repeated.
//!
//! Each move follows one order: copy, verify at the destination, update the tables, wait, delete. A replica is
//! removed only if as many others as wanted are on volumes that are up and were compared.

use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::size::record_bytes_max;

use crate::cluster::topology::{Availability, Topology};

/// A blob and its replicas as of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobReplicas {
    pub blob: BlobId,
    /// Its length in bytes.
    pub length: u64,
    pub wanted: usize,
    /// The volumes listed as holding it.
    pub replicas: Vec<VolumeId>,
    /// Volumes with a pending replica, including those of interrupted workers.
    pub pending: Vec<VolumeId>,
    /// Volumes that must not get one now: their replica is being deleted, or was just deleted.
    pub excluded: Vec<VolumeId>,
}

/// The next step for a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairStep {
    Healthy,
    AddReplica {
        to: VolumeId,
        /// Replicas that count now: the fewer, the higher the priority.
        live: usize,
    },
    RemoveReplica {
        from: VolumeId,
        /// Volumes with verified replicas, as many as wanted. They are asked again before the removal.
        keep: Vec<VolumeId>,
    },
    /// A pending replica is not needed.
    CancelAddReplica {
        to: VolumeId,
    },
    /// A replica is missing and cannot be added now.
    Blocked(Blocked),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blocked {
    /// No volume that is up holds it.
    NoSource,
    /// No other volume that is up has room for it.
    NoDestination,
    /// All others with room are deleting a replica of it, or have just deleted one.
    Deleting,
}

/// Returns the next step for a blob of `key`.
pub fn next_step(key: &Key, held: &BlobReplicas, topology: &Topology) -> RepairStep {
    let live = held.replicas.iter().filter(|v| topology.counts_for(**v, held.blob)).count();
    if live < held.wanted {
        return under_replicated(key, held, topology, live);
    }
    if let Some(to) = held.pending.first() {
        // It may exist already, and be better than replicas that merely count. Once added, the blob is
        // over-replicated.
        let keeps = |v: &&VolumeId| topology.has_verified_replica(**v, held.blob);
        let proven = held.replicas.iter().filter(keeps).count() >= held.wanted;
        if proven || topology.availability(*to) != Availability::Writable {
            return RepairStep::CancelAddReplica { to: *to };
        }
        return RepairStep::AddReplica { to: *to, live };
    }
    over_replicated(held, topology)
}

fn under_replicated(key: &Key, held: &BlobReplicas, topology: &Topology, live: usize) -> RepairStep {
    // Finish a pending replica first, even without a source: it may exist already. Do not wait for a volume that is
    // down or can no longer accept it.
    let given = held.replicas.iter().any(|v| topology.is_readable(*v));
    let has_room = |v: VolumeId| {
        topology.volume(v).is_some_and(|entry| entry.available_bytes >= record_bytes_max(held.length))
    };
    let begun =
        held.pending.iter().find(|v| topology.accepts_replica(**v, held.blob) && (has_room(**v) || !given));
    if let Some(to) = begun {
        return RepairStep::AddReplica { to: *to, live };
    }
    if !given {
        return RepairStep::Blocked(Blocked::NoSource);
    }
    let mut taken = held.replicas.clone();
    // Replicas that no longer count do not fill a zone, but their volumes still hold the blob.
    taken.extend(&held.pending);
    let place = (key, held.blob);
    match topology.destination(place, record_bytes_max(held.length), &taken, &held.excluded) {
        Some(to) => RepairStep::AddReplica { to, live },
        None if topology.destination(place, record_bytes_max(held.length), &taken, &[]).is_some() => {
            RepairStep::Blocked(Blocked::Deleting)
        }
        None => RepairStep::Blocked(Blocked::NoDestination),
    }
}

fn over_replicated(held: &BlobReplicas, topology: &Topology) -> RepairStep {
    let keepers: Vec<_> =
        held.replicas.iter().copied().filter(|v| topology.has_verified_replica(*v, held.blob)).collect();
    let leaving = |v: &&VolumeId| {
        let condition = topology.availability(**v);
        matches!(condition, Availability::Draining { .. })
            || topology.counts(**v) != topology.counts_for(**v, held.blob)
    };
    let from = match held.replicas.iter().find(leaving) {
        Some(from) if keepers.len() >= held.wanted => *from,
        None if keepers.len() > held.wanted => match replica_to_remove(&keepers, topology) {
            Some(from) => from,
            None => return RepairStep::Healthy,
        },
        _ => return RepairStep::Healthy,
    };
    let keep = keepers.into_iter().filter(|v| *v != from).collect();
    RepairStep::RemoveReplica { from, keep }
}

/// Chooses the excess replica to remove: in the zone with the most replicas, on its fullest volume.
fn replica_to_remove(keepers: &[VolumeId], topology: &Topology) -> Option<VolumeId> {
    let crowd = |v: VolumeId| keepers.iter().filter(|k| topology.zone(**k) == topology.zone(v)).count();
    let fullness =
        |v: VolumeId| topology.volume(v).map_or(0.0, crate::cluster::topology::TopologyVolume::fullness);
    let worse = |a: &VolumeId, b: &VolumeId| {
        crowd(*a).cmp(&crowd(*b)).then(fullness(*a).total_cmp(&fullness(*b))).then(a.cmp(b))
    };
    keepers.iter().copied().max_by(worse)
}

/// Whether `volume` holds the last readable replica of a blob.
pub fn is_last(volume: VolumeId, held: &BlobReplicas, topology: &Topology) -> bool {
    held.replicas.contains(&volume) && !held.replicas.iter().any(|v| *v != volume && topology.is_readable(*v))
}

#[cfg(test)]
mod tests;
