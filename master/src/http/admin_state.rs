//! Sets the admin state of volumes: drain, decommission, or back in service. `refuse_last_replicas` refuses what
//! would lose values.

use super::maintenance::of_leader;
use crate::cluster::Cluster;
use crate::db::Database;
use crate::master::Master;
use crate::plan::blob_locator::{BlobLocator, read_replicas};
use crate::plan::repair::is_last;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::http::body::{self, Body};
use shared::http::client::base_url;
use shared::ids::VolumeId;
use shared::wire::cluster::{DrainStatus, SetAdminState, WantedAdminState};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::VolumeState;
use shared::work::blocking;
use std::sync::Arc;

use crate::state::command::Command;
use crate::tables::admin_state::{AdminState, AdminStateRecord};
use crate::tables::{TableError, admin_state, reclaim, replica};
use crate::work::decommission::decommission;
use crate::work::upkeep::{admin_states, observe};

fn find(cluster: &Cluster, name: &str) -> Result<VolumeId, ErrorReply> {
    let address = base_url(name);
    let named = |v: &shared::wire::master::VolumeSummary| {
        v.volume.to_string() == name || v.address == address || v.public_url == address
    };
    let mut found = cluster.summaries().into_iter().filter(named);
    match (found.next(), found.next()) {
        (Some(volume), None) => Ok(volume.volume),
        (None, _) => Err(ErrorReply::new(
            ErrorCode::NotFound,
            format!("there is no volume {name}"),
            "name it by its id or address, as `barge cluster status` shows them",
        )),
        _ => Err(ErrorReply::new(
            ErrorCode::BadRequest,
            "several volumes have this address",
            "name it by its id",
        )),
    }
}

/// Sets the admin state of a volume, and answers with its progress.
pub(super) async fn set_admin_state(
    master: &Arc<Master>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let SetAdminState { volume, admin_state: state } = of_leader(&master.group, request).await?;
    let volume = find(&master.volumes.cluster, &volume)?;
    let tables = master.metadata.database.tree();
    let before = admin_state::read(&tables, volume)?.map_or(AdminState::InService, |s| s.state);
    let wish = match state {
        WantedAdminState::Serve => AdminState::InService,
        // A decommissioning volume is drained anyway.
        WantedAdminState::Drain if before == AdminState::Decommissioning => AdminState::Decommissioning,
        WantedAdminState::Drain => AdminState::Draining,
        WantedAdminState::Decommission => AdminState::Decommissioning,
    };
    if before == AdminState::Decommissioned && wish == AdminState::InService {
        return Err(ErrorReply::new(
            ErrorCode::NotFound,
            "the volume is decommissioned: it has left the cluster for good",
            "start it with an empty directory: it joins as a new volume",
        ));
    }
    if wish == AdminState::Decommissioning
        && before != AdminState::Decommissioning
        && before != AdminState::Decommissioned
    {
        refuse_last_replicas(&master.metadata.database, &master.volumes.cluster, volume).await?;
    }
    if before != wish && before != AdminState::Decommissioned {
        let record = AdminStateRecord { state: wish, since: master.config.clock.now() };
        master.changes.propose(Command::SetAdminState { volume, admin_state: record }).await?;
    }
    master.volumes.cluster.set_admin_states(&admin_states(&tables)?);
    observe(&master.volumes.cluster, &master.config, &master.metrics);
    master.repair.wake_repair.notify_one();
    let database = Arc::clone(&master.metadata.database);
    let (blobs, reclaiming) = blocking(move || {
        let tree = database.tree();
        Ok::<_, TableError>((replica::count(&tree, volume)?, reclaim::count(&tree, volume)?))
    })
    .await?;
    if wish == AdminState::Decommissioning && blobs == 0 {
        decommission(&master.metadata, &master.volumes, &master.changes, &master.config.clock, volume)
            .await?;
        master.volumes.cluster.set_admin_states(&admin_states(&tables)?);
        observe(&master.volumes.cluster, &master.config, &master.metrics);
    }
    let state = master.volumes.cluster.state_of(volume).unwrap_or(VolumeState::Down);
    Ok(body::json(StatusCode::OK, &DrainStatus { volume, state, blobs, reclaiming }))
}

async fn refuse_last_replicas(
    database: &Arc<Database>,
    cluster: &Cluster,
    volume: VolumeId,
) -> Result<(), ErrorReply> {
    let (database, topology) = (Arc::clone(database), cluster.topology());
    let serves = topology.is_readable(volume);
    let last = blocking(move || {
        let (tree, mut finder) = (database.tree(), BlobLocator::default());
        let (mut count, mut first) = (0u64, None);
        for item in replica::after(&tree, volume, None) {
            let (blob, key) = item?;
            if let Some(blob_ref) = finder.locate(&tree, &key, blob)?
                && let Some(held) = read_replicas(&tree, blob, &blob_ref)?
                && is_last(volume, &held, &topology)
            {
                count += 1;
                first.get_or_insert(key);
            }
        }
        Ok::<_, TableError>((count, first))
    })
    .await?;
    match last {
        (0, _) => Ok(()),
        // A volume that is up can copy them first; one that is down cannot.
        (count, first) => {
            let hint = if serves {
                "drain it first: its blobs are copied to other volumes"
            } else {
                "bring it back, or another volume that has replicas of them"
            };
            let refusal = ErrorReply::new(
                ErrorCode::PreconditionFailed,
                format!("the volume holds the last replica of {count} blobs"),
                hint,
            );
            Err(first.map_or(refusal.clone(), |key| refusal.for_key(&key)))
        }
    }
}
