//! Liveness (failure detection): when a node is dead. Each master decides by itself, by the silence since the
//! last heartbeat (`DOWN_AFTER`, `REPAIR_AFTER` by default). The states of a volume are joining, up, read-only,
//! full, suspect, down, draining, drained and decommissioned. One that is down for `repair_after` is lost: its
//! replicas no longer count. Each transition and its reason appears once in the log, the events and the metrics.
//! Also builds the `Topology`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shared::clock::Timestamp;
use shared::ids::VolumeId;
use shared::limits::{CORRUPT_SHOWN, EVENTS_MAX};
use shared::wire::cluster::Event;
use shared::wire::master::{VolumeState, VolumeSummary};
use shared::wire::volume::VolumeReport;

use super::duplicate_id::Duplicates;
use super::{Cluster, VolumeAddress};
use crate::cluster::topology::{self, Availability, Topology};
use crate::tables::admin_state::{AdminState, AdminStateRecord};
use crate::tables::volume::VolumeRecord;

/// Silence after which a volume is down, or lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct LivenessTimeouts {
    pub(super) down_after: Duration,
    pub(super) repair_after: Duration,
    /// When this master started to receive heartbeats.
    pub(super) began: Instant,
}

#[derive(Debug)]
pub(super) struct VolumeEntry {
    pub(super) record: VolumeRecord,
    pub(super) report: Option<VolumeReport>,
    last_heartbeat: Option<Instant>,
    /// Whether a call to it has failed since.
    suspected: bool,
    /// Whether reconciliation has compared it with the tables since it was last down, restarted or new.
    compared: bool,
    admin_state: AdminState,
    /// Whether any object references it; known only while it is draining.
    has_replicas: bool,
    pub(super) duplicates: Duplicates,
    /// The state last reported as an event.
    shown: Option<VolumeState>,
}

impl Cluster {
    /// Sets the admin states of volumes, each with whether objects still reference it.
    pub fn set_admin_states(&self, records: &[(VolumeId, AdminStateRecord, bool)]) {
        let duties: HashMap<_, _> = records.iter().map(|(v, s, holds)| (*v, (s.state, *holds))).collect();
        let mut view = self.view_mut();
        let mut gone = false;
        for (volume, entry) in &mut view.volumes {
            let (state, holds) = duties.get(volume).copied().unwrap_or((AdminState::InService, true));
            gone |=
                (state == AdminState::Decommissioned) != (entry.admin_state == AdminState::Decommissioned);
            (entry.admin_state, entry.has_replicas) = (state, holds);
        }
        if gone {
            view.rebuild_ring();
        }
    }

    /// Sets whether this master runs reconciliation.
    pub fn set_compares(&self, compares: bool) {
        let mut view = self.view_mut();
        if compares && !view.compares {
            // After a failover, comparisons from an earlier term no longer count.
            view.volumes.values_mut().for_each(|entry| entry.compared = false);
        }
        view.compares = compares;
    }

    /// Marks the volume as compared with the tables, unless it has restarted meanwhile.
    pub fn compared(&self, volume: VolumeId, incarnation: Option<u64>) {
        if let Some(entry) = self.view_mut().volumes.get_mut(&volume) {
            entry.compared = entry.incarnation() == incarnation;
        }
    }

    /// Returns the incarnation in a volume's last heartbeat.
    pub fn incarnation(&self, volume: VolumeId) -> Option<u64> {
        self.view().volumes.get(&volume).and_then(VolumeEntry::incarnation)
    }

    /// Returns the number of blobs in a volume's last heartbeat.
    pub fn blobs_of(&self, volume: VolumeId) -> u64 {
        let view = self.view();
        view.volumes.get(&volume).and_then(|entry| entry.report.as_ref()).map_or(0, |report| report.blobs)
    }

    /// Returns the volumes that are up and not yet compared.
    pub fn to_compare(&self) -> Vec<VolumeAddress> {
        let view = self.view();
        let entries =
            view.volumes.values().filter(|s| s.is_up(self.times) && !s.compared && !s.is_decommissioned());
        entries.map(VolumeEntry::address).collect()
    }

    /// Records the state transitions since the last call; returns the new events.
    pub fn take_transitions(&self, now: Timestamp) -> Vec<Event> {
        let mut view = self.view_mut();
        let (compares, mut new) = (view.compares, Vec::new());
        for (volume, entry) in &mut view.volumes {
            if entry.is_awaited(self.times) {
                continue;
            }
            let (to, reason) = entry.state(self.times, compares);
            let from = entry.shown.replace(to);
            if from != Some(to) {
                let address = entry.record.address.clone();
                let reason = reason.unwrap_or_else(|| explain(from, to).to_owned());
                new.push(Event { at: now, volume: *volume, address, from, to, reason });
            }
        }
        new.sort_by_key(|event| event.volume);
        view.events.extend(new.iter().cloned());
        while view.events.len() > EVENTS_MAX {
            view.events.pop_front();
        }
        new
    }

    /// Returns the latest state transitions, the oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.view().events.iter().cloned().collect()
    }

    /// Returns the state of a volume; `None` if it is unknown.
    pub fn state_of(&self, volume: VolumeId) -> Option<VolumeState> {
        let view = self.view();
        view.volumes.get(&volume).map(|entry| entry.state(self.times, view.compares).0)
    }

    /// Returns the volumes as the planners see them.
    pub fn topology(&self) -> Topology {
        let view = self.view();
        let entries = view.volumes.iter().filter(|(_, entry)| !entry.is_decommissioned());
        let bad = |(id, entry): (&VolumeId, &VolumeEntry)| {
            let blobs = entry.report.iter().flat_map(|report| report.unhealed.iter().take(CORRUPT_SHOWN));
            blobs.map(|blob| (*id, *blob)).collect::<Vec<_>>()
        };
        let bad: Vec<_> = entries.clone().flat_map(bad).collect();
        let topology =
            Topology::on(view.ring.clone(), entries.map(|(id, entry)| (*id, entry.for_topology(self.times))));
        topology.with_bad(bad)
    }
}

/// Returns the reason of a transition for which the state itself gives none.
fn explain(from: Option<VolumeState>, to: VolumeState) -> &'static str {
    match (from, to) {
        (None, _) => "first seen by this master",
        (Some(VolumeState::Joining), VolumeState::Up) => "its records have been compared with the metadata",
        (Some(VolumeState::Suspect | VolumeState::Down), _) => "its heartbeats are back",
        (Some(VolumeState::Draining | VolumeState::Drained), VolumeState::Up) => "its drain was cancelled",
        _ => "it says so in its heartbeat",
    }
}

impl VolumeEntry {
    pub(super) fn new(record: VolumeRecord) -> Self {
        Self {
            record,
            report: None,
            last_heartbeat: None,
            suspected: false,
            compared: false,
            admin_state: AdminState::InService,
            has_replicas: true,
            duplicates: Duplicates::default(),
            shown: None,
        }
    }

    /// Records a heartbeat.
    pub(super) fn record_heartbeat(&mut self, report: VolumeReport, times: LivenessTimeouts) {
        // Back after being down, or restarted: its records may have changed.
        let other = self.report.as_ref().is_some_and(|last| last.incarnation != report.incarnation);
        if self.silent_for(times) >= times.down_after || self.last_heartbeat.is_none() || other {
            self.compared = false;
        }
        // A volume that has not joined yet accepts no ticket: it is up from its next heartbeat on.
        if report.cluster.is_some() {
            self.last_heartbeat = Some(Instant::now());
            self.suspected = false;
        }
        self.report = Some(report);
    }

    /// Marks it as suspect, because a call failed. Returns whether it was not suspect before.
    pub(super) fn suspect(&mut self) -> bool {
        self.last_heartbeat.is_some() && !std::mem::replace(&mut self.suspected, true)
    }

    fn incarnation(&self) -> Option<u64> {
        self.report.as_ref().map(|report| report.incarnation)
    }

    fn silent_for(&self, times: LivenessTimeouts) -> Duration {
        self.last_heartbeat.unwrap_or(times.began).elapsed()
    }

    pub(super) fn is_up(&self, times: LivenessTimeouts) -> bool {
        !self.is_decommissioned()
            && !self.suspected
            && self.last_heartbeat.is_some()
            && self.silent_for(times) < times.down_after
    }

    pub(super) fn is_decommissioned(&self) -> bool {
        self.admin_state == AdminState::Decommissioned
    }

    fn is_draining(&self) -> bool {
        matches!(self.admin_state, AdminState::Draining | AdminState::Decommissioning)
    }

    pub(super) fn is_writable(&self, times: LivenessTimeouts) -> bool {
        let writable = self.report.as_ref().is_some_and(|r| r.read_only.is_none());
        self.admin_state == AdminState::InService
            && self.is_up(times)
            && writable
            && !self.has_duplicate(times)
    }

    pub(super) fn available(&self) -> u64 {
        self.report.as_ref().map_or(0, |r| r.available_bytes)
    }

    pub(super) fn address(&self) -> VolumeAddress {
        VolumeAddress {
            volume: self.record.volume,
            address: self.record.address.clone(),
            public_url: self.record.public_url.clone(),
        }
    }

    /// Returns its state, and a reason if there is one to show.
    pub(super) fn state(&self, times: LivenessTimeouts, compares: bool) -> (VolumeState, Option<String>) {
        if self.is_decommissioned() {
            return (VolumeState::Decommissioned, Some("it has left the cluster for good".into()));
        }
        if !self.is_up(times) {
            return self.silence(times);
        }
        if self.is_draining() {
            let why = if self.admin_state == AdminState::Decommissioning {
                "it is being decommissioned"
            } else {
                "it is being drained"
            };
            let state = if self.has_replicas { VolumeState::Draining } else { VolumeState::Drained };
            return (state, Some(why.to_owned()));
        }
        let duplicate = self.describe_duplicate(times);
        match self.report.as_ref() {
            _ if self.has_duplicate(times) => (VolumeState::ReadOnly, duplicate),
            _ if compares && !self.compared => {
                (VolumeState::Joining, Some("its records are being compared with the metadata".into()))
            }
            Some(VolumeReport { read_only: Some(reason), .. }) => {
                (VolumeState::ReadOnly, Some(reason.clone()))
            }
            Some(VolumeReport { available_bytes: 0, .. }) => {
                (VolumeState::Full, Some("no room for new values".into()))
            }
            _ => (VolumeState::Up, duplicate),
        }
    }

    /// Whether this master started too recently to expect a heartbeat: its silence is not an event.
    fn is_awaited(&self, times: LivenessTimeouts) -> bool {
        self.last_heartbeat.is_none()
            && !self.is_decommissioned()
            && self.silent_for(times) < times.down_after
    }

    fn silence(&self, times: LivenessTimeouts) -> (VolumeState, Option<String>) {
        let (silent, secs) = (self.silent_for(times), self.silent_for(times).as_secs());
        if self.last_heartbeat.is_some() && silent < times.down_after {
            return (VolumeState::Suspect, Some("a call to it failed".into()));
        }
        if self.is_awaited(times) {
            let reason = format!("no heartbeat since this master started, {secs} s ago");
            return (VolumeState::Suspect, Some(reason));
        }
        let heard =
            if self.last_heartbeat.is_some() { "silent" } else { "no heartbeat since this master started," };
        let reason = match times.repair_after.checked_sub(silent) {
            Some(left) if !left.is_zero() => {
                format!("{heard} for {secs} s; its replicas are re-created in {} s", left.as_secs())
            }
            _ => format!("{heard} for {secs} s; its replicas no longer count"),
        };
        (VolumeState::Down, Some(reason))
    }

    fn for_topology(&self, times: LivenessTimeouts) -> topology::TopologyVolume {
        let up = self.is_up(times);
        let condition = match self.admin_state {
            AdminState::Draining | AdminState::Decommissioning | AdminState::Decommissioned => {
                Availability::Draining { up }
            }
            AdminState::InService if !up && self.silent_for(times) >= times.repair_after => {
                Availability::Lost
            }
            AdminState::InService if !up => Availability::Down,
            AdminState::InService if self.compared && self.is_writable(times) && self.available() > 0 => {
                Availability::Writable
            }
            AdminState::InService => Availability::ReadOnly,
        };
        topology::TopologyVolume {
            zone: self.record.zone.clone(),
            availability: condition,
            compared: self.compared,
            capacity_bytes: self.record.capacity_bytes,
            available_bytes: self.available(),
            live_bytes: self.report.as_ref().map_or(0, |r| r.live_bytes),
        }
    }

    pub(super) fn summary(&self, times: LivenessTimeouts, compares: bool) -> VolumeSummary {
        let (state, reason) = self.state(times, compares);
        let of_report = |f: fn(&VolumeReport) -> u64| self.report.as_ref().map_or(0, f);
        VolumeSummary {
            volume: self.record.volume,
            state,
            reason,
            address: self.record.address.clone(),
            public_url: self.record.public_url.clone(),
            zone: self.record.zone.clone(),
            capacity_bytes: self.record.capacity_bytes,
            available_bytes: self.available(),
            blobs: of_report(|r| r.blobs),
            live_bytes: of_report(|r| r.live_bytes),
            silent_ms: self
                .last_heartbeat
                .map(|h| u64::try_from(h.elapsed().as_millis()).unwrap_or(u64::MAX)),
        }
    }
}
