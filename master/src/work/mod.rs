//! Background workers of a master. Each executes a plan, a bounded amount per tick.

pub mod decommission;
mod expiry;
pub mod inventory_diff;
pub mod orphans;
pub mod poll;
mod queue_rebuild;
pub mod rebalance;
pub mod reclaim;
pub mod reconcile;
pub mod repair;
mod rereplicate;
pub mod upkeep;
pub mod uploads;

use std::sync::Arc;
use std::time::Duration;

use shared::limits::HEARTBEAT_INTERVAL;
use shared::work::{Shutdown, Worker, run_worker};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::master::Master;

/// Interval between passes over the reclaim list; every commit and delete wakes the worker as well.
const RECLAIM_INTERVAL: Duration = Duration::from_secs(1);
/// Interval between checks for reconciliation, repair and rebalance; each worker can also be woken at once.
const REPAIR_INTERVAL: Duration = Duration::from_millis(250);
/// Interval between looks for the value that expires next; a new expiry wakes the worker as well.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);

pub fn start(master: &Master, shutdown: &Shutdown) -> Vec<JoinHandle<()>> {
    let (repair, never) = (&master.repair, Arc::new(Notify::new()));
    let mut started = vec![
        spawn(reclaim::ReclaimWorker::new(master), RECLAIM_INTERVAL, &master.changes.wake_reclaim, shutdown),
        spawn(
            reconcile::ReconcileWorker::new(master),
            REPAIR_INTERVAL,
            &repair.wake_reconciliation,
            shutdown,
        ),
        spawn(repair::RepairWorker::new(master), REPAIR_INTERVAL, &repair.wake_repair, shutdown),
        spawn(rebalance::RebalanceWorker::new(master), REPAIR_INTERVAL, &repair.wake_rebalance, shutdown),
        spawn(
            uploads::UploadExpiryWorker::new(master),
            RECLAIM_INTERVAL,
            &master.changes.wake_part_removal,
            shutdown,
        ),
        spawn(expiry::ExpiryWorker::new(master), EXPIRY_INTERVAL, &master.changes.wake_expiry, shutdown),
        spawn(upkeep::Upkeep::new(master), HEARTBEAT_INTERVAL, &never, shutdown),
    ];
    for address in &master.config.volumes {
        started.push(spawn(poll::Poll::new(master, address.clone()), HEARTBEAT_INTERVAL, &never, shutdown));
    }
    started
}

fn spawn(worker: impl Worker, every: Duration, wake: &Arc<Notify>, shutdown: &Shutdown) -> JoinHandle<()> {
    tokio::spawn(run_worker(worker, every, Arc::clone(wake), shutdown.clone()))
}
