//! Queries to the masters. They answer anyone while there are no access keys, then callers with an access key that
//! reads everything, and always callers with the cluster's secret.

use http::Method;
use http::header::HeaderMap;
use serde::de::DeserializeOwned;

use crate::args::SecretArgs;
use crate::client::{self, Client, patiently};
use crate::exit::Failure;
use crate::signed::Caller;

/// Queries a master; signs only if it refuses, so that an open cluster can be inspected without its secret.
pub(super) async fn query<A: DeserializeOwned>(
    client: &Client,
    secret: &SecretArgs,
    path: &str,
) -> Result<A, Failure> {
    let url = client.url(path)?;
    match patiently(async || client.ask(Method::GET, url.clone(), &HeaderMap::new()).await).await {
        Ok(answer) => client::json(answer).await,
        Err(refusal) if refusal.is_refusal() => {
            let caller = Caller::new(secret, client.trust())?;
            let signed = caller.ask_once(client, path, &()).await;
            // A secret found by default may be another cluster's: then the refusal is the more helpful error.
            signed.map_err(|failure| if secret.is_named() { failure } else { refusal })
        }
        Err(failure) => Err(failure),
    }
}
