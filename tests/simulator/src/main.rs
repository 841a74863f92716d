//! A site of a thousand volumes and a hundred million blobs, over years: what one machine cannot show, worked out from the
//! ring and the plans of the product. What it prints is explained in docs/scale.md.
//!
//! It starts no server and stores no value. The same arguments print the same text, but for the part that says that it is
//! measured.

mod chain;
mod chance;
mod groups;
mod loss;
mod metadata;
mod pace;
mod placement;
mod report;
mod sets;
mod site;
mod years;

use clap::Parser;
use shared::limits::REPAIR_RATE;

/// What is simulated.
#[derive(Clone, Debug, Parser)]
#[command(name = "simulator")]
pub struct Args {
    /// Volumes.
    #[arg(long, default_value_t = 1000)]
    volumes: u16,
    /// Zones, over which they are spread evenly.
    #[arg(long, default_value_t = 20)]
    zones: u16,
    /// Blobs, of 31.6 MB in the mean.
    #[arg(long, default_value_t = 100_000_000)]
    objects: u64,
    /// Years that are followed event by event.
    #[arg(long, default_value_t = 100)]
    years: u32,
    /// Keys that are placed in their stead.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Bytes a second of copies that one volume takes in.
    #[arg(long, default_value_t = REPAIR_RATE)]
    repair_rate: u64,
    /// Microseconds that the master needs to look at one blob of a lost volume.
    #[arg(long, default_value_t = 80.0)]
    look_us: f64,
    /// Microseconds that it needs besides to find a place for a copy that it plans.
    #[arg(long, default_value_t = 320.0)]
    judge_us: f64,
    /// Outages of one zone a year.
    #[arg(long, default_value_t = 0.5)]
    outages: f64,
    /// Hours that one lasts.
    #[arg(long, default_value_t = 4.0)]
    outage_hours: f64,
    /// Objects in a real metadata directory; 0 for none.
    #[arg(long, default_value_t = 200_000)]
    measure: usize,
    /// What everything random comes from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    anyhow::ensure!(
        args.zones >= 3 && args.volumes >= args.zones,
        "at least three zones, each with a volume"
    );
    anyhow::ensure!(args.keys >= 100, "at least 100 keys");
    report::all(&args, &mut std::io::stdout().lock())
}
