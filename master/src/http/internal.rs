//! Calls from other servers: heartbeats of volumes, commands forwarded by masters; and the backup.
//!
//! Each call is signed with the cluster secret, and the signature is verified before the body is parsed.

use bytes::Bytes;
use futures_util::stream::unfold;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::http::body::{self, Body, BodyFailure};
use shared::http::signed_calls::{Streamed, read_signed};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::HeartbeatResponse;
use shared::wire::volume::VolumeReport;

use crate::change::Changes;
use crate::master::Master;
use crate::raft::error::AnswerError;
use crate::raft::group::Group;
use crate::raft::rpc::Envelope;
use crate::registration::{master_addresses, register};
use crate::state::command::Command;

pub(super) async fn heartbeat(
    master: &Master,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let report: VolumeReport = read_signed(request).await?;
    register(&master.metadata, &master.volumes, &master.changes, report).await?;
    Ok(body::json(
        StatusCode::OK,
        &HeartbeatResponse { cluster: master.cluster_id(), masters: master_addresses(&master.group) },
    ))
}

/// Proposes a command that another master forwarded to this leader.
pub(super) async fn propose(
    group: &Group,
    changes: &Changes,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let envelope: Envelope<Command> = read_signed(request).await?;
    let command = group.meant(envelope).map_err(AnswerError::from)?;
    let outcome = changes.submit_as_leader(command).await?;
    Ok(body::json(StatusCode::OK, &outcome))
}

/// Returns the time of this master's clock.
pub(super) async fn clock(master: &Master, request: Request<Incoming>) -> Result<Response<Body>, ErrorReply> {
    let () = read_signed(request).await?;
    Ok(body::json(StatusCode::OK, &master.metadata.clock.own().unix_ms()))
}

/// Streams a snapshot of the metadata that has everything acknowledged before the call.
pub(super) async fn backup(group: &Group, request: Request<Incoming>) -> Result<Response<Body>, ErrorReply> {
    let () = read_signed(request).await?;
    group.ensure_linearizable().await?;
    let wanted = group.machine().applied().borrow().last;
    let unwritten = |e: &dyn std::fmt::Display| {
        ErrorReply::new(
            ErrorCode::Internal,
            e.to_string(),
            "see the master's log, and free space on its disk",
        )
    };
    let prepared = group.machine().prepare(wanted).await.map_err(|e| unwritten(&e))?;
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
