//! Years of a site: volumes fail and are replaced, zones fail and return, and the master works off its repair queue
//! turn by turn.
//!
//! Bytes are a fluid here: the duration of repair does not depend on which blobs share volumes.

use ::tests::Dice;

use crate::chance::wait;
use crate::loss::{YEAR_HOURS, YEAR_SECONDS, detect};
use crate::pace::Pace;

/// Failure rates and repair speed.
#[derive(Clone, Debug)]
pub struct World {
    /// By volume: its bytes.
    pub bytes: Vec<f64>,
    /// By volume: its zone.
    pub zone: Vec<u16>,
    pub zones: u16,
    /// Failures of one volume per year.
    pub failure: f64,
    /// Outages of one zone per year.
    pub outages: f64,
    /// Duration of an outage in years.
    pub outage: f64,
    pub pace: Pace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct History {
    pub failures: u32,
    pub outages: u32,
    /// Bytes re-replicated for failed volumes.
    pub repaired: f64,
    /// Bytes re-replicated for zones that returned, and deleted again.
    pub wasted: f64,
    /// Years in which a failed volume was not fully repaired.
    pub under_replicated: f64,
    /// The mean time to repair a failed volume, in hours.
    pub mean_hours: f64,
    pub longest_hours: f64,
    /// The largest number of volumes under repair at the same time.
    pub most: usize,
    /// The longest repair of a volume without a zone outage meanwhile.
    pub longest_quiet_hours: f64,
}

/// A failed volume or zone whose replicas must be re-created.
#[derive(Clone, Debug)]
struct Owed {
    /// The time of the failure.
    since: f64,
    /// The time from which its replicas no longer count.
    from: f64,
    left: f64,
    /// For a zone: the time of its return.
    back: Option<f64>,
    /// Whether a zone was down meanwhile.
    crossed: bool,
}

impl World {
    /// Simulates this many years.
    pub fn run(&self, years: f64, dice: &mut Dice) -> History {
        let mut seen = History::default();
        let failing = self.failure * self.bytes.len() as f64;
        let going = self.outages * f64::from(self.zones);
        let (mut failure, mut outage) = (wait(dice, failing), wait_for(dice, going));
        let (mut now, mut under_replicated) = (0.0, Vec::<Owed>::new());
        while now < years {
            while failure.min(outage) <= now {
                if failure < outage {
                    let bytes = self.bytes[dice.index(self.bytes.len())];
                    under_replicated.push(Owed::new(failure, bytes, None));
                    seen.failures += 1;
                    failure += wait(dice, failing);
                } else {
                    let zone = u16::try_from(dice.below(u64::from(self.zones))).unwrap_or(0);
                    let on = self.bytes.iter().zip(&self.zone).filter(|(_, z)| **z == zone);
                    under_replicated.push(Owed::new(
                        outage,
                        on.map(|(bytes, _)| bytes).sum(),
                        Some(outage + self.outage),
                    ));
                    seen.outages += 1;
                    outage += wait_for(dice, going);
                }
            }
            seen.most = seen.most.max(under_replicated.iter().filter(|o| o.back.is_none()).count());
            let next = failure.min(outage);
            let then = self.step(now, next, &mut under_replicated, &mut seen);
            if under_replicated.iter().any(|o| o.back.is_none()) {
                seen.under_replicated += then - now;
            }
            now = then;
            settle(now, &mut under_replicated, &mut seen);
        }
        let made_good =
            f64::from(seen.failures) - under_replicated.iter().filter(|o| o.back.is_none()).count() as f64;
        seen.mean_hours /= made_good.max(1.0);
        seen
    }

    /// Runs one repair turn, or waits for the next event. Returns the time when it ends.
    fn step(&self, now: f64, next: f64, under_replicated: &mut [Owed], seen: &mut History) -> f64 {
        let away = under_replicated.iter().any(|o| o.back.is_some() && o.from <= now);
        under_replicated.iter_mut().for_each(|o| o.crossed |= away);
        let all: f64 = under_replicated.iter().filter(|o| o.from <= now).map(|o| o.left).sum();
        if all <= 0.0 {
            let waiting = under_replicated.iter().filter(|o| o.from > now).map(|o| o.from);
            let back = under_replicated.iter().filter_map(|o| o.back).filter(|b| *b > now);
            return waiting.chain(back).fold(next, f64::min);
        }
        let turn = self.pace.turn(all);
        for one in under_replicated.iter_mut().filter(|o| o.from <= now) {
            // Among blobs with equally many replicas the oldest come first, whichever volume failed.
            let part = turn.bytes * one.left / all;
            one.left = if turn.bytes >= all { 0.0 } else { one.left - part };
            let sum = if one.back.is_some() { &mut seen.wasted } else { &mut seen.repaired };
            *sum += part;
        }
        // The pause belongs to the turn unless nothing is left.
        let rest = if turn.bytes >= all { 0.0 } else { turn.rest_seconds };
        now + (turn.seconds + rest) / YEAR_SECONDS
    }
}

impl Owed {
    fn new(since: f64, left: f64, back: Option<f64>) -> Self {
        Self { since, from: since + detect(), left, back, crossed: false }
    }
}

/// Removes volumes that are repaired, and zones that have returned.
fn settle(now: f64, under_replicated: &mut Vec<Owed>, seen: &mut History) {
    under_replicated.retain(|one| {
        if let Some(back) = one.back {
            return back > now;
        }
        if one.left > 0.0 {
            return true;
        }
        let hours = (now - one.since) * YEAR_HOURS;
        seen.mean_hours += hours;
        seen.longest_hours = seen.longest_hours.max(hours);
        if !one.crossed {
            seen.longest_quiet_hours = seen.longest_quiet_hours.max(hours);
        }
        false
    });
}

fn wait_for(dice: &mut Dice, rate: f64) -> f64 {
    if rate > 0.0 { wait(dice, rate) } else { f64::INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::mean_length;

    fn world(failure: f64, outages: f64) -> World {
        let pace = Pace { plan_seconds: 20.0, plan_bytes: 2e10, look_seconds: 0.0, judge_seconds: 0.0 };
        let (bytes, zone) = (vec![1e12; 20], (0..20).map(|n| n % 5).collect());
        World { bytes, zone, zones: 5, failure, outages, outage: 4.0 / YEAR_HOURS, pace }
    }

    #[test]
    fn rare_failures_are_repaired_one_by_one() {
        let seen = world(0.02, 0.0).run(500.0, &mut Dice::new(1));
        let expected = 20.0 * 0.02 * 500.0;
        assert!((f64::from(seen.failures) - expected).abs() < 4.0 * expected.sqrt(), "{seen:?}");
        assert!((seen.repaired / (f64::from(seen.failures) * 1e12) - 1.0).abs() < 1e-9);
        // 1 TB at 1 GB/s after 603 s.
        assert!((seen.mean_hours * 3600.0 / 1603.0 - 1.0).abs() < 0.02, "{seen:?}");
        assert!(
            (seen.under_replicated / (f64::from(seen.failures) * seen.mean_hours / YEAR_HOURS) - 1.0).abs()
                < 0.01
        );
        assert_eq!((seen.wasted, seen.outages), (0.0, 0));
    }

    #[test]
    fn a_queue_that_is_busy_is_one_in_the_textbook() {
        // So many failures that the queue is busy for 40 % of the time. A server of equal jobs is busy equally long
        // in any order, and only that is compared.
        let mut world = world(0.0, 0.0);
        world.failure = 0.4 * YEAR_SECONDS / 1000.0 / 20.0;
        let seen = world.run(2.0, &mut Dice::new(2));
        let copying = seen.repaired / 1e9 / YEAR_SECONDS / 2.0;
        assert!((copying - 0.4).abs() < 0.02, "{copying}");
        assert!(seen.most > 3 && seen.under_replicated / 2.0 > 0.5, "{seen:?}");
    }

    #[test]
    fn a_zone_that_comes_back_was_copied_in_vain() {
        let seen = world(0.0001, 1.0).run(100.0, &mut Dice::new(3));
        // 4 TB at 1 GB/s are copied long before four hours have passed.
        assert!((seen.wasted / (f64::from(seen.outages) * 4e12) - 1.0).abs() < 0.05, "{seen:?}");
        assert!(f64::from(seen.outages) > 400.0);
    }

    #[test]
    fn the_same_seed_is_the_same_history() {
        let run = |seed| world(0.5, 0.5).run(50.0, &mut Dice::new(seed));
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn looking_slows_repair_down() {
        let mut slow = world(0.02, 0.0);
        slow.pace.look_seconds = 100.0 * mean_length() / 1e12;
        assert!(
            slow.run(50.0, &mut Dice::new(1)).mean_hours
                > 1.5 * world(0.02, 0.0).run(50.0, &mut Dice::new(1)).mean_hours
        );
    }
}
