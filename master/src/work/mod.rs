//! Background work of a master: each worker carries out a plan, a bounded amount a tick.

mod carry;
pub mod compare;
pub mod leave;
mod listing;
pub mod orphans;
pub mod poll;
pub mod rebalance;
pub mod reclaim;
pub mod repair;
pub mod strays;
pub mod upkeep;
pub mod uploads;

use std::sync::Arc;
use std::time::Duration;

use shared::limits::HEARTBEAT_INTERVAL;
use shared::work::{Shutdown, run_worker};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::master::Master;

/// What is left on the reclaim list is tried again so often, besides at every commit and delete.
const RECLAIM_INTERVAL: Duration = Duration::from_secs(1);
/// Whether inventories are to be compared, copies made or values moved is looked at so often, besides when somebody knows.
const CARE_INTERVAL: Duration = Duration::from_millis(250);

/// Starts all workers of a master.
pub fn start(master: &Arc<Master>, shutdown: &Shutdown) -> Vec<JoinHandle<()>> {
    let alone = || Arc::new(Notify::new());
    let mut started = vec![
        tokio::spawn(run_worker(
            reclaim::Reclaim::new(Arc::clone(master)),
            RECLAIM_INTERVAL,
            Arc::clone(&master.reclaim),
            shutdown.clone(),
        )),
        tokio::spawn(run_worker(
            orphans::Orphans::new(Arc::clone(master)),
            CARE_INTERVAL,
            Arc::clone(&master.care.compare),
            shutdown.clone(),
        )),
        tokio::spawn(run_worker(
            repair::Repair::new(Arc::clone(master)),
            CARE_INTERVAL,
            Arc::clone(&master.care.repair),
            shutdown.clone(),
        )),
        tokio::spawn(run_worker(
            rebalance::Rebalancing::new(Arc::clone(master)),
            CARE_INTERVAL,
            Arc::clone(&master.care.rebalance),
            shutdown.clone(),
        )),
        tokio::spawn(run_worker(
            uploads::Uploads::new(Arc::clone(master)),
            RECLAIM_INTERVAL,
            Arc::clone(&master.scrap),
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
