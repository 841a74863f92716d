//! The state of a volume that its routes and workers share, and the reports it makes of itself.

#[cfg(test)]
pub mod test_volume;

use std::sync::{Arc, PoisonError, RwLock};

use rustix::fs::statvfs;
use shared::http::client::PeerClient;
use shared::ids::ClusterId;
use shared::telemetry::HttpMetrics;
use shared::ticket::Receipt;
use shared::wire::volume::{VolumeReport, VolumeStatus};

use crate::config::Config;
use crate::identity::{FORMAT_VERSION, Identity};
use crate::masters::Masters;
use crate::replicas::heal::Healer;
use crate::replicas::incoming::IncomingReplicas;
use crate::store::{DurableRecord, Store};
use crate::tombstones::Tombstones;
use crate::used_tickets::UsedTickets;

#[derive(Debug)]
pub struct Volume {
    pub config: Config,
    pub identity: Identity,
    pub store: Store,
    pub tombstones: Tombstones,
    /// Segments that were found at the start and are not served.
    pub segments_refused: u64,
    /// URL for masters and other volumes, as configured.
    pub address: String,
    /// The same URL as a master lists it. It overrides `address` in reports to all masters, so that they agree.
    pub address_by_masters: RwLock<Option<String>>,
    /// URL for clients.
    pub public_url: String,
    /// Client for calls to masters and to the next volume of a chain.
    pub peers: PeerClient,
    pub http_metrics: Arc<HttpMetrics>,
    /// Write tickets whose blob was written and then deleted.
    pub used_tickets: UsedTickets,
    /// Corrupt records, and their healing.
    pub healer: Healer,
    /// Replicas being received from other volumes.
    pub incoming_replicas: Arc<IncomingReplicas>,
    pub masters: Masters,
    /// Random number drawn at each start.
    pub incarnation: u64,
}

impl Volume {
    /// Returns the signed receipt that a blob is durable here.
    pub fn receipt(&self, cluster: ClusterId, stored: &DurableRecord) -> String {
        Receipt {
            cluster,
            volume: self.identity.volume(),
            blob: stored.blob,
            length: stored.length,
            digest: stored.digest,
            issued: self.config.clock.now(),
        }
        .sign(&self.config.secret)
    }

    /// Returns the report that heartbeats carry.
    pub fn report(&self) -> VolumeReport {
        let (status, healer) = (self.store.status(), self.healer.status(self));
        let listed = self.address_by_masters.read().unwrap_or_else(PoisonError::into_inner);
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
            corrupt: healer.lost_blobs,
            unhealed: healer.unwritable_blobs,
            segments_refused: self.segments_refused,
            ranges_quarantined: status.quarantined,
            format_version: FORMAT_VERSION,
            incarnation: self.incarnation,
        }
    }

    /// Returns the status that operators see.
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
            corrupt_blocks: status.corrupt_blocks,
            corrupt_records: healer.bad,
            lost_records: healer.lost,
            healed_records: healer.healed,
            read_repaired_blocks: healer.blocks_served,
            read_repaired_records: healer.records_served,
            moved_bytes: status.moved_bytes,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}
