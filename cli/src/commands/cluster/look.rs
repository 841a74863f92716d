//! What masters show of their cluster: to everybody as long as there are no access keys, then to who shows one that reads
//! everything, and at any time to who has the cluster's secret.

use http::Method;
use http::header::HeaderMap;
use serde::de::DeserializeOwned;

use crate::args::SecretArgs;
use crate::client::{self, Client, patiently};
use crate::exit::Failure;
use crate::signed::Caller;

/// Asks a master; signed when it does not answer otherwise, so that an open cluster can be looked at without its secret.
pub(super) async fn look<A: DeserializeOwned>(
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
            // The secret that was found by itself may be another cluster's: then it is the refusal that helps.
            signed.map_err(|failure| if secret.is_named() { failure } else { refusal })
        }
        Err(failure) => Err(failure),
    }
}
