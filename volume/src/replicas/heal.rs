//! Healing: a corrupt record is rewritten from its good blocks and from other replicas, and the blob then points to
//! the new record. One at a time, from a bounded queue that readers and the scrub fill.
//!
//! A corrupt record is logged once, counted, and listed; a blob without a good replica stays listed until it is
//! healed or deleted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use shared::clock::Timestamp;
use shared::ids::BlobId;
use shared::limits::{CORRUPT_MAX, CORRUPT_SHOWN, HEALING_QUEUE, HEALING_RETRY, READ_BUFFER_BYTES};
use shared::work::{TickResult, Worker};
use tokio::sync::Notify;

use crate::replicas::incoming::{AddReplicaError, restore_replica};
use crate::replicas::read_repair::{Asker, RepairingReader};
use crate::replicas::sources::{NoReplicaSources, ReplicaSources};
use crate::server::Volume;
use crate::store::{ReadError, RecordWriter, Throttle, WriteError};

/// Number of healed blobs to remember: readers that opened the corrupt record earlier may still report it.
const HEALED_REMEMBERED: usize = 1024;

/// The corrupt records of this volume, and their healing.
#[derive(Debug, Default)]
pub struct Healer {
    state: Mutex<HealQueue>,
    /// Wakes the worker.
    pub wake: Arc<Notify>,
    blocks_served: AtomicU64,
    records_served: AtomicU64,
    healed: AtomicU64,
}

#[derive(Debug, Default)]
struct HealQueue {
    queue: BTreeSet<BlobId>,
    /// Found and not healed yet.
    bad: BTreeMap<BlobId, BadBlob>,
    /// Recently healed, the latest last.
    healed: VecDeque<BlobId>,
}

#[derive(Clone, Copy, Debug)]
struct BadBlob {
    /// No good replica was found.
    lost: bool,
    /// The new record cannot be written to this disk.
    unwritable: bool,
    /// Time of the last attempt.
    tried: Option<Timestamp>,
    /// An attempt failed, which was logged.
    failed: bool,
}

/// The figures of the healer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealerStatus {
    /// Blobs known to be corrupt here and not healed yet.
    pub bad: u64,
    /// Those of them without a good replica.
    pub lost: u64,
    /// The first of the lost, at most `CORRUPT_SHOWN`.
    pub lost_blobs: Vec<BlobId>,
    /// The first of those that cannot be rewritten on this disk, at most `CORRUPT_SHOWN`.
    pub unwritable_blobs: Vec<BlobId>,
    /// Blocks read from another replica (read repair).
    pub blocks_served: u64,
    /// Reads served entirely from another replica.
    pub records_served: u64,
    pub healed: u64,
}

/// Why a record could not be healed.
#[derive(Debug, thiserror::Error)]
pub enum HealError {
    #[error(transparent)]
    NoCopies(#[from] NoReplicaSources),
    /// It could not be read to its end, here or elsewhere.
    #[error("no good replica: {0}")]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
    /// There is no record here, and none could be received.
    #[error(transparent)]
    Arrival(#[from] AddReplicaError),
}

impl HealError {
    fn no_sources(&self) -> Option<&NoReplicaSources> {
        match self {
            Self::NoCopies(error) | Self::Arrival(AddReplicaError::NoSources(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether this disk is full or refuses writes.
    fn is_of_this_disk(&self) -> bool {
        let (Self::Write(error) | Self::Arrival(AddReplicaError::Write(error))) = self else { return false };
        matches!(error, WriteError::NoSpace { .. } | WriteError::ReadOnly(_) | WriteError::Io(_))
    }

    /// Whether there is nothing left to heal: the blob was deleted or written meanwhile.
    fn is_final(&self) -> bool {
        match self {
            Self::Write(WriteError::Gone { .. } | WriteError::Exists { .. }) => true,
            Self::Arrival(AddReplicaError::Gone { .. } | AddReplicaError::UnderWay { .. }) => true,
            error => error.no_sources().is_some_and(NoReplicaSources::is_unreferenced),
        }
    }
}

impl Healer {
    /// Queues a corrupt record that a reader or the scrub has found.
    pub fn report(&self, volume: &Volume, blob: BlobId, error: &ReadError) {
        let now = volume.config.clock.now();
        let mut state = self.state();
        if state.bad.len() >= CORRUPT_MAX && !state.bad.contains_key(&blob) {
            return;
        }
        let new = !state.bad.contains_key(&blob);
        let bad = state.bad.entry(blob).or_insert(BadBlob {
            lost: false,
            unwritable: false,
            tried: None,
            failed: false,
        });
        let rested = bad.tried.is_none_or(|tried| now.since(tried) >= HEALING_RETRY);
        if rested && state.queue.len() < HEALING_QUEUE {
            state.queue.insert(blob);
            self.wake.notify_one();
        }
        let late = state.healed.contains(&blob);
        drop(state);
        if new && late {
            tracing::debug!(%blob, %error, "a reader still had the corrupt record that was healed");
        } else if new {
            tracing::warn!(%blob, %error, what = source(error), "a corrupt record was met; it is being healed from another replica");
        }
    }

    /// Marks a blob for which a reader found no good replica.
    pub fn report_lost(&self, blob: BlobId) {
        if let Some(bad) = self.state().bad.get_mut(&blob) {
            bad.lost = true;
        }
    }

    /// Whether a blob is known to be corrupt here and is not healed yet.
    pub fn knows(&self, blob: BlobId) -> bool {
        self.state().bad.contains_key(&blob)
    }

    /// Counts a block read from another replica.
    pub fn served_block(&self) {
        self.blocks_served.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a read served entirely from another replica.
    pub fn served_record(&self) {
        self.records_served.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the figures. Removes blobs that were deleted meanwhile.
    pub fn status(&self, volume: &Volume) -> HealerStatus {
        let mut state = self.state();
        // A record that recovery could not find is not in the store either, until it is healed.
        state.bad.retain(|blob, _| volume.store.has(*blob) || !volume.used_tickets.contains(*blob));
        let lost = state.bad.iter().filter(|(_, bad)| bad.lost);
        let unwritable = state.bad.iter().filter(|(_, bad)| bad.unwritable);
        HealerStatus {
            bad: state.bad.len() as u64,
            lost: lost.clone().count() as u64,
            lost_blobs: lost.map(|(blob, _)| *blob).take(CORRUPT_SHOWN).collect(),
            unwritable_blobs: unwritable.map(|(blob, _)| *blob).take(CORRUPT_SHOWN).collect(),
            blocks_served: self.blocks_served.load(Ordering::Relaxed),
            records_served: self.records_served.load(Ordering::Relaxed),
            healed: self.healed.load(Ordering::Relaxed),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, HealQueue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next blob of the queue; if that is empty, one whose last attempt is `HEALING_RETRY` ago.
    fn next(&self, now: Timestamp) -> Option<BlobId> {
        let mut state = self.state();
        let rested =
            |(_, bad): &(&BlobId, &BadBlob)| bad.tried.is_none_or(|tried| now.since(tried) >= HEALING_RETRY);
        let longest = |(_, bad): &(&BlobId, &BadBlob)| bad.tried;
        let again =
            |state: &HealQueue| state.bad.iter().filter(rested).min_by_key(longest).map(|(blob, _)| *blob);
        let blob = state.queue.pop_first().or_else(|| again(&state))?;
        if let Some(bad) = state.bad.get_mut(&blob) {
            bad.tried = Some(now);
        }
        Some(blob)
    }

    /// Whether no attempt to heal it has failed yet.
    fn is_new(&self, blob: BlobId) -> bool {
        self.state().bad.get(&blob).is_some_and(|bad| !bad.failed)
    }

    /// Whether it was healed recently. A reader that opened the old record before may still report it.
    fn was_healed(&self, blob: BlobId) -> bool {
        self.state().healed.contains(&blob)
    }

    /// Removes a blob whose record is good after all.
    fn remove(&self, blob: BlobId) {
        self.state().bad.remove(&blob);
        tracing::info!(%blob, "a record that could not be read earlier is good");
    }

    fn record_outcome(&self, blob: BlobId, outcome: &Result<(), HealError>) {
        match outcome {
            Ok(()) => {
                self.healed.fetch_add(1, Ordering::Relaxed);
                let mut state = self.state();
                state.bad.remove(&blob);
                state.healed.push_back(blob);
                if state.healed.len() > HEALED_REMEMBERED {
                    state.healed.pop_front();
                }
                drop(state);
                tracing::info!(%blob, "a corrupt record was healed");
            }
            Err(error) if error.is_final() => {
                self.state().bad.remove(&blob);
            }
            Err(error) => {
                let mut again = false;
                if let Some(bad) = self.state().bad.get_mut(&blob) {
                    again = std::mem::replace(&mut bad.failed, true);
                    bad.lost |= matches!(error.no_sources(), Some(NoReplicaSources::None));
                    bad.unwritable = error.is_of_this_disk();
                }
                if again {
                    tracing::debug!(%blob, %error, "a corrupt record still cannot be healed");
                } else {
                    tracing::error!(%blob, %error, "a corrupt record could not be healed; retrying until it is healed or deleted");
                }
            }
        }
    }
}

fn source(error: &ReadError) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}

/// Rewrites a blob's record.
async fn heal(volume: &Arc<Volume>, blob: BlobId) -> Result<(), HealError> {
    if !volume.store.has(blob) {
        restore_replica(volume, blob).await?;
        return Ok(());
    }
    let sources = ReplicaSources::find(volume, blob).await?;
    let digest = sources.known().blake3;
    let mut upload = volume.store.begin_rewrite(sources.record(), digest).await?;
    match rewrite_body(volume, blob, &mut upload, sources.known().length).await {
        Ok(()) if upload.digest_so_far().await? == digest => {
            upload.finish().await?;
            Ok(())
        }
        Ok(()) => {
            upload.abort().await;
            Err(WriteError::OtherBytes { blob }.into())
        }
        Err(e) => {
            upload.abort().await;
            Err(e)
        }
    }
}

async fn rewrite_body(
    volume: &Arc<Volume>,
    blob: BlobId,
    upload: &mut RecordWriter,
    length: u64,
) -> Result<(), HealError> {
    let mut supply = RepairingReader::open(volume, blob, Asker::Healer).await?;
    while upload.length() < length {
        let at = upload.length();
        let bytes = upload.meanwhile(supply.read(at, READ_BUFFER_BYTES)).await??;
        if bytes.is_empty() {
            return Err(ReadError::NotFound { blob }.into());
        }
        upload.write(&bytes).await?;
    }
    Ok(())
}

pub struct HealWorker(pub Arc<Volume>);

impl Worker for HealWorker {
    const NAME: &'static str = "heal";

    async fn tick(&mut self) -> TickResult {
        let volume = &self.0;
        let Some(blob) = volume.healer.next(volume.config.clock.now()) else { return TickResult::Idle };
        let reading = Throttle::new(0);
        if volume.healer.was_healed(blob) && volume.store.verify(blob, &reading).await.is_ok() {
            volume.healer.remove(blob);
            return TickResult::More;
        }
        let outcome = heal(volume, blob).await;
        // After a transient failure of the disk the record itself may be good.
        let passed = match &outcome {
            Err(error) if error.is_of_this_disk() && volume.healer.is_new(blob) => {
                volume.store.verify(blob, &reading).await.is_ok()
            }
            _ => false,
        };
        if passed {
            volume.healer.remove(blob);
        } else {
            volume.healer.record_outcome(blob, &outcome);
        }
        TickResult::More
    }
}
