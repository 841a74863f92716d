//! What a volume shows besides its requests: space, segments, syncs, damage. Store and healer count; this
//! copies their figures just before they are shown.

use http::Response;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use shared::http::body::Body;
use shared::telemetry::Metrics;

use crate::heal::HealerStatus;
use crate::server::Volume;
use crate::store::StoreStatus;

/// A figure, and the gauge that shows it.
type Shown = (Gauge, fn(&Figures) -> u64);

/// Where the figures come from.
struct Figures {
    store: StoreStatus,
    healer: HealerStatus,
    /// Copies taken in, and their bytes.
    copies: (u64, u64),
}

#[derive(Debug)]
pub struct VolumeMetrics {
    metrics: Metrics,
    shown: Vec<Shown>,
}

impl VolumeMetrics {
    /// Registers them with the server's metrics.
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
            add("barge_dead_bytes", "Bytes of deleted records not given back yet", |f| f.store.dead_bytes);
            add("barge_punched_bytes", "Bytes given back since start", |f| f.store.punched_bytes);
            add("barge_free_bytes", "Free bytes of the file system", |f| f.store.free_bytes);
            add("barge_available_bytes", "Bytes for new values", |f| f.store.available_bytes);
            add("barge_reserved_bytes", "Bytes promised to uploads under way", |f| f.store.reserved_bytes);
            add("barge_segments_open", "Segments that take records", |f| f.store.segments_open);
            add("barge_segments_sealed", "Segments that are complete", |f| f.store.segments_sealed);
            add("barge_lanes_busy", "Open segments leased to an upload", |f| f.store.lanes_busy);
            add("barge_uploads_in_flight", "Uploads under way", |f| f.store.uploads);
            add("barge_read_only", "1 when no writes are taken", |f| u64::from(f.store.read_only.is_some()));
            add("barge_records_quarantined", "Records set aside as damaged", |f| f.store.quarantined);
            add("barge_blocks_damaged", "Damaged blocks met since start", |f| f.store.damaged_blocks);
            add("barge_records_damaged", "Records known to be damaged and not healed", |f| f.healer.bad);
            add("barge_records_lost", "Damaged records without a good copy elsewhere", |f| f.healer.lost);
            add("barge_records_healed", "Records written anew since start", |f| f.healer.healed);
            add("barge_blocks_from_replicas", "Blocks readers got from another replica since start", |f| {
                f.healer.blocks_served
            });
            add("barge_records_from_replicas", "Reads served from another replica whole since start", |f| {
                f.healer.records_served
            });
            add("barge_copies_in", "Copies taken in from other volumes since start", |f| f.copies.0);
            add("barge_copies_in_bytes", "Bytes of copies taken in since start", |f| f.copies.1);
            add("barge_compacted_bytes", "Bytes moved by compactions since start", |f| f.store.moved_bytes);
            add("barge_scrub_verified_bytes", "Bytes verified by the scrub since start", |f| {
                f.store.verified_bytes
            });
            add("barge_scrub_oldest_seconds", "Time since the live bytes verified longest ago were", |f| {
                f.store.unverified_for.as_secs()
            });
            add("barge_write_buffers_used", "Write buffers in use", |f| f.store.write_buffers);
            add("barge_read_buffers_used", "Read buffers in use", |f| f.store.read_buffers);
            r.register("barge_fsync_seconds", "Time that syncs of segments took", sync_seconds);
        });
        Self { metrics, shown }
    }

    /// All metrics of the server, with the volume's figures of now.
    pub fn render(&self, volume: &Volume) -> Response<Body> {
        let figures = Figures {
            store: volume.store.status(),
            healer: volume.healer.status(volume),
            copies: volume.arrivals.taken(),
        };
        for (gauge, figure) in &self.shown {
            gauge.set(i64::try_from(figure(&figures)).unwrap_or(i64::MAX));
        }
        self.metrics.render()
    }
}
