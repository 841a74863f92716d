//! Healing: a record that is bad here is written anew from its good blocks and from other replicas, and the blob is
//! pointed to it. One at a time, from a bounded queue that readers and the scrub fill.
//!
//! What was met is logged once, counted, and shown: blobs without any good copy stay listed until they are healed
//! or deleted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use shared::clock::Timestamp;
use shared::ids::BlobId;
use shared::limits::{DAMAGED_MAX, DAMAGED_SHOWN, HEALING_QUEUE, HEALING_RETRY, READ_BUFFER_BYTES};
use shared::work::{Progress, Worker};
use tokio::sync::Notify;

use crate::arrival::{ArrivalError, restore};
use crate::copies::{Copies, NoCopies};
use crate::server::Volume;
use crate::store::{ReadError, Throttle, Upload, WriteError};
use crate::supply::{Asker, Supply};

/// So many healed blobs are remembered: as many readers may have opened the bad record before.
const HEALED_REMEMBERED: usize = 1024;

/// What is bad, and what was done about it.
#[derive(Debug, Default)]
pub struct Healer {
    state: Mutex<State>,
    /// Wakes the worker.
    pub nudge: Arc<Notify>,
    blocks_served: AtomicU64,
    records_served: AtomicU64,
    healed: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    queue: BTreeSet<BlobId>,
    /// Met and not healed yet.
    bad: BTreeMap<BlobId, Bad>,
    /// Healed of late, the last one last.
    healed: VecDeque<BlobId>,
}

#[derive(Clone, Copy, Debug)]
struct Bad {
    /// No good copy was found.
    lost: bool,
    /// It cannot be written here.
    unwritable: bool,
    /// When it was tried last.
    tried: Option<Timestamp>,
    /// That it could not be healed was said.
    failed: bool,
}

/// What the healer shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealerStatus {
    /// Blobs known to be bad here and not healed yet.
    pub bad: u64,
    /// Those of them for which no good copy was found.
    pub lost: u64,
    /// The first of the lost.
    pub lost_blobs: Vec<BlobId>,
    /// The first of those that cannot be written here.
    pub unwritable_blobs: Vec<BlobId>,
    /// Blocks that readers got from another replica.
    pub blocks_served: u64,
    /// Reads that got a whole record from another replica.
    pub records_served: u64,
    /// Records written anew.
    pub healed: u64,
}

/// A record could not be healed.
#[derive(Debug, thiserror::Error)]
pub enum HealError {
    /// Nobody has it.
    #[error(transparent)]
    NoCopies(#[from] NoCopies),
    /// It could not be read to its end, here or elsewhere.
    #[error("no good copy: {0}")]
    Read(#[from] ReadError),
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// There is no record here, and none came.
    #[error(transparent)]
    Arrival(#[from] ArrivalError),
}

impl HealError {
    fn no_copies(&self) -> Option<&NoCopies> {
        match self {
            Self::NoCopies(error) | Self::Arrival(ArrivalError::NoCopies(error)) => Some(error),
            _ => None,
        }
    }

    /// This disk has no room, or takes no writes.
    fn is_of_this_disk(&self) -> bool {
        let (Self::Write(error) | Self::Arrival(ArrivalError::Write(error))) = self else { return false };
        matches!(error, WriteError::NoSpace { .. } | WriteError::ReadOnly(_) | WriteError::Io(_))
    }

    /// Nothing is left to be healed: the blob was deleted or written meanwhile.
    fn is_settled(&self) -> bool {
        match self {
            Self::Write(WriteError::Gone { .. } | WriteError::Exists { .. }) => true,
            Self::Arrival(ArrivalError::Gone { .. } | ArrivalError::UnderWay { .. }) => true,
            error => error.no_copies().is_some_and(NoCopies::is_forgotten),
        }
    }
}

impl Healer {
    /// A reader or the scrub met a bad record: it is to be healed.
    pub fn met(&self, volume: &Volume, blob: BlobId, error: &ReadError) {
        let now = volume.config.clock.now();
        let mut state = self.state();
        if state.bad.len() >= DAMAGED_MAX && !state.bad.contains_key(&blob) {
            return;
        }
        let new = !state.bad.contains_key(&blob);
        let bad = state.bad.entry(blob).or_insert(Bad {
            lost: false,
            unwritable: false,
            tried: None,
            failed: false,
        });
        let rested = bad.tried.is_none_or(|tried| now.since(tried) >= HEALING_RETRY);
        if rested && state.queue.len() < HEALING_QUEUE {
            state.queue.insert(blob);
            self.nudge.notify_one();
        }
        let late = state.healed.contains(&blob);
        drop(state);
        if new && late {
            tracing::debug!(%blob, %error, "a reader still had the record that was healed");
        } else if new {
            tracing::warn!(%blob, %error, what = source(error), "a damaged record was met; it is being healed from another replica");
        }
    }

    /// A reader found no good copy anywhere.
    pub fn lost(&self, blob: BlobId) {
        if let Some(bad) = self.state().bad.get_mut(&blob) {
            bad.lost = true;
        }
    }

    /// Whether a blob is known to be bad here, and is not healed yet.
    pub fn knows(&self, blob: BlobId) -> bool {
        self.state().bad.contains_key(&blob)
    }

    /// A reader got a block from another replica.
    pub fn served_block(&self) {
        self.blocks_served.fetch_add(1, Ordering::Relaxed);
    }

    /// A reader got a whole record from another replica.
    pub fn served_record(&self) {
        self.records_served.fetch_add(1, Ordering::Relaxed);
    }

    /// What it has met and done. Forgets what was deleted meanwhile.
    pub fn status(&self, volume: &Volume) -> HealerStatus {
        let mut state = self.state();
        // What recovery could not find again is not in the store either, until it is healed.
        state.bad.retain(|blob, _| volume.store.has(*blob) || !volume.spent.contains(*blob));
        let lost = state.bad.iter().filter(|(_, bad)| bad.lost);
        let unwritable = state.bad.iter().filter(|(_, bad)| bad.unwritable);
        HealerStatus {
            bad: state.bad.len() as u64,
            lost: lost.clone().count() as u64,
            lost_blobs: lost.map(|(blob, _)| *blob).take(DAMAGED_SHOWN).collect(),
            unwritable_blobs: unwritable.map(|(blob, _)| *blob).take(DAMAGED_SHOWN).collect(),
            blocks_served: self.blocks_served.load(Ordering::Relaxed),
            records_served: self.records_served.load(Ordering::Relaxed),
            healed: self.healed.load(Ordering::Relaxed),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next in the queue; when it is empty, one that failed a while ago.
    fn next(&self, now: Timestamp) -> Option<BlobId> {
        let mut state = self.state();
        let rested =
            |(_, bad): &(&BlobId, &Bad)| bad.tried.is_none_or(|tried| now.since(tried) >= HEALING_RETRY);
        let longest = |(_, bad): &(&BlobId, &Bad)| bad.tried;
        let again =
            |state: &State| state.bad.iter().filter(rested).min_by_key(longest).map(|(blob, _)| *blob);
        let blob = state.queue.pop_first().or_else(|| again(&state))?;
        if let Some(bad) = state.bad.get_mut(&blob) {
            bad.tried = Some(now);
        }
        Some(blob)
    }

    /// Whether healing it has not failed before.
    fn is_new(&self, blob: BlobId) -> bool {
        self.state().bad.get(&blob).is_some_and(|bad| !bad.failed)
    }

    /// Whether it was healed a while ago. Who opened the bad record before that may meet it still.
    fn was_healed(&self, blob: BlobId) -> bool {
        self.state().healed.contains(&blob)
    }

    /// It is good after all.
    fn forget(&self, blob: BlobId) {
        self.state().bad.remove(&blob);
        tracing::info!(%blob, "a record that could not be read is good");
    }

    fn ended(&self, blob: BlobId, outcome: &Result<(), HealError>) {
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
                tracing::info!(%blob, "a damaged record was healed");
            }
            Err(error) if error.is_settled() => {
                self.state().bad.remove(&blob);
            }
            Err(error) => {
                let mut again = false;
                if let Some(bad) = self.state().bad.get_mut(&blob) {
                    again = std::mem::replace(&mut bad.failed, true);
                    bad.lost |= matches!(error.no_copies(), Some(NoCopies::None));
                    bad.unwritable = error.is_of_this_disk();
                }
                if again {
                    tracing::debug!(%blob, %error, "a damaged record still cannot be healed");
                } else {
                    tracing::error!(%blob, %error, "a damaged record could not be healed; it is tried again and again");
                }
            }
        }
    }
}

fn source(error: &ReadError) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}

/// Writes a blob's record anew.
async fn heal(volume: &Arc<Volume>, blob: BlobId) -> Result<(), HealError> {
    if !volume.store.has(blob) {
        restore(volume, blob).await?;
        return Ok(());
    }
    let copies = Copies::find(volume, blob).await?;
    let digest = copies.known().blake3;
    let mut upload = volume.store.begin_again(copies.record(), digest).await?;
    match fill(volume, blob, &mut upload, copies.known().length).await {
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

async fn fill(volume: &Arc<Volume>, blob: BlobId, upload: &mut Upload, length: u64) -> Result<(), HealError> {
    let mut supply = Supply::open(volume, blob, Asker::Healer).await?;
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

pub struct Healing(pub Arc<Volume>);

impl Worker for Healing {
    const NAME: &'static str = "heal";

    async fn tick(&mut self) -> Progress {
        let volume = &self.0;
        let Some(blob) = volume.healer.next(volume.config.clock.now()) else { return Progress::Idle };
        let reading = Throttle::new(0);
        if volume.healer.was_healed(blob) && volume.store.verify(blob, &reading).await.is_ok() {
            volume.healer.forget(blob);
            return Progress::More;
        }
        let outcome = heal(volume, blob).await;
        // A disk that fails for a moment spoils nothing but what was read then.
        let passed = match &outcome {
            Err(error) if error.is_of_this_disk() && volume.healer.is_new(blob) => {
                volume.store.verify(blob, &reading).await.is_ok()
            }
            _ => false,
        };
        if passed {
            volume.healer.forget(blob);
        } else {
            volume.healer.ended(blob, &outcome);
        }
        Progress::More
    }
}
