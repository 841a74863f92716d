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

    /// Forgets what was reclaimed so long ago that no commit can come for it again.
    async fn purge(&self) {
        let config = &self.master.config;
        let memory = config.receipt_lifetime() + CALL_LIFETIME + CLOCK_SKEW_MAX;
        let before = Timestamp::from_unix_ms(config.clock.now().unix_ms().saturating_sub(millis(memory)));
        match graves(&self.master.database.tree(), before, INVENTORY_PAGE) {
            Ok(graves) if graves.is_empty() => {}
            Ok(graves) => drop(self.master.sequencer.propose(Command::Purge { graves }).await),
            Err(error) => tracing::error!(%error, "the graves cannot be read"),
        }
    }

    /// Forgets deleted keys that no upload can come for any more.
    async fn forget(&mut self) {
        let now = self.master.config.clock.now();
        if self.forgot.is_some_and(|last| now.since(last) < FORGET_INTERVAL) {
            return;
        }
        let before = now.unix_ms().saturating_sub(millis(UPLOAD_TIME_MAX + CLOCK_SKEW_MAX));
        let database = Arc::clone(&self.master.database);
        let before = Timestamp::from_unix_ms(before);
        match blocking(move || forgettable(&database.tree(), before, INVENTORY_PAGE)).await {
            Ok(keys) if keys.is_empty() => self.forgot = Some(now),
            Ok(keys) => drop(self.master.sequencer.propose(Command::Forget { keys }).await),
            Err(error) => {
                self.forgot = Some(now);
                tracing::error!(%error, "the deleted keys cannot be read");
            }
        }
    }

    /// Looks through one page. True when the inventory goes on.
    async fn page(&mut self, volume: &Reachable) -> bool {
        let request = InventoryRequest {
            cluster: self.master.cluster.id(),
            volume: volume.volume,
            after: self.places.get(&volume.volume).copied(),
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
        match choose(&self.master.database.tree(), volume.volume, &page.entries, grace, now) {
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
        match page.entries.last().filter(|_| page.entries.len() == INVENTORY_PAGE) {
            Some(last) => {
                self.places.insert(volume.volume, last.blob);
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
        self.purge().await;
        self.forget().await;
        let mut progress = Progress::Idle;
        for volume in self.master.cluster.all_alive() {
            if self.page(&volume).await {
                progress = Progress::More;
            }
        }
        progress
    }
}
