//! What a volume does by itself: seals segments that have grown old, verifies what it holds, compacts what is
//! mostly dead. Each is a worker; what they find and do is the store's.

use std::sync::Arc;

use shared::limits::{COMPACTION_RATE, SEGMENT_BYTES_MAX};
use shared::work::{Progress, Worker};

use crate::server::Volume;
use crate::store::{CompactError, Throttle};

/// Seals open segments that have grown old.
pub struct Sealing(pub Arc<Volume>);

impl Worker for Sealing {
    const NAME: &'static str = "seal";

    async fn tick(&mut self) -> Progress {
        match self.0.store.seal_aged().await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "segments sealed by age"),
            Err(error) => tracing::warn!(%error, "an old segment could not be sealed"),
        }
        Progress::Idle
    }
}

/// Verifies records, and hands what is bad to the healer.
pub struct Scrubbing {
    volume: Arc<Volume>,
    throttle: Throttle,
}

impl Scrubbing {
    /// At the configured rate.
    pub fn new(volume: Arc<Volume>) -> Self {
        let throttle = Throttle::new(volume.config.scrub_rate);
        Self { volume, throttle }
    }
}

impl Worker for Scrubbing {
    const NAME: &'static str = "scrub";

    async fn tick(&mut self) -> Progress {
        let volume = &self.volume;
        if volume.config.scrub_rate == 0 {
            return Progress::Idle;
        }
        let Some(checked) = volume.store.scrub(volume.config.scrub_every, &self.throttle).await else {
            return Progress::Idle;
        };
        if let Some(error) = &checked.bad {
            volume.healer.met(volume, checked.blob, error);
        }
        // A record without a body takes its reading of pages, too.
        self.throttle.spend(shared::limits::PAGE_BYTES).await;
        Progress::More
    }
}

/// Compacts segments that are mostly dead.
pub struct Compacting {
    volume: Arc<Volume>,
    gently: Throttle,
    at_once: Throttle,
}

impl Compacting {
    pub fn new(volume: Arc<Volume>) -> Self {
        Self { volume, gently: Throttle::new(COMPACTION_RATE), at_once: Throttle::new(0) }
    }
}

impl Worker for Compacting {
    const NAME: &'static str = "compact";

    async fn tick(&mut self) -> Progress {
        let volume = &self.volume;
        let room = volume.config.segment_bytes.min(SEGMENT_BYTES_MAX);
        let scarce = volume.store.available_bytes() < room;
        let pace = if scarce { &self.at_once } else { &self.gently };
        match volume.store.compact(pace).await {
            Ok(Some(moved)) => {
                tracing::debug!(segment = %moved.segment, blob = %moved.blob, bytes = moved.bytes, "record moved");
                Progress::More
            }
            Ok(None) => Progress::Idle,
            Err(error) => {
                tracing::warn!(%error, "compaction goes on with another segment");
                if let CompactError::Read { blob, source, .. } = &error {
                    volume.healer.met(volume, *blob, source);
                }
                Progress::More
            }
        }
    }
}
