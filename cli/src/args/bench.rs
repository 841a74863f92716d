//! What the command line says of a load to generate.

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
    /// What to do; mixed alternates
    #[arg(long, value_enum)]
    pub(crate) op: BenchOp,
    /// Size of each value
    #[arg(long, default_value = "16MiB")]
    pub(crate) size: ByteSize,
    /// Operations under way at once, each on connections of its own
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) concurrency: u16,
    /// How long; operations under way at the end are finished and counted
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// End after so many operations, however long they take
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Distinct keys to read; puts go round in so many when given [default: reads: about 1 GiB of them]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keys: Option<u64>,
    /// Keys are this and a number
    #[arg(long, default_value = "bench/value-")]
    pub(crate) prefix: Key,
    /// Plain PUT and GET, for any HTTP server; chosen by itself when --url is not a Barge master
    #[arg(long)]
    pub(crate) plain: bool,
    /// Leave the values that were put
    #[arg(long)]
    pub(crate) keep: bool,
    /// The keys to read are there already
    #[arg(long)]
    pub(crate) no_fill: bool,
    /// Hash what is read and compare
    #[arg(long)]
    pub(crate) verify: bool,
    /// One operation may take so long
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) op_timeout: Duration,
}
