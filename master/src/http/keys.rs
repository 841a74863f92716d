//! `/_/keys`: access keys are made, listed and revoked by whoever holds the cluster's secret. A secret comes in sealed and
//! never goes out.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::http::body::{self, Body};
use shared::http::signed::read_signed;
use shared::limits::{ACCESS_KEYS_PAGE, ACCESS_NOTE_BYTES_MAX};
use shared::wire::access::{
    AccessKeySummary, AccessKeysPage, Change, ListAccessKeys, PutAccessKey, RevokeAccessKey, SetAnonymous,
};
use shared::wire::error::{ErrorCode, ErrorReply};

use crate::change::unexpected;
use crate::master::Master;
use crate::state::command::{Command, Outcome, Setting};
use crate::tables::access_key::{self, AccessKey};
use crate::tables::meta;

pub(super) async fn put(
    master: &Arc<Master>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let Change { sequence, change } = read_signed(request).await?;
    let PutAccessKey { id, secret, permission, scope, note } = change;
    let bad = |what: &str, hint| Err(ErrorReply::new(ErrorCode::BadRequest, what, hint));
    let Ok(opened) = secret.open(&master.config.secret, &id) else {
        return bad("the secret is not sealed for this cluster", "use the same --secret-file everywhere");
    };
    if let Err(short) = opened.chosen() {
        return bad(&short.to_string(), "choose a longer one, or none: one is made then");
    }
    if note.len() > ACCESS_NOTE_BYTES_MAX || note.contains(char::is_control) {
        return bad("the note is no short line of text", "keep it below 256 bytes");
    }
    let created = master.config.clock.now();
    let key = AccessKey { secret, permission, scope, note, created };
    let summary = summary(id.clone(), key.clone());
    let put = Command::PutAccessKey { id: id.clone(), key: Box::new(key) };
    match master.change_in_sequence(sequence, put).await? {
        Outcome::Done => {
            tracing::info!(%id, %permission, "an access key was made");
            Ok(body::json(StatusCode::OK, &summary))
        }
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn revoke(
    master: &Arc<Master>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let Change { sequence, change: RevokeAccessKey { id } } = read_signed(request).await?;
    match master.change_in_sequence(sequence, Command::RevokeAccessKey { id: id.clone() }).await? {
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
    master: &Arc<Master>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let Change { sequence, change: message } = read_signed::<Change<SetAnonymous>>(request).await?;
    let SetAnonymous { bucket: name, read } = message.clone();
    let change = Command::SetBucket { name, setting: Setting::PublicRead(read) };
    match master.change_in_sequence(sequence, change).await? {
        Outcome::Done => {
            tracing::info!(bucket = message.bucket, read, "who may read a bucket without a key was set");
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
    master: &Arc<Master>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let ListAccessKeys { after } = read_signed(request).await?;
    master.group.current().await?;
    let sequence = meta::sequence(&master.database.tree())?;
    let page = access_key::page(&master.database.tree(), after.as_ref(), ACCESS_KEYS_PAGE)?;
    let next = page.last().filter(|_| page.len() == ACCESS_KEYS_PAGE).map(|(id, _)| id.clone());
    let keys = page.into_iter().map(|(id, key)| summary(id, key)).collect();
    Ok(body::json(StatusCode::OK, &AccessKeysPage { keys, next, sequence }))
}

fn summary(id: shared::access::AccessKeyId, key: AccessKey) -> AccessKeySummary {
    let AccessKey { permission, scope, note, created, .. } = key;
    AccessKeySummary { id, permission, scope, note, created }
}
