//! Shows the plan and progress of a rebalance, and starts, pauses and cancels it.

use super::maintenance::of_leader;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::master::Master;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::http::body::{self, Body};
use shared::wire::cluster::{RebalanceAction, RebalanceStatus, RebalanceVolume};
use shared::wire::error::ErrorReply;

use crate::plan::rebalance::Balance;

use crate::state::command::Command;
use crate::tables::TableError;
use crate::tables::meta::{self, Rebalance};

/// The status of the rebalance; none if it was not started, or if this master is not the leader.
pub(super) fn rebalance_status(master: &Master) -> Result<Option<RebalanceStatus>, TableError> {
    // Only the leader knows what there is to move.
    let state = meta::rebalance(&master.metadata.database.tree())?.filter(|_| master.group.is_leader());
    Ok(state.map(|state| plan(&master.volumes.cluster, &master.config, Some(state))))
}

fn plan(cluster: &Cluster, config: &Config, state: Option<Rebalance>) -> RebalanceStatus {
    let topology = cluster.topology();
    let balance = Balance::of(&topology, config.replication.wanted());
    let volumes = topology.volumes().map(|(volume, entry)| RebalanceVolume {
        volume,
        zone: entry.zone.clone(),
        fullness: entry.fullness(),
        over_bytes: balance.over.get(&volume).copied().unwrap_or(0),
        under_bytes: balance.under.get(&volume).copied().unwrap_or(0),
    });
    // Each volume receives at the configured rate; the one that lacks most finishes last.
    let most = balance.under.values().max().copied().unwrap_or(0).min(balance.bytes());
    let rate = config.repair_rate;
    RebalanceStatus {
        running: state.is_some_and(|s| !s.paused),
        paused: state.is_some_and(|s| s.paused),
        bytes: balance.bytes(),
        planned_bytes: state.map_or(0, |s| s.planned_bytes),
        secs: (rate > 0).then(|| most.div_ceil(rate)),
        volumes: volumes.collect(),
    }
}

pub(super) async fn rebalance(
    master: &Master,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let steer: RebalanceAction = of_leader(&master.group, request).await?;
    let before = meta::rebalance(&master.metadata.database.tree())?;
    let planned_bytes = plan(&master.volumes.cluster, &master.config, before).bytes;
    let begun = || Rebalance { since: master.config.clock.now(), paused: false, planned_bytes };
    let after = match steer {
        RebalanceAction::Plan => before,
        RebalanceAction::Start => Some(Rebalance { paused: false, ..before.unwrap_or_else(begun) }),
        RebalanceAction::Pause => before.map(|state| Rebalance { paused: true, ..state }),
        RebalanceAction::Cancel => None,
    };
    if after != before {
        master.changes.propose(Command::SetRebalance(after)).await?;
        master.repair.wake_rebalance.notify_one();
    }
    Ok(body::json(StatusCode::OK, &plan(&master.volumes.cluster, &master.config, after)))
}
