//! The report: all results in order, as tables for docs/scale.md.

mod course;

use std::io::Write;
use std::sync::Arc;

use ::tests::Dice;
use shared::limits::{REPAIRS_AT_ONCE, SCRUB_EVERY};
use shared::ring::Ring;

use crate::Args;
use crate::chain;
use crate::groups::{Groups, Law, Queue};
use crate::loss::{Risk, YEAR_HOURS, YEAR_SECONDS, detect};
use crate::pace::Pace;
use crate::placement::{Placed, moved_if_placed_again, tb};
use crate::sets::Sets;
use crate::site::{SIZES_TB, Set, Site, mean_length};

use course::{memory, years};

/// Failures of a volume per year: good disks, and bad ones.
const FAILURES: [f64; 2] = [0.02, 0.08];
/// Added volumes, in per cent of the existing ones.
const GROWTH_PERCENT: u16 = 5;
/// Keys in the rebalance: precise enough, and cheaper than a million.
const GROWTH_KEYS: usize = 300_000;
/// Blobs in the event simulation.
const CHECK_BLOBS: u64 = 400;
/// Their repair, with times in years: slow enough for losses to occur.
const CHECK: Queue =
    Queue { detect: 0.004, copying: 0.006, shape: 0.7, urgent: 0.002, outages: 0.0, outage: 0.02 };
/// Bad spots per year on one volume that only a scrub finds: an assumption.
const ROT: f64 = 0.05;

pub fn all(args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    let site = Site::new(args.volumes, args.zones, args.seed);
    let ring = site.ring();
    let sample = site.sample(&ring, args.keys);
    let (full, zones) = (site.capacity(), site.zones);
    writeln!(
        out,
        "{} volumes of {SIZES_TB:?} TB, {:.0} TB in all, in {zones} zones; {} blobs of {:.1} MB; seed {}\n",
        args.volumes,
        tb(full),
        args.objects,
        mean_length() / 1e6,
        args.seed
    )?;
    evenness(args, &site, &ring, &sample, out)?;
    growth(args, &site, &ring, &sample, out)?;
    let judged = death(args, &site, &ring, &sample, out)?;
    distinct(args, &site, &sample, out)?;
    checks(args, out)?;
    losses(args, &site, out)?;
    years(args, &site, out)?;
    memory(args, &site, &sample, judged, out)
}

/// The repair pace, with scan times multiplied by `looks`.
fn pace(args: &Args, looks: f64) -> Pace {
    let pace = Pace::new(usize::from(args.volumes) - 1, args.repair_rate as f64, args.seed);
    let seconds = |us: f64| us * 1e-6 * looks;
    Pace { look_seconds: seconds(args.look_us), judge_seconds: seconds(args.judge_us), ..pace }
}

/// Bytes by volume, with all volumes equally full.
fn bytes(args: &Args, site: &Site, copies: usize) -> Vec<f64> {
    let full = args.objects as f64 * mean_length() * copies as f64 / site.capacity();
    site.volumes.iter().map(|v| full * v.capacity as f64).collect()
}

fn evenness(
    args: &Args,
    site: &Site,
    ring: &Arc<Ring>,
    sample: &[Set],
    out: &mut impl Write,
) -> anyhow::Result<()> {
    writeln!(out, "## How full volumes are, relative to all of them together ({} keys)\n", sample.len())?;
    write!(out, "| replicas | all are full |")?;
    SIZES_TB.iter().try_for_each(|size| write!(out, " {size} TB |"))?;
    writeln!(out, " scatter, counted | of that the sample's | the ring's own | fullest, counted |")?;
    writeln!(out, "{}", "|---".repeat(10) + "|")?;
    for copies in [2, 3] {
        let even = Placed::new(site, ring, sample.to_vec(), copies, args.objects as f64).evenness();
        write!(out, "| {copies} | {:.1} % |", even.full * 100.0)?;
        even.by_size.iter().try_for_each(|(_, ratio)| write!(out, " {:+.1} % |", (ratio - 1.0) * 100.0))?;
        let (counted, of_sample, own) = (even.scatter, even.of_sample, even.of_ring());
        writeln!(
            out,
            " {:.2} % | {:.2} % | {:.2} % | {:+.1} % |",
            counted * 100.0,
            of_sample * 100.0,
            own * 100.0,
            (even.fullest - 1.0) * 100.0
        )?;
    }
    writeln!(out)?;
    Ok(())
}

fn growth(
    args: &Args,
    site: &Site,
    ring: &Arc<Ring>,
    sample: &[Set],
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let added = args.volumes * GROWTH_PERCENT / 100;
    let mut grown = site.clone();
    grown.grow((0..added).map(|_| 16_000_000_000_000));
    let least = 1.0 - site.capacity() / grown.capacity();
    let grown_ring = grown.ring();
    let sample = &sample[..sample.len().min(GROWTH_KEYS)];
    let again = grown.sample(&grown_ring, sample.len() as u64);
    writeln!(out, "## What a rebalance moves, in per cent of all bytes ({} keys)\n", sample.len())?;
    writeln!(
        out,
        "| replicas | what | least possible | plan | passes moved | passes | farthest afterwards | crowded |"
    )?;
    writeln!(out, "{}", "|---".repeat(8) + "|")?;
    for copies in [2, 3] {
        let mut placed = Placed::new(site, ring, sample.to_vec(), copies, args.objects as f64);
        let first = placed.rebalance();
        let crowded = placed.crowded();
        let mut after = Placed::new(&grown, &grown_ring, placed.sets, copies, args.objects as f64);
        let second = after.rebalance();
        let rows = [
            ("as placed by the ring".to_owned(), None, first, crowded),
            (format!("then {added} new volumes of 16 TB"), Some(least), second, after.crowded()),
        ];
        for (what, least, moved, crowded) in rows {
            let least = least.map_or("–".to_owned(), |l| format!("{:.2} %", l * 100.0));
            let (plan, done) = (moved.planned * 100.0, moved.moved * 100.0);
            let (passes, far) = (moved.passes, moved.farthest * 100.0);
            writeln!(
                out,
                "| {copies} | {what} | {least} | {plan:.2} % | {done:.2} % | {passes} | {far:.1} % | {crowded} |"
            )?;
        }
        let again = moved_if_placed_again(sample, &again, copies) * 100.0;
        writeln!(
            out,
            "| {copies} | would move if every key were placed again | {:.2} % | {again:.2} % | | | | |",
            least * 100.0
        )?;
        let moved = second.planned * after.all_bytes();
        let new_rate = f64::from(added).min(REPAIRS_AT_ONCE as f64) * args.repair_rate as f64;
        writeln!(
            out,
            "| | {:.0} TB, at best in {:.0} h | | | | | | |",
            tb(moved),
            moved / new_rate / 3600.0
        )?;
    }
    writeln!(out)?;
    Ok(())
}

/// Reports the loss of one volume. Returns the CPU time of one repair decision.
fn death(
    args: &Args,
    site: &Site,
    ring: &Arc<Ring>,
    sample: &[Set],
    out: &mut impl Write,
) -> anyhow::Result<f64> {
    let largest = site.volumes.iter().map(|v| v.capacity).max();
    let dead = site.volumes.iter().position(|v| Some(v.capacity) == largest).unwrap_or(0);
    writeln!(out, "## Loss of one volume of 20 TB (number {dead})\n")?;
    writeln!(
        out,
        "| replicas | held | its blobs in the sample | sources | destinations | busiest destination | fair for a 20 \
         TB one | crowded | each at its rate | {REPAIRS_AT_ONCE} at once | with scans |"
    )?;
    writeln!(out, "{}", "|---".repeat(11) + "|")?;
    let mut judged = 0.0;
    for copies in [2, 3] {
        let placed = Placed::new(site, ring, sample.to_vec(), copies, args.objects as f64);
        let death = placed.death(u16::try_from(dead)?);
        judged = death.judge_seconds;
        let bare = death.busiest * death.bytes / args.repair_rate as f64;
        let (at_once, looking) = (pace(args, 0.0).seconds(death.bytes), pace(args, 1.0).seconds(death.bytes));
        let minutes = |seconds: f64| (seconds / 60.0) + detect() * YEAR_SECONDS / 60.0;
        writeln!(
            out,
            "| {copies} | {:.1} TB | {:.0} | {} of {} | {} of {} | {:.2} % | {:.2} % | {} | {:.0} min | {:.0} min | {:.0} min |",
            tb(death.bytes),
            death.sampled,
            death.sources,
            death.others,
            death.destinations,
            death.others,
            death.busiest * 100.0,
            death.largest * 100.0,
            death.crowded,
            minutes(bare),
            minutes(at_once),
            minutes(looking),
        )?;
    }
    let pace = pace(args, 0.0);
    writeln!(
        out,
        "\nA plan copies {:.1} GB in {:.1} s: {:.2} GB/s.\n",
        pace.plan_bytes / 1e9,
        pace.plan_seconds,
        pace.plan_bytes / pace.plan_seconds / 1e9
    )?;
    Ok(judged)
}

fn distinct(args: &Args, site: &Site, sample: &[Set], out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "## Sets of volumes that share a blob\n")?;
    writeln!(
        out,
        "| replicas | sets possible | used by all blobs | blobs of a used one | two keys alike: seen | expected |"
    )?;
    writeln!(out, "{}", "|---".repeat(6) + "|")?;
    let objects = args.objects as f64;
    for copies in [2, 3] {
        let sets = Sets::new(site, copies);
        let used = sets.used(objects, &mut Dice::new(args.seed));
        let (seen, expected) = (sets.coincidence(sample).seen, sets.coincidence(sample).expected);
        let (used, half) = (used.mean(), used.half());
        writeln!(
            out,
            "| {copies} | {:.3e} | {used:.3e} ± {half:.0e} | {:.2} | {seen:.0} | {expected:.0} |",
            sets.possible(),
            objects / used
        )?;
    }
    writeln!(out)?;
    Ok(())
}

/// Compares the event simulation with the closed forms, at rates high enough for losses.
fn checks(args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(
        out,
        "## Event by event against the Markov chain (60 blobs, failures once a year, losses a year)\n"
    )?;
    writeln!(out, "| replicas | repairs a year | seen | closed form |")?;
    writeln!(out, "{}", "|---".repeat(4) + "|")?;
    let mut dice = Dice::new(args.seed);
    for (copies, repair, years) in
        [(2u16, 10.0, 500.0), (2, 100.0, 500.0), (3, 3.0, 1000.0), (3, 10.0, 1000.0)]
    {
        let sets: Vec<Vec<u16>> = (0..60).map(|n| (0..copies).map(|c| n * copies + c).collect()).collect();
        let seen = Groups::new(usize::from(60 * copies), sets).run(
            1.0,
            Law::Exponential(repair),
            100,
            years,
            &mut dice,
        );
        let form = 60.0 / if copies == 2 { chain::two(1.0, repair) } else { chain::three(1.0, repair) };
        writeln!(
            out,
            "| {copies} | {repair} | {:.4} ± {:.4} | {form:.4} |",
            seen.lost.mean(),
            seen.lost.half()
        )?;
    }
    writeln!(
        out,
        "\n## The same against drawn histories ({CHECK_BLOBS} blobs on 20 volumes in 5 zones, losses a year)\n"
    )?;
    writeln!(out, "| replicas | failures | outages | blobs, seen | drawn | losses, seen | drawn |")?;
    writeln!(out, "{}", "|---".repeat(7) + "|")?;
    let site = Site::new(20, 5, args.seed);
    let ring = site.ring();
    let sample = site.sample(&ring, CHECK_BLOBS);
    for (copies, failure, outages) in [(2, 1.0, 0.0), (2, 1.0, 2.0), (3, 2.0, 0.0), (3, 2.0, 2.0)] {
        let queue = Queue { outages, ..CHECK };
        let sets = sample.iter().map(|set| set[..copies].to_vec()).collect();
        let seen = Groups::new(20, sets).run(failure, Law::Queue(queue), 40, 400.0, &mut dice);
        let risk = Risk { failure, copying: vec![queue.copying; 20], queue };
        let drawn = risk.loss(&Sets::new(&site, copies), sample.len() as f64, &mut dice);
        write!(out, "| {copies} | {failure} | {outages} |")?;
        for (seen, drawn) in [(seen.lost, drawn.objects), (seen.losses, drawn.events)] {
            let (seen, seen_half, drawn, half) = (seen.mean(), seen.half(), drawn.mean(), drawn.half());
            write!(out, " {seen:.3} ± {seen_half:.3} | {drawn:.3} ± {half:.3} |")?;
        }
        writeln!(out)?;
    }
    writeln!(out)?;
    Ok(())
}

fn losses(args: &Args, site: &Site, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "## Losses per year\n")?;
    writeln!(
        out,
        "| replicas | failures | repair | mean volume, hours | any loss | blobs lost | closed form | closed form of \
         the chain | rot, scrub every 7 days | rot, every year |"
    )?;
    writeln!(out, "{}", "|---".repeat(10) + "|")?;
    let variants = [
        ("as it is", args.repair_rate, 1.0),
        ("scans in a tenth of the time", args.repair_rate, 0.1),
        ("no scans", args.repair_rate, 0.0),
        ("a quarter of the rate", args.repair_rate / 4, 1.0),
        ("four times the rate", args.repair_rate * 4, 1.0),
    ];
    for copies in [2, 3] {
        for failure in FAILURES {
            for (name, rate, looks) in variants {
                let speed = pace(&Args { repair_rate: rate, ..args.clone() }, looks);
                loss(args, site, copies, failure, &speed, name, out)?;
            }
        }
    }
    writeln!(out)?;
    Ok(())
}

fn loss(
    args: &Args,
    site: &Site,
    copies: usize,
    failure: f64,
    speed: &Pace,
    name: &str,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (outages, outage) = (args.outages * f64::from(args.zones), args.outage_hours / YEAR_HOURS);
    let risk = Risk::new(failure, &bytes(args, site, copies), speed, outages, outage);
    let (sets, objects, volumes) = (Sets::new(site, copies), args.objects as f64, f64::from(args.volumes));
    let loss = risk.loss(&sets, objects, &mut Dice::new(args.seed));
    let form = if copies == 2 { risk.two_copies(&sets, objects) } else { risk.three_copies(objects) };
    // The repair rate of the chain comes from the mean wait of a blob.
    let repair = 1.0 / (risk.queue.detect + risk.queue.copying / (risk.queue.shape + 1.0));
    let chain =
        objects / if copies == 2 { chain::two(failure, repair) } else { chain::three(failure, repair) };
    let (scrub, hours) =
        (SCRUB_EVERY.as_secs_f64() / YEAR_SECONDS, (detect() + risk.queue.copying) * YEAR_HOURS);
    writeln!(
        out,
        "| {copies} | {:.0} % | {name} | {hours:.2} | {:.2e} | {:.2e} ± {:.0e} | {form:.2e} | {chain:.2e} | {:.1e} | {:.1e} |",
        failure * 100.0,
        loss.any(),
        loss.objects.mean(),
        loss.objects.half(),
        risk.rotten(copies, ROT, scrub, volumes),
        risk.rotten(copies, ROT, 1.0, volumes),
    )?;
    Ok(())
}
