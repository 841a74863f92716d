//! Health, status and metrics of a master.

use crate::master::Master;
use crate::tables::{TableError, meta, replica};
use http::{Response, StatusCode};
use shared::http::body::{self, Body};
use shared::wire::error::ErrorReply;
use shared::wire::master::{ClusterStatus, CorruptValue};

/// The health of a master that does not belong to a cluster yet.
pub fn waiting() -> Response<Body> {
    let health =
        serde_json::json!({ "server": "barge-master", "ready": false, "waiting": "to join a cluster" });
    body::json(StatusCode::SERVICE_UNAVAILABLE, &health)
}

/// Answers 200 when values can be written and read, otherwise 503 with the reason. It is an answer, not an error,
/// because a poll while the cluster starts must not write a log line.
pub fn health(master: &Master) -> Response<Body> {
    let (usable, needed) = (master.volumes.cluster.writable(), master.config.replication.min());
    let leader = master.group.leader().map(|(_, peer)| peer.address);
    let ready = usable >= needed && leader.is_some();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let health = serde_json::json!({
        "server": "barge-master", "ready": ready, "volumes_writable": usable, "volumes_needed": needed,
        "leader": leader,
    });
    body::json(status, &health)
}

pub(super) fn status(master: &Master) -> Result<Response<Body>, ErrorReply> {
    let tree = master.metadata.database.tree();
    let progress = meta::counters(&tree)?;
    let corrupt = master
        .volumes
        .cluster
        .corrupt()
        .into_iter()
        .map(|(volume, blob)| Ok(CorruptValue { key: replica::read(&tree, volume, blob)?, blob, volume }))
        .collect::<Result<_, TableError>>()?;
    let status = ClusterStatus {
        cluster: master.cluster_id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        objects: progress.objects,
        bytes: progress.bytes,
        replicas: master.config.replication.wanted(),
        min_replicas: master.config.replication.min(),
        under_replicated: progress.under_replicated,
        reclaim_pending: progress.reclaim_pending,
        corrupt,
        applied: progress.applied,
        masters: master.group.masters(),
        volumes: master.volumes.cluster.summaries(),
        repair: master.group.is_leader().then(|| master.repair.status()),
        rebalance: super::rebalance::rebalance_status(master)?,
    };
    Ok(body::json(StatusCode::OK, &status))
}

pub(super) fn refresh(master: &Master) -> Result<(), ErrorReply> {
    let progress = meta::counters(&master.metadata.database.tree())?;
    master.metrics.refresh(
        &progress,
        master.volumes.cluster.writable(),
        master.metadata.database.disk_bytes(),
    );
    master.metrics.refresh_repair(&master.volumes.cluster.summaries(), &master.repair.status());
    Ok(())
}
