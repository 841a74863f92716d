//! The Prometheus metrics of a volume, besides those of its requests: space, segments, syncs, corruption. The store
//! and the healer count; their figures are copied into gauges just before they are rendered.

use http::Response;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use shared::http::body::Body;
use shared::telemetry::Metrics;

use crate::replicas::heal::HealerStatus;
use crate::server::Volume;
use crate::store::StoreStatus;

/// A gauge, and the figure it shows.
type Shown = (Gauge, fn(&Figures) -> u64);

struct Figures {
    store: StoreStatus,
    healer: HealerStatus,
    /// Replicas received, and their bytes.
    sources: (u64, u64),
}

#[derive(Debug)]
pub struct VolumeMetrics {
    metrics: Metrics,
    shown: Vec<Shown>,
}

impl VolumeMetrics {
    /// Registers the gauges with the server's metrics.
    pub fn new(metrics: Metrics, sync_seconds: Histogram) -> Self {
        let mut shown: Vec<Shown> = Vec::new();
        metrics.register(|r| {
            let mut add = |name: &str, help: &str, figure: fn(&Figures) -> u64| {
                let gauge: Gauge = Gauge::default();
                r.register(name, help, gauge.clone());
                shown.push((gauge, figure));
            };
            add("barge_blobs", "Blobs held", |f| f.store.blobs);
            add("barge_live_bytes", "Bytes of live records", |f| f.store.live_bytes);
            add("barge_dead_bytes", "Bytes of deleted records not freed yet", |f| f.store.dead_bytes);
            add("barge_punched_bytes", "Bytes freed since start", |f| f.store.punched_bytes);
            add("barge_free_bytes", "Free bytes of the file system", |f| f.store.free_bytes);
            add("barge_available_bytes", "Bytes for new values", |f| f.store.available_bytes);
            add("barge_reserved_bytes", "Bytes reserved for uploads under way", |f| f.store.reserved_bytes);
            add("barge_segments_open", "Segments open for writes", |f| f.store.segments_open);
            add("barge_segments_sealed", "Segments closed for writes", |f| f.store.segments_sealed);
            add("barge_lanes_busy", "Append lanes in use by an upload", |f| f.store.lanes_busy);
            add("barge_uploads_in_flight", "Uploads under way", |f| f.store.uploads);
            add("barge_read_only", "1 when writes are refused", |f| u64::from(f.store.read_only.is_some()));
            add("barge_records_quarantined", "Corrupt ranges in quarantine", |f| f.store.quarantined);
            add("barge_blocks_corrupt", "Corrupt blocks read since start", |f| f.store.corrupt_blocks);
            add("barge_records_corrupt", "Records known to be corrupt and not healed", |f| f.healer.bad);
            add("barge_records_lost", "Corrupt records without a good replica", |f| f.healer.lost);
            add("barge_records_healed", "Records rewritten since start", |f| f.healer.healed);
            add(
                "barge_read_repaired_blocks",
                "Corrupt blocks served from another replica since start",
                |f| f.healer.blocks_served,
            );
            add("barge_read_repaired_records", "Reads served whole from another replica since start", |f| {
                f.healer.records_served
            });
            add("barge_replicas_received", "Replicas received from other volumes since start", |f| {
                f.sources.0
            });
            add("barge_replicas_received_bytes", "Bytes of those replicas", |f| f.sources.1);
            add("barge_compacted_bytes", "Bytes moved by compactions since start", |f| f.store.moved_bytes);
            add("barge_scrub_verified_bytes", "Bytes verified by the scrub since start", |f| {
                f.store.verified_bytes
            });
            add("barge_scrub_oldest_seconds", "Age of the oldest verification of live bytes", |f| {
                f.store.unverified_for.as_secs()
            });
            add("barge_write_buffers_used", "Write buffers in use", |f| f.store.write_buffers);
            add("barge_read_buffers_used", "Read buffers in use", |f| f.store.read_buffers);
            r.register("barge_fsync_seconds", "Duration of segment syncs", sync_seconds);
        });
        Self { metrics, shown }
    }

    /// Renders all metrics of the server, with the volume's current figures.
    pub fn render(&self, volume: &Volume) -> Response<Body> {
        let figures = Figures {
            store: volume.store.status(),
            healer: volume.healer.status(volume),
            sources: volume.incoming_replicas.received(),
        };
        for (gauge, figure) in &self.shown {
            gauge.set(i64::try_from(figure(&figures)).unwrap_or(i64::MAX));
        }
        self.metrics.render()
    }
}
