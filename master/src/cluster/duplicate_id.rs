//! Detects one volume id at two addresses: a copied directory, or one process listed under two names. The two would
//! replace each other with every heartbeat, so the second one is refused and reported.

use std::collections::VecDeque;
use std::time::Instant;

use shared::wire::volume::VolumeReport;

use super::HeartbeatError;
use super::liveness::{LivenessTimeouts, VolumeEntry};

/// Former incarnations of a volume remembered. More restarts than this within `down_after` are not plausible.
const MOVES_REMEMBERED: usize = 4;

/// Other addresses that report with the id of a volume.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    /// Incarnations that a later one replaced. If one of them reports again, it is still running.
    replaced: VecDeque<u64>,
    other: Option<Other>,
}

#[derive(Debug)]
struct Other {
    address: String,
    /// Whether it is another process: then the two volumes diverge from the first write on.
    process: bool,
    heard: Instant,
}

impl VolumeEntry {
    /// Checks that a report comes from the known volume, or from a restart of it.
    ///
    /// # Errors
    /// When it comes from another address while the known volume is up.
    pub(super) fn same(
        &mut self,
        report: &VolumeReport,
        times: LivenessTimeouts,
    ) -> Result<(), HeartbeatError> {
        let Some(last) = self.report.as_ref().filter(|_| self.is_up(times)) else { return Ok(()) };
        if last.address == report.address {
            return Ok(());
        }
        let process = last.incarnation != report.incarnation;
        if process && !self.duplicates.replaced.contains(&report.incarnation) {
            // Restarted at another address.
            self.duplicates.replaced.push_back(last.incarnation);
            if self.duplicates.replaced.len() > MOVES_REMEMBERED {
                self.duplicates.replaced.pop_front();
            }
            return Ok(());
        }
        let (volume, known) = (report.volume, last.address.clone());
        let address = report.address.clone();
        self.duplicates.other = Some(Other { address: address.clone(), process, heard: Instant::now() });
        Err(HeartbeatError::DuplicateId { volume, known, address })
    }

    fn other(&self, times: LivenessTimeouts) -> Option<&Other> {
        self.duplicates.other.as_ref().filter(|other| other.heard.elapsed() < times.down_after)
    }

    /// Whether another process with this id is running.
    pub(super) fn has_duplicate(&self, times: LivenessTimeouts) -> bool {
        self.other(times).is_some_and(|other| other.process)
    }

    /// Describes the other address with this id, for the status.
    pub(super) fn describe_duplicate(&self, times: LivenessTimeouts) -> Option<String> {
        let Other { address, process, .. } = self.other(times)?;
        Some(match process {
            true => format!(
                "another volume with the same id runs at {address}: its directory was copied. Stop one of the two; \
                 this volume takes no writes until then"
            ),
            false => format!("it is also listed as {address}: list each volume once"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::ids::{ClusterId, VolumeId};
    use shared::wire::master::VolumeState;

    use super::*;
    use crate::cluster::Cluster;

    fn report(cluster: ClusterId, address: &str, incarnation: u64) -> VolumeReport {
        serde_json::from_value(serde_json::json!({
            "volume": VolumeId::from_bytes([1; 16]), "cluster": cluster, "address": address, "public_url": address,
            "zone": null, "capacity_bytes": 100, "available_bytes": 100, "blobs": 0, "live_bytes": 0, "uploads": 0,
            "read_only": null, "format_version": 1, "incarnation": incarnation,
        }))
        .unwrap()
    }

    #[test]
    fn a_copied_directory_is_shown_and_a_restart_elsewhere_is_not() {
        let id = ClusterId::random();
        let cluster = Cluster::new(id, Duration::from_secs(3600), Duration::from_secs(7200), vec![]);
        let hear = |address, incarnation| cluster.record_heartbeat(report(id, address, incarnation));
        let shown = || cluster.summaries().remove(0);
        hear("http://a", 1).unwrap();
        hear("http://a", 2).unwrap();
        hear("http://b", 3).unwrap();
        assert_eq!((shown().address.as_str(), shown().state), ("http://b", VolumeState::Up), "it moved");
        let refused = hear("http://a", 2).unwrap_err().to_string();
        assert!(refused.contains("http://a") && refused.contains("http://b"), "{refused}");
        assert_eq!((shown().address.as_str(), shown().state), ("http://b", VolumeState::ReadOnly));
        assert!(shown().reason.unwrap().contains("http://a"));
        assert_eq!(cluster.writable(), 0);
        hear("http://b", 3).unwrap();
        assert_eq!(cluster.writable(), 0, "the other is still there");
    }

    #[test]
    fn a_second_name_of_one_process_is_shown() {
        let id = ClusterId::random();
        let cluster = Cluster::new(id, Duration::from_secs(3600), Duration::from_secs(7200), vec![]);
        cluster.record_heartbeat(report(id, "http://a", 1)).unwrap();
        cluster.record_heartbeat(report(id, "http://b", 1)).unwrap_err();
        let shown = cluster.summaries().remove(0);
        assert_eq!((shown.address.as_str(), shown.state), ("http://a", VolumeState::Up));
        assert!(shown.reason.unwrap().contains("http://b"));
        assert_eq!(cluster.writable(), 1);
    }

    #[test]
    fn what_was_compared_before_a_restart_is_compared_again() {
        let (id, volume) = (ClusterId::random(), VolumeId::from_bytes([1; 16]));
        let cluster = Cluster::new(id, Duration::from_secs(3600), Duration::from_secs(7200), vec![]);
        cluster.record_heartbeat(report(id, "http://a", 1)).unwrap();
        let before = cluster.incarnation(volume);
        cluster.record_heartbeat(report(id, "http://a", 2)).unwrap();
        cluster.compared(volume, before);
        assert_eq!(cluster.to_compare().len(), 1);
        cluster.compared(volume, cluster.incarnation(volume));
        assert!(cluster.to_compare().is_empty());
    }

    #[test]
    fn the_other_one_takes_over_when_the_known_one_has_gone() {
        let id = ClusterId::random();
        let cluster = Cluster::new(id, Duration::ZERO, Duration::from_secs(7200), vec![]);
        for (address, incarnation) in [("http://a", 1), ("http://b", 2), ("http://a", 1)] {
            cluster.record_heartbeat(report(id, address, incarnation)).unwrap();
        }
    }
}
