//! The life of a volume: joining, up, suspect, down, draining, drained, retired; each step with its reason, once in the log, in the
//! events and in the metrics. And the volumes as plans see them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shared::clock::Timestamp;
use shared::ids::VolumeId;
use shared::limits::{DAMAGED_SHOWN, EVENTS_MAX};
use shared::wire::cluster::Event;
use shared::wire::master::{VolumeState, VolumeSummary};
use shared::wire::volume::VolumeReport;

use super::twin::Twins;
use super::{Cluster, Reachable};
use crate::cluster::topology::{self, Condition, Topology};
use crate::tables::standing::{Duty, Standing};
use crate::tables::volume::VolumeRecord;

/// After how much silence a volume is what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) down_after: Duration,
    pub(super) repair_after: Duration,
    /// Since when anybody could have been heard.
    pub(super) began: Instant,
}

#[derive(Debug)]
pub(super) struct Seat {
    pub(super) record: VolumeRecord,
    pub(super) report: Option<VolumeReport>,
    heard: Option<Instant>,
    /// A call to it failed since.
    suspected: bool,
    /// Whether what it holds was compared with the tables since it was last away, or new.
    compared: bool,
    duty: Duty,
    /// Whether any object refers to it; known only while it is to be emptied.
    holds: bool,
    pub(super) twins: Twins,
    /// What was told of it last.
    shown: Option<VolumeState>,
}

impl Cluster {
    /// What volumes are to do, and which of them objects still refer to.
    pub fn set_duties(&self, standings: &[(VolumeId, Standing, bool)]) {
        let duties: HashMap<_, _> = standings.iter().map(|(v, s, holds)| (*v, (s.duty, *holds))).collect();
        let mut view = self.view_mut();
        let mut gone = false;
        for (volume, seat) in &mut view.seats {
            let (duty, holds) = duties.get(volume).copied().unwrap_or((Duty::Serve, true));
            gone |= (duty == Duty::Gone) != (seat.duty == Duty::Gone);
            (seat.duty, seat.holds) = (duty, holds);
        }
        if gone {
            view.rebuild_ring();
        }
    }

    /// Whether this master compares what volumes hold.
    pub fn set_compares(&self, compares: bool) {
        let mut view = self.view_mut();
        if compares && !view.compares {
            // Somebody else led meanwhile: what was compared long ago counts no more.
            view.seats.values_mut().for_each(|seat| seat.compared = false);
        }
        view.compares = compares;
    }

    /// What the volume holds has been compared with the tables, unless it was started anew meanwhile.
    pub fn compared(&self, volume: VolumeId, incarnation: Option<u64>) {
        if let Some(seat) = self.view_mut().seats.get_mut(&volume) {
            seat.compared = seat.incarnation() == incarnation;
        }
    }

    /// Which start of a volume was heard of last.
    pub fn incarnation(&self, volume: VolumeId) -> Option<u64> {
        self.view().seats.get(&volume).and_then(Seat::incarnation)
    }

    /// How many blobs a volume said that it holds.
    pub fn blobs_of(&self, volume: VolumeId) -> u64 {
        let view = self.view();
        view.seats.get(&volume).and_then(|seat| seat.report.as_ref()).map_or(0, |report| report.blobs)
    }

    /// Volumes that are up and have not been compared.
    pub fn to_compare(&self) -> Vec<Reachable> {
        let view = self.view();
        let seats = view.seats.values().filter(|s| s.is_up(self.times) && !s.compared && !s.is_gone());
        seats.map(Seat::reachable).collect()
    }

    /// Notes what has become of volumes since it was last asked: the new events.
    pub fn observe(&self, now: Timestamp) -> Vec<Event> {
        let mut view = self.view_mut();
        let (compares, mut new) = (view.compares, Vec::new());
        for (volume, seat) in &mut view.seats {
            if seat.is_awaited(self.times) {
                continue;
            }
            let (to, reason) = seat.state(self.times, compares);
            let from = seat.shown.replace(to);
            if from != Some(to) {
                let address = seat.record.address.clone();
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

    /// What became of volumes of late, the oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.view().events.iter().cloned().collect()
    }

    /// What a volume is; none when it is not known.
    pub fn state_of(&self, volume: VolumeId) -> Option<VolumeState> {
        let view = self.view();
        view.seats.get(&volume).map(|seat| seat.state(self.times, view.compares).0)
    }

    /// The volumes as plans see them.
    pub fn topology(&self) -> Topology {
        let view = self.view();
        let seats = view.seats.iter().filter(|(_, seat)| !seat.is_gone());
        let bad = |(id, seat): (&VolumeId, &Seat)| {
            let blobs = seat.report.iter().flat_map(|report| report.unhealed.iter().take(DAMAGED_SHOWN));
            blobs.map(|blob| (*id, *blob)).collect::<Vec<_>>()
        };
        let bad: Vec<_> = seats.clone().flat_map(bad).collect();
        let topology =
            Topology::on(view.ring.clone(), seats.map(|(id, seat)| (*id, seat.planned(self.times))));
        topology.with_bad(bad)
    }
}

/// Why a volume is what it is, where nothing else says it.
fn explain(from: Option<VolumeState>, to: VolumeState) -> &'static str {
    match (from, to) {
        (None, _) => "first seen by this master",
        (Some(VolumeState::Joining), VolumeState::Up) => "what it holds was compared with the metadata",
        (Some(VolumeState::Suspect | VolumeState::Down), _) => "it is heard of again",
        (Some(VolumeState::Draining | VolumeState::Drained), VolumeState::Up) => "it is to serve again",
        _ => "it reports so",
    }
}

impl Seat {
    pub(super) fn new(record: VolumeRecord) -> Self {
        Self {
            record,
            report: None,
            heard: None,
            suspected: false,
            compared: false,
            duty: Duty::Serve,
            holds: true,
            twins: Twins::default(),
            shown: None,
        }
    }

    /// It tells that it lives.
    pub(super) fn hear(&mut self, report: VolumeReport, times: Times) {
        // Back after a while, or started anew: what it holds may not be what it held.
        let other = self.report.as_ref().is_some_and(|last| last.incarnation != report.incarnation);
        if self.silent_for(times) >= times.down_after || self.heard.is_none() || other {
            self.compared = false;
        }
        // One that has not joined yet takes no ticket of ours: it is up from its next report on.
        if report.cluster.is_some() {
            self.heard = Some(Instant::now());
            self.suspected = false;
        }
        self.report = Some(report);
    }

    /// A call to it failed. Whether that is news.
    pub(super) fn suspect(&mut self) -> bool {
        self.heard.is_some() && !std::mem::replace(&mut self.suspected, true)
    }

    fn incarnation(&self) -> Option<u64> {
        self.report.as_ref().map(|report| report.incarnation)
    }

    fn silent_for(&self, times: Times) -> Duration {
        self.heard.unwrap_or(times.began).elapsed()
    }

    pub(super) fn is_up(&self, times: Times) -> bool {
        !self.is_gone()
            && !self.suspected
            && self.heard.is_some()
            && self.silent_for(times) < times.down_after
    }

    pub(super) fn is_gone(&self) -> bool {
        self.duty == Duty::Gone
    }

    fn is_leaving(&self) -> bool {
        matches!(self.duty, Duty::Drain | Duty::Leave)
    }

    pub(super) fn takes_writes(&self, times: Times) -> bool {
        let writable = self.report.as_ref().is_some_and(|r| r.read_only.is_none());
        self.duty == Duty::Serve && self.is_up(times) && writable && !self.has_twin(times)
    }

    pub(super) fn available(&self) -> u64 {
        self.report.as_ref().map_or(0, |r| r.available_bytes)
    }

    pub(super) fn reachable(&self) -> Reachable {
        Reachable {
            volume: self.record.volume,
            address: self.record.address.clone(),
            public_url: self.record.public_url.clone(),
        }
    }

    /// What it is, and why, where there is something to say.
    pub(super) fn state(&self, times: Times, compares: bool) -> (VolumeState, Option<String>) {
        if self.is_gone() {
            return (VolumeState::Retired, Some("it has left the cluster for good".into()));
        }
        if !self.is_up(times) {
            return self.silence(times);
        }
        if self.is_leaving() {
            let why = if self.duty == Duty::Leave { "it is to be retired" } else { "it is to be emptied" };
            let state = if self.holds { VolumeState::Draining } else { VolumeState::Drained };
            return (state, Some(why.to_owned()));
        }
        let twin = self.twin(times);
        match self.report.as_ref() {
            _ if self.has_twin(times) => (VolumeState::ReadOnly, twin),
            _ if compares && !self.compared => {
                (VolumeState::Joining, Some("what it holds is being compared with the metadata".into()))
            }
            Some(VolumeReport { read_only: Some(reason), .. }) => {
                (VolumeState::ReadOnly, Some(reason.clone()))
            }
            Some(VolumeReport { available_bytes: 0, .. }) => {
                (VolumeState::Full, Some("no room for new values".into()))
            }
            _ => (VolumeState::Up, twin),
        }
    }

    /// Whether it has had no time yet to be heard of since this master started: that it is silent is no news.
    fn is_awaited(&self, times: Times) -> bool {
        self.heard.is_none() && !self.is_gone() && self.silent_for(times) < times.down_after
    }

    fn silence(&self, times: Times) -> (VolumeState, Option<String>) {
        let (silent, secs) = (self.silent_for(times), self.silent_for(times).as_secs());
        if self.heard.is_some() && silent < times.down_after {
            return (VolumeState::Suspect, Some("a call to it failed".into()));
        }
        if self.is_awaited(times) {
            let reason = format!("not heard of since this master started, {secs} s ago");
            return (VolumeState::Suspect, Some(reason));
        }
        let heard = if self.heard.is_some() { "silent" } else { "not heard of since this master started," };
        let reason = match times.repair_after.checked_sub(silent) {
            Some(left) if !left.is_zero() => {
                format!("{heard} for {secs} s; its copies are made anew in {} s", left.as_secs())
            }
            _ => format!("{heard} for {secs} s; its copies count no more"),
        };
        (VolumeState::Down, Some(reason))
    }

    fn planned(&self, times: Times) -> topology::Seat {
        let up = self.is_up(times);
        let condition = match self.duty {
            Duty::Drain | Duty::Leave | Duty::Gone => Condition::Leaving { up },
            Duty::Serve if !up && self.silent_for(times) >= times.repair_after => Condition::Lost,
            Duty::Serve if !up => Condition::Away,
            Duty::Serve if self.compared && self.takes_writes(times) && self.available() > 0 => Condition::Up,
            Duty::Serve => Condition::Serving,
        };
        topology::Seat {
            zone: self.record.zone.clone(),
            condition,
            compared: self.compared,
            capacity_bytes: self.record.capacity_bytes,
            available_bytes: self.available(),
            live_bytes: self.report.as_ref().map_or(0, |r| r.live_bytes),
        }
    }

    pub(super) fn summary(&self, times: Times, compares: bool) -> VolumeSummary {
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
            silent_ms: self.heard.map(|h| u64::try_from(h.elapsed().as_millis()).unwrap_or(u64::MAX)),
        }
    }
}
