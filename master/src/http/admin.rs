//! `/_/…` of a master: health, status, heartbeats, and the commit that volumes ask for.
//!
//! Whatever changes something is signed with the cluster secret, and checked before it is read.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::unfold;
use http::header::CONTENT_LENGTH;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use shared::http::body::{self, Body, BodyFailure};
use shared::http::signed::read_signed;
use shared::limits::UPLOAD_TIME_MAX;
use shared::ticket::{Operation, Receipt, Ticket, WriteGrant};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::{
    ClusterStatus, CommitOutcome, CommitRequest, CommitResponse, CopiesRequest, CopiesResponse, DamagedValue,
    HeartbeatResponse,
};
use shared::wire::volume::VolumeReport;

use crate::cluster::Reachable;
use crate::master::Master;
use crate::raft::error::AnswerError;
use crate::raft::rpc::Envelope;
use crate::state::command::{Command, Commit, Outcome};
use crate::tables::object::Blob;
use crate::tables::{TableError, meta, object, replica, volume};
use crate::told::{told, told_again};

/// This master belongs to no cluster yet.
pub(super) fn waiting() -> Response<Body> {
    let health =
        serde_json::json!({ "server": "barge-master", "ready": false, "waiting": "to join a cluster" });
    body::json(StatusCode::SERVICE_UNAVAILABLE, &health)
}

/// 200 when values can be written and read, 503 with the reason when not. Whoever polls it while a
/// cluster starts is no reason for a log line, so this is an answer, not an error.
pub(super) fn health(master: &Master) -> Response<Body> {
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
    };
    Ok(body::json(StatusCode::OK, &status))
}

pub(super) fn refresh(master: &Master) -> Result<(), ErrorReply> {
    let progress = meta::progress(&master.database.tree())?;
    master.metrics.refresh(&progress, master.cluster.writable(), master.database.disk_bytes());
    Ok(())
}

async fn signed<T: DeserializeOwned>(master: &Master, request: Request<Incoming>) -> Result<T, ErrorReply> {
    read_signed(&master.config.secret, master.config.clock.now(), request).await
}

pub(super) async fn heartbeat(
    master: &Master,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let report: VolumeReport = signed(master, request).await?;
    welcome(master, report).await?;
    Ok(body::json(
        StatusCode::OK,
        &HeartbeatResponse { cluster: master.cluster.id(), masters: addresses(master) },
    ))
}

/// A volume was heard of: takes it into the cluster when it is new, and keeps what is new of it.
///
/// # Errors
/// 409 when it belongs to another cluster.
pub async fn welcome(master: &Master, report: VolumeReport) -> Result<(), ErrorReply> {
    let heard = master.cluster.heard(report).map_err(|e| {
        ErrorReply::new(
            ErrorCode::WrongCluster,
            e.to_string(),
            "give the volume a directory of its own, or point it at its own master",
        )
    })?;
    if volume::read(&master.database.tree(), heard.volume)?.as_ref() != Some(&heard) {
        tracing::info!(volume = %heard.volume, address = heard.address, "volume joined");
        master.sequencer.propose(Command::Volume(heard)).await?;
        master.reclaim.notify_one();
    }
    Ok(())
}

/// Where volumes find the masters, this one first.
pub fn addresses(master: &Master) -> Vec<String> {
    let others =
        master.group.addresses().into_iter().map(|peer| peer.address).filter(|a| *a != master.address);
    std::iter::once(master.address.clone()).chain(others).collect()
}

/// A command that another master was asked for.
pub(super) async fn propose(
    master: &Master,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let envelope: Envelope<Command> = signed(master, request).await?;
    let command = master.group.meant(envelope).map_err(AnswerError::from)?;
    let (blob, key) = match &command {
        Command::Commit(commit) => (Some(blob_of(commit)), None),
        Command::Delete { key, .. } => (None, Some(key.clone())),
        _ => (None, None),
    };
    let outcome = master.sequencer.decide(command).await?;
    match (&outcome, blob, key) {
        (Outcome::Deleted(object), ..) => told(master, &object.blobs).await,
        (Outcome::NotFound, _, Some(key)) => told_again(master, &key).await,
        (Outcome::Commit(outcome, _), Some(blob), _) => settle(master, *outcome, blob).await,
        _ => master.reclaim.notify_one(),
    }
    Ok(body::json(StatusCode::OK, &outcome))
}

/// A snapshot of the metadata: everything that was acknowledged before the call.
pub(super) async fn backup(
    master: &Master,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let () = signed(master, request).await?;
    master.group.current().await?;
    let wanted = master.group.machine().applied().borrow().last;
    let unwritten = |e: &dyn std::fmt::Display| {
        ErrorReply::new(ErrorCode::Internal, e.to_string(), "see the master's log; make room on its disk")
    };
    let prepared = master.group.machine().prepare(wanted).await.map_err(|e| unwritten(&e))?;
    let length = prepared.summary.bytes;
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
    answer.headers_mut().insert(CONTENT_LENGTH, length.into());
    Ok(answer)
}

/// Tells a volume whose copy of a blob is bad where others are; 404 when it need not hold the blob.
pub(super) async fn copies(
    master: &Master,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let CopiesRequest { cluster, volume, blob } = signed(master, request).await?;
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
    let key = replica::read(&tree, volume, blob)?.ok_or_else(unknown)?;
    let object = object::read(&tree, &key)?.ok_or_else(unknown)?;
    let held = object.blobs.iter().find(|b| b.id == blob).ok_or_else(unknown)?;
    let [_] = object.blobs.as_slice() else { return Err(unknown()) };
    let others: Vec<_> = held.replicas.iter().copied().filter(|v| *v != volume).collect();
    let source = |replica: Reachable| {
        let target = master.target(&key, blob, 0, Operation::Read(replica.volume));
        format!("{}{target}", replica.address)
    };
    let sources = master.cluster.alive(&others).into_iter().map(source).collect();
    let answer = CopiesResponse {
        key: key.clone(),
        length: held.length,
        blake3: object.digest,
        content_type: object.content_type,
        metadata: object.metadata,
        sources,
    };
    Ok(body::json(StatusCode::OK, &answer))
}

/// Receipts in, outcome out: the moment in which a value becomes its key's.
pub(super) async fn commit(
    master: &Arc<Master>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let message: CommitRequest = signed(master, request).await?;
    let commit = check_commit(master, message)?;
    let key = commit.key.clone();
    let blob = blob_of(&commit);
    let outcome = master.sequencer.propose(Command::Commit(commit)).await;
    let (outcome, replicas) = match outcome.map_err(|e| ErrorReply::from(e).for_key(&key))? {
        Outcome::Commit(outcome, replicas) => (outcome, replicas),
        _ => return Err(super::objects::damaged().for_key(&key)),
    };
    settle(master, outcome, blob).await;
    Ok(body::json(StatusCode::OK, &CommitResponse { outcome, replicas }))
}

fn blob_of(commit: &Commit) -> Blob {
    Blob { id: commit.blob, length: commit.size, replicas: commit.replicas.clone() }
}

/// What a commit left over is reclaimed, and who was refused hears of it when the volumes know.
async fn settle(master: &Master, outcome: CommitOutcome, blob: Blob) {
    match outcome {
        CommitOutcome::Created => {}
        // The old value is on the reclaim list.
        CommitOutcome::Replaced => master.reclaim.notify_one(),
        CommitOutcome::ConditionFailed | CommitOutcome::NotEnoughReceipts | CommitOutcome::Overtaken => {
            told(master, &[blob]).await;
        }
    }
}

/// Counts what is true of the receipts; what they do not prove is left out, and `apply` decides.
fn check_commit(master: &Master, message: CommitRequest) -> Result<Commit, ErrorReply> {
    let CommitRequest { key, ticket, receipts, content_type, metadata } = message;
    let secret = &master.config.secret;
    let bad = |why: String| ErrorReply::new(ErrorCode::BadTicket, why, "send the value again").for_key(&key);
    let ticket =
        Ticket::open_begun(&ticket, secret, &key).map_err(|e| bad(format!("the ticket is not good: {e}")))?;
    let Operation::Write(grant) = &ticket.operation else {
        return Err(bad("the ticket does not permit a write".into()));
    };
    if ticket.cluster != master.cluster.id() {
        return Err(bad("the ticket is of another cluster".into()));
    }
    if master.config.clock.now().since(ticket.blob.created()) > UPLOAD_TIME_MAX {
        return Err(bad(format!("the upload took longer than {} hours", UPLOAD_TIME_MAX.as_secs() / 3600)));
    }
    let (now, lifetime) = (master.config.clock.now(), master.config.receipt_lifetime());
    let mut replicas = Vec::new();
    let mut proved: Option<Receipt> = None;
    for text in receipts.iter().take(grant.chain.len()) {
        let receipt = match Receipt::open(text, secret, now, lifetime) {
            Ok(receipt) => receipt,
            Err(error) => {
                tracing::warn!(%key, %error, "a receipt does not count");
                continue;
            }
        };
        let first = proved.get_or_insert_with(|| receipt.clone());
        let same = receipt.length == first.length && receipt.digest == first.digest;
        if same && counts(&receipt, &ticket, grant) && !replicas.contains(&receipt.volume) {
            replicas.push(receipt.volume);
        } else {
            tracing::warn!(%key, volume = %receipt.volume, "a receipt does not match its ticket");
        }
    }
    let proved = proved.ok_or_else(|| bad("no receipt is good any more".into()))?;
    // A volume of the chain that gave no receipt has just failed: the next upload passes it over.
    for link in grant.chain.iter().filter(|link| !replicas.contains(&link.volume)) {
        master.cluster.suspect(link.volume);
    }
    Ok(Commit {
        blob: ticket.blob,
        size: proved.length,
        digest: proved.digest,
        content_type,
        metadata,
        replicas,
        wanted: grant.wanted,
        min_replicas: grant.min_replicas,
        condition: grant.condition.clone(),
        key,
    })
}

/// Whether a receipt is for what the ticket permitted.
fn counts(receipt: &Receipt, ticket: &Ticket, grant: &WriteGrant) -> bool {
    receipt.cluster == ticket.cluster
        && receipt.blob == ticket.blob
        && grant.chain.iter().any(|link| link.volume == receipt.volume)
        && grant.length.is_none_or(|n| n == receipt.length)
        && grant.digest.is_none_or(|d| d == receipt.digest)
}
