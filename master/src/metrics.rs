//! What a master counts besides its requests. Names are those of a replicated log, so that they stay
//! when there is one: applied index, commit batches.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use shared::telemetry::Metrics;
use shared::wire::cluster::RepairStatus;
use shared::wire::master::{VolumeState, VolumeSummary};

use crate::tables::meta::Progress;

/// The state of a volume, as a label.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Became {
    state: &'static str,
}

#[derive(Debug)]
pub struct MasterMetrics {
    /// Uploads answered with a redirect to a volume.
    pub uploads_redirected: Counter,
    /// Uploads passed through this master.
    pub uploads_streamed: Counter,
    /// Reads answered with a redirect to a volume.
    pub reads_redirected: Counter,
    /// Reads passed through this master.
    pub reads_streamed: Counter,
    /// Blobs that volumes were told to delete, and did.
    pub reclaimed: Counter,
    /// Records found that nothing referred to.
    pub orphans: Counter,
    /// Copies made by repair, draining and rebalancing.
    pub copies_made: Counter,
    /// Bytes of them.
    pub copies_made_bytes: Counter,
    /// Copies taken away, when there were enough others.
    pub copies_dropped: Counter,
    /// Copies that volumes should have had and had not.
    pub copies_missing: Counter,
    /// Bytes of messages to compare inventories.
    pub compared_bytes: Counter,
    became: Family<Became, Counter>,
    volumes: Family<Became, Gauge>,
    owed_blobs: Gauge,
    owed_bytes: Gauge,
    /// Commands in one batch.
    pub batch_commands: Histogram,
    /// Seconds a batch took to apply and sync.
    pub batch_seconds: Histogram,
    /// Damaged metadata was replaced by that of another master.
    pub healed: Counter,
    applied: Gauge,
    objects: Gauge,
    bytes: Gauge,
    degraded: Gauge,
    reclaim_pending: Gauge,
    volumes_writable: Gauge,
    disk_bytes: Gauge,
}

impl MasterMetrics {
    /// Registers them with the server's metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let new = Self {
            uploads_redirected: Counter::default(),
            uploads_streamed: Counter::default(),
            reads_redirected: Counter::default(),
            reads_streamed: Counter::default(),
            reclaimed: Counter::default(),
            orphans: Counter::default(),
            copies_made: Counter::default(),
            copies_made_bytes: Counter::default(),
            copies_dropped: Counter::default(),
            copies_missing: Counter::default(),
            compared_bytes: Counter::default(),
            became: Family::default(),
            volumes: Family::default(),
            owed_blobs: Gauge::default(),
            owed_bytes: Gauge::default(),
            batch_commands: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            batch_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
            healed: Counter::default(),
            applied: Gauge::default(),
            objects: Gauge::default(),
            bytes: Gauge::default(),
            degraded: Gauge::default(),
            reclaim_pending: Gauge::default(),
            volumes_writable: Gauge::default(),
            disk_bytes: Gauge::default(),
        };
        metrics.register(|r| {
            let c = |x: &Counter| x.clone();
            let g = |x: &Gauge| x.clone();
            r.register("barge_uploads_redirected", "Uploads sent on to a volume", c(&new.uploads_redirected));
            r.register("barge_uploads_streamed", "Uploads through this master", c(&new.uploads_streamed));
            r.register("barge_reads_redirected", "Reads sent on to a volume", c(&new.reads_redirected));
            r.register("barge_reads_streamed", "Reads through this master", c(&new.reads_streamed));
            r.register("barge_reclaimed_blobs", "Blobs deleted from volumes", c(&new.reclaimed));
            r.register("barge_orphans_found", "Records nothing referred to", c(&new.orphans));
            new.register_care(r);
            r.register("barge_log_batch_commands", "Commands a batch", new.batch_commands.clone());
            r.register(
                "barge_log_batch_seconds",
                "Seconds to apply and sync a batch",
                new.batch_seconds.clone(),
            );
            r.register(
                "barge_metadata_healed",
                "Times damaged metadata was replaced by that of another master",
                new.healed.clone(),
            );
            r.register("barge_log_applied_index", "Commands applied", g(&new.applied));
            r.register("barge_objects", "Keys with a value", g(&new.objects));
            r.register("barge_object_bytes", "Bytes of values, each counted once", g(&new.bytes));
            r.register("barge_objects_degraded", "Values with fewer copies than wanted", g(&new.degraded));
            r.register("barge_reclaim_pending", "Blobs that wait to be deleted", g(&new.reclaim_pending));
            r.register("barge_volumes_writable", "Volumes that take writes", g(&new.volumes_writable));
            r.register("barge_metadata_disk_bytes", "Bytes of metadata on disk", g(&new.disk_bytes));
        });
        new
    }

    fn register_care(&self, r: &mut Registry) {
        r.register("barge_copies_made", "Copies made by repair and moves", self.copies_made.clone());
        r.register("barge_copies_made_bytes", "Bytes of those copies", self.copies_made_bytes.clone());
        r.register("barge_copies_dropped", "Copies taken away", self.copies_dropped.clone());
        r.register("barge_copies_missing", "Copies found missing", self.copies_missing.clone());
        r.register("barge_compared_bytes", "Bytes to compare inventories", self.compared_bytes.clone());
        r.register("barge_volume_transitions", "What volumes became", self.became.clone());
        r.register("barge_volumes", "Volumes by state", self.volumes.clone());
        r.register("barge_owed_blobs", "Blobs whose copies are not in order", self.owed_blobs.clone());
        r.register("barge_owed_bytes", "Bytes of copies that are to be made", self.owed_bytes.clone());
    }

    /// A copy was made.
    pub fn copied(&self, bytes: u64) {
        self.copies_made.inc();
        self.copies_made_bytes.inc_by(bytes);
    }

    /// A volume became something.
    pub fn volume_became(&self, state: VolumeState) {
        self.became.get_or_create(&Became { state: state.name() }).inc();
    }

    /// As `refresh`, of volumes and of what is owed.
    pub fn refresh_care(&self, volumes: &[VolumeSummary], repair: &RepairStatus) {
        for state in VolumeState::ALL {
            let count = volumes.iter().filter(|v| v.state == state).count();
            let gauge = self.volumes.get_or_create(&Became { state: state.name() });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.owed_blobs.set(i64::try_from(repair.owed_blobs).unwrap_or(i64::MAX));
        self.owed_bytes.set(i64::try_from(repair.owed_bytes).unwrap_or(i64::MAX));
    }

    /// Sets the gauges, just before they are shown.
    pub fn refresh(&self, progress: &Progress, volumes_writable: usize, disk_bytes: u64) {
        let set = |gauge: &Gauge, n: u64| {
            gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
        };
        set(&self.applied, progress.applied);
        set(&self.objects, progress.objects);
        set(&self.bytes, progress.bytes);
        set(&self.degraded, progress.degraded);
        set(&self.reclaim_pending, progress.reclaim_pending);
        set(&self.volumes_writable, volumes_writable as u64);
        set(&self.disk_bytes, disk_bytes);
    }
}
