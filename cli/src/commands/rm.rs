//! `barge rm`: deletes keys one by one; a failed key does not stop the others.

use http::Method;
use http::header::HeaderMap;
use serde_json::json;
use shared::key::Key;
use shared::size::ByteSize;
use shared::wire::master::DeletedObject;

use crate::args::RmArgs;
use crate::client::{self, Client, Patience, key_url};
use crate::exit::{Exit, Failure, Retry};
use crate::output::Output;

pub(crate) async fn run(client: &Client, args: RmArgs, output: Output) -> Result<Exit, Failure> {
    let mut worst = Exit::Ok;
    for key in &args.keys {
        match remove(client, key).await {
            Ok(Some(deleted)) => {
                output.result(&deleted, || format!("deleted {}  {}", deleted.key, ByteSize(deleted.size)))?;
            }
            Ok(None) => output.result(&json!({"key": key}), || format!("deleted {key}"))?,
            Err(failure) => {
                output.failed(&failure);
                worst = worst.max(failure.exit);
            }
        }
    }
    Ok(worst)
}

/// Returns what was deleted; `None` if an earlier attempt whose answer was lost had deleted it.
async fn remove(client: &Client, key: &Key) -> Result<Option<DeletedObject>, Failure> {
    let (mut patience, mut perhaps_done) = (Patience::default(), false);
    loop {
        let failure = match client.ask(Method::DELETE, key_url(client, key)?, &HeaderMap::new()).await {
            Ok(answer) => return client::json(answer).await.map(Some).map_err(|f| f.for_key(key)),
            Err(failure) if perhaps_done && failure.exit == Exit::NotFound => return Ok(None),
            Err(failure) => failure,
        };
        perhaps_done |= failure.retry == Retry::IfIdempotent;
        patience.wait(failure.for_key(key), true).await?;
    }
}
