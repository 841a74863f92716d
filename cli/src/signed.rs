//! Calls signed with the cluster's secret, for administration.

use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::clock::Clock;
use shared::http::client::{CallError, PeerClient};
use shared::http::trust::Trust;
use shared::limits::{LEADER_TIMEOUT, PROPOSE_TIMEOUT};
use shared::secret::ClusterSecret;
use shared::wire::access::{AccessKeysPage, ListAccessKeys, SequencedChange};
use shared::wire::error::ErrorCode;
use shared::wire::routes::KEYS;

use crate::args::SecretArgs;
use crate::client::{Client, Patience, patiently};
use crate::exit::{Exit, Failure, Retry};

/// How often other administrators' changes may come before ours. Each time one of them succeeds, so only many
/// concurrent administrators reach this limit.
const OVERTAKEN_MAX: u32 = 100;

/// Makes signed calls.
pub(crate) struct Caller(PeerClient, ClusterSecret);

impl Caller {
    /// A caller with the secret that the arguments name, which trusts the authorities of `trust`.
    pub(crate) fn new(secret: &SecretArgs, trust: &Trust) -> Result<Self, Failure> {
        let secret: ClusterSecret = secret.find().map_err(|e| Failure::new(Exit::Failure, e.to_string()))?;
        Ok(Self(PeerClient::new(secret.clone(), Clock::System).trusting(trust.clone()), secret))
    }

    /// The client inside, for other kinds of calls.
    pub(crate) fn peers(&self) -> &PeerClient {
        &self.0
    }

    /// The secret that signs the calls.
    pub(crate) fn secret(&self) -> &ClusterSecret {
        &self.1
    }

    /// Calls the server at `address`.
    pub(crate) async fn call<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        address: &str,
        path: &str,
        message: &Q,
    ) -> Result<A, Failure> {
        let within = PROPOSE_TIMEOUT * 2 + LEADER_TIMEOUT;
        self.0.call_within(address, path, message, within).await.map_err(|e| failure(address, e))
    }

    /// Calls the masters in turn until one answers; only for idempotent calls.
    pub(crate) async fn ask<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        client: &Client,
        path: &str,
        message: &Q,
    ) -> Result<A, Failure> {
        patiently(async || self.ask_once(client, path, message).await).await
    }

    /// Calls the master in use.
    pub(crate) async fn ask_once<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        client: &Client,
        path: &str,
        message: &Q,
    ) -> Result<A, Failure> {
        let base = client.base().to_owned();
        let answer = self.call(&base, path, message).await;
        if answer.as_ref().is_err_and(|failure| failure.exit == Exit::Unavailable) {
            client.pass_turn(&client.url(path)?);
        }
        answer
    }

    /// Like `ask`, for a change of access keys or bucket permissions, made on top of all changes known now.
    ///
    /// If another administrator's change comes first, nothing was changed and this one is retried on top of it. After
    /// a lost answer it is not retried: it may have been applied, and undone since.
    pub(crate) async fn change<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        client: &Client,
        path: &str,
        change: &Q,
    ) -> Result<A, Failure> {
        let mut overtaken = 0;
        loop {
            let known = ListAccessKeys { after: None };
            let AccessKeysPage { sequence, .. } = self.ask(client, KEYS, &known).await?;
            let message = SequencedChange { sequence, change };
            let mut patience = Patience::default();
            let mut lost = false;
            let failure = loop {
                match self.ask_once(client, path, &message).await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) if failure.code() == Some(ErrorCode::Outdated) => break failure,
                    Err(failure) => {
                        lost |= failure.retry == Retry::IfIdempotent;
                        patience.wait(failure, true).await?;
                    }
                }
            };
            overtaken += 1;
            if lost || overtaken == OVERTAKEN_MAX {
                return Err(failure);
            }
        }
    }
}

/// Translates a failed call for the user.
pub(crate) fn failure(address: &str, error: CallError) -> Failure {
    match error {
        CallError::Refused { detail, status, .. } => {
            let body = serde_json::json!({ "error": detail }).to_string();
            Failure::from_answer(status, body.as_bytes(), None)
        }
        CallError::Unreachable { source, .. } => Failure::unreachable(address, source.to_string()),
        other => Failure::broken(address, other.to_string()),
    }
}
