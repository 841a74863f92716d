//! Explains where a value is and why: what the tables list, what the volumes say, what the ring proposes, and the
//! next repair step.

use crate::cluster::Cluster;
use crate::db::Database;
use crate::plan::blob_locator::read_replicas;
use shared::http::client::PeerClient;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::http::body::{self, Body};
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::limits::EXPLAIN_VOLUMES;
use shared::wire::cluster::{ExplainRequest, ExplainedBlob, ExplainedReplica, ExplainedVolume, Explanation};
use shared::wire::error::ErrorReply;
use shared::wire::master::VolumeState;
use shared::wire::replicas::{LocateRequest, LocateResponse};
use shared::wire::routes::LOCATE;
use shared::work::blocking;

use crate::cluster::topology::{Availability, Topology};
use crate::metadata::Metadata;
use crate::plan::repair::{BlobReplicas, Blocked, RepairStep};
use crate::plan::repair_scan::next_step_now;
use crate::raft::group::Group;
use crate::read;
use crate::tables::repair_queue::BlobRef;
use crate::tables::{TableError, upload};
use crate::volumes::Volumes;

/// Parts that are explained; the others are only counted.
const PARTS_SHOWN: usize = 8;

pub(super) async fn explain(
    group: &Group,
    metadata: &Metadata,
    volumes: &Volumes,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    // Only the leader knows which volumes were compared, and so which step is next.
    let ExplainRequest { key } = super::maintenance::of_leader(group, request).await?;
    let object = read::find(&metadata.database, &key).await?;
    let blob_refs = blob_refs(&metadata.database, &key, &object).await?;
    let topology = volumes.cluster.topology();
    let (mut blobs, mut next) = (Vec::new(), Vec::new());
    for (blob, blob_ref) in blob_refs {
        let tree = metadata.database.tree();
        let Some(mut held) = read_replicas(&tree, blob, &blob_ref)? else { continue };
        next.push(say(&next_step_now(&tree, &key, &mut held, &topology)?));
        let mut copies = Vec::new();
        for volume in &held.replicas {
            copies.push(copy(&volumes.cluster, &volumes.peers, *volume, &held, &topology).await);
        }
        let part = blob_ref.part.map(|(_, number)| number);
        blobs.push(ExplainedBlob { blob, part, length: held.length, replicas: copies });
    }
    let replicas = object.blobs.first().map(|b| b.replicas.clone()).unwrap_or_default();
    let nothing = say(&RepairStep::Healthy);
    let explanation = Explanation {
        generation: object.generation,
        size: object.size,
        blake3: object.digest,
        wanted: usize::from(object.wanted),
        mode: metadata.mode(&key)?.to_string(),
        parts: object.parts.as_ref().map_or(0, |p| u32::from(p.count)),
        blobs,
        ring: ring(&volumes.cluster, &key, &replicas, &topology),
        next: next.into_iter().find(|next| *next != nothing).unwrap_or(nothing),
        key,
    };
    Ok(body::json(StatusCode::OK, &explanation))
}

async fn blob_refs(
    database: &Arc<Database>,
    key: &Key,
    object: &crate::tables::object::Object,
) -> Result<Vec<(BlobId, BlobRef)>, TableError> {
    let mut blob_refs: Vec<_> = object.blobs.iter().map(|b| (b.id, BlobRef::object(key))).collect();
    if let Some(parts) = &object.parts {
        let (database, key, upload) = (Arc::clone(database), key.clone(), parts.upload);
        let found = blocking(move || {
            let parts = upload::parts(&database.tree(), upload, 0).take(PARTS_SHOWN);
            let blob_ref = |r: upload::PartRecord| (r.part.blob, BlobRef::part(&key, upload, r.part.number));
            parts.map(|r| r.map(blob_ref)).collect::<Result<Vec<_>, _>>()
        });
        blob_refs.extend(found.await?);
    }
    Ok(blob_refs)
}

async fn copy(
    cluster: &Cluster,
    peers: &PeerClient,
    volume: VolumeId,
    held: &BlobReplicas,
    topology: &Topology,
) -> ExplainedReplica {
    let state = cluster.state_of(volume).unwrap_or(VolumeState::Down);
    let address = cluster.address_of(volume).unwrap_or_default();
    let mut copy = ExplainedReplica { volume, address, state, location: None, trouble: None };
    if cluster.alive(&[volume]).is_empty() {
        copy.trouble = Some("its volume does not answer".into());
        return copy;
    }
    let question = LocateRequest { cluster: cluster.id(), volume, blobs: vec![held.blob] };
    let answer: Result<LocateResponse, _> = peers.call(&copy.address, LOCATE, &question).await;
    match answer.map(|answer| answer.locations.first().copied().flatten()) {
        Ok(Some(place)) => {
            let trouble = if topology.counts_for(volume, held.blob) {
                "it is corrupt; its volume is healing it"
            } else {
                "it is corrupt, and its volume cannot heal it"
            };
            copy.trouble = place.bad.then(|| trouble.into());
            copy.location = Some(place);
        }
        Ok(None) => copy.trouble = Some("it is missing on its volume".into()),
        Err(error) => copy.trouble = Some(error.to_string()),
    }
    copy
}

fn ring(cluster: &Cluster, key: &Key, replicas: &[VolumeId], topology: &Topology) -> Vec<ExplainedVolume> {
    let named = |volume: VolumeId| ExplainedVolume {
        volume,
        address: cluster.address_of(volume).unwrap_or_default(),
        zone: topology.zone(volume).cloned(),
        why: why(volume, replicas, topology),
    };
    topology.ring().walk(key).take(EXPLAIN_VOLUMES).map(named).collect()
}

fn why(volume: VolumeId, replicas: &[VolumeId], topology: &Topology) -> String {
    if replicas.contains(&volume) {
        return "holds a replica".into();
    }
    let elsewhere = |zone| replicas.iter().any(|v| topology.zone(*v) == zone);
    match topology.availability(volume) {
        Availability::Lost => "passed over: it is down, and its replicas no longer count".into(),
        Availability::Down => "passed over: it is down".into(),
        Availability::Draining { .. } => "passed over: it is draining".into(),
        Availability::ReadOnly => "passed over: it takes no writes now".into(),
        Availability::Writable if topology.zones() > 1 && elsewhere(topology.zone(volume)) => {
            "available; its zone already has a replica".into()
        }
        Availability::Writable => "available; other volumes come first, or did at the write".into(),
    }
}

/// Describes a repair step in words.
fn say(verdict: &RepairStep) -> String {
    match verdict {
        RepairStep::Healthy => "nothing: it has all its replicas".into(),
        RepairStep::AddReplica { to, live } => {
            format!("under-replicated ({live} replicas count): volume {to} will get a replica")
        }
        RepairStep::RemoveReplica { from, .. } => {
            format!("over-replicated: the replica on volume {from} will be removed")
        }
        RepairStep::CancelAddReplica { to } => {
            format!("the pending replica on volume {to} is not needed and will be cancelled")
        }
        RepairStep::Blocked(Blocked::NoSource) => {
            "under-replicated, and no volume that is up has a replica to copy from".into()
        }
        RepairStep::Blocked(Blocked::NoDestination) => {
            "under-replicated, and no other volume that is up has room for a replica".into()
        }
        RepairStep::Blocked(Blocked::Deleting) => {
            "under-replicated; the possible volumes first finish deleting an old replica: minutes".into()
        }
    }
}
