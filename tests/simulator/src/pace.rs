//! The speed of repair: one plan after the other, `REPAIRS_AT_ONCE` replicas in parallel, each at the receive rate of
//! its volume. Between two plans the master scans the repair queue and pauses.
//!
//! The cost of a replica besides its bytes (two commits, a sync) is not included.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ::tests::Dice;
use shared::limits::{REPAIR_PLAN, REPAIRS_AT_ONCE};

use crate::chance::{unit, whole};
use crate::site::{length, mean_length};

/// No replica of a plan begins after this many seconds: `PLAN_TIME` in `master/src/work/repair.rs`.
const PLAN_SECONDS: f64 = 20.0;
/// Plan and pause take at least this many times as long as the scan, unless the queue is longer than a
/// plan: `LOOKING` there.
const LOOKING: f64 = 10.0;
/// The longest pause after a scan, in seconds, as there.
const REST_SECONDS_MAX: f64 = 60.0;
/// Simulated plans to average over.
const PLANS: u32 = 40;

/// The speed of repair.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Mean duration of a plan.
    pub plan_seconds: f64,
    pub plan_bytes: f64,
    /// Scan time per blob.
    pub look_seconds: f64,
    /// Additional time per planned blob, to place its new replica.
    pub judge_seconds: f64,
}

/// A scan, a plan and a pause.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Duration of scan and plan.
    pub seconds: f64,
    /// Pause before the next scan.
    pub rest_seconds: f64,
    pub bytes: f64,
}

impl Pace {
    /// Simulates plans with this many volumes that each receive `bytes_per_second`. Scans cost nothing.
    pub fn new(volumes: usize, bytes_per_second: f64, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let (mut seconds, mut bytes) = (0.0, 0.0);
        for _ in 0..PLANS {
            let plan = plan(volumes, bytes_per_second, &mut dice);
            seconds += plan.0;
            bytes += plan.1;
        }
        let plans = f64::from(PLANS);
        Self {
            plan_seconds: seconds / plans,
            plan_bytes: bytes / plans,
            look_seconds: 0.0,
            judge_seconds: 0.0,
        }
    }

    /// One turn with this many bytes to repair.
    pub fn turn(&self, owed_bytes: f64) -> Turn {
        let blobs = owed_bytes / mean_length();
        let planned = blobs.min(REPAIR_PLAN as f64);
        let look = blobs * self.look_seconds + planned * self.judge_seconds;
        let bytes = owed_bytes.min(self.plan_bytes);
        let work = self.plan_seconds * bytes / self.plan_bytes;
        let more = blobs > planned;
        let rest_seconds = if more { 0.0 } else { (look * LOOKING - work).clamp(0.0, REST_SECONDS_MAX) };
        Turn { seconds: look + work, rest_seconds, bytes }
    }

    /// The time to repair this many bytes.
    pub fn seconds(&self, owed_bytes: f64) -> f64 {
        self.curve(owed_bytes).0
    }

    /// The time to repair this many bytes, and the fraction of it that the mean byte waits: half at constant speed,
    /// more if repair is slow while the queue is long.
    pub fn curve(&self, owed_bytes: f64) -> (f64, f64) {
        let (mut seconds, mut rest, mut left, mut waited) = (0.0, 0.0, owed_bytes, 0.0);
        while left > 0.0 {
            let turn = self.turn(left);
            // The bytes of this turn wait for its scan and, on average, for half of its copying.
            let copying = self.plan_seconds * turn.bytes / self.plan_bytes;
            seconds += rest + turn.seconds;
            waited += turn.bytes * (seconds - copying / 2.0);
            rest = turn.rest_seconds;
            left -= turn.bytes;
        }
        (seconds, waited / owed_bytes / seconds)
    }
}

/// Seconds and bytes of one plan: replicas begin in order, each when an earlier one has ended and its volume is free.
fn plan(volumes: usize, bytes_per_second: f64, dice: &mut Dice) -> (f64, f64) {
    // In microseconds, as integers, which can be ordered.
    let mut ends: BinaryHeap<_> = (0..REPAIRS_AT_ONCE).map(|_| Reverse(0u64)).collect();
    let mut busy = vec![0u64; volumes];
    let (mut last, mut bytes) = (0, 0.0);
    for _ in 0..REPAIR_PLAN {
        let Some(Reverse(free)) = ends.pop().filter(|Reverse(t)| *t < whole(PLAN_SECONDS * 1e6)) else {
            break;
        };
        let (to, length) = (dice.index(volumes), length(unit(dice)) as f64);
        let end = free.max(busy[to]) + whole(length / bytes_per_second * 1e6);
        busy[to] = end;
        ends.push(Reverse(end));
        last = last.max(end);
        bytes += length;
    }
    (last as f64 / 1e6, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f64 = 134_217_728.0;

    #[test]
    fn the_bound_is_copies_at_once_or_the_volumes() {
        let speed = |volumes, look| {
            let pace = Pace { look_seconds: look, ..Pace::new(volumes, RATE, 1) };
            1e13 / pace.seconds(1e13) / RATE
        };
        let at_once = REPAIRS_AT_ONCE as f64;
        // At the end of a plan the longest transfer runs alone.
        assert!((0.6 * at_once..at_once).contains(&speed(10_000, 0.0)), "{}", speed(10_000, 0.0));
        assert!((speed(1, 0.0) - 1.0).abs() < 1e-3, "{}", speed(1, 0.0));
        assert!(speed(4, 0.0) > 2.0 * speed(1, 0.0));
        assert!(speed(1000, 1e-3) < 0.5 * speed(1000, 0.0));
    }

    #[test]
    fn looks_take_a_tenth_of_the_time() {
        let pace = Pace {
            plan_seconds: 20.0,
            plan_bytes: 20.0 * mean_length(),
            look_seconds: 0.01,
            judge_seconds: 0.0,
        };
        let turn = pace.turn(400.0 * mean_length());
        assert!((turn.seconds - 24.0).abs() < 1e-9 && (turn.rest_seconds - 20.0).abs() < 1e-9, "{turn:?}");
        let turn = pace.turn(100.0 * mean_length());
        assert!((turn.seconds - 21.0).abs() < 1e-9 && turn.rest_seconds == 0.0, "{turn:?}");
        // A queue longer than a plan: no pause, and only the planned blobs are placed.
        let (many, judge) = (10_000.0 * mean_length(), 0.001);
        let turn = Pace { judge_seconds: judge, ..pace }.turn(many);
        let judged = REPAIR_PLAN as f64 * judge;
        assert!((turn.seconds - 120.0 - judged).abs() < 1e-9 && turn.rest_seconds == 0.0, "{turn:?}");
        // Two plans: the scans of 30 and 10 blobs take 0.3 and 0.1 s, without pauses. The mean wait is
        // 2/3 · 10.3 + 1/3 · 25.4 s.
        let (seconds, mean) = pace.curve(30.0 * mean_length());
        assert!((seconds - 30.4).abs() < 1e-9 && (mean - (20.6 + 25.4) / 3.0 / 30.4).abs() < 1e-9);
        // Ten blobs: half a plan.
        assert!((pace.seconds(10.0 * mean_length()) - 10.1).abs() < 1e-9);
    }
}
