//! The probability of data loss (durability): all replicas of a blob fail, each before the earlier
//! ones were re-created.
//!
//! With real disks that is too rare to simulate directly. So it uses importance sampling: each draw is a history in
//! which all volumes of a set fail within the repair time, weighted by its probability. The results are compared with
//! closed forms, and with the event simulation (`groups`) where losses are frequent enough.

use ::tests::Dice;
use shared::limits::{DOWN_AFTER, REPAIR_AFTER};

use crate::chance::{Mean, unit};
use crate::groups::Queue;
use crate::pace::Pace;
use crate::sets::Sets;

pub const YEAR_HOURS: f64 = 8766.0;
pub const YEAR_SECONDS: f64 = YEAR_HOURS * 3600.0;
/// Histories drawn for one estimate.
const DRAWS: u32 = 1_000_000;

/// The time from a failure until the replicas of the volume no longer count, in years.
pub fn detect() -> f64 {
    (REPAIR_AFTER + DOWN_AFTER).as_secs_f64() / YEAR_SECONDS
}

/// Failure rates and repair times.
#[derive(Clone, Debug)]
pub struct Risk {
    /// Failures of one volume per year.
    pub failure: f64,
    /// By volume: the time in years from detection until its last replica is re-created.
    pub copying: Vec<f64>,
    /// The other parameters of repair.
    pub queue: Queue,
}

/// Losses per year.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loss {
    /// Events in which a set of volumes loses blobs.
    pub events: Mean,
    pub objects: Mean,
}

impl Loss {
    /// The probability that any blob is lost in a year.
    pub fn any(&self) -> f64 {
        -(-self.events.mean()).exp_m1()
    }
}

impl Risk {
    /// The risk of volumes with these bytes, repaired at this pace.
    pub fn new(failure: f64, bytes: &[f64], pace: &Pace, outages: f64, outage: f64) -> Self {
        let copying: Vec<f64> = bytes.iter().map(|b| pace.seconds(*b) / YEAR_SECONDS).collect();
        let waits: f64 = bytes.iter().map(|b| pace.curve(*b).1).sum();
        let mean = copying.iter().sum::<f64>() / copying.len() as f64;
        let most = bytes.iter().copied().fold(0.0, f64::max);
        // A blob with a single replica waits for the end of the current turn.
        let turn = pace.turn(most);
        let urgent = (turn.seconds + turn.rest_seconds) / YEAR_SECONDS;
        // The mean of (1 - x)^k is 1 / (k + 1).
        let shape = bytes.len() as f64 / waits - 1.0;
        let queue = Queue { detect: detect(), copying: mean, shape, urgent, outages, outage };
        Self { failure, copying, queue }
    }

    /// Estimates the losses among this many blobs.
    pub fn loss(&self, sets: &Sets, objects: f64, dice: &mut Dice) -> Loss {
        let mut loss = Loss::default();
        for _ in 0..DRAWS {
            let (events, lost) = self.history(sets, objects, dice);
            loss.events.add(events);
            loss.objects.add(lost);
        }
        loss
    }

    /// Draws one history. Returns its weighted contributions to the loss events and the lost blobs per year.
    fn history(&self, sets: &Sets, objects: f64, dice: &mut Dice) -> (f64, f64) {
        let volumes = sets.volumes();
        let set: Vec<usize> = (0..sets.copies).map(|_| dice.index(volumes)).collect();
        let chance = sets.chance(&set);
        let (window, outage) = (self.queue.detect + self.copying[set[0]], self.queue.outage);
        // Half of the histories have an outage that begins before the first failure or during its repair.
        let outages = self.queue.outages * (outage + window);
        let (paused, likely, span) = if self.queue.outages > 0.0 && dice.once_in(2) {
            let begins = unit(dice) * (outage + window) - outage;
            (Some(begins), 2.0 * outages, window + outage)
        } else {
            let likely = if self.queue.outages > 0.0 { 2.0 * (1.0 - outages) } else { 1.0 };
            (None, likely, window)
        };
        // The time of the last failure after the first. With three replicas, the second fails shortly before the
        // last.
        let last = unit(dice) * span;
        // The replica on the second volume must not have been re-created by then either.
        let (between, second) = if sets.copies > 2 {
            let between = last.min(self.queue.detect + self.queue.urgent);
            (between, self.left(unit(dice) * between, self.copying[set[1]]))
        } else {
            (1.0, 1.0)
        };
        let worked = last - paused.map_or(0.0, |begins| overlap(begins, begins + outage, last));
        let exposed = objects * chance * self.left(worked, self.copying[set[0]]);
        let failures = (volumes as f64 * self.failure).powi(i32::try_from(sets.copies).unwrap_or(0));
        let weight = failures * likely * span * between * second;
        (weight * -(-exposed).exp_m1(), weight * exposed)
    }

    /// The fraction of a volume's blobs that is not re-created after `worked` years of repair.
    fn left(&self, worked: f64, copying: f64) -> f64 {
        (1.0 - (worked - self.queue.detect) / copying).clamp(0.0, 1.0).powf(self.queue.shape)
    }

    /// Blobs lost per year with two replicas: either one fails first, and the other one within the time that the mean
    /// blob waits, which is the whole detection and about half of the copying. An outage stops repair.
    pub fn two_copies(&self, sets: &Sets, objects: f64) -> f64 {
        let Queue { detect, shape, outages, outage, .. } = self.queue;
        let mean = |set: &[usize; 2]| {
            let wait = detect + self.copying[set[0]] / (shape + 1.0);
            wait + outages * outage * (outage / 2.0 + wait)
        };
        let volumes = 0..sets.volumes();
        let pairs = volumes.clone().flat_map(|a| volumes.clone().map(move |b| [a, b]));
        let each = pairs.map(|set| sets.chance(&set) * mean(&set));
        objects * self.failure * self.failure * each.sum::<f64>()
    }

    /// Blobs lost per year with three replicas, for volumes of the mean size, no outages, and no wait of a blob with
    /// a single replica after detection. There are six orders of failure. For each it is the integral, over the time
    /// x of the third failure, of the fraction of the first volume left at x, times the time in which the second
    /// failed: min(x, detection).
    pub fn three_copies(&self, objects: f64) -> f64 {
        let Queue { detect, copying, shape, .. } = self.queue;
        6.0 * objects * self.failure.powi(3) * detect * (detect / 2.0 + copying / (shape + 1.0))
    }

    /// Blobs lost per year because their last replica had undetected bit rot: `spots` bad spots per year on one
    /// volume, each found after half a scrub interval. The volumes of the other one or two replicas fail.
    pub fn rotten(&self, copies: usize, blob_refs: f64, scrub: f64, volumes: f64) -> f64 {
        let Queue { detect, copying, shape, .. } = self.queue;
        let bad = blob_refs * scrub / 2.0 * volumes;
        match copies {
            2 => self.failure * bad,
            _ => self.failure * self.failure * 2.0 * (detect + copying / (shape + 1.0)) * bad,
        }
    }
}

/// How much of a pause lies between 0 and `until`.
fn overlap(begins: f64, ends: f64, until: f64) -> f64 {
    (ends.min(until) - begins.max(0.0)).max(0.0)
}

#[cfg(test)]
mod tests;
