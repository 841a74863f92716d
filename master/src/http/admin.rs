//! `/_/…` of a master: health, status, heartbeats, and the commit that volumes ask for.
//!
//! Whatever changes something is signed with the cluster secret, and checked before it is read.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::unfold;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::digest::Digest;
use shared::http::body::{self, Body, BodyFailure};
use shared::http::signed::{Streamed, read_signed};
use shared::ids::BlobId;
use shared::key::Key;
use shared::ticket::{Operation, Ticket};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::{
    ClusterStatus, CommitRequest, CommitResponse, CopiesRequest, CopiesResponse, DamagedValue,
    HeartbeatResponse,
};
use shared::wire::volume::VolumeReport;
use shared::work::blocking;

use crate::change::{Left, unexpected};
use crate::cluster::Reachable;
use crate::master::Master;
use crate::raft::error::AnswerError;
use crate::raft::rpc::Envelope;
use crate::registration::{addresses, register};
use crate::state::command::{Command, Commit, Outcome};
use crate::tables::object::Blob;
use crate::tables::upload::{PartRecord, manifest_note, part_note};
use crate::tables::{TableError, meta, object, replica, unsettled, upload};
use crate::write::proof::prove;

/// This master belongs to no cluster yet.
pub fn waiting() -> Response<Body> {
    let health =
        serde_json::json!({ "server": "barge-master", "ready": false, "waiting": "to join a cluster" });
    body::json(StatusCode::SERVICE_UNAVAILABLE, &health)
}

/// 200 when values can be written and read, 503 with the reason when not. Whoever polls it while a
/// cluster starts is no reason for a log line, so this is an answer, not an error.
pub fn health(master: &Master) -> Response<Body> {
    let (usable, needed) = (master.cluster.writable(), master.config.replication.min());
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
    let tree = master.database.tree();
    let progress = meta::progress(&tree)?;
    let damaged = master
        .cluster
        .damaged()
        .into_iter()
        .map(|(volume, blob)| Ok(DamagedValue { key: replica::read(&tree, volume, blob)?, blob, volume }))
        .collect::<Result<_, TableError>>()?;
    let status = ClusterStatus {
        cluster: master.cluster.id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        objects: progress.objects,
        bytes: progress.bytes,
        replicas: master.config.replication.wanted(),
        min_replicas: master.config.replication.min(),
        degraded: progress.degraded,
        reclaim_pending: progress.reclaim_pending,
        damaged,
        applied: progress.applied,
        masters: master.group.masters(),
        volumes: master.cluster.summaries(),
        repair: master.group.leads().then(|| master.care.status()),
        rebalance: super::care::rebalance_status(master)?,
    };
    Ok(body::json(StatusCode::OK, &status))
}

pub(super) fn refresh(master: &Master) -> Result<(), ErrorReply> {
    let progress = meta::progress(&master.database.tree())?;
    master.metrics.refresh(&progress, master.cluster.writable(), master.database.disk_bytes());
    master.metrics.refresh_care(&master.cluster.summaries(), &master.care.status());
    Ok(())
}

pub(super) async fn heartbeat(
    master: &Master,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let report: VolumeReport = read_signed(request).await?;
    register(master, report).await?;
    Ok(body::json(
        StatusCode::OK,
        &HeartbeatResponse { cluster: master.cluster.id(), masters: addresses(master) },
    ))
}

/// A command that another master was asked for.
pub(super) async fn propose(
    master: &Master,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let envelope: Envelope<Command> = read_signed(request).await?;
    let command = master.group.meant(envelope).map_err(AnswerError::from)?;
    let left = Left::of(&command);
    let outcome = master.sequencer.decide(command).await?;
    left.settle(master, &outcome).await;
    Ok(body::json(StatusCode::OK, &outcome))
}

/// A snapshot of the metadata: everything that was acknowledged before the call.
pub(super) async fn backup(
    master: &Master,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let () = read_signed(request).await?;
    master.group.current().await?;
    let wanted = master.group.machine().applied().borrow().last;
    let unwritten = |e: &dyn std::fmt::Display| {
        ErrorReply::new(ErrorCode::Internal, e.to_string(), "see the master's log; make room on its disk")
    };
    let prepared = master.group.machine().prepare(wanted).await.map_err(|e| unwritten(&e))?;
    let parts = unfold(Some((prepared, 0)), |state| async move {
        let (prepared, at) = state?;
        match prepared.part(at).await {
            Ok(part) if part.is_empty() => None,
            Ok(part) => {
                let next = at + part.len() as u64;
                Some((Ok(Bytes::from(part)), Some((prepared, next))))
            }
            Err(e) => Some((Err(BodyFailure::from(e)), None)),
        }
    });
    let mut answer = Response::new(body::stream(parts));
    answer.extensions_mut().insert(Streamed);
    Ok(answer)
}

/// Tells a volume whose copy of a blob is bad where others are; 404 when it need not hold the blob.
pub(super) async fn copies(
    master: &Master,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let CopiesRequest { cluster, volume, blob } = read_signed(request).await?;
    let unknown = || {
        ErrorReply::new(ErrorCode::NotFound, "no value refers to that blob there", "nothing is to be done")
    };
    if cluster != master.cluster.id() {
        return Err(ErrorReply::new(
            ErrorCode::WrongCluster,
            "the volume belongs to another cluster",
            "point the volume at its own master",
        ));
    }
    master.group.current().await?;
    let tree = master.database.tree();
    // One that is on its way there is asked for, too.
    let expected = match replica::read(&tree, volume, blob)? {
        Some(key) => Some(key),
        None => unsettled::is_arriving(&tree, blob, volume)?.map(|spot| spot.key),
    };
    let key = expected.ok_or_else(unknown)?;
    let of = key.clone();
    // A part is found by looking at all that its value has.
    let found = blocking(move || written(&tree, &of, blob)).await?;
    let (held, blake3, content_type, metadata) = found.ok_or_else(unknown)?;
    let others: Vec<_> = held.replicas.iter().copied().filter(|v| *v != volume).collect();
    let source = |replica: Reachable| {
        let target = master.target(&key, blob, 0, Operation::Read(replica.volume));
        format!("{}{target}", replica.address)
    };
    let sources = master.cluster.alive(&others).into_iter().map(source).collect();
    let answer =
        CopiesResponse { key: key.clone(), length: held.length, blake3, content_type, metadata, sources };
    Ok(body::json(StatusCode::OK, &answer))
}

/// A blob as its records have it: where it is, its digest, content type and metadata.
type Written = (Blob, Digest, Option<String>, Vec<(String, String)>);

fn written(tree: &sled::Tree, key: &Key, blob: BlobId) -> Result<Option<Written>, TableError> {
    let object = object::read(tree, key)?;
    if let Some(object) = object
        && let Some(held) = object.blobs.iter().find(|b| b.id == blob)
    {
        let mut metadata = object.metadata;
        if object.parts.is_some() {
            metadata.push(manifest_note());
        }
        return Ok(Some((held.clone(), object.digest, object.content_type, metadata)));
    }
    let part = upload::part_of(tree, key, blob)?;
    Ok(part.map(|(upload, PartRecord { part, replicas })| {
        let held = Blob { id: blob, length: part.length, replicas };
        (held, part.digest, None, vec![part_note(upload, part.number)])
    }))
}

/// Receipts in, outcome out: the moment in which a value becomes its key's.
pub(super) async fn commit(
    master: &Arc<Master>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let message: CommitRequest = read_signed(request).await?;
    let commit = check_commit(master, message)?;
    let key = commit.key.clone();
    let outcome = master.change(Command::Commit(commit)).await;
    match outcome.map_err(|e| ErrorReply::from(e).for_key(&key))? {
        Outcome::Commit(outcome, replicas) => {
            Ok(body::json(StatusCode::OK, &CommitResponse { outcome, replicas }))
        }
        other => Err(unexpected(&other).for_key(&key)),
    }
}

/// What the volumes ask for, as far as it is true.
fn check_commit(master: &Master, message: CommitRequest) -> Result<Commit, ErrorReply> {
    let CommitRequest { key, ticket, receipts, content_type, metadata } = message;
    let ticket = Ticket::open_begun(&ticket, &master.config.secret, &key).map_err(|e| {
        let why = format!("the ticket is not good: {e}");
        ErrorReply::new(ErrorCode::BadTicket, why, "send the value again").for_key(&key)
    })?;
    let (proof, grant) = prove(master, &key, &ticket, &receipts)?;
    Ok(Commit {
        blob: ticket.blob,
        size: proof.length,
        digest: proof.digest,
        content_type,
        metadata,
        replicas: proof.replicas,
        wanted: grant.wanted,
        min_replicas: grant.min_replicas,
        condition: grant.condition.clone(),
        key,
    })
}
