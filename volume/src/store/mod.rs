//! The store of one volume: a log-structured store of values as records in append-only segments, with offset indexes.
//!
//! Guarantees: a record that `finish` returned survives any crash; a reader gets verified bytes of one blob or an
//! error; a delete that returned is permanent. The store never reports success after a failed write or sync, never
//! frees bytes before their delete is durable, and knows neither HTTP nor JSON.
//!
//! `format` and `index` define the bytes on disk, `disk` wraps the file system, `catalog` is the state in memory;
//! `write`, `read` and `reclaim` are the operations; `recovery` opens a store, `inspect` examines one offline. Lock
//! order: compaction, `switching`, an index, the scrub, the reservations, the catalog; none is held across an await.

mod buffer;
mod catalog;
mod compaction;
mod disk;
mod error;
mod format;
mod index;
pub mod inspect;
mod lane;
mod listing;
#[cfg(test)]
mod model;
#[cfg(test)]
mod planted_bugs;
mod read;
mod reclaim;
mod records;
mod recovery;
mod scan;
mod scrub;
mod segment;
#[cfg(test)]
mod sim_disk;
mod space;
mod status;
mod throttle;
mod write;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use shared::clock::Clock;
use shared::ids::VolumeId;
use shared::limits::{READ_BUFFER_BYTES, READ_BUFFERS, WRITE_BUFFER_BYTES, WRITE_BUFFERS};
use shared::work::blocking;
use tokio::sync::watch;

pub use catalog::InventoryEntry;
pub use compaction::{CompactError, Compacted};
pub use disk::{Access, Disk, DiskFigures, DiskFile, Punched, RealDisk, examine};
pub use error::{Corruption, DeleteError, FailedStep, OpenError, ReadError, ReadOnlyReason, WriteError};
pub use format::FormatError;
pub use listing::RecordLocation;
pub use read::{PinnedRecord, Reader};
pub use reclaim::Deleted;
pub use records::{HeaderAndTrailer, Record};
pub use recovery::load::IndexState;
pub use recovery::{OpenReport, Refusal, Refused};
pub use scrub::Scrubbed;
pub use segment::SegmentNumber;
pub use status::StoreStatus;
pub use throttle::Throttle;
pub use write::{DurableRecord, NewRecord, RecordWriter};

use buffer::Pool;
use catalog::Catalog;
use compaction::Compaction;
use scrub::Scrub;
use segment::Segment;

/// The settings of a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// The volume these segments belong to.
    pub volume: VolumeId,
    /// Size at which a segment is sealed.
    pub segment_bytes: u64,
    /// Age at which a segment is sealed.
    pub segment_age: Duration,
    /// Free bytes that uploads never get.
    pub reserve_bytes: u64,
    /// Bytes that this store may use in all; the whole file system if `None`.
    pub capacity_bytes: Option<u64>,
    pub clock: Clock,
    /// Threads that open the segments; with one, none is started, and the order of all calls is deterministic.
    pub open_threads: usize,
}

/// The store of one volume; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    options: Options,
    /// Free bytes that uploads never get: as configured, but without hole punching at least what a compaction needs.
    reserve_bytes: u64,
    catalog: Mutex<Catalog>,
    /// Held while a blob is switched to its new record, which takes the locks of two indexes.
    switching: Mutex<()>,
    compaction: Mutex<Compaction>,
    scrub: Mutex<Scrub>,
    /// Bytes reserved for uploads under way and not written yet, by all stores of this process on the disk.
    reserved: Arc<Mutex<u64>>,
    /// Bytes reserved for uploads of this store alone, including those already written. Changed under the lock of
    /// `reserved`, or by an upload that ends.
    claimed: AtomicU64,
    write_pool: Arc<Pool>,
    read_pool: Arc<Pool>,
    read_only: OnceLock<ReadOnlyReason>,
    counters: Counters,
    /// Punches, aborts and seals under way.
    jobs: watch::Sender<usize>,
}

#[derive(Debug)]
struct Counters {
    /// Durations in seconds.
    syncs: Histogram,
    corrupt: AtomicU64,
    punched: AtomicU64,
    set_aside: AtomicU64,
    moved: AtomicU64,
    moved_bytes: AtomicU64,
    verified: AtomicU64,
    /// Seconds at the last query that found the scrub's lock free.
    unverified_secs: AtomicU64,
}

impl Store {
    /// Opens the segments of a disk; creates only what recovery needs. Blocks.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, OpenReport), OpenError> {
        recovery::open(disk, options).map(|(inner, report)| (Self(inner), report))
    }

    pub fn status(&self) -> StoreStatus {
        self.0.status()
    }

    /// Bytes available to uploads; 0 when read-only.
    pub fn available_bytes(&self) -> u64 {
        self.0.available().unwrap_or(0)
    }

    /// Histogram of the durations of segment syncs, in seconds.
    pub fn sync_seconds(&self) -> Histogram {
        self.0.counters.syncs.clone()
    }

    /// Seals idle, non-empty segments past their age; returns how many.
    pub async fn seal_aged(&self) -> Result<usize, WriteError> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.seal_aged()).await
    }

    /// Waits until no punch, abort or seal is pending (a punch that waits for a reader does not count).
    pub async fn punched(&self) {
        // It cannot fail: `self` holds the sender.
        let _ = self.0.jobs.subscribe().wait_for(|n| *n == 0).await;
    }

    /// Waits for pending work and makes the indexes durable, which saves the next opening a scan.
    pub async fn close(&self) {
        self.punched().await;
        let inner = Arc::clone(&self.0);
        blocking(move || inner.sync_indexes()).await;
    }
}

impl Inner {
    fn new(disk: Arc<dyn Disk>, options: Options, catalog: Catalog) -> Self {
        let reserved = disk.reservations();
        let scrub = Scrub::load(&*disk);
        let compaction_bytes = if disk.punches() { 0 } else { options.segment_bytes };
        Self {
            reserve_bytes: options.reserve_bytes.max(compaction_bytes),
            disk,
            options,
            catalog: Mutex::new(catalog),
            switching: Mutex::new(()),
            compaction: Mutex::default(),
            scrub: Mutex::new(scrub),
            reserved,
            claimed: AtomicU64::new(0),
            write_pool: Pool::new(WRITE_BUFFER_BYTES, WRITE_BUFFERS),
            read_pool: Pool::new(READ_BUFFER_BYTES, READ_BUFFERS),
            read_only: OnceLock::new(),
            counters: Counters::default(),
            jobs: watch::Sender::new(0),
        }
    }

    /// Lets no later write on this segment succeed, and no upload on this volume, until the store is reopened.
    fn poison(&self, segment: &Segment, step: FailedStep, error: &io::Error) {
        #[cfg(test)]
        if planted_bugs::is(planted_bugs::Bug::ForgetPoison) {
            return;
        }
        segment.poison();
        self.go_read_only(segment.number(), step, error);
    }

    fn go_read_only(&self, segment: SegmentNumber, step: FailedStep, error: &io::Error) {
        let reason = ReadOnlyReason::new(segment, step, error);
        if self.read_only.set(reason).is_ok() {
            tracing::error!(%reason, "the volume is read-only until it is restarted");
        }
    }

    fn seal_aged(self: &Arc<Self>) -> Result<usize, WriteError> {
        let now = self.options.clock.now();
        let mut sealed = 0;
        let idle = lock(&self.catalog).idle();
        for number in idle {
            let aged = |s: &mut catalog::Slot| {
                s.segment.end() > format::PAGE
                    && now.since(s.segment.header.created) >= self.options.segment_age
            };
            let segment = {
                let mut catalog = lock(&self.catalog);
                if !catalog.slot(number).is_some_and(aged) {
                    continue;
                }
                catalog.take_idle_lane(number)
            };
            if let Some(segment) = segment {
                self.seal(&segment)?;
                sealed += 1;
            }
        }
        Ok(sealed)
    }

    fn sync_indexes(&self) {
        let segments: Vec<_> = lock(&self.catalog).slots().map(|s| Arc::clone(&s.segment)).collect();
        for segment in segments {
            let mut index = lock(&segment.index);
            if let Err(e) = index.sync_if_open() {
                tracing::error!(segment = %segment.number(), error = %e, "an index could not be synced");
            }
        }
    }

    /// Runs work that no request waits for on the blocking pool; without a runtime, on this thread.
    fn background(self: &Arc<Self>, work: impl FnOnce() + Send + 'static) {
        let job = self.job();
        let work = move || {
            work();
            drop(job);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(blocking(work))),
            Err(_) => work(),
        }
    }

    /// Returns a job that counts as pending until it is dropped.
    fn job(self: &Arc<Self>) -> Job {
        self.jobs.send_modify(|n| *n += 1);
        Job(Arc::clone(self))
    }
}

#[derive(Debug)]
struct Job(Arc<Inner>);

impl Drop for Job {
    fn drop(&mut self) {
        self.0.jobs.send_modify(|n| *n -= 1);
    }
}

impl Default for Counters {
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self {
            // From 0.1 ms, a disk with a protected cache, to 26 s, one that is about to fail.
            syncs: Histogram::new(exponential_buckets(0.0001, 4.0, 10)),
            corrupt: zero(),
            punched: zero(),
            set_aside: zero(),
            moved: zero(),
            moved_bytes: zero(),
            verified: zero(),
            unverified_secs: zero(),
        }
    }
}

impl Counters {
    fn compacted(&self, bytes: u64) {
        self.moved.fetch_add(1, Ordering::Relaxed);
        self.moved_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn synced(&self, took: Duration) {
        self.syncs.observe(took.as_secs_f64());
    }
}

/// Locks a mutex; panics if another thread panicked while holding it, since its data cannot be trusted.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds a lock of the store")
}
