//! `barge bench`: generates load and measures it, against Barge or any server that takes PUT and GET,
//! with one and the same program.
//!
//! Made to cost little itself: one task and its own connections a worker, bodies that are slices of
//! one shared buffer, answers that are counted and dropped.

mod connection;
mod report;
mod value;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Uri};
use shared::http::trust::Trust;
use shared::key::Key;
use shared::wire::routes::{HEALTH, REQUEST_ID_HEADER};
use tokio::task::JoinSet;

use crate::args::{BenchArgs, BenchOp};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use connection::Connections;
use report::{Report, Tally};
use value::Values;
use worker::{Op, Worker};

/// What the keys of a read benchmark come to when their number is not given.
const FILL_BYTES: u64 = 1 << 30;
/// Clearing away must not take for ever either.
const DELETE_TIMEOUT: Duration = Duration::from_secs(10);

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Load {
    args: BenchArgs,
    /// The server's base URL, without a slash at its end.
    base: String,
    /// The access key, and who is shown it.
    shown: Option<(HeaderValue, String)>,
    trust: Trust,
    /// Whether tickets and redirects are spoken.
    barge: bool,
    values: Values,
    /// Keys that are read.
    keys: u64,
    /// Operations handed out.
    next: AtomicU64,
    /// Keys that were put: all below this number.
    put: AtomicU64,
    /// No operation begins after this.
    end: Instant,
    /// How many there are at most.
    count: u64,
}

/// An operation and the number of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    op: Op,
    key: u64,
}

/// Puts everything needed first, measures, clears away.
pub(crate) async fn run(client: &Client, args: BenchArgs, output: Output) -> Result<Exit, Failure> {
    let base = client.base().to_owned();
    let barge = !args.plain && is_barge(client, &base).await?;
    if !barge && !args.plain {
        output.note("this is no Barge master: measuring plain PUT and GET");
    }
    let keys =
        args.keys.unwrap_or_else(|| (FILL_BYTES / args.size.0.max(1)).clamp(args.concurrency.into(), 1024));
    let values = Values::new(args.size.0);
    let load = Load {
        trust: client.trust().clone(),
        shown: client.shown().cloned().zip(authority(&base)),
        base,
        barge,
        values,
        keys,
        next: AtomicU64::new(0),
        put: AtomicU64::new(0),
        end: Instant::now() + Duration::from_secs(365 * 24 * 3600),
        count: keys,
        args,
    };
    let reads = load.args.op != BenchOp::Put;
    let load = if reads && !load.args.no_fill { fill(load, output).await? } else { load };
    let duration = load.args.duration;
    let load = Arc::new(Load {
        next: AtomicU64::new(0),
        end: Instant::now() + load.args.count.map_or(duration, |_| Duration::from_secs(365 * 24 * 3600)),
        count: load.args.count.unwrap_or(u64::MAX),
        ..load
    });
    let (tally, seconds) = measure(&load, Load::task).await;
    if !load.args.keep {
        clear(&load).await;
    }
    let report = Report::new(&load.args, load.barge, &tally, seconds);
    output.result(&report, || report.to_string())?;
    Ok(tally.exit())
}

/// Puts the keys that will be read, untimed.
async fn fill(load: Load, output: Output) -> Result<Load, Failure> {
    output.note(&format!("putting {} keys of {} first", load.keys, load.args.size));
    let load = Arc::new(load);
    let (tally, _) = measure(&load, |_, n| Task { op: Op::Put, key: n }).await;
    if let Some(kind) = tally.first_error() {
        let what = format!("the keys to read could not be put: {kind}");
        return Err(Failure::new(Exit::Unavailable, what).next("see whether `barge put` works"));
    }
    Ok(Arc::into_inner(load).expect("the workers have ended"))
}

/// Runs the workers until they end; what they saw, and how long it took.
async fn measure(load: &Arc<Load>, task: fn(&Load, u64) -> Task) -> (Tally, f64) {
    let started = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..load.args.concurrency {
        let load = Arc::clone(load);
        workers.spawn(async move {
            let mut worker = Worker::new(&load);
            while let Some(n) = load.take() {
                worker.run(task(&load, n)).await;
            }
            worker.into_tally()
        });
    }
    let mut tally = Tally::default();
    while let Some(one) = workers.join_next().await {
        tally.add(&one.expect("workers do not panic and are not cancelled"));
    }
    (tally, started.elapsed().as_secs_f64())
}

/// Deletes what was put, as far as that works.
async fn clear(load: &Arc<Load>) {
    let keys = load.put.load(Ordering::Relaxed);
    // Keys that were there already are not ours to delete.
    let first = if load.args.no_fill && load.args.op != BenchOp::Put { load.keys } else { 0 };
    let next = Arc::new(AtomicU64::new(first));
    let mut workers = JoinSet::new();
    for _ in 0..load.args.concurrency {
        let (load, next) = (Arc::clone(load), Arc::clone(&next));
        workers.spawn(async move {
            let mut connections = Connections::new(load.shown.clone(), load.trust.clone());
            loop {
                let key = next.fetch_add(1, Ordering::Relaxed);
                let Some(uri) = load.uri(key, "").filter(|_| key < keys) else { break };
                let delete = connections.exchange(&Method::DELETE, &uri, None);
                // What stays behind is named by its prefix; a benchmark's result does not depend on it.
                let _ = tokio::time::timeout(DELETE_TIMEOUT, delete).await;
            }
        });
    }
    workers.join_all().await;
}

fn authority(base: &str) -> Option<String> {
    Some(base.parse::<Uri>().ok()?.authority()?.to_string())
}

async fn is_barge(client: &Client, base: &str) -> Result<bool, Failure> {
    let uri: Uri = format!("{base}{HEALTH}").parse().map_err(|_| Failure::new(Exit::Usage, "no URL"))?;
    let mut connections = Connections::new(None, client.trust().clone());
    let answer = tokio::time::timeout(DELETE_TIMEOUT, connections.exchange(&Method::GET, &uri, None)).await;
    match answer {
        Ok(Ok(answer)) => Ok(answer.headers().contains_key(REQUEST_ID_HEADER)),
        Ok(Err(kind)) => Err(Failure::unreachable(base, kind)),
        Err(_) => Err(Failure::unreachable(base, "no answer came in time")),
    }
}

impl Load {
    /// The number of the next operation, while there is one to begin.
    fn take(&self) -> Option<u64> {
        let more = Instant::now() < self.end;
        more.then(|| self.next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < self.count)
    }

    /// What the `n`th operation is. Reads choose at random; puts make new keys above those that are
    /// read, or go round in `--keys`.
    fn task(&self, n: u64) -> Task {
        let any = || rand::random_range(0..self.keys);
        match (self.args.op, self.args.keys) {
            (BenchOp::Get, _) => Task { op: Op::Get, key: any() },
            (BenchOp::Mixed, _) if n % 2 == 1 => Task { op: Op::Get, key: any() },
            (BenchOp::Mixed, _) => Task { op: Op::Put, key: self.keys + n / 2 },
            (BenchOp::Put, Some(keys)) => Task { op: Op::Put, key: n % keys },
            (BenchOp::Put, None) => Task { op: Op::Put, key: n },
        }
    }

    /// The URI of a key.
    fn uri(&self, key: u64, query: &str) -> Option<Uri> {
        let key = Key::new(&format!("{}{key}", self.args.prefix)).ok()?;
        format!("{}{}{query}", self.base, key.to_path()).parse().ok()
    }
}

#[cfg(test)]
mod tests;
