//! One volume, assembled: what its routes and workers share, and what it tells of itself.

#[cfg(test)]
pub mod alone;

use std::sync::{Arc, PoisonError, RwLock};

use rustix::fs::statvfs;
use shared::http::client::PeerClient;
use shared::ids::ClusterId;
use shared::telemetry::HttpMetrics;
use shared::ticket::Receipt;
use shared::wire::volume::{VolumeReport, VolumeStatus};

use crate::arrival::Arrivals;
use crate::config::Config;
use crate::heal::Healer;
use crate::identity::{FORMAT_VERSION, Identity};
use crate::masters::Masters;
use crate::spent::Spent;
use crate::store::{Store, Stored};
use crate::tombstones::Tombstones;

/// The parts of a volume.
#[derive(Debug)]
pub struct Volume {
    /// What it was told.
    pub config: Config,
    /// Who it is.
    pub identity: Identity,
    /// Where its values are.
    pub store: Store,
    /// What it knows to be deleted or refused.
    pub tombstones: Tombstones,
    /// Segments that it found and does not serve.
    pub segments_refused: u64,
    /// Where it believes that peers and masters reach it.
    pub address: String,
    /// Where a master that has it on its list says so: that counts for all of them, or each would have another address.
    pub listed: RwLock<Option<String>>,
    /// Where clients reach it.
    pub public_url: String,
    /// Calls to masters and to the next volume of a chain.
    pub peers: PeerClient,
    /// What it counts of its requests.
    pub http_metrics: Arc<HttpMetrics>,
    /// Write tickets that are used up although their blob is gone.
    pub spent: Spent,
    /// What is bad here, and what is done about it.
    pub healer: Healer,
    /// What is on its way in from other volumes.
    pub arrivals: Arc<Arrivals>,
    /// Where its masters are.
    pub masters: Masters,
    /// Drawn when it started.
    pub incarnation: u64,
}

impl Volume {
    /// Its statement that a blob is durable here, sealed.
    pub fn receipt(&self, cluster: ClusterId, stored: &Stored) -> String {
        Receipt {
            cluster,
            volume: self.identity.volume(),
            blob: stored.blob,
            length: stored.length,
            digest: stored.digest,
            issued: self.config.clock.now(),
        }
        .seal(&self.config.secret)
    }

    /// What it tells its master.
    pub fn report(&self) -> VolumeReport {
        let (status, healer) = (self.store.status(), self.healer.status(self));
        let listed = self.listed.read().unwrap_or_else(PoisonError::into_inner);
        let disk_bytes = statvfs(&self.config.data).map_or(0, |s| s.f_blocks.saturating_mul(s.f_frsize));
        let capacity_bytes = self.config.capacity_bytes.map_or(disk_bytes, |bytes| bytes.min(disk_bytes));
        VolumeReport {
            volume: self.identity.volume(),
            cluster: self.identity.cluster(),
            address: listed.clone().unwrap_or_else(|| self.address.clone()),
            public_url: self.public_url.clone(),
            zone: self.config.zone.clone(),
            capacity_bytes,
            available_bytes: status.available_bytes,
            blobs: status.blobs,
            live_bytes: status.live_bytes,
            uploads: status.uploads,
            read_only: status.read_only,
            damaged: healer.lost_blobs,
            unhealed: healer.unwritable_blobs,
            segments_refused: self.segments_refused,
            ranges_set_aside: status.quarantined,
            format_version: FORMAT_VERSION,
            incarnation: self.incarnation,
        }
    }

    /// What it shows of itself.
    pub fn status(&self) -> VolumeStatus {
        let status = self.store.status();
        let healer = self.healer.status(self);
        VolumeStatus {
            report: self.report(),
            segments_open: status.segments_open,
            segments_sealed: status.segments_sealed,
            dead_bytes: status.dead_bytes,
            punched_bytes: status.punched_bytes,
            quarantined: status.quarantined,
            damaged_blocks: status.damaged_blocks,
            damaged_records: healer.bad,
            lost_records: healer.lost,
            healed_records: healer.healed,
            blocks_from_replicas: healer.blocks_served,
            records_from_replicas: healer.records_served,
            moved_bytes: status.moved_bytes,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}
