//! The last tables of the report: years of a site, and the cost of its metadata.

use std::io::Write;

use ::tests::Dice;

use super::{FAILURES, bytes, pace};
use crate::Args;
use crate::loss::YEAR_HOURS;
use crate::metadata;
use crate::placement::tb;
use crate::site::{Set, Site};
use crate::years::World;

pub(super) fn years(args: &Args, site: &Site, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "## {} years, event by event (3 replicas)\n", args.years)?;
    writeln!(
        out,
        "| failures | scans | volumes failed | repaired, TB a year | part of all bytes | copied for outages, TB a \
         year | queue not empty | mean, hours | longest | longest without outage | most at once |"
    )?;
    writeln!(out, "{}", "|---".repeat(11) + "|")?;
    let bytes = bytes(args, site, 3);
    let all: f64 = bytes.iter().sum();
    for failure in FAILURES {
        for (name, looks) in [("as they are", 1.0), ("a tenth", 0.1), ("none", 0.0)] {
            let world = World {
                bytes: bytes.clone(),
                zone: site.volumes.iter().map(|v| v.zone).collect(),
                zones: args.zones,
                failure,
                outages: args.outages,
                outage: args.outage_hours / YEAR_HOURS,
                pace: pace(args, looks),
            };
            let years = f64::from(args.years);
            let seen = world.run(years, &mut Dice::new(args.seed));
            writeln!(
                out,
                "| {:.0} % | {name} | {} | {:.0} | {:.2} % | {:.0} | {:.2} % | {:.2} | {:.2} | {:.2} | {} |",
                failure * 100.0,
                seen.failures,
                tb(seen.repaired) / years,
                seen.repaired / years / all * 100.0,
                tb(seen.wasted) / years,
                seen.under_replicated / years * 100.0,
                seen.mean_hours,
                seen.longest_hours,
                seen.longest_quiet_hours,
                seen.most,
            )?;
        }
    }
    writeln!(out)?;
    Ok(())
}

pub(super) fn memory(
    args: &Args,
    site: &Site,
    sample: &[Set],
    judged: f64,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let objects = args.objects as f64;
    writeln!(out, "## The master's records\n")?;
    writeln!(out, "| replicas | object | each replica | all of one blob | all blobs |")?;
    writeln!(out, "{}", "|---".repeat(5) + "|")?;
    for copies in [2, 3] {
        let records = metadata::records(12_345, site, &sample[0][..copies]);
        let (object, replica, all) = (records.object, records.replica, records.all());
        writeln!(
            out,
            "| {copies} | {object} B | {replica} B | {all} B | {:.1} GB |",
            all as f64 * objects / 1e9
        )?;
    }
    let bounds = metadata::bounds(usize::from(args.volumes));
    let mb = |bytes: u64| bytes as f64 / 1e6;
    writeln!(
        out,
        "\nMemory with fixed bounds: pages of sled {:.0} MB, log {:.0} MB, plan {:.1} MB, ring and volumes {:.1} MB, \
         orphan sightings {:.1} MB.\n",
        mb(bounds.sled),
        mb(bounds.log),
        mb(bounds.plan),
        mb(bounds.ring),
        mb(bounds.unreferenced)
    )?;
    if args.measure == 0 {
        return Ok(());
    }
    writeln!(out, "## Measured on this machine; differs from run to run\n")?;
    writeln!(
        out,
        "One repair decision (plan::repair::next_step) takes {:.0} µs of CPU time.\n",
        judged * 1e6
    )?;
    let measured = sample.len().min(args.measure);
    let (steps, look) = metadata::measure(site, &sample[..measured], 3, 4)?;
    writeln!(out, "| objects | on disk, a blob | resident |")?;
    writeln!(out, "{}", "|---".repeat(3) + "|")?;
    for step in &steps {
        let disk = step.disk as f64 / step.objects as f64;
        writeln!(out, "| {} | {disk:.0} B | {:.0} MB |", step.objects, mb(step.resident))?;
    }
    if let [first, .., last] = &steps[..] {
        let grown = last.resident as f64 - first.resident as f64;
        let slope = grown / (last.objects - first.objects) as f64;
        writeln!(out, "\nEach additional blob takes {slope:.0} B of memory.")?;
    }
    writeln!(
        out,
        "A repair scan (plan::repair_scan) takes {:.0} µs of CPU time for one blob of a lost volume that it plans.",
        look * 1e6
    )?;
    Ok(())
}
