//! Background workers of a master. Each executes a plan, a bounded amount per tick.

pub mod decommission;
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
use shared::work::{Shutdown, run_worker};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::master::Master;

/// Interval between passes over the reclaim list; every commit and delete wakes the worker as well.
const RECLAIM_INTERVAL: Duration = Duration::from_secs(1);
/// Interval between checks for reconciliation, repair and rebalance; each worker can also be woken at once.
const REPAIR_INTERVAL: Duration = Duration::from_millis(250);

pub fn start(master: &Arc<Master>, shutdown: &Shutdown) -> Vec<JoinHandle<()>> {
    let alone = || Arc::new(Notify::new());
    let mut started = vec![
        tokio::spawn(run_worker(
            reclaim::ReclaimWorker::new(Arc::clone(master)),
            RECLAIM_INTERVAL,
            Arc::clone(&master.wake_reclaim),
            shutdown.clone(),
        )),
        tokio::spawn(run_worker(
            reconcile::ReconcileWorker::new(Arc::clone(master)),
            REPAIR_INTERVAL,
            Arc::clone(&master.repair.wake_reconciliation),
            shutdown.clone(),
        )),
        tokio::spawn(run_worker(
            repair::RepairWorker::new(Arc::clone(master)),
            REPAIR_INTERVAL,
            Arc::clone(&master.repair.wake_repair),
            shutdown.clone(),
        )),
        tokio::spawn(run_worker(
            rebalance::RebalanceWorker::new(Arc::clone(master)),
            REPAIR_INTERVAL,
            Arc::clone(&master.repair.wake_rebalance),
            shutdown.clone(),
        )),
        tokio::spawn(run_worker(
            uploads::UploadExpiryWorker::new(Arc::clone(master)),
            RECLAIM_INTERVAL,
            Arc::clone(&master.wake_part_removal),
            shutdown.clone(),
        )),
        tokio::spawn(run_worker(
            upkeep::Upkeep(Arc::clone(master)),
            HEARTBEAT_INTERVAL,
            alone(),
            shutdown.clone(),
        )),
    ];
    for address in &master.config.volumes {
        let poll = poll::Poll::new(Arc::clone(master), address.clone());
        started.push(tokio::spawn(run_worker(poll, HEARTBEAT_INTERVAL, alone(), shutdown.clone())));
    }
    started
}
