//! Simulates a site of a thousand volumes and a hundred million blobs over years, with the ring and the plans of the
//! product. docs/scale.md explains the output.
//!
//! It starts no server and stores no value. The same arguments print the same text, except for the part
//! marked as measured.

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

/// Simulates a large Barge site over years. docs/scale.md explains the output.
#[derive(Clone, Debug, Parser)]
#[command(name = "simulator")]
pub struct Args {
    /// Number of volumes.
    #[arg(long, default_value_t = 1000)]
    volumes: u16,
    /// Number of zones; volumes are spread evenly over them.
    #[arg(long, default_value_t = 20)]
    zones: u16,
    /// Number of blobs, of 31.6 MB on average.
    #[arg(long, default_value_t = 100_000_000)]
    objects: u64,
    /// Years to simulate event by event.
    #[arg(long, default_value_t = 100)]
    years: u32,
    /// Number of keys to place as a sample of the blobs.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Bytes per second at which one volume receives new replicas.
    #[arg(long, default_value_t = REPAIR_RATE)]
    repair_rate: u64,
    /// Microseconds that the master needs to scan one blob of a lost volume.
    #[arg(long, default_value_t = 80.0)]
    look_us: f64,
    /// Additional microseconds that it needs to place one planned replica.
    #[arg(long, default_value_t = 320.0)]
    judge_us: f64,
    /// Outages of one zone per year.
    #[arg(long, default_value_t = 0.5)]
    outages: f64,
    /// Hours that an outage lasts.
    #[arg(long, default_value_t = 4.0)]
    outage_hours: f64,
    /// Number of objects to store in a real metadata directory, to measure it; 0 skips the measurement.
    #[arg(long, default_value_t = 200_000)]
    measure: usize,
    /// Seed of all random numbers.
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
