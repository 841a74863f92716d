//! `barge key`: creates, lists and revokes access keys with the cluster's secret. An access key's secret leaves this
//! process encrypted, and is shown once.

use serde::Serialize;
use shared::access::{AccessKeyId, AccessSecret, Permission, Scope};
use shared::wire::access::{
    AccessKeySummary, AccessKeysPage, ListAccessKeys, PutAccessKey, RevokeAccessKey, SetAnonymous,
};
use shared::wire::routes::{KEYS, KEYS_ANONYMOUS, KEYS_PUT, KEYS_REVOKE};

use crate::args::keys::{KeyAnonymousArgs, KeyCommand, KeyCreateArgs, KeyListArgs, KeyRevokeArgs};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::{Output, table};
use crate::signed::Caller;

pub(crate) async fn run(client: &Client, command: KeyCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Create(create) => make(client, create, output).await,
        KeyCommand::List(list) => show(client, &list, output).await,
        KeyCommand::Revoke(revoke) => end(client, revoke, output).await,
        KeyCommand::Anonymous(anonymous) => without(client, anonymous, output).await,
    }
}

/// A new access key, serialized only to show it once.
#[derive(Serialize)]
struct Created<'a> {
    id: &'a AccessKeyId,
    secret: &'a str,
    permission: Permission,
    scope: Option<Scope>,
    note: &'a str,
}

async fn make(client: &Client, args: KeyCreateArgs, output: Output) -> Result<Exit, Failure> {
    let caller = Caller::new(&args.signing, client.trust())?;
    let (id, secret) = match (args.id, args.secret) {
        (Some(id), Some(secret)) => (id, secret),
        _ => (AccessKeyId::random(), AccessSecret::random()),
    };
    let message = PutAccessKey {
        secret: secret.encrypt(caller.secret(), &id),
        id,
        permission: args.permission.into(),
        scope: args.scope,
        note: args.note,
    };
    let made: AccessKeySummary = caller.change(client, KEYS_PUT, &message).await?;
    let (permission, scope) = (made.permission, made.scope.clone());
    let created = Created { id: &made.id, secret: secret.expose(), permission, scope, note: &made.note };
    output.result(&created, || {
        let scope = created.scope.as_ref().map_or_else(|| "everywhere".into(), ToString::to_string);
        let rows = [
            ["id".to_owned(), created.id.to_string()],
            ["secret".to_owned(), created.secret.to_owned()],
            ["permission".to_owned(), permission.to_string()],
            ["scope".to_owned(), scope],
        ];
        table(&rows.map(Vec::from))
    })?;
    output.note("the secret is not shown again; pass it as --access-key ID:SECRET or in BARGE_ACCESS_KEY");
    Ok(Exit::Ok)
}

async fn show(client: &Client, args: &KeyListArgs, output: Output) -> Result<Exit, Failure> {
    let caller = Caller::new(&args.signing, client.trust())?;
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page: AccessKeysPage = caller.ask(client, KEYS, &ListAccessKeys { after }).await?;
        keys.extend(page.keys);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    output.result(&keys, || {
        let mut rows = vec![["id", "permission", "scope", "made", "note"].map(String::from).to_vec()];
        rows.extend(keys.iter().map(row));
        table(&rows)
    })?;
    Ok(Exit::Ok)
}

fn row(key: &AccessKeySummary) -> Vec<String> {
    let scope = key.scope.as_ref().map_or_else(|| "everywhere".into(), ToString::to_string);
    vec![key.id.to_string(), key.permission.to_string(), scope, key.created.http_date(), key.note.clone()]
}

async fn end(client: &Client, args: KeyRevokeArgs, output: Output) -> Result<Exit, Failure> {
    let caller = Caller::new(&args.signing, client.trust())?;
    let message = RevokeAccessKey { id: args.id };
    let _: serde_json::Value = caller.change(client, KEYS_REVOKE, &message).await?;
    output.result(&message, || format!("{} is revoked", message.id))?;
    let page: AccessKeysPage = caller.ask(client, KEYS, &ListAccessKeys { after: None }).await?;
    if page.keys.is_empty() {
        output.note(
            "no access key is left: masters on loopback, or with --insecure-no-auth, now let anyone do anything; others \
             refuse all requests",
        );
    }
    Ok(Exit::Ok)
}

async fn without(client: &Client, args: KeyAnonymousArgs, output: Output) -> Result<Exit, Failure> {
    let caller = Caller::new(&args.signing, client.trust())?;
    let message = SetAnonymous { bucket: args.bucket, read: !args.off };
    let set: SetAnonymous = caller.change(client, KEYS_ANONYMOUS, &message).await?;
    let who = if set.read { "anyone may read" } else { "an access key is needed to read" };
    output.result(&set, || format!("{who} the values in {}", set.bucket))?;
    Ok(Exit::Ok)
}
