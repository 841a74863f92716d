//! What a volume shows besides its requests: space, segments, syncs, damage. The store counts; this
//! copies its figures just before they are shown.

use http::Response;
use prometheus_client::metrics::gauge::Gauge;
use shared::http::body::Body;
use shared::telemetry::Metrics;

use crate::store::StoreStatus;

/// A figure of the store's status, and the gauge that shows it.
type Shown = (Gauge, fn(&StoreStatus) -> u64);

/// The gauges.
#[derive(Debug)]
pub struct VolumeMetrics {
    metrics: Metrics,
    shown: Vec<Shown>,
}

impl VolumeMetrics {
    /// Registers them with the server's metrics.
    pub fn new(metrics: Metrics) -> Self {
        let mut shown: Vec<Shown> = Vec::new();
        metrics.register(|r| {
            let mut add = |name: &str, help: &str, figure: fn(&StoreStatus) -> u64| {
                let gauge: Gauge = Gauge::default();
                r.register(name, help, gauge.clone());
                shown.push((gauge, figure));
            };
            add("barge_blobs", "Blobs held", |s| s.blobs);
            add("barge_live_bytes", "Bytes of live records", |s| s.live_bytes);
            add("barge_dead_bytes", "Bytes of deleted records not given back yet", |s| s.dead_bytes);
            add("barge_punched_bytes", "Bytes given back since start", |s| s.punched_bytes);
            add("barge_free_bytes", "Free bytes of the file system", |s| s.free_bytes);
            add("barge_available_bytes", "Bytes for new values", |s| s.available_bytes);
            add("barge_reserved_bytes", "Bytes promised to uploads under way", |s| s.reserved_bytes);
            add("barge_segments_open", "Segments that take records", |s| s.segments_open);
            add("barge_segments_sealed", "Segments that are complete", |s| s.segments_sealed);
            add("barge_lanes_busy", "Open segments leased to an upload", |s| s.lanes_busy);
            add("barge_uploads_in_flight", "Uploads under way", |s| s.uploads);
            add("barge_read_only", "1 when no writes are taken", |s| u64::from(s.read_only.is_some()));
            add("barge_records_quarantined", "Records set aside as damaged", |s| s.quarantined);
            add("barge_blocks_damaged", "Damaged blocks met since start", |s| s.damaged_blocks);
            add("barge_fsyncs", "Syncs since start", |s| s.fsyncs);
            add("barge_fsync_nanoseconds", "Time in syncs since start", |s| s.fsync_nanos);
        });
        Self { metrics, shown }
    }

    /// All metrics of the server, with the store's figures of now.
    pub fn render(&self, status: &StoreStatus) -> Response<Body> {
        for (gauge, figure) in &self.shown {
            gauge.set(i64::try_from(figure(status)).unwrap_or(i64::MAX));
        }
        self.metrics.render()
    }
}
