//! How fast the store alone takes values: past the page cache, and through it as on a file system without O_DIRECT.
//! Beside both, in turns, a file written and synced with nothing around it.
//!
//! `cargo bench -p volume --bench write -- --dir DIR`; a relative DIR is below `volume`.

#![expect(clippy::print_stdout, reason = "what it prints is its result")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use shared::clock::{Clock, Timestamp};
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::limits::HTTP_BUFFER_BYTES;
use shared::work::blocking;
use tokio::task::JoinSet;
use volume::store::{Disk, NewRecord, Options, RealDisk, Store};

const BORN_MS: u64 = 1_700_000_000_000;

#[derive(Parser)]
struct Args {
    /// Where; what the runs leave there is removed at their end
    #[arg(long)]
    dir: PathBuf,
    /// Bytes of each value
    #[arg(long, default_value_t = 256 << 20)]
    value_bytes: usize,
    /// Values of one run
    #[arg(long, default_value_t = 8)]
    values: usize,
    /// Uploads at once
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
    /// Runs of each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let dir = args.dir.join("write-bench");
    let names = ["a file", "past the page cache", "through it"];
    let mut rates = names.map(|_| Vec::new());
    for _ in 0..args.rounds {
        for (n, rates) in rates.iter_mut().enumerate() {
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(&dir)?;
            let took = match n {
                0 => file(&args, &dir)?,
                1 => {
                    let disk = RealDisk::open(&dir)?;
                    ensure!(disk.is_direct(), "the file system of {} has no O_DIRECT", dir.display());
                    store(&args, disk).await?
                }
                _ => store(&args, RealDisk::open(&dir)?.without_direct()).await?,
            };
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            rates.push((args.values * args.value_bytes) as f64 / 1e6 / took.as_secs_f64());
        }
    }
    std::fs::remove_dir_all(&dir)?;
    for (name, mut rates) in names.into_iter().zip(rates) {
        rates.sort_by(f64::total_cmp);
        let (least, most) = (rates.first().context("a round")?, rates.last().context("a round")?);
        println!("{name}: median {:.0} MB/s ({least:.0} to {most:.0})", rates[rates.len() / 2]);
    }
    Ok(())
}

/// As `dd conv=fdatasync` does it.
fn file(args: &Args, dir: &Path) -> Result<Duration> {
    let piece = vec![7; 1 << 20];
    let began = Instant::now();
    let mut file = std::fs::File::create(dir.join("file"))?;
    let mut left = args.values * args.value_bytes;
    while left > 0 {
        let n = left.min(piece.len());
        file.write_all(&piece[..n])?;
        left -= n;
    }
    file.sync_data()?;
    Ok(began.elapsed())
}

async fn store(args: &Args, disk: RealDisk) -> Result<Duration> {
    let options = Options {
        volume: VolumeId::random(),
        segment_bytes: 1 << 30,
        segment_age: Duration::from_secs(3600),
        reserve_bytes: 256 << 20,
        capacity_bytes: None,
        clock: Clock::manual(Timestamp::from_unix_ms(BORN_MS)),
        open_threads: 1,
    };
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let store = blocking(move || Store::open(disk, options)).await?.0;
    let began = Instant::now();
    let mut uploads = JoinSet::new();
    let mut last = None;
    for _ in 0..args.values {
        if uploads.len() >= args.concurrency {
            uploads.join_next().await.context("an upload")???;
        }
        let blob = BlobId::next(last, Timestamp::from_unix_ms(BORN_MS), [1; 10]);
        last = Some(blob);
        uploads.spawn(upload(store.clone(), blob, args.value_bytes));
    }
    while let Some(ended) = uploads.join_next().await {
        ended??;
    }
    let took = began.elapsed();
    store.close().await;
    Ok(took)
}

async fn upload(store: Store, blob: BlobId, bytes: usize) -> Result<()> {
    let frame = vec![7; HTTP_BUFFER_BYTES];
    let (key, length) = (Key::new("bench/value")?, Some(bytes as u64));
    let record = NewRecord { blob, key, content_type: None, metadata: Vec::new(), length };
    let mut upload = store.begin(record).await?;
    let mut left = bytes;
    while left > 0 {
        let n = left.min(frame.len());
        upload.write(&frame[..n]).await?;
        left -= n;
    }
    upload.finish().await?;
    Ok(())
}
