//! Has this master look after its log, its snapshots and a change of the masters that was interrupted.

use std::sync::Arc;

use shared::work::{Progress, Worker};

use crate::master::Master;

/// The worker.
pub struct Upkeep(pub Arc<Master>);

impl Worker for Upkeep {
    const NAME: &'static str = "upkeep";

    async fn tick(&mut self) -> Progress {
        self.0.group.tend().await;
        Progress::Idle
    }
}
