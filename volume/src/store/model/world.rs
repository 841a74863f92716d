//! A store on its simulated disk, the state that the model expects, and its lives from one opening to the next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use shared::clock::{Clock, Timestamp};
use shared::ids::{BlobId, VolumeId};

use super::expected::{ExpectedBlob, Fate};
use super::step::Ending;
use super::{Met, Outcome, Profile, Violation};
use crate::store::segment::{Extent, SegmentNumber};
use crate::store::sim_disk::{Fired, SimDisk};
use crate::store::{OpenReport, Options, Reader, RecordWriter, Refusal, Store, lock};

/// Number of lines kept of a trace: the last ones.
const TRACE_LINES: usize = 4000;

pub(super) struct ModelState {
    rng: Xoshiro256PlusPlus,
    profile: Profile,
    pub(super) disk: SimDisk,
    pub(super) options: Options,
    pub(super) blobs: Vec<ExpectedBlob>,
    pub(super) store: Option<Store>,
    pub(super) uploads: Vec<OpenUpload>,
    pub(super) readers: Vec<ReadInProgress>,
    /// Segments that this opening refused.
    blind: BTreeSet<SegmentNumber>,
    /// Segments whose first page was hit.
    pub(super) beheaded: BTreeSet<SegmentNumber>,
    /// Segments whose index was hit.
    pub(super) unindexed: BTreeSet<SegmentNumber>,
    /// Segments whose index header was hit, which invalidates the whole index.
    pub(super) disowned: BTreeSet<SegmentNumber>,
    /// Faults before this opening.
    before: Fired,
    /// Faults at the end of this opening.
    opened: Fired,
    /// The last life was closed, and nothing failed in it.
    closed: bool,
    schedules: u64,
    met: Met,
    trace: Option<Vec<String>>,
}

/// An upload under way.
pub(super) struct OpenUpload {
    pub(super) upload: RecordWriter,
    pub(super) blob: usize,
    pub(super) sent: usize,
}

/// A held reader.
pub(super) struct ReadInProgress {
    pub(super) reader: Reader,
    pub(super) blob: usize,
    pub(super) at: usize,
}

pub(super) fn violated<T>(what: String) -> Result<T, Violation> {
    Err(Violation(what))
}

impl ModelState {
    pub(super) fn new(seed: u64, profile: Profile, traced: bool) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let clock = Clock::manual(Timestamp::from_unix_ms(1_700_000_000_000));
        let disk = SimDisk::new(rng.random(), clock.clone());
        let no_holes = rng.random_bool(0.1);
        disk.faults(|f| f.no_holes = no_holes);
        if traced {
            disk.record();
        }
        let options = Options {
            volume: VolumeId::from_bytes([5; 16]),
            segment_bytes: [32 << 10, 128 << 10, 512 << 10][rng.random_range(0..3)],
            open_threads: 1,
            segment_age: Duration::from_secs(3600),
            reserve_bytes: 0,
            capacity_bytes: None,
            clock,
        };
        Self {
            rng,
            profile,
            disk,
            options,
            blobs: Vec::new(),
            store: None,
            uploads: Vec::new(),
            readers: Vec::new(),
            blind: BTreeSet::new(),
            beheaded: BTreeSet::new(),
            unindexed: BTreeSet::new(),
            disowned: BTreeSet::new(),
            before: Fired::default(),
            opened: Fired::default(),
            closed: false,
            schedules: 0,
            met: Met::new(),
            trace: traced.then(Vec::new),
        }
    }

    pub(super) fn outcome(mut self, violation: Option<String>) -> Outcome {
        self.say(|| "the end".into());
        let mut trace = self.trace.take().unwrap_or_default();
        let trail = self.disk.trail();
        trace.drain(..trace.len().saturating_sub(TRACE_LINES));
        Outcome { schedules: self.schedules, met: self.met, trail, violation, trace }
    }

    pub(super) fn rng(&mut self) -> &mut Xoshiro256PlusPlus {
        &mut self.rng
    }
    pub(super) fn profile(&self) -> Profile {
        self.profile
    }
    pub(super) fn stopped(&self) -> bool {
        self.disk.stopped()
    }
    pub(super) fn draw_lives(&mut self) -> usize {
        self.rng.random_range(2..7)
    }
    pub(super) fn draw_steps(&mut self) -> usize {
        self.rng.random_range(2..30)
    }

    /// Whether a call failed since the opening began, other than for lack of space.
    pub(super) fn is_sick(&self) -> bool {
        let now = self.disk.fired();
        (now.reads, now.writes, now.syncs) != (self.before.reads, self.before.writes, self.before.syncs)
    }

    /// Whether any call failed since the opening began.
    pub(super) fn is_cramped(&self) -> bool {
        self.disk.fired() != self.before
    }

    /// Whether no call ever failed and no bit was flipped.
    pub(super) fn is_undisturbed(&self) -> bool {
        let holes = {
            let mut holes = true;
            self.disk.faults(|f| holes = !f.no_holes);
            holes
        };
        holes && self.profile == Profile::Crashes
    }

    /// Whether the opening found too little space for its writes.
    pub(super) fn opened_cramped(&self) -> bool {
        self.opened != self.before
    }

    pub(super) fn is_blind(&self, segment: SegmentNumber) -> bool {
        self.blind.contains(&segment)
    }

    // The trace.

    pub(super) fn name(&self, known: &ExpectedBlob) -> String {
        let number = self.blobs.iter().position(|k| k.id == known.id);
        let place = known.place.map(|e| format!(" in {} at {}..{}", e.segment, e.offset(), e.end()));
        format!("b{}[{}]{}", number.unwrap_or_default(), known.length, place.unwrap_or_default())
    }

    pub(super) fn say(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.extend(self.disk.take_log().into_iter().map(|line| format!("      {line}")));
            trace.push(what());
        }
    }

    pub(super) fn meet(&mut self, what: &'static str, times: u64) {
        *self.met.entry(what).or_default() += times;
    }

    // Lives.

    /// Sometimes plans a stop of the disk in this life.
    pub(super) fn plan_stop(&mut self) {
        let after = match self.rng.random_range(0..10) {
            0..2 => None,
            2..5 => Some(self.rng.random_range(0..12)),
            5..8 => Some(self.rng.random_range(0..40)),
            _ => Some(self.rng.random_range(0..120)),
        };
        self.disk.stop_after(after);
        self.say(|| format!("life: the disk stops after {after:?}"));
    }

    /// Clears all faults for the last opening.
    pub(super) fn calm(&mut self) {
        self.disk.stop_after(None);
        self.disk.fill_up(None);
        self.disk.faults(|f| (f.read, f.write, f.sync, f.slow_ms) = (None, None, None, 0));
    }

    /// Opens the store; `false` if that was interrupted.
    pub(super) async fn open(&mut self) -> Result<bool, Violation> {
        self.schedules += 1;
        self.before = self.disk.fired();
        let opened = Store::open(Arc::new(self.disk.clone()), self.options.clone());
        self.opened = self.disk.fired();
        if self.rng.random() {
            tokio::task::yield_now().await;
        }
        let stopped = self.stopped();
        self.say(|| match &opened {
            Ok((_, report)) => format!("open -> {report:?}"),
            Err(e) => format!("open -> {e:?}"),
        });
        match opened {
            Err(_) if stopped || self.is_cramped() => {
                self.meet(if stopped { "openings cut short" } else { "openings failed" }, 1);
                Ok(false)
            }
            Err(e) => violated(format!("opening failed without a fault: {e:?}")),
            Ok((store, report)) => {
                self.store = Some(store);
                if stopped {
                    self.meet("openings cut short", 1);
                    return Ok(false);
                }
                self.take_report(&report)?;
                Ok(true)
            }
        }
    }

    fn take_report(&mut self, report: &OpenReport) -> Result<(), Violation> {
        self.blind.clear();
        for (what, times) in [
            ("indexes rebuilt", report.indexes_rebuilt),
            ("records recovered", report.records_recovered),
            ("torn tails", usize::from(report.torn_bytes > 0)),
            ("ranges quarantined", report.quarantined),
            ("duplicates", report.duplicates),
            ("unborn segments", report.uninitialized),
            ("refused segments", report.refused.len()),
        ] {
            self.meet(what, times as u64);
        }
        for refused in &report.refused {
            let excused = match refused.why {
                Refusal::Header(_) => self.beheaded.contains(&refused.segment),
                Refusal::Unreadable(_) => self.is_sick(),
            };
            if !excused {
                return violated(format!("refused without a reason: {refused:?}"));
            }
            self.blind.insert(refused.segment);
        }
        let scanned = report.records_recovered + report.indexes_rebuilt;
        if self.closed && scanned > 0 && self.profile == Profile::Crashes {
            return violated(format!("a store that was closed had to be scanned: {report:?}"));
        }
        if !report.foreign.is_empty() {
            return violated(format!("foreign files: {:?}", report.foreign));
        }
        self.settle_fates(!self.is_cramped(), &report.twice);
        Ok(())
    }

    /// Fixes the fate of each blob as an undisturbed opening shows it.
    fn settle_fates(&mut self, undisturbed: bool, twice: &[BlobId]) {
        let Some(store) = &self.store else { return };
        let segments: Vec<_> =
            self.disk.files().iter().filter_map(|(name, _)| SegmentNumber::from_name(name, ".seg")).collect();
        for known in &mut self.blobs {
            let place = lock(&store.0.catalog).get(known.id);
            // It may be an older record, hit before the blob was rewritten.
            let older = |e: &Extent| known.twice || known.past.contains(&e.segment);
            known.hurt |= known.scarred && place != known.place && place.as_ref().is_some_and(older);
            known.stands_at(place);
            known.twice |= known.adrift && !self.blind.is_empty();
            // The duplicate was deleted, wherever it was.
            if twice.contains(&known.id) {
                known.past.extend(&segments);
            }
            known.adrift &= !undisturbed || !self.blind.is_empty();
            if let (Fate::Either(deleting), true) = (known.fate, undisturbed) {
                known.fate = match (place.is_some(), deleting) {
                    (true, _) => Fate::Present,
                    (false, true) => Fate::Gone,
                    (false, false) => Fate::Absent,
                };
            }
        }
    }

    /// Ends this life.
    pub(super) async fn end(&mut self, ending: Ending) -> Result<(), Violation> {
        self.say(|| format!("end: {ending:?}"));
        self.readers.clear();
        if let (Ending::Close | Ending::CloseAndCut, Some(store)) = (ending, self.store.clone()) {
            self.give_up_all();
            store.close().await;
            self.closed = !self.stopped() && !self.is_cramped();
        } else {
            self.closed = false;
            self.doubt_uploads();
        }
        self.meet_segments();
        let next = match ending {
            Ending::Close | Ending::Kill => self.disk.restart(),
            Ending::CloseAndCut | Ending::PowerCut => self.disk.power_cut(),
        };
        self.uploads.clear();
        if let Some(store) = self.store.take() {
            // Background work finds its disk stopped, and ends.
            store.punched().await;
        }
        self.disk = next;
        if matches!(self.profile, Profile::Rot | Profile::Everything) {
            self.rot_at_rest();
        }
        self.pardon();
        Ok(())
    }

    fn meet_segments(&mut self) {
        let Some(store) = &self.store else { return };
        let status = store.status();
        let (fired, before) = (self.disk.fired(), self.before);
        self.meet("sealed segments", status.segments_sealed);
        self.meet("lives read-only", u64::from(status.read_only.is_some() && !self.stopped()));
        self.meet("failed reads", u64::from(fired.reads - before.reads));
        self.meet("failed writes", u64::from(fired.writes - before.writes));
        self.meet("failed syncs", u64::from(fired.syncs - before.syncs));
        self.meet("full disks", u64::from(fired.full > before.full));
    }

    /// Drops all uploads and readers.
    pub(super) fn give_up_all(&mut self) {
        self.doubt_uploads();
        self.uploads.clear();
        self.readers.clear();
    }

    /// An unfinished upload left nothing, unless calls failed.
    fn doubt_uploads(&mut self) {
        let doubtful = self.is_sick();
        for uploading in &self.uploads {
            if doubtful {
                self.blobs[uploading.blob].fate = Fate::Either(false);
            }
        }
    }
}
