//! What millions of objects cost the master: how fast they are committed, what they take on disk and in memory, how
//! long a start takes, how fast they are listed, how sled's file grows when all of them are overwritten, and how long
//! a start takes after kill -9.
//!
//! `cargo bench -p master --bench objects -- --objects 1000000 --dir DIR` (an absolute path: it fills DIR). Commits go
//! through a group of one, 512 to a batch, each batch synced as always; no value is stored anywhere.

#![expect(clippy::print_stdout, reason = "what it prints is its result")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use master::internals::{Batch, Command, Commit, Group, Peer, read_object};
use master::offline::{Database, ListQuery, page};
use shared::clock::{Clock, Timestamp};
use shared::condition::WriteCondition;
use shared::digest::Digest;
use shared::http::client::PeerClient;
use shared::ids::{BlobId, ClusterId, VolumeId};
use shared::limits::{COMMIT_BATCH, LIST_LIMIT, RAFT_ENTRIES_KEPT};
use shared::secret::ClusterSecret;

const BORN_MS: u64 = 1_700_000_000_000;
const FOLDERS: u64 = 1000;
const LISTED_PAGES: usize = 2000;
/// A stride without a common divisor with any number of objects that one would choose: keys come in no order.
const STRIDE: u64 = 1_000_003;
/// A crash comes after so many acknowledged objects at least, and that many more at most.
const CRASH_OBJECTS_MIN: u64 = 10_000;
const CRASH_OBJECTS_SPAN: u64 = 70_000;

#[derive(Parser)]
struct Args {
    /// The number of objects
    #[arg(long, default_value_t = 100_000)]
    objects: u64,
    /// Where; it is kept, and used again
    #[arg(long)]
    dir: PathBuf,
    /// Overwrite every object so many times
    #[arg(long, default_value_t = 0)]
    overwrites: u64,
    /// Then kill it so many times while it overwrites
    #[arg(long, default_value_t = 0)]
    crashes: u64,
    /// Fill (or overwrite in this round) and end without stopping properly, as a crash would
    #[arg(long, hide = true)]
    fill: Option<u64>,
    /// Say after each batch how many objects are acknowledged
    #[arg(long, hide = true)]
    tell: bool,
    /// Open, see that so many objects of a round are there, and end
    #[arg(long, hide = true, num_args = 2)]
    check: Option<Vec<u64>>,
    /// Open, list and end
    #[arg(long, hide = true)]
    open: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    if let Some(round) = args.fill {
        return runtime.block_on(fill(&args, round));
    }
    if let Some(&[round, acknowledged]) = args.check.as_deref() {
        return runtime.block_on(check(&args, round, acknowledged));
    }
    if args.open {
        return runtime.block_on(open(&args));
    }
    for round in 0..=args.overwrites {
        if round > 0 || !args.dir.join("sled").exists() {
            again(&args, &["--fill", &round.to_string()])?;
        }
        again(&args, &["--open"])?;
    }
    crashes(&args)
}

/// A process of its own for each step: what one leaves in memory must not count for the next.
fn step(args: &Args, more: &[&str]) -> Result<Process> {
    let mut process = Process::new(std::env::current_exe()?);
    process.args(["--objects", &args.objects.to_string(), "--dir"]).arg(&args.dir).args(more);
    Ok(process)
}

fn again(args: &Args, more: &[&str]) -> Result<()> {
    ensure!(step(args, more)?.status()?.success(), "a step failed");
    Ok(())
}

/// Kills it again and again while it overwrites, and opens what is left.
fn crashes(args: &Args) -> Result<()> {
    let mut seconds = Vec::new();
    for crash in 0..args.crashes {
        let round = args.overwrites + 1 + crash;
        let enough = CRASH_OBJECTS_MIN + crash.wrapping_mul(STRIDE) % CRASH_OBJECTS_SPAN;
        let mut victim =
            step(args, &["--fill", &round.to_string(), "--tell"])?.stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(victim.stdout.take().context("its output is a pipe")?).lines();
        let mut acknowledged = 0;
        for line in lines {
            // What it still said before it died counts as well.
            acknowledged = line?.parse().unwrap_or(acknowledged);
            if acknowledged >= enough.min(args.objects) {
                victim.kill()?;
            }
        }
        victim.wait()?;
        let check = ["--check", &round.to_string(), &acknowledged.to_string()];
        let output = step(args, &check)?.stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "what was acknowledged is not there after crash {crash}");
        seconds.push(String::from_utf8(output.stdout)?.trim().parse::<f64>()?);
    }
    seconds.sort_by(f64::total_cmp);
    if let [least, .., most] = seconds.as_slice() {
        println!(
            "{} times kill -9 under load, nothing acknowledged lost; opened after it in {least:.2} to {most:.2} s, median {:.2} s",
            seconds.len(),
            seconds[seconds.len() / 2]
        );
    }
    Ok(())
}

/// Prints the seconds that opening took.
async fn check(args: &Args, round: u64, acknowledged: u64) -> Result<()> {
    let began = Instant::now();
    let group = group(&args.dir).await?;
    group.ensure_linearizable().await?;
    println!("{}", began.elapsed().as_secs_f64());
    let tree = group.machine().database().tree();
    for turn in 0..acknowledged {
        let Command::Commit(wanted) = commit(nth(turn, args.objects), turn, round) else { continue };
        let object = read_object(&tree, &wanted.key)?;
        ensure!(object.is_some_and(|o| o.generation == wanted.blob), "{} is lost", wanted.key);
    }
    group.stop().await;
    Ok(())
}

async fn group(dir: &Path) -> Result<Group> {
    let dir = dir.to_owned();
    let database = tokio::task::block_in_place(|| Database::open(&dir))?;
    let peers = PeerClient::new(ClusterSecret::from_bytes(&[1; 32]), Clock::System);
    let me = Peer { address: "http://127.0.0.1:9".into(), public_url: "http://127.0.0.1:9".into() };
    Ok(Group::start(Arc::new(database), me, peers, RAFT_ENTRIES_KEPT, Box::new(|_, _| {})).await?)
}

async fn fill(args: &Args, round: u64) -> Result<()> {
    let group = group(&args.dir).await?;
    if group.machine().database().identity()?.is_none() {
        group.initialize().await?;
        write(&group, vec![Command::CreateCluster(ClusterId::random())]).await?;
    }
    group.ensure_linearizable().await?;
    let began = Instant::now();
    let mut batch = Vec::with_capacity(COMMIT_BATCH);
    for turn in 0..args.objects {
        batch.push(commit(nth(turn, args.objects), turn, round));
        if batch.len() == COMMIT_BATCH || turn + 1 == args.objects {
            write(&group, std::mem::take(&mut batch)).await?;
            if args.tell {
                println!("{}", turn + 1);
                std::io::stdout().flush()?;
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let what = if round == 0 { "committed".to_owned() } else { format!("overwritten, round {round}") };
    let rate = per_second(args.objects, seconds);
    println!(
        "{} objects {what} in {seconds:.1} s: {rate:.0} a second; {}",
        args.objects,
        sizes(args, &group)?
    );
    // No proper end: the next start has to apply what no checkpoint covers.
    std::process::exit(0)
}

async fn write(group: &Group, commands: Vec<Command>) -> Result<()> {
    group.write(Batch(commands)).await.context("a batch was refused")?;
    Ok(())
}

/// Which object comes in which turn.
fn nth(turn: u64, objects: u64) -> u64 {
    turn.wrapping_mul(STRIDE) % objects
}

/// The `turn`-th commit of a round: blob ids come in order, as they do in life; keys do not.
fn commit(n: u64, turn: u64, round: u64) -> Command {
    let born = Timestamp::from_unix_ms(BORN_MS + round * 1_000_000_000 + turn);
    let blob = BlobId::next(None, born, [7; 10]);
    let first = u8::try_from(n % 3).unwrap_or(0);
    Command::Commit(Commit {
        key: format!("bucket/{:03}/object-{n:010}", n % FOLDERS).parse().expect("a key"),
        blob,
        size: 16 << 20,
        digest: Digest::of(&n.to_le_bytes()),
        content_type: Some("application/octet-stream".into()),
        metadata: Vec::new(),
        replicas: vec![VolumeId::from_bytes([first; 16]), VolumeId::from_bytes([(first + 1) % 3; 16])],
        wanted: 2,
        min_replicas: 2,
        condition: WriteCondition::None,
    })
}

async fn open(args: &Args) -> Result<()> {
    let began = Instant::now();
    let group = group(&args.dir).await?;
    group.ensure_linearizable().await?;
    println!("  opened in {:.2} s; {}", began.elapsed().as_secs_f64(), sizes(args, &group)?);
    let tree = group.machine().database().tree();
    let list = |query: &ListQuery| -> Result<(u64, f64)> {
        let (mut query, mut keys) = (query.clone(), 0);
        let began = Instant::now();
        for _ in 0..LISTED_PAGES {
            let page = page(&tree, &query)?;
            keys += (page.keys.len() + page.prefixes.len()) as u64;
            match page.next {
                Some(next) => query.start = Some(next),
                None => break,
            }
        }
        Ok((keys, began.elapsed().as_secs_f64()))
    };
    let all = ListQuery { prefix: String::new(), start: None, limit: LIST_LIMIT, delimiter: None };
    let folder = ListQuery { prefix: "bucket/007/".into(), ..all.clone() };
    let folders = ListQuery { prefix: "bucket/".into(), delimiter: Some("/".into()), ..all.clone() };
    for (what, query) in [("everything", &all), ("a prefix", &folder), ("prefixes at a delimiter", &folders)]
    {
        let (keys, seconds) = list(query)?;
        let pages = per_second(keys.div_ceil(LIST_LIMIT as u64), seconds);
        println!(
            "  listed {what}: {keys} in {seconds:.2} s: {:.0} a second, {pages:.0} pages of {LIST_LIMIT}",
            per_second(keys, seconds)
        );
    }
    group.stop().await;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn per_second(n: u64, seconds: f64) -> f64 {
    n as f64 / seconds.max(1e-9)
}

fn sizes(args: &Args, group: &Group) -> Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = |name: &str| -> u64 {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let sled = std::fs::metadata(args.dir.join("sled/db"))?.len();
    let per = |bytes: u64| bytes / args.objects.max(1);
    Ok(format!(
        "sled {} MB ({} bytes an object), log {} MB, resident {} MB anonymous ({} bytes an object), peak {} MB",
        sled / 1_000_000,
        per(sled),
        group.log_bytes() / 1_000_000,
        kib("RssAnon:") / 1000,
        per(kib("RssAnon:") * 1024),
        kib("VmHWM:") / 1000
    ))
}
