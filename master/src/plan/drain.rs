//! Whether a volume may leave: not while it holds the last copy of anything. Its copies are moved by `repair::judge`, to which the
//! copies of a volume that leaves count no more.

use shared::ids::VolumeId;

use super::repair::Held;
use crate::cluster::topology::Topology;

/// Whether `volume` holds the last copy of a blob that can be had: no other volume that is up has one.
pub fn is_last(volume: VolumeId, held: &Held, topology: &Topology) -> bool {
    held.replicas.contains(&volume) && !held.replicas.iter().any(|v| *v != volume && topology.gives(*v))
}
