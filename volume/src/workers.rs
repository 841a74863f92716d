//! Background workers of a volume: seal old segments, scrub records, compact segments that are mostly dead. The work
//! itself is in the store.

use std::sync::Arc;

use shared::limits::{COMPACTION_RATE, SEGMENT_BYTES_MAX};
use shared::work::{TickResult, Worker};

use crate::server::Volume;
use crate::store::{CompactError, Throttle};

/// Seals open segments past their age.
pub struct SealWorker(pub Arc<Volume>);

impl Worker for SealWorker {
    const NAME: &'static str = "seal";

    async fn tick(&mut self) -> TickResult {
        match self.0.store.seal_aged().await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "segments sealed by age"),
            Err(error) => tracing::warn!(%error, "an old segment could not be sealed"),
        }
        TickResult::Idle
    }
}

/// Verifies records, and reports corrupt ones to the healer.
pub struct ScrubWorker {
    volume: Arc<Volume>,
    throttle: Throttle,
}

impl ScrubWorker {
    pub fn new(volume: Arc<Volume>) -> Self {
        let throttle = Throttle::new(volume.config.scrub_rate);
        Self { volume, throttle }
    }
}

impl Worker for ScrubWorker {
    const NAME: &'static str = "scrub";

    async fn tick(&mut self) -> TickResult {
        let volume = &self.volume;
        if volume.config.scrub_rate == 0 {
            return TickResult::Idle;
        }
        let Some(checked) = volume.store.scrub(volume.config.scrub_every, &self.throttle).await else {
            return TickResult::Idle;
        };
        if let Some(error) = &checked.bad {
            volume.healer.report(volume, checked.blob, error);
        }
        // A record without a body still costs a read of its pages.
        self.throttle.spend(shared::limits::PAGE_BYTES).await;
        TickResult::More
    }
}

/// Compacts segments that are mostly dead.
pub struct CompactWorker {
    volume: Arc<Volume>,
    gently: Throttle,
    at_once: Throttle,
}

impl CompactWorker {
    pub fn new(volume: Arc<Volume>) -> Self {
        Self { volume, gently: Throttle::new(COMPACTION_RATE), at_once: Throttle::new(0) }
    }
}

impl Worker for CompactWorker {
    const NAME: &'static str = "compact";

    async fn tick(&mut self) -> TickResult {
        let volume = &self.volume;
        let room = volume.config.segment_bytes.min(SEGMENT_BYTES_MAX);
        let scarce = volume.store.available_bytes() < room;
        let pace = if scarce { &self.at_once } else { &self.gently };
        match volume.store.compact(pace).await {
            Ok(Some(moved)) => {
                tracing::debug!(segment = %moved.segment, blob = %moved.blob, bytes = moved.bytes, "record moved");
                TickResult::More
            }
            Ok(None) => TickResult::Idle,
            Err(error) => {
                tracing::warn!(%error, "a record could not be moved; compaction continues with another segment");
                if let CompactError::Read { blob, source, .. } = &error {
                    volume.healer.report(volume, *blob, source);
                }
                TickResult::More
            }
        }
    }
}
