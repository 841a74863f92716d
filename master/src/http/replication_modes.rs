//! Shows and sets the replication modes of buckets.

use crate::change::Changes;
use crate::config::Config;
use crate::db::Database;
use crate::metadata::Metadata;
use crate::raft::group::Group;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::http::body::{self, Body};
use shared::http::signed_calls::read_signed;
use shared::wire::access::SequencedChange;
use shared::wire::cluster::{ReplicationModes, SetReplicationMode};
use shared::wire::error::{ErrorCode, ErrorReply};

use crate::state::command::Command;
use crate::tables::{bucket, replication_mode};

pub(super) async fn modes(
    group: &Group,
    database: &Database,
    config: &Config,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let () = read_signed(request).await?;
    group.ensure_linearizable().await?;
    shown_modes(database, config)
}

fn shown_modes(database: &Database, config: &Config) -> Result<Response<Body>, ErrorReply> {
    let all = replication_mode::all(&database.tree())?;
    let buckets = all.into_iter().map(|(name, mode)| (name, mode.to_string())).collect();
    Ok(body::json(StatusCode::OK, &ReplicationModes { everywhere: config.mode.to_string(), buckets }))
}

pub(super) async fn set_mode(
    metadata: &Metadata,
    changes: &Changes,
    config: &Config,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let SequencedChange { sequence, change: SetReplicationMode { bucket, mode } } =
        read_signed(request).await?;
    let refuse = |why: String, hint| ErrorReply::new(ErrorCode::BadRequest, why, hint);
    let mode = mode.map(|m| m.parse().map_err(|e| refuse(format!("{m}: {e}"), "use sync, quorum or async")));
    let mode = mode.transpose()?;
    let key = shared::key::Key::new(&format!("{bucket}/k"))?;
    if bucket::of(&key) != Some(bucket.as_str()) {
        return Err(refuse(
            format!("{bucket} is not a bucket name"),
            "a bucket is the part of a key before its first slash",
        ));
    }
    changes.submit_in_sequence(sequence, Command::SetReplicationMode { bucket, mode }).await?;
    metadata.ensure_linearizable().await?;
    shown_modes(&metadata.database, config)
}
