//! A master's metrics, besides those of HTTP requests.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use shared::telemetry::Metrics;
use shared::wire::cluster::RepairStatus;
use shared::wire::master::{VolumeState, VolumeSummary};

use crate::tables::meta::Counters;

/// The state of a volume, as a label.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Became {
    state: &'static str,
}

#[derive(Debug)]
pub struct MasterMetrics {
    /// Uploads answered with a redirect to a volume.
    pub uploads_redirected: Counter,
    /// Uploads streamed through this master.
    pub uploads_streamed: Counter,
    /// Reads answered with a redirect to a volume.
    pub reads_redirected: Counter,
    /// Reads streamed through this master.
    pub reads_streamed: Counter,
    /// Deletes that volumes have carried out.
    pub reclaimed: Counter,
    /// Objects removed because they had expired.
    pub expired: Counter,
    /// Records found that no object references.
    pub orphans: Counter,
    /// Replicas added by repair, draining and rebalancing.
    pub replicas_added: Counter,
    /// Bytes of those replicas.
    pub replicas_added_bytes: Counter,
    /// Excess replicas removed.
    pub replicas_removed: Counter,
    /// Listed replicas that their volumes lack.
    pub replicas_lost: Counter,
    /// Bytes that volumes sent for reconciliation.
    pub reconciliation_bytes: Counter,
    became: Family<Became, Counter>,
    volumes: Family<Became, Gauge>,
    repair_queue_blobs: Gauge,
    repair_queue_bytes: Gauge,
    /// Commands in one batch.
    pub batch_commands: Histogram,
    /// Seconds a batch took to apply and sync.
    pub batch_seconds: Histogram,
    /// Times corrupt metadata was replaced by that of another master.
    pub healed: Counter,
    applied: Gauge,
    objects: Gauge,
    bytes: Gauge,
    under_replicated: Gauge,
    reclaim_pending: Gauge,
    volumes_writable: Gauge,
    disk_bytes: Gauge,
}

impl MasterMetrics {
    /// Creates the metrics and registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let new = Self {
            uploads_redirected: Counter::default(),
            uploads_streamed: Counter::default(),
            reads_redirected: Counter::default(),
            reads_streamed: Counter::default(),
            reclaimed: Counter::default(),
            expired: Counter::default(),
            orphans: Counter::default(),
            replicas_added: Counter::default(),
            replicas_added_bytes: Counter::default(),
            replicas_removed: Counter::default(),
            replicas_lost: Counter::default(),
            reconciliation_bytes: Counter::default(),
            became: Family::default(),
            volumes: Family::default(),
            repair_queue_blobs: Gauge::default(),
            repair_queue_bytes: Gauge::default(),
            batch_commands: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            batch_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
            healed: Counter::default(),
            applied: Gauge::default(),
            objects: Gauge::default(),
            bytes: Gauge::default(),
            under_replicated: Gauge::default(),
            reclaim_pending: Gauge::default(),
            volumes_writable: Gauge::default(),
            disk_bytes: Gauge::default(),
        };
        metrics.register(|r| {
            let c = |x: &Counter| x.clone();
            let g = |x: &Gauge| x.clone();
            r.register(
                "barge_uploads_redirected",
                "Uploads redirected to a volume",
                c(&new.uploads_redirected),
            );
            r.register(
                "barge_uploads_streamed",
                "Uploads streamed through this master",
                c(&new.uploads_streamed),
            );
            r.register("barge_reads_redirected", "Reads redirected to a volume", c(&new.reads_redirected));
            r.register("barge_reads_streamed", "Reads streamed through this master", c(&new.reads_streamed));
            r.register("barge_reclaimed_blobs", "Blobs deleted from volumes", c(&new.reclaimed));
            r.register("barge_expired_objects", "Objects removed because they had expired", c(&new.expired));
            r.register("barge_orphans_found", "Records that no object references", c(&new.orphans));
            new.register_repair(r);
            r.register("barge_log_batch_commands", "Commands per batch", new.batch_commands.clone());
            r.register(
                "barge_log_batch_seconds",
                "Seconds to apply and sync a batch",
                new.batch_seconds.clone(),
            );
            r.register(
                "barge_metadata_recovered",
                "Times corrupt metadata was replaced by that of another master",
                new.healed.clone(),
            );
            r.register("barge_log_applied_index", "Commands applied", g(&new.applied));
            r.register("barge_objects", "Keys with a value", g(&new.objects));
            r.register("barge_object_bytes", "Bytes of values, without replicas", g(&new.bytes));
            r.register("barge_objects_under_replicated", "Under-replicated values", g(&new.under_replicated));
            r.register("barge_reclaim_pending", "Blobs to be deleted by volumes", g(&new.reclaim_pending));
            r.register("barge_volumes_writable", "Volumes that take writes", g(&new.volumes_writable));
            r.register("barge_metadata_disk_bytes", "Bytes of metadata on disk", g(&new.disk_bytes));
        });
        new
    }

    fn register_repair(&self, r: &mut Registry) {
        r.register(
            "barge_replicas_added",
            "Replicas added by repair and rebalancing",
            self.replicas_added.clone(),
        );
        r.register(
            "barge_replicas_added_bytes",
            "Bytes of those replicas",
            self.replicas_added_bytes.clone(),
        );
        r.register("barge_replicas_removed", "Excess replicas removed", self.replicas_removed.clone());
        r.register(
            "barge_replicas_lost",
            "Listed replicas that their volumes lack",
            self.replicas_lost.clone(),
        );
        r.register(
            "barge_reconciliation_bytes",
            "Bytes sent by volumes for reconciliation",
            self.reconciliation_bytes.clone(),
        );
        r.register(
            "barge_volume_transitions",
            "State transitions of volumes, by new state",
            self.became.clone(),
        );
        r.register("barge_volumes", "Volumes by state", self.volumes.clone());
        r.register(
            "barge_repair_queue_blobs",
            "Blobs in the repair queue: under- or over-replicated",
            self.repair_queue_blobs.clone(),
        );
        r.register(
            "barge_repair_queue_bytes",
            "Bytes of replicas that are to be added",
            self.repair_queue_bytes.clone(),
        );
    }

    /// Counts an added replica.
    pub fn replica_added(&self, bytes: u64) {
        self.replicas_added.inc();
        self.replicas_added_bytes.inc_by(bytes);
    }

    /// Counts a volume's transition to `state`.
    pub fn volume_became(&self, state: VolumeState) {
        self.became.get_or_create(&Became { state: state.name() }).inc();
    }

    /// Like `refresh`, for volumes and the repair queue.
    pub fn refresh_repair(&self, volumes: &[VolumeSummary], repair: &RepairStatus) {
        for state in VolumeState::ALL {
            let count = volumes.iter().filter(|v| v.state == state).count();
            let gauge = self.volumes.get_or_create(&Became { state: state.name() });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.repair_queue_blobs.set(i64::try_from(repair.queued_blobs).unwrap_or(i64::MAX));
        self.repair_queue_bytes.set(i64::try_from(repair.queued_bytes).unwrap_or(i64::MAX));
    }

    /// Sets the gauges, just before they are exported.
    pub fn refresh(&self, progress: &Counters, volumes_writable: usize, disk_bytes: u64) {
        let set = |gauge: &Gauge, n: u64| {
            gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
        };
        set(&self.applied, progress.applied);
        set(&self.objects, progress.objects);
        set(&self.bytes, progress.bytes);
        set(&self.under_replicated, progress.under_replicated);
        set(&self.reclaim_pending, progress.reclaim_pending);
        set(&self.volumes_writable, volumes_writable as u64);
        set(&self.disk_bytes, disk_bytes);
    }
}
