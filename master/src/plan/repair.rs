//! What a blob lacks: one more copy, one less, or nothing. Repair, draining and the settling of what a rebalance left over are
//! all this one judgement, made again until it says that all is settled; so each step may be lost or done twice.
//!
//! One rule for all: copy, verify at the destination, switch the pointer, wait, free. A copy goes only when as many others as
//! are wanted are on volumes that are up and were compared.

use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::size::record_bytes_max;

use crate::cluster::topology::{Condition, Topology};

/// A blob as the tables name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub blob: BlobId,
    /// Its length in bytes.
    pub length: u64,
    pub wanted: usize,
    /// The volumes that hold it.
    pub replicas: Vec<VolumeId>,
    /// Volumes to which a copy is on its way, or was when somebody ended.
    pub arriving: Vec<VolumeId>,
    /// Volumes that must not get one now: they are being told to delete theirs, or were a moment ago.
    pub barred: Vec<VolumeId>,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Settled,
    /// One more copy.
    Copy {
        to: VolumeId,
        /// Copies that count now: the fewer, the sooner.
        live: usize,
    },
    Drop {
        from: VolumeId,
        /// Who holds good ones: as many as are wanted. They are asked before.
        keep: Vec<VolumeId>,
    },
    /// A copy that is on its way is not needed.
    Forgo {
        to: VolumeId,
    },
    /// A copy is owed and cannot be made now.
    Stuck(Stuck),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stuck {
    /// No volume that is up holds it.
    NoSource,
    /// No other volume that is up has room for it.
    NoDestination,
    /// All others that are up and have room were told to delete it, and must forget that first.
    Deleting,
}

/// What a blob of `key` lacks.
pub fn judge(key: &Key, held: &Held, topology: &Topology) -> Verdict {
    let live = held.replicas.iter().filter(|v| topology.counts_for(**v, held.blob)).count();
    if live < held.wanted {
        return owed(key, held, topology, live);
    }
    if let Some(to) = held.arriving.first() {
        // It may be there already, and better than those that merely count: brought to its end, it is one too many.
        let keeps = |v: &&VolumeId| topology.keeps_of(**v, held.blob);
        let proven = held.replicas.iter().filter(keeps).count() >= held.wanted;
        if proven || topology.condition(*to) != Condition::Up {
            return Verdict::Forgo { to: *to };
        }
        return Verdict::Copy { to: *to, live };
    }
    surplus(held, topology)
}

fn owed(key: &Key, held: &Held, topology: &Topology, live: usize) -> Verdict {
    // What was begun is brought to its end, even where nobody else has it: it may be there already. A volume that has gone
    // meanwhile, or cannot take it any more, is not waited for.
    let given = held.replicas.iter().any(|v| topology.gives(*v));
    let has_room = |v: VolumeId| {
        topology.seat(v).is_some_and(|seat| seat.available_bytes >= record_bytes_max(held.length))
    };
    let begun = held.arriving.iter().find(|v| topology.takes(**v, held.blob) && (has_room(**v) || !given));
    if let Some(to) = begun {
        return Verdict::Copy { to: *to, live };
    }
    if !given {
        return Verdict::Stuck(Stuck::NoSource);
    }
    let mut taken = held.replicas.clone();
    // Copies that count no more do not crowd a zone, but their volumes have the blob.
    taken.extend(&held.arriving);
    let place = (key, held.blob);
    match topology.destination(place, record_bytes_max(held.length), &taken, &held.barred) {
        Some(to) => Verdict::Copy { to, live },
        None if topology.destination(place, record_bytes_max(held.length), &taken, &[]).is_some() => {
            Verdict::Stuck(Stuck::Deleting)
        }
        None => Verdict::Stuck(Stuck::NoDestination),
    }
}

fn surplus(held: &Held, topology: &Topology) -> Verdict {
    let keepers: Vec<_> =
        held.replicas.iter().copied().filter(|v| topology.keeps_of(*v, held.blob)).collect();
    let leaving = |v: &&VolumeId| {
        let condition = topology.condition(**v);
        matches!(condition, Condition::Leaving { .. })
            || topology.counts(**v) != topology.counts_for(**v, held.blob)
    };
    let from = match held.replicas.iter().find(leaving) {
        Some(from) if keepers.len() >= held.wanted => *from,
        None if keepers.len() > held.wanted => match one_too_many(&keepers, topology) {
            Some(from) => from,
            None => return Verdict::Settled,
        },
        _ => return Verdict::Settled,
    };
    let keep = keepers.into_iter().filter(|v| *v != from).collect();
    Verdict::Drop { from, keep }
}

/// Of volumes that all hold a blob the one that should not: in the zone with most of them, and there the fullest.
fn one_too_many(keepers: &[VolumeId], topology: &Topology) -> Option<VolumeId> {
    let crowd = |v: VolumeId| keepers.iter().filter(|k| topology.zone(**k) == topology.zone(v)).count();
    let fullness = |v: VolumeId| topology.seat(v).map_or(0.0, crate::cluster::topology::Seat::fullness);
    let worse = |a: &VolumeId, b: &VolumeId| {
        crowd(*a).cmp(&crowd(*b)).then(fullness(*a).total_cmp(&fullness(*b))).then(a.cmp(b))
    };
    keepers.iter().copied().max_by(worse)
}

#[cfg(test)]
mod tests;
