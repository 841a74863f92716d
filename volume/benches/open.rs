//! How long opening a store takes, and what memory a blob costs: warm, and with every index file lost.
//!
//! `cargo bench -p volume --bench open -- --blobs 1000000 --dir DIR` fills DIR (8 KiB a blob: empty values) unless it
//! is filled already, and opens it in fresh processes, so that what filling took does not count. The disk under the
//! filling store syncs nothing: never a measure of writing.

#![expect(clippy::print_stdout, reason = "what it prints is its result")]

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use shared::clock::{Clock, Timestamp};
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::limits::OPEN_THREADS_MAX;
use volume::store::{Access, Disk, DiskFile, NewRecord, Options, Punched, RealDisk, Store};

const VOLUME: VolumeId = VolumeId::from_bytes([7; 16]);
const UPLOADS: u64 = 16;
const RUNS: usize = 5;
const BORN_MS: u64 = 1_700_000_000_000;

#[derive(Parser)]
struct Args {
    /// Blobs to fill the directory with
    #[arg(long, default_value_t = 100_000)]
    blobs: u64,
    /// Where; it is kept, and used again
    #[arg(long)]
    dir: PathBuf,
    /// Segments are sealed at this size
    #[arg(long, default_value_t = 8 << 20)]
    segment_bytes: u64,
    /// Threads that open
    #[arg(long, default_value_t = cores())]
    threads: usize,
    /// Open once and print seconds, resident bytes before and after, and at the peak
    #[arg(long, hide = true)]
    once: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(OPEN_THREADS_MAX)
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.once {
        return once(&args);
    }
    if !args.dir.join("segments").exists() {
        let began = Instant::now();
        fill(&args)?;
        println!("filled with {} blobs in {:.1} s", args.blobs, began.elapsed().as_secs_f64());
    }
    println!("                seconds   MB before   MB after   MB peak   bytes a blob");
    // The first seals what filling left open.
    measure(&args)?;
    let mut runs = (0..RUNS).map(|_| measure(&args)).collect::<Result<Vec<_>>>()?;
    runs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    runs[RUNS / 2].print("indexes good", args.blobs);
    for entry in std::fs::read_dir(args.dir.join("segments"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "idx") {
            std::fs::remove_file(path)?;
        }
    }
    measure(&args)?.print("indexes lost", args.blobs);
    Ok(())
}

struct Run {
    seconds: f64,
    before: f64,
    after: f64,
    peak: f64,
}

impl Run {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    fn print(&self, what: &str, blobs: u64) {
        let Self { seconds, before, after, peak } = self;
        let each = (after - before) / blobs as f64;
        let [before, after, peak] = [before, after, peak].map(|n| n / 1e6);
        println!("{what:14}{seconds:9.2}{before:12.1}{after:11.1}{peak:10.1}{each:15.1}");
    }
}

/// One opening, in a process of its own.
fn measure(args: &Args) -> Result<Run> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--once").arg("--dir").arg(&args.dir).args(["--blobs", &args.blobs.to_string()]);
    command.args(["--segment-bytes", &args.segment_bytes.to_string()]);
    command.args(["--threads", &args.threads.to_string()]);
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    ensure!(output.status.success(), "opening failed");
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [seconds, before, after, peak] = numbers[..].try_into().context("not what --once prints")?;
    Ok(Run { seconds, before, after, peak })
}

/// As a volume opens: what no request needs is done later, and not measured.
#[tokio::main(flavor = "current_thread")]
async fn once(args: &Args) -> Result<()> {
    let before = status_bytes("VmRSS")?;
    let began = Instant::now();
    let (store, report) = Store::open(Arc::new(RealDisk::open(&args.dir)?), options(args))?;
    let seconds = began.elapsed().as_secs_f64();
    println!("{seconds} {before} {} {}", status_bytes("VmRSS")?, status_bytes("VmHWM")?);
    ensure!(report.blobs as u64 == args.blobs, "{} blobs are there", report.blobs);
    store.close().await;
    Ok(())
}

/// A line of this process's status, as the kernel counts.
fn status_bytes(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).context("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

fn options(args: &Args) -> Options {
    Options {
        volume: VOLUME,
        segment_bytes: args.segment_bytes,
        segment_age: Duration::from_secs(3600),
        reserve_bytes: 0,
        capacity_bytes: None,
        clock: Clock::manual(Timestamp::from_unix_ms(BORN_MS)),
        open_threads: args.threads,
    }
}

#[tokio::main]
async fn fill(args: &Args) -> Result<()> {
    let disk = Unsynced(RealDisk::open(&args.dir)?);
    let (store, _) = Store::open(Arc::new(disk), options(args))?;
    let next = Arc::new(AtomicU64::new(0));
    let mut uploads = tokio::task::JoinSet::new();
    for _ in 0..UPLOADS {
        let (store, next, blobs) = (store.clone(), Arc::clone(&next), args.blobs);
        uploads.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= blobs {
                    return anyhow::Ok(());
                }
                store.begin(record(number)?).await?.finish().await?;
            }
        });
    }
    uploads.join_all().await.into_iter().collect::<Result<()>>()?;
    store.close().await;
    Ok(())
}

fn record(number: u64) -> Result<NewRecord> {
    let blob = BlobId::next(None, Timestamp::from_unix_ms(BORN_MS + number), [9; 10]);
    let key = Key::new(&format!("bench/value/{number:012}"))?;
    Ok(NewRecord { blob, key, content_type: None, metadata: Vec::new(), length: Some(0) })
}

/// A disk that makes nothing durable, and writes through the page cache.
#[derive(Debug)]
struct Unsynced(RealDisk);

#[derive(Debug)]
struct UnsyncedFile(Arc<dyn DiskFile>);

impl Disk for Unsynced {
    fn names(&self) -> io::Result<Vec<String>> {
        self.0.names()
    }
    fn create(&self, name: &str, _: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(UnsyncedFile(self.0.create(name, Access::Cached)?)))
    }
    fn open(&self, name: &str, _: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(UnsyncedFile(self.0.open(name, Access::Cached)?)))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
    fn reservations(&self) -> Arc<Mutex<u64>> {
        self.0.reservations()
    }
}

impl DiskFile for UnsyncedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> usize {
        self.0.read_cached_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.truncate(bytes)
    }
    fn punch(&self, offset: u64, bytes: u64) -> io::Result<Punched> {
        self.0.punch(offset, bytes)
    }
    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.0.allocate(offset, bytes)
    }
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
    fn allocated(&self) -> io::Result<u64> {
        self.0.allocated()
    }
    fn holds_data(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        self.0.holds_data(offset, bytes)
    }
    fn drop_cache(&self) {
        self.0.drop_cache();
    }
}
