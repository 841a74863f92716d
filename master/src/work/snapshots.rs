//! Removes the snapshot that was made for another master, or for a back-up, when nobody reads it any more.

use std::sync::Arc;

use shared::work::{Progress, Worker};

use crate::master::Master;

/// The worker.
pub struct Snapshots(pub Arc<Master>);

impl Worker for Snapshots {
    const NAME: &'static str = "snapshots";

    async fn tick(&mut self) -> Progress {
        self.0.group.machine().drop_unused().await;
        Progress::Idle
    }
}
