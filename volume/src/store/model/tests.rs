//! Thousands of runs of the store on a simulated disk; reproducibility of a seed; and planted bugs, each of which
//! must be found: a check that has never failed is not known to work.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;
use crate::store::planted_bugs::{Bug, plant};

/// First seed of every run, so that runs are reproducible. A long run begins with a random seed and prints it.
const FIRST_SEED: u64 = 1;
/// Seeds of long runs that found a bug, of the store or of the model; part of every run since.
const FOUND: &[(Profile, u64)] = &[(Profile::Everything, 1_097_021_758), (Profile::Faults, 3_241_289_275)];

#[expect(clippy::disallowed_methods, reason = "it says which seeds a test runs, and nothing else")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap())
}

/// Runs seeds of a profile; fails at the first violation.
fn explore(profile: Profile, usual: u64) {
    if let Some(seed) = number("BARGE_SEED") {
        let outcome = run(seed, profile, true);
        outcome.trace.iter().for_each(|line| println!("{line}"));
        assert!(outcome.violation.is_none(), "seed {seed}, {profile:?}: {:?}", outcome.violation);
        return;
    }
    let long = number("BARGE_LONG").is_some_and(|n| n > 0);
    let count = number("BARGE_SEEDS").unwrap_or(if long { usual * 30 } else { usual });
    let count = if count == 0 { u64::MAX } else { count };
    let first = if long { rand::random::<u32>().into() } else { FIRST_SEED };
    println!("{profile:?}: {count} seeds from {first}");
    let found = FOUND.iter().filter(|(of, _)| *of == profile).map(|(_, seed)| *seed);
    let began = Instant::now();
    let (mut schedules, mut met) = (0, Met::new());
    let watch = Watch::new(profile);
    for seed in found.chain((first..).take(usize::try_from(count).unwrap())) {
        watch.seed(seed);
        let outcome = run(seed, profile, false);
        schedules += outcome.schedules;
        outcome.met.into_iter().for_each(|(what, times)| *met.entry(what).or_default() += times);
        if let Some(violation) = outcome.violation {
            report(seed, profile, &violation);
        }
    }
    println!("{profile:?}: {schedules} schedules of {count} seeds in {:?}: {met:?}", began.elapsed());
}

/// A seed takes milliseconds: one that takes this long hangs.
const SEED_TAKES_MAX: Duration = Duration::from_secs(20);

/// Prints a seed that hangs.
struct Watch(mpsc::Sender<u64>);

impl Watch {
    fn new(profile: Profile) -> Self {
        let (sender, seeds) = mpsc::channel();
        std::thread::spawn(move || {
            let mut last = 0;
            loop {
                match seeds.recv_timeout(SEED_TAKES_MAX) {
                    Ok(seed) => last = seed,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        eprintln!("seed {last}, {profile:?}: it never ends");
                        std::process::abort();
                    }
                }
            }
        });
        Self(sender)
    }

    fn seed(&self, seed: u64) {
        self.0.send(seed).unwrap();
    }
}

fn report(seed: u64, profile: Profile, violation: &str) -> ! {
    let trace = run(seed, profile, true).trace;
    let last = trace.len().saturating_sub(120);
    trace[last..].iter().for_each(|line| println!("{line}"));
    panic!(
        "{violation}\nagain: BARGE_SEED={seed} cargo nextest run -p volume --lib model_ --no-capture ({profile:?})"
    );
}

#[test]
fn model_crashes() {
    explore(Profile::Crashes, 4_000);
}

#[test]
fn model_faults() {
    explore(Profile::Faults, 4_000);
}

#[test]
fn model_rot() {
    explore(Profile::Rot, 4_000);
}

#[test]
fn model_everything() {
    explore(Profile::Everything, 4_000);
}

#[test]
fn model_runs_again_exactly() {
    for profile in [Profile::Crashes, Profile::Faults, Profile::Rot, Profile::Everything] {
        for seed in 0..50 {
            let (one, two) = (run(seed, profile, false), run(seed, profile, true));
            assert_eq!((one.trail, one.schedules), (two.trail, two.schedules), "seed {seed}, {profile:?}");
        }
    }
}

/// Returns the number of schedules until a planted bug is caught.
fn caught(bug: Bug, profile: Profile) {
    let began = Instant::now();
    let (mut schedules, mut seed) = (0, FIRST_SEED);
    plant(Some(bug));
    let violation = loop {
        let outcome = run(seed, profile, false);
        schedules += outcome.schedules;
        if let Some(violation) = outcome.violation {
            break violation;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{bug:?} is not caught in {schedules} schedules");
        seed += 1;
    };
    plant(None);
    println!("{bug:?} is caught after {schedules} schedules, {:?}: {violation}", began.elapsed());
    assert!(run(seed, profile, false).violation.is_none(), "seed {seed} without the bug");
}

#[test]
fn model_catches_a_skipped_sync() {
    caught(Bug::SkipSync, Profile::Crashes);
}

#[test]
fn model_catches_a_trusted_torn_trailer() {
    caught(Bug::TrustTornTrailer, Profile::Crashes);
}

#[test]
fn model_catches_a_punch_before_its_delete() {
    caught(Bug::PunchFirst, Profile::Crashes);
}

#[test]
fn model_catches_a_skipped_directory_sync() {
    caught(Bug::SkipDirectorySync, Profile::Crashes);
}

#[test]
fn model_catches_a_forgotten_failed_sync() {
    caught(Bug::ForgetFailedSync, Profile::Faults);
}

#[test]
fn model_catches_a_forgotten_poison() {
    caught(Bug::ForgetPoison, Profile::Faults);
}
