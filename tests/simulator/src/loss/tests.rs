//! Drawn histories against closed forms, and against the event simulation.

use super::*;
use crate::groups::{Groups, Law};
use crate::site::Site;

/// A site of equal volumes, which the closed form for three replicas assumes.
fn even() -> Site {
    let mut site = Site::new(0, 5, 1);
    site.grow(std::iter::repeat_n(8_000_000_000_000, 20));
    site
}

fn risk(failure: f64, queue: Queue, volumes: usize) -> Risk {
    Risk { failure, copying: vec![queue.copying; volumes], queue }
}

fn near(mean: &Mean, expected: f64, more: f64) -> bool {
    (mean.mean() - expected).abs() < 1.3 * mean.half() + more * expected
}

const QUEUE: Queue =
    Queue { detect: 0.004, copying: 0.006, shape: 0.7, urgent: 0.002, outages: 0.0, outage: 0.0 };

#[test]
fn drawn_histories_agree_with_the_closed_forms() {
    let site = even();
    for queue in [QUEUE, Queue { outages: 2.0, outage: 0.01, ..QUEUE }] {
        let (risk, sets) = (risk(0.3, queue, 20), Sets::new(&site, 2));
        let loss = risk.loss(&sets, 1e4, &mut Dice::new(1));
        let form = risk.two_copies(&sets, 1e4);
        assert!(near(&loss.objects, form, 0.0), "{} ± {}, {form}", loss.objects.mean(), loss.objects.half());
        assert!(loss.objects.half() < 0.01 * form);
    }
    let at_once = Queue { urgent: 0.0, ..QUEUE };
    let (risk, sets) = (risk(0.3, at_once, 20), Sets::new(&site, 3));
    let loss = risk.loss(&sets, 1e4, &mut Dice::new(2));
    let form = risk.three_copies(1e4);
    assert!(near(&loss.objects, form, 0.0), "{} ± {}, {form}", loss.objects.mean(), loss.objects.half());
    assert!(loss.objects.half() < 0.01 * form);
}

#[test]
fn the_closed_form_is_the_integral() {
    let (risk, steps) = (risk(1.0, QUEUE, 1), 200_000);
    let window = QUEUE.detect + QUEUE.copying;
    let at = |n: i32| (f64::from(n) + 0.5) * window / f64::from(steps);
    let sum: f64 = (0..steps).map(|n| risk.left(at(n), QUEUE.copying) * at(n).min(QUEUE.detect)).sum();
    let integral = 6.0 * sum * window / f64::from(steps);
    assert!((risk.three_copies(1.0) / integral - 1.0).abs() < 1e-6);
}

/// Lost blobs and loss events per year: simulated, and drawn.
fn compare(copies: usize, failure: f64, queue: Queue, objects: usize, years: f64) -> ((Mean, Mean), Loss) {
    let (site, mut dice) = (even(), Dice::new(4));
    let sets = Sets::new(&site, copies);
    let mut seen = (Mean::default(), Mean::default());
    // New sets each time: the number of blobs that share one is random, too.
    for _ in 0..20 {
        let mut chosen = Vec::new();
        while chosen.len() < objects {
            let set: Vec<usize> = (0..copies).map(|_| dice.index(20)).collect();
            if sets.chance(&set) > 0.0 {
                chosen.push(set.iter().map(|v| u16::try_from(*v).unwrap()).collect());
            }
        }
        let run = Groups::new(20, chosen).run(failure, Law::Queue(queue), 1, years, &mut dice);
        seen.0.add(run.lost.mean());
        seen.1.add(run.losses.mean());
    }
    (seen, risk(failure, queue, 20).loss(&sets, objects as f64, &mut dice))
}

/// Formulas and drawn histories ignore that more volumes than those of a set fail, and that a missing replica cannot
/// fail. The error is of the order of failures during one repair, 1 to 3 % here.
const HIGHER_TERMS: f64 = 0.03;

#[test]
fn two_copies_are_lost_as_often_event_by_event() {
    for queue in [QUEUE, Queue { outages: 2.0, outage: 0.02, ..QUEUE }] {
        let ((lost, losses), loss) = compare(2, 1.0, queue, 300, 400.0);
        assert!(lost.half() < 0.06 * lost.mean(), "{} ± {}", lost.mean(), lost.half());
        assert!(near(&lost, loss.objects.mean(), HIGHER_TERMS), "{lost:?} {}", loss.objects.mean());
        assert!(near(&losses, loss.events.mean(), HIGHER_TERMS), "{losses:?} {}", loss.events.mean());
    }
}

#[test]
fn three_copies_are_lost_as_often_event_by_event() {
    for queue in [QUEUE, Queue { outages: 2.0, outage: 0.02, ..QUEUE }] {
        let ((lost, losses), loss) = compare(3, 2.0, queue, 400, 300.0);
        assert!(lost.half() < 0.1 * lost.mean(), "{} ± {}", lost.mean(), lost.half());
        assert!(near(&lost, loss.objects.mean(), 2.0 * HIGHER_TERMS), "{lost:?} {}", loss.objects.mean());
        assert!(near(&losses, loss.events.mean(), 2.0 * HIGHER_TERMS), "{losses:?} {}", loss.events.mean());
    }
}

#[test]
fn rot_is_lost_with_the_disk_that_had_the_good_copy() {
    // One bad spot on each volume at any time: each volume that fails loses one blob that has two replicas.
    let risk = risk(0.5, QUEUE, 20);
    assert!((risk.rotten(2, 2.0, 1.0, 20.0) - 0.5 * 20.0).abs() < 1e-12);
    assert!(risk.rotten(3, 2.0, 1.0, 20.0) < 0.01 * risk.rotten(2, 2.0, 1.0, 20.0));
}
