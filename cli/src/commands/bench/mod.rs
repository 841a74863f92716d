//! `barge bench`: generates load and measures it, with the same program against Barge or any server that
//! supports PUT and GET.
//!
//! Designed to cost little itself: one task with its own connections per worker, bodies that are slices of one
//! shared buffer, answers that are counted and discarded.

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

/// Total size of the values for a read benchmark if --keys is not given.
const FILL_BYTES: u64 = 1 << 30;
/// Cleanup must end, too.
const DELETE_TIMEOUT: Duration = Duration::from_secs(10);

/// State shared by all workers.
#[derive(Debug)]
pub(crate) struct Load {
    args: BenchArgs,
    /// The server's base URL, without a slash at its end.
    base: String,
    /// The Authorization header, and the authority it is sent to.
    shown: Option<(HeaderValue, String)>,
    trust: Trust,
    /// Whether the server uses tickets and redirects.
    barge: bool,
    values: Values,
    /// Number of keys to read.
    keys: u64,
    /// Operations handed out.
    next: AtomicU64,
    /// All keys below this number may have been put.
    put: AtomicU64,
    /// No operation begins after this.
    end: Instant,
    /// The most operations.
    count: u64,
}

/// An operation and the number of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    op: Op,
    key: u64,
}

/// Puts what is to be read, measures, and cleans up.
pub(crate) async fn run(client: &Client, args: BenchArgs, output: Output) -> Result<Exit, Failure> {
    let base = client.base().to_owned();
    let barge = !args.plain && is_barge(client, &base).await?;
    if !barge && !args.plain {
        output.note("this is not a Barge master: measuring plain PUT and GET");
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
        return Err(Failure::new(Exit::Unavailable, what).next("check that `barge put` works"));
    }
    Ok(Arc::into_inner(load).expect("the workers have ended"))
}

/// Runs the workers to their end; returns their tally and the seconds it took.
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

/// Deletes what was put, as far as possible.
async fn clear(load: &Arc<Load>) {
    let keys = load.put.load(Ordering::Relaxed);
    // Keys that existed before are not ours to delete.
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
                // The prefix names what is left over; the result does not depend on it.
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
    let uri: Uri = format!("{base}{HEALTH}")
        .parse()
        .map_err(|_| Failure::new(Exit::Usage, "the base URL is invalid"))?;
    let mut connections = Connections::new(None, client.trust().clone());
    let answer = tokio::time::timeout(DELETE_TIMEOUT, connections.exchange(&Method::GET, &uri, None)).await;
    match answer {
        Ok(Ok(answer)) => Ok(answer.headers().contains_key(REQUEST_ID_HEADER)),
        Ok(Err(kind)) => Err(Failure::unreachable(base, kind)),
        Err(_) => Err(Failure::unreachable(base, "no answer came in time")),
    }
}

impl Load {
    /// Takes the number of the next operation; `None` at the end.
    fn take(&self) -> Option<u64> {
        let more = Instant::now() < self.end;
        more.then(|| self.next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < self.count)
    }

    /// The `n`th operation. Reads choose a key at random; puts create new keys above those that are read, or
    /// cycle through `--keys`.
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
