//! Arguments of `barge bench`.

use std::time::Duration;

use clap::ValueEnum;
use shared::key::Key;
use shared::size::ByteSize;

/// What a load is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchOp {
    Put,
    Get,
    Mixed,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// The operation to measure; mixed alternates puts and gets
    #[arg(long, value_enum)]
    pub(crate) op: BenchOp,
    /// Size of each value
    #[arg(long, default_value = "16MiB")]
    pub(crate) size: ByteSize,
    /// Concurrent operations, each on its own connections
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) concurrency: u16,
    /// How long to run; operations in flight at the end are finished and counted
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// Stop after this many operations, even if --duration is not over
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Distinct keys to read; if given, puts cycle through them too [default: about 1 GiB of values]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keys: Option<u64>,
    /// Keys consist of this and a number
    #[arg(long, default_value = "bench/value-")]
    pub(crate) prefix: Key,
    /// Use plain PUT and GET, as for any HTTP server; the default if --url is not a Barge master
    #[arg(long)]
    pub(crate) plain: bool,
    /// Do not delete the values that were put
    #[arg(long)]
    pub(crate) keep: bool,
    /// Do not put values to read; they exist already
    #[arg(long)]
    pub(crate) no_fill: bool,
    /// Verify what is read by its hash
    #[arg(long)]
    pub(crate) verify: bool,
    /// The time limit of one operation
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) op_timeout: Duration,
}
