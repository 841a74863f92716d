//! Has each volume's inventory compared with the tables, at once when it is new or back, else now and then; and forgets what
//! is not needed any more to tell a late commit from a good one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::clock::{Timestamp, millis};
use shared::ids::VolumeId;
use shared::limits::{CALL_LIFETIME, CLOCK_SKEW_MAX, FORGET_INTERVAL, INVENTORY_PAGE, UPLOAD_TIME_MAX};
use shared::wire::cluster::OrphansReport;
use shared::work::{Progress, Worker, blocking};

use super::strays::{Seen, look};
use crate::cluster::Reachable;
use crate::master::Master;
use crate::state::command::Command;
use crate::tables::reclaim::{self, graves};
use crate::tables::tombstone::forgettable;

/// Inventories are not compared more often than this ...
const ORPHAN_INTERVAL_MIN: Duration = Duration::from_millis(250);
/// ... at least so often, and as often as the grace makes sense.
const ORPHAN_INTERVAL_MAX: Duration = Duration::from_secs(300);

/// A volume that is back deletes what was deleted meanwhile before it is compared, unless that takes longer: what it still had of
/// that would be a difference in every range.
const DELETING_MAX: Duration = Duration::from_secs(30);
/// A volume that could not be compared is asked again after so long.
const RETRY: Duration = Duration::from_secs(5);

pub struct Orphans {
    master: Arc<Master>,
    seen: Seen,
    /// When all volumes were compared last.
    looked: Option<Instant>,
    /// Volumes that could not be compared a moment ago.
    failed: HashMap<VolumeId, Instant>,
    /// Volumes that are new or back and still delete what they were told to: since when.
    deleting: HashMap<VolumeId, Instant>,
    /// When deleted keys were last looked through.
    forgot: Option<Timestamp>,
}

impl Orphans {
    /// Looks at once.
    pub fn new(master: Arc<Master>) -> Self {
        let (failed, deleting) = (HashMap::new(), HashMap::new());
        Self { master, seen: Seen::default(), looked: None, failed, deleting, forgot: None }
    }

    /// Forgets what was reclaimed so long ago that no commit can come for it again. True when there may be more of it.
    async fn purge(&self) -> bool {
        let config = &self.master.config;
        let memory = config.receipt_lifetime() + CALL_LIFETIME + CLOCK_SKEW_MAX;
        let before = Timestamp::from_unix_ms(config.clock.now().unix_ms().saturating_sub(millis(memory)));
        let database = Arc::clone(&self.master.database);
        match blocking(move || graves(&database.tree(), before, INVENTORY_PAGE)).await {
            Ok(graves) if graves.is_empty() => false,
            Ok(graves) => {
                let full = graves.len() == INVENTORY_PAGE;
                self.master.sequencer.propose(Command::Purge { graves }).await.is_ok() && full
            }
            Err(error) => {
                tracing::error!(%error, "the graves cannot be read");
                false
            }
        }
    }

    /// Forgets deleted keys that no upload can come for any more. True when there may be more of them.
    async fn forget(&mut self) -> bool {
        let now = self.master.config.clock.now();
        if self.forgot.is_some_and(|last| now.since(last) < FORGET_INTERVAL) {
            return false;
        }
        let before = now.unix_ms().saturating_sub(millis(UPLOAD_TIME_MAX + CLOCK_SKEW_MAX));
        let database = Arc::clone(&self.master.database);
        let before = Timestamp::from_unix_ms(before);
        match blocking(move || forgettable(&database.tree(), before, INVENTORY_PAGE)).await {
            Ok(keys) => {
                let full = keys.len() == INVENTORY_PAGE;
                if !full {
                    self.forgot = Some(now);
                }
                !keys.is_empty()
                    && self.master.sequencer.propose(Command::Forget { keys }).await.is_ok()
                    && full
            }
            Err(error) => {
                self.forgot = Some(now);
                tracing::error!(%error, "the deleted keys cannot be read");
                false
            }
        }
    }

    /// Whether a volume has not deleted yet what it was told to, and not for long.
    fn is_deleting(&mut self, volume: VolumeId) -> bool {
        let listed = reclaim::page(&self.master.database.tree(), volume, 1);
        let since = self.deleting.entry(volume).or_insert_with(Instant::now);
        listed.is_ok_and(|blobs| !blobs.is_empty()) && since.elapsed() < DELETING_MAX
    }

    /// Compares a volume with the tables, and deals with what is different. Whether that came to its end.
    async fn compare(&mut self, volume: &Reachable) -> bool {
        let mut report = OrphansReport::default();
        let incarnation = self.master.cluster.incarnation(volume.volume);
        match look(&self.master, volume, Some(&mut self.seen), &mut report).await {
            Ok(()) => {
                let (bytes, orphans, missing) = (report.exchanged_bytes, report.orphans, report.missing);
                tracing::debug!(volume = volume.address, bytes, orphans, missing, "inventory compared");
                self.master.cluster.compared(volume.volume, incarnation);
                self.failed.remove(&volume.volume);
                // What could not be done without it can be now.
                self.master.care.try_again();
                true
            }
            Err(error) => {
                tracing::debug!(volume = volume.address, %error, "no inventory");
                self.failed.insert(volume.volume, Instant::now());
                false
            }
        }
    }
}

impl Worker for Orphans {
    const NAME: &'static str = "orphans";

    async fn tick(&mut self) -> Progress {
        let leads = self.master.group.leads() && self.master.group.current().await.is_ok();
        self.master.cluster.set_compares(leads);
        if !leads {
            return Progress::Idle;
        }
        // A page of each a tick, and the next tick at once: they come as fast as values are replaced.
        if self.purge().await | self.forget().await {
            return Progress::More;
        }
        // What is new or back counts only when it was compared.
        self.failed.retain(|_, at| at.elapsed() < RETRY);
        let new = self.master.cluster.to_compare();
        self.deleting.retain(|volume, _| new.iter().any(|v| v.volume == *volume));
        let mut waits = HashSet::new();
        for volume in new {
            if self.is_deleting(volume.volume) {
                waits.insert(volume.volume);
            } else if !self.failed.contains_key(&volume.volume) {
                self.compare(&volume).await;
            }
        }
        let config = &self.master.config;
        let interval = (config.orphan_grace / 4).clamp(ORPHAN_INTERVAL_MIN, ORPHAN_INTERVAL_MAX);
        let due = self.master.care.was_asked() | self.looked.is_none_or(|last| last.elapsed() >= interval);
        if !due {
            return Progress::Idle;
        }
        self.seen.turn();
        for volume in self.master.cluster.all_alive() {
            if !waits.contains(&volume.volume) {
                self.compare(&volume).await;
            }
        }
        self.looked = Some(Instant::now());
        Progress::Idle
    }
}
