//! The result of a benchmark: times, bytes and errors by kind, and their output. MB are 10^6 bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::worker::Op;
use crate::args::{BenchArgs, BenchOp};
use crate::exit::Exit;
use crate::output::table;

/// How an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ErrorKind {
    Connect,
    /// The connection closed before the answer.
    Closed,
    /// It took longer than `--op-timeout`.
    Timeout,
    /// An error status.
    Status(u16),
    /// A body with the wrong length.
    Short,
    /// A body with the wrong bytes.
    Verify,
    /// A redirect without a valid target, or too many of them.
    Redirect,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::Closed => f.write_str("closed"),
            Self::Timeout => f.write_str("timeout"),
            Self::Status(status) => write!(f, "status_{status}"),
            Self::Short => f.write_str("short"),
            Self::Verify => f.write_str("verify"),
            Self::Redirect => f.write_str("redirect"),
        }
    }
}

/// Operations of one kind.
#[derive(Clone, Debug)]
struct Series {
    bytes: u64,
    micros: Histogram<u64>,
    errors: BTreeMap<ErrorKind, u64>,
}

impl Default for Series {
    fn default() -> Self {
        let micros = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are legal");
        Self { bytes: 0, micros, errors: BTreeMap::new() }
    }
}

impl Series {
    fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.micros.add(&other.micros).expect("all histograms have the same bounds");
        for (kind, n) in &other.errors {
            *self.errors.entry(*kind).or_default() += n;
        }
    }
}

/// The measurements of one worker, or of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(BTreeMap<Op, Series>);

impl Tally {
    /// Counts a success.
    pub(crate) fn succeeded(&mut self, op: Op, bytes: u64, took: Duration) {
        let series = self.0.entry(op).or_default();
        series.bytes += bytes;
        series.micros.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts a failure.
    pub(crate) fn failed(&mut self, op: Op, kind: ErrorKind) {
        *self.0.entry(op).or_default().errors.entry(kind).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (op, series) in &other.0 {
            self.0.entry(*op).or_default().add(series);
        }
    }

    /// Any of the errors.
    pub(crate) fn first_error(&self) -> Option<ErrorKind> {
        self.0.values().find_map(|s| s.errors.keys().next().copied())
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        let kinds: Vec<&ErrorKind> = self.0.values().flat_map(|s| s.errors.keys()).collect();
        match kinds.iter().any(|k| matches!(k, ErrorKind::Verify | ErrorKind::Short)) {
            true => Exit::Unverified,
            false if kinds.is_empty() => Exit::Ok,
            false => Exit::Failure,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    op: &'static str,
    mode: &'static str,
    size_bytes: u64,
    concurrency: u16,
    seconds: f64,
    mb_per_s: f64,
    ops_per_s: f64,
    ops: u64,
    errors: u64,
    series: BTreeMap<Op, Line>,
}

/// The figures of one kind of operation.
#[derive(Clone, Debug, Serialize)]
struct Line {
    ops: u64,
    bytes: u64,
    mb_per_s: f64,
    ops_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
    errors: BTreeMap<String, u64>,
}

impl Line {
    fn new(series: &Series, seconds: f64) -> Self {
        let ms = |micros: u64| micros as f64 / 1000.0;
        let at = |quantile| ms(series.micros.value_at_quantile(quantile));
        let ops = series.micros.len();
        Self {
            ops,
            bytes: series.bytes,
            mb_per_s: series.bytes as f64 / 1e6 / seconds,
            ops_per_s: ops as f64 / seconds,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(series.micros.max()),
            errors: series.errors.iter().map(|(kind, n)| (kind.to_string(), *n)).collect(),
        }
    }
}

impl Report {
    /// Summarizes a tally that took `seconds`.
    pub(crate) fn new(args: &BenchArgs, barge: bool, tally: &Tally, seconds: f64) -> Self {
        let series: BTreeMap<Op, Line> = tally.0.iter().map(|(op, s)| (*op, Line::new(s, seconds))).collect();
        Self {
            op: match args.op {
                BenchOp::Put => "put",
                BenchOp::Get => "get",
                BenchOp::Mixed => "mixed",
            },
            mode: if barge { "barge" } else { "plain" },
            size_bytes: args.size.0,
            concurrency: args.concurrency,
            seconds,
            mb_per_s: series.values().map(|l| l.mb_per_s).sum(),
            ops_per_s: series.values().map(|l| l.ops_per_s).sum(),
            ops: series.values().map(|l| l.ops).sum(),
            errors: series.values().flat_map(|l| l.errors.values()).sum(),
            series,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["op", "MB/s", "ops/s", "ops", "p50 ms", "p99 ms", "p999 ms", "max ms", "errors"];
        let mut rows = vec![heads.map(String::from).to_vec()];
        for (op, line) in &self.series {
            let errors: Vec<String> = line.errors.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
            let errors = if errors.is_empty() { "-".into() } else { errors.join(", ") };
            let times = [line.p50_ms, line.p99_ms, line.p999_ms, line.max_ms].map(|ms| format!("{ms:.2}"));
            let mut row = vec![
                if *op == Op::Put { "put".into() } else { "get".to_owned() },
                format!("{:.1}", line.mb_per_s),
                format!("{:.1}", line.ops_per_s),
                line.ops.to_string(),
            ];
            row.extend(times);
            row.push(errors);
            rows.push(row);
        }
        let Self { mode, size_bytes, concurrency, seconds, .. } = self;
        writeln!(f, "{mode}, {size_bytes} bytes a value, {concurrency} at once, {seconds:.2} s")?;
        f.write_str(&table(&rows))
    }
}
