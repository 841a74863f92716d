//! How soon the space of deleted values is back, and what is copied and taken meanwhile: a disk filled to its
//! reserve, every second value deleted. First by punching, then as if the file system could not punch.
//!
//! `cargo bench -p volume --bench reclaim -- --dir DIR`, DIR on a file system of its own of a few GB: it is filled up.

#![expect(clippy::print_stdout, reason = "what it prints is its result")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use shared::clock::{Clock, Timestamp};
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::work::blocking;
use volume::store::{Disk, NewRecord, Options, RealDisk, Store, Throttle, WriteError};

const BORN_MS: u64 = 1_700_000_000_000;

#[derive(Parser)]
struct Args {
    /// Where; what the runs leave there is removed
    #[arg(long)]
    dir: PathBuf,
    /// Bytes of each value
    #[arg(long, default_value_t = 8_000_000)]
    value_bytes: usize,
    /// Segments are sealed at this size
    #[arg(long, default_value_t = 256 << 20)]
    segment_bytes: u64,
    /// Free bytes that values never get
    #[arg(long, default_value_t = 256 << 20)]
    reserve_bytes: u64,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    for punches in [true, false] {
        let dir = args.dir.join("reclaim-bench");
        let _ = std::fs::remove_dir_all(&dir);
        let disk = RealDisk::open(&dir)?;
        let disk: Arc<dyn Disk> = Arc::new(if punches { disk } else { disk.without_punching() });
        run(&args, disk, if punches { "punching" } else { "compaction" }).await?;
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

async fn run(args: &Args, disk: Arc<dyn Disk>, how: &str) -> Result<()> {
    let (store, under) = (open(args, Arc::clone(&disk)).await?, Arc::clone(&disk));
    let blobs = fill(args, &store).await?;
    let full = under.free_bytes()?;
    let dead: Vec<_> = blobs.iter().copied().step_by(2).collect();
    let bytes = dead.len() as u64 * args.value_bytes as u64;
    let (watch, least) = watch(Arc::clone(&under));
    let began = Instant::now();
    for batch in dead.chunks(256) {
        ensure!(store.delete(batch.to_vec()).await?.found == batch.len(), "not all were there");
    }
    let deleted = began.elapsed();
    while store.compact(&Throttle::new(0)).await?.is_some() {}
    store.punched().await;
    let took = began.elapsed();
    watch.store(true, Ordering::Relaxed);
    let status = store.status();
    let back = under.free_bytes()?.saturating_sub(full);
    let extra = full.saturating_sub(least.load(Ordering::Relaxed));
    for blob in blobs.iter().skip(1).step_by(2) {
        let mut reader = store.reader(*blob).await?;
        ensure!(
            !reader.read(reader.length() / 2, 1000).await?.is_empty(),
            "a value that lives cannot be read"
        );
    }
    let mb = |n: u64| n / 1_000_000;
    println!(
        "{how}: {} values, {} MB deleted; deletes {:.2} s, space back {:.2} s: {} MB back, {} MB copied, {} MB of extra space at the peak (a segment is {} MB)",
        blobs.len(),
        mb(bytes),
        deleted.as_secs_f64(),
        took.as_secs_f64(),
        mb(back),
        mb(status.moved_bytes),
        mb(extra),
        mb(args.segment_bytes),
    );
    store.close().await;
    Ok(())
}

async fn open(args: &Args, disk: Arc<dyn Disk>) -> Result<Store> {
    let options = Options {
        volume: VolumeId::random(),
        segment_bytes: args.segment_bytes,
        segment_age: Duration::from_secs(3600),
        reserve_bytes: args.reserve_bytes,
        capacity_bytes: None,
        clock: Clock::manual(Timestamp::from_unix_ms(BORN_MS)),
        open_threads: 1,
    };
    Ok(blocking(move || Store::open(disk, options)).await?.0)
}

async fn fill(args: &Args, store: &Store) -> Result<Vec<BlobId>> {
    let body = vec![7; args.value_bytes];
    let mut blobs = Vec::new();
    loop {
        let blob = BlobId::next(blobs.last().copied(), Timestamp::from_unix_ms(BORN_MS), [1; 10]);
        let (key, length) = (Key::new("bench/value")?, Some(body.len() as u64));
        let record = NewRecord { blob, key, content_type: None, metadata: Vec::new(), length };
        let mut upload = match store.begin(record).await {
            Err(WriteError::NoSpace { .. }) => return Ok(blobs),
            upload => upload?,
        };
        upload.write(&body).await?;
        upload.finish().await?;
        blobs.push(blob);
    }
}

/// Looks at the free space until it is told to stop: the least there was.
fn watch(disk: Arc<dyn Disk>) -> (Arc<AtomicBool>, Arc<AtomicU64>) {
    let (ended, least) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(u64::MAX)));
    let (told, seen) = (Arc::clone(&ended), Arc::clone(&least));
    tokio::spawn(async move {
        while !told.load(Ordering::Relaxed) {
            let disk = Arc::clone(&disk);
            let free = blocking(move || disk.free_bytes()).await.unwrap_or(u64::MAX);
            seen.fetch_min(free, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    (ended, least)
}
