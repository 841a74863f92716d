//! `/_/keys`: holders of the cluster secret create, list and revoke access keys. A key's secret arrives encrypted and
//! is never returned.

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::http::body::{self, Body};
use shared::http::signed_calls::read_signed;
use shared::limits::{ACCESS_KEYS_PAGE, ACCESS_NOTE_BYTES_MAX};
use shared::wire::access::{
    AccessKeySummary, AccessKeysPage, ListAccessKeys, PutAccessKey, RevokeAccessKey, SequencedChange,
    SetAnonymous,
};
use shared::wire::error::{ErrorCode, ErrorReply};

use crate::change::Changes;
use crate::change::unexpected;
use crate::config::Config;
use crate::db::Database;
use crate::raft::group::Group;
use crate::state::command::{BucketSetting, Command, Outcome};
use crate::tables::access_key::{self, AccessKey};
use crate::tables::meta;

pub(super) async fn put(
    changes: &Changes,
    config: &Config,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let SequencedChange { sequence, change } = read_signed(request).await?;
    let PutAccessKey { id, secret, permission, scope, note } = change;
    let bad = |what: &str, hint| Err(ErrorReply::new(ErrorCode::BadRequest, what, hint));
    let Ok(opened) = secret.decrypt(&config.secret, &id) else {
        return bad("the secret is not encrypted for this cluster", "use the same --secret-file everywhere");
    };
    if let Err(short) = opened.chosen() {
        return bad(&short.to_string(), "choose a longer one, or none to have one generated");
    }
    if note.len() > ACCESS_NOTE_BYTES_MAX || note.contains(char::is_control) {
        return bad("the note is too long or not one line of text", "use one line of at most 256 bytes");
    }
    let created = config.clock.now();
    let key = AccessKey { secret, permission, scope, note, created };
    let summary = summary(id.clone(), key.clone());
    let put = Command::PutAccessKey { id: id.clone(), key: Box::new(key) };
    match changes.submit_in_sequence(sequence, put).await? {
        Outcome::Done => {
            tracing::info!(%id, %permission, "an access key was created");
            Ok(body::json(StatusCode::OK, &summary))
        }
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn revoke(
    changes: &Changes,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let SequencedChange { sequence, change: RevokeAccessKey { id } } = read_signed(request).await?;
    match changes.submit_in_sequence(sequence, Command::RevokeAccessKey { id: id.clone() }).await? {
        Outcome::Done => {
            tracing::info!(%id, "an access key was revoked");
            Ok(body::json(StatusCode::OK, &serde_json::json!({})))
        }
        Outcome::NotFound => Err(ErrorReply::new(
            ErrorCode::NotFound,
            format!("there is no access key {id}"),
            "`barge key list` shows them",
        )),
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn anonymous(
    changes: &Changes,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let SequencedChange { sequence, change: message } =
        read_signed::<SequencedChange<SetAnonymous>>(request).await?;
    let SetAnonymous { bucket: name, read } = message.clone();
    let change = Command::SetBucket { name, setting: BucketSetting::PublicRead(read) };
    match changes.submit_in_sequence(sequence, change).await? {
        Outcome::Done => {
            tracing::info!(bucket = message.bucket, read, "anonymous read access to a bucket was set");
            Ok(body::json(StatusCode::OK, &message))
        }
        Outcome::NoBucket => Err(ErrorReply::new(
            ErrorCode::NotFound,
            format!("there is no bucket {}", message.bucket),
            "store a value under BUCKET/… first, or create the bucket by S3",
        )),
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn list(
    group: &Group,
    database: &Database,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let ListAccessKeys { after } = read_signed(request).await?;
    group.ensure_linearizable().await?;
    let sequence = meta::sequence(&database.tree())?;
    let page = access_key::page(&database.tree(), after.as_ref(), ACCESS_KEYS_PAGE)?;
    let next = page.last().filter(|_| page.len() == ACCESS_KEYS_PAGE).map(|(id, _)| id.clone());
    let keys = page.into_iter().map(|(id, key)| summary(id, key)).collect();
    Ok(body::json(StatusCode::OK, &AccessKeysPage { keys, next, sequence }))
}

fn summary(id: shared::access::AccessKeyId, key: AccessKey) -> AccessKeySummary {
    let AccessKey { permission, scope, note, created, .. } = key;
    AccessKeySummary { id, permission, scope, note, created }
}
