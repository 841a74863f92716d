//! Events of volumes, and reconciliation on demand. Calls are signed, but events may also be read with an access key.
//! Masters that are not the leader refuse what only the leader knows.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use shared::http::body::{self, Body};
use shared::http::signed_calls::read_signed;
use shared::wire::cluster::{OrphansReport, OrphansRequest};
use shared::wire::error::{ErrorCode, ErrorReply};

use crate::cluster::Cluster;
use crate::config::Config;
use crate::master::Master;
use crate::metrics::MasterMetrics;
use crate::raft::group::Group;

use crate::work::orphans::Reconciler;
use crate::work::upkeep::observe;

/// As `read_signed`, but only on the leader.
pub(super) async fn of_leader<T: DeserializeOwned>(
    group: &Group,
    request: Request<Incoming>,
) -> Result<T, ErrorReply> {
    let message = read_signed(request).await?;
    if !group.is_leader() {
        return Err(ErrorReply::new(
            ErrorCode::NotLeader,
            "this master is not the leader",
            "ask the leader: `barge cluster status` shows which master that is",
        ));
    }
    group.ensure_linearizable().await?;
    Ok(message)
}

pub(super) fn events(cluster: &Cluster, config: &Config, metrics: &MasterMetrics) -> Response<Body> {
    observe(cluster, config, metrics);
    body::json(StatusCode::OK, &cluster.events())
}

/// Compares all inventories with the tables now. Without `dry_run`, the worker then resolves the differences.
pub(super) async fn orphans(
    master: &Arc<Master>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let OrphansRequest { dry_run } = of_leader(&master.group, request).await?;
    let mut report = OrphansReport::default();
    let reconciler = Reconciler::new(master);
    for volume in master.volumes.cluster.all_alive() {
        if let Err(error) = reconciler.reconcile_volume(&volume, None, &mut report).await {
            tracing::warn!(volume = volume.address, %error, "the inventory of a volume could not be compared");
            report.unreachable.push(volume.volume);
        }
    }
    if !dry_run {
        master.repair.request_reconciliation();
    }
    Ok(body::json(StatusCode::OK, &report))
}
