//! Compares each volume's inventory with the objects, a page a tick, and puts what nothing refers to on
//! the reclaim list.

use std::collections::HashMap;
use std::sync::Arc;

use shared::clock::{Timestamp, millis};
use shared::ids::{BlobId, VolumeId};
use shared::limits::{CALL_LIFETIME, CLOCK_SKEW_MAX, FORGET_INTERVAL, INVENTORY_PAGE, UPLOAD_TIME_MAX};
use shared::wire::routes::INVENTORY;
use shared::wire::volume::{InventoryPage, InventoryRequest};
use shared::work::{Progress, Worker, blocking};

use crate::cluster::Reachable;
use crate::master::Master;
use crate::plan::orphans::choose;
use crate::state::command::Command;
use crate::tables::reclaim::graves;
use crate::tables::tombstone::forgettable;

/// The worker, with its place in each volume's inventory.
pub struct Orphans {
    master: Arc<Master>,
    places: HashMap<VolumeId, BlobId>,
    /// When deleted keys were last looked through.
    forgot: Option<Timestamp>,
}

impl Orphans {
    /// Begins at the start of every inventory.
    pub fn new(master: Arc<Master>) -> Self {
        Self { master, places: HashMap::new(), forgot: None }
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

    /// Looks through one page. True when the inventory goes on.
    async fn page(&mut self, volume: &Reachable) -> bool {
        let request = InventoryRequest {
            cluster: self.master.cluster.id(),
            volume: volume.volume,
            after: self.places.get(&volume.volume).copied(),
            until: None,
            limit: INVENTORY_PAGE,
        };
        let page: InventoryPage = match self.master.peers.call(&volume.address, INVENTORY, &request).await {
            Ok(page) => page,
            Err(error) => {
                tracing::debug!(volume = volume.address, %error, "no inventory");
                return false;
            }
        };
        let grace = self.master.config.orphan_grace;
        let now = self.master.config.clock.now();
        let (database, id) = (Arc::clone(&self.master.database), volume.volume);
        let last = page.entries.last().filter(|_| page.entries.len() == INVENTORY_PAGE).map(|e| e.blob);
        match blocking(move || choose(&database.tree(), id, &page.entries, grace, now)).await {
            Ok(blobs) if blobs.is_empty() => {}
            Ok(blobs) => {
                tracing::info!(volume = volume.address, count = blobs.len(), "orphans found");
                self.master.metrics.orphans.inc_by(blobs.len() as u64);
                let command = Command::Orphaned { volume: volume.volume, blobs };
                if self.master.sequencer.propose(command).await.is_err() {
                    return false;
                }
                self.master.reclaim.notify_one();
            }
            Err(error) => tracing::error!(%error, "the objects cannot be read"),
        }
        match last {
            Some(last) => {
                self.places.insert(volume.volume, last);
                true
            }
            None => {
                self.places.remove(&volume.volume);
                false
            }
        }
    }
}

impl Worker for Orphans {
    const NAME: &'static str = "orphans";

    async fn tick(&mut self) -> Progress {
        if !self.master.group.leads() || self.master.group.current().await.is_err() {
            return Progress::Idle;
        }
        // A page of each a tick, and the next tick at once: they come as fast as values are replaced.
        if self.purge().await | self.forget().await {
            return Progress::More;
        }
        let mut progress = Progress::Idle;
        for volume in self.master.cluster.all_alive() {
            if self.page(&volume).await {
                progress = Progress::More;
            }
        }
        progress
    }
}
