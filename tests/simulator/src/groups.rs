//! Discrete event simulation: volumes fail, lost replicas are re-created, and a blob without replicas is lost.
//!
//! It only sees frequent events: with failure rates far above those of disks, it checks the formulas that are used
//! for disks. A new replica takes the place of the lost one, so sets do not change.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ::tests::Dice;

use crate::chance::{Mean, unit, wait};

/// The distribution of the time that a lost replica is missing, in years.
#[derive(Clone, Copy, Debug)]
pub enum Law {
    /// Exponential with this rate.
    Exponential(f64),
    /// The repair queue of the master.
    Queue(Queue),
}

/// The repair queue, with times in years. The replicas of a volume are re-created one after the other, in an order
/// that does not depend on the other replicas, except that blobs with a single replica left come first.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// From the failure until the replicas of the volume no longer count.
    pub detect: f64,
    /// From then on until the last replica is re-created.
    pub copying: f64,
    /// The fraction left after t is (1 - t/copying)^shape. 1 is constant speed; less is slow at first.
    pub shape: f64,
    /// Wait of a blob with a single replica for its turn, after detection.
    pub urgent: f64,
    /// Zone outages per year, all zones together.
    pub outages: f64,
    /// Duration of an outage; no other replica is re-created meanwhile.
    pub outage: f64,
}

/// Volumes, and the sets of them that hold blobs.
#[derive(Clone, Debug)]
pub struct Groups {
    sets: Vec<Vec<u16>>,
    /// By volume: the sets it is in, and its position in each.
    on: Vec<Vec<(usize, usize)>>,
}

/// The observed losses; each simulated stretch is one observation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Blobs lost per year.
    pub lost: Mean,
    /// Loss events per year: all blobs that a set of volumes loses at one moment are one event.
    pub losses: Mean,
}

/// The replicas of a blob: present, or missing until a time.
type Copies = Vec<Option<f64>>;

impl Queue {
    /// The time after detection when the fraction `left` is left.
    fn copies_after(&self, left: f64) -> f64 {
        self.copying * (1.0 - left.powf(self.shape.recip()))
    }
}

impl Groups {
    pub fn new(volumes: usize, sets: Vec<Vec<u16>>) -> Self {
        let mut on = vec![Vec::new(); volumes];
        for (number, set) in sets.iter().enumerate() {
            for (copy, volume) in set.iter().enumerate() {
                on[usize::from(*volume)].push((number, copy));
            }
        }
        Self { sets, on }
    }

    /// Simulates `stretches` independent stretches of `years` years each.
    pub fn run(&self, failure: f64, law: Law, stretches: u32, years: f64, dice: &mut Dice) -> Seen {
        let mut seen = Seen::default();
        for _ in 0..stretches {
            let (lost, losses) = self.stretch(failure, law, years, dice);
            seen.lost.add(lost / years);
            seen.losses.add(losses / years);
        }
        seen
    }

    fn stretch(&self, failure: f64, law: Law, years: f64, dice: &mut Dice) -> (f64, f64) {
        let mut copies: Vec<Copies> = self.sets.iter().map(|set| vec![None; set.len()]).collect();
        let pauses = pauses(law, years, dice);
        let mut failures = BinaryHeap::new();
        for volume in 0..self.on.len() {
            failures.push(Reverse((Moment(wait(dice, failure)), volume)));
        }
        let (mut lost, mut losses) = (0.0, 0.0);
        while let Some(Reverse((Moment(now), volume))) = failures.pop().filter(|Reverse((t, _))| t.0 < years)
        {
            failures.push(Reverse((Moment(now + wait(dice, failure)), volume)));
            let mut gone = Vec::new();
            for (set, copy) in &self.on[volume] {
                if fail(&mut copies[*set], *copy, now, law, &pauses, dice) {
                    let mut volumes = self.sets[*set].clone();
                    volumes.sort_unstable();
                    gone.push(volumes);
                }
            }
            lost += gone.len() as f64;
            gone.sort_unstable();
            gone.dedup();
            losses += gone.len() as f64;
        }
        (lost, losses)
    }
}

/// Fails one replica. Returns whether it was the last one; the blob is then written again.
fn fail(
    copies: &mut Copies,
    copy: usize,
    now: f64,
    law: Law,
    pauses: &[(f64, f64)],
    dice: &mut Dice,
) -> bool {
    for held in copies.iter_mut() {
        held.take_if(|until| *until <= now);
    }
    if copies[copy].is_some() {
        return false;
    }
    let back = match law {
        Law::Exponential(rate) => now + wait(dice, rate),
        Law::Queue(queue) => running(now, queue.detect + queue.copies_after(unit(dice)), pauses),
    };
    copies[copy] = Some(back);
    let missing = copies.iter().flatten().count();
    if missing == copies.len() {
        copies.fill(None);
        return true;
    }
    if let Law::Queue(queue) = law
        && missing > 1
        && missing + 1 == copies.len()
    {
        // One more replica is re-created at once; it does not matter which of the missing ones.
        let soon = now + queue.detect + queue.urgent;
        if let Some(first) = copies.iter_mut().flatten().min_by(|a, b| a.total_cmp(b)) {
            *first = first.min(soon);
        }
    }
    false
}

/// The time when `work` that begins at `from` ends, if it stops during pauses.
fn running(from: f64, work: f64, pauses: &[(f64, f64)]) -> f64 {
    let mut end = from + work;
    let next = pauses.partition_point(|(_, end)| *end <= from);
    for (begin, over) in &pauses[next..] {
        if *begin >= end {
            break;
        }
        end += over - begin.max(from);
    }
    end
}

/// Draws outages, in order and without overlap.
fn pauses(law: Law, years: f64, dice: &mut Dice) -> Vec<(f64, f64)> {
    let Law::Queue(Queue { outages, outage, .. }) = law else { return Vec::new() };
    let (mut pauses, mut now) = (Vec::new(), 0.0);
    while outages > 0.0 && now < years {
        now += wait(dice, outages);
        pauses.push((now, now + outage));
        now += outage;
    }
    pauses
}

/// A time, which is never NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moment(f64);

impl Eq for Moment {}
impl Ord for Moment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain;

    /// Blobs lost per year: simulated, half its confidence interval, and by the closed form.
    fn compare(copies: u16, failure: f64, repair: f64, stretches: u32, years: f64) -> (f64, f64, f64) {
        // Sets share no volume, so their losses are independent.
        let sets: Vec<Vec<u16>> = (0..20).map(|n| (0..copies).map(|c| n * copies + c).collect()).collect();
        let groups = Groups::new(usize::from(20 * copies), sets);
        let seen = groups.run(failure, Law::Exponential(repair), stretches, years, &mut Dice::new(5));
        let mean = if copies == 2 { chain::two(failure, repair) } else { chain::three(failure, repair) };
        (seen.lost.mean(), seen.lost.half(), 20.0 / mean)
    }

    #[test]
    fn two_copies_live_as_long_as_the_closed_form_says() {
        for (failure, repair) in [(1.0, 2.0), (1.0, 20.0)] {
            let (seen, half, form) = compare(2, failure, repair, 200, 200.0);
            assert!(half < 0.03 * form, "too few losses: {seen} ± {half}");
            assert!((seen - form).abs() < 1.3 * half, "{seen} ± {half}, by the formula {form}");
        }
    }

    #[test]
    fn three_copies_live_as_long_as_the_closed_form_says() {
        for (failure, repair) in [(1.0, 1.0), (1.0, 5.0)] {
            let (seen, half, form) = compare(3, failure, repair, 200, 300.0);
            assert!(half < 0.03 * form, "too few losses: {seen} ± {half}");
            assert!((seen - form).abs() < 1.3 * half, "{seen} ± {half}, by the formula {form}");
        }
    }

    #[test]
    fn a_wrong_formula_would_be_seen() {
        let (seen, half, _) = compare(3, 1.0, 5.0, 200, 300.0);
        // The formula for sequential instead of parallel repair: 11λ² + 4λμ + μ².
        let one_after_the_other = 20.0 * 6.0 / (11.0 + 4.0 * 5.0 + 25.0);
        assert!((seen - one_after_the_other).abs() > 5.0 * half, "{seen} ± {half}");
        let (seen, half, _) = compare(2, 1.0, 20.0, 200, 200.0);
        // m²/r, which ignores that two replicas can fail in two orders.
        assert!((seen - 20.0 / 20.0).abs() > 5.0 * half, "{seen} ± {half}");
    }

    #[test]
    fn nothing_runs_during_a_pause() {
        let pauses = [(1.0, 2.0), (4.0, 6.0)];
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(running(0.0, 0.5, &pauses), 0.5));
        assert!(near(running(0.5, 1.0, &pauses), 2.5));
        assert!(near(running(1.5, 0.25, &pauses), 2.25));
        assert!(near(running(0.0, 4.0, &pauses), 7.0));
        assert!(near(running(6.0, 1.0, &pauses), 7.0));
    }
}
