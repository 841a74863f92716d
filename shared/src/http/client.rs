//! How servers call each other: signed JSON messages and value streams, over one pool of connections.
//! Redirects are never followed and no proxy is ever used: the address is the one we were configured with.

use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Clock;
use crate::limits::{CALL_TIMEOUT, CONNECT_TIMEOUT, MESSAGE_BYTES_MAX, POOL_IDLE_TIMEOUT};
use crate::secret::ClusterSecret;
use crate::wire::error::{ErrorBody, ErrorDetail};
use crate::wire::routes::{HEALTH, REQUEST_ID_HEADER, SIGNATURE_HEADER};

/// Calls peers of the same cluster.
#[derive(Clone, Debug)]
pub struct PeerClient {
    http: reqwest::Client,
    secret: ClusterSecret,
    clock: Clock,
}

/// What became of a call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The peer was not reached: it has not seen the call.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// The peer.
        address: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The call was sent and no (whole) answer came: whether it was carried out is unknown.
    #[error("no answer from {address}: {source}")]
    Unknown {
        /// The peer.
        address: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The peer said no.
    #[error("{address} answered {status}: {}", detail.message)]
    Refused {
        /// The peer.
        address: String,
        /// Its status.
        status: StatusCode,
        /// Its reason.
        detail: Box<ErrorDetail>,
    },
    /// The answer was not what a peer says.
    #[error("{address} gave an answer that is none of ours (status {status})")]
    Strange {
        /// The peer.
        address: String,
        /// Its status.
        status: StatusCode,
    },
}

impl PeerClient {
    /// A client for the cluster of `secret`.
    ///
    /// # Errors
    /// When the operating system gives it no resolver or sockets.
    pub fn new(secret: ClusterSecret, clock: Clock) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .http1_only()
            .build()?;
        Ok(Self { http, secret, clock })
    }

    /// The connections alone, for value streams, which carry tickets instead of signatures.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Sends `message` to `path` of the peer at `address` and reads its answer.
    ///
    /// # Errors
    /// Each kind says what the caller may assume of the peer.
    pub async fn call<Q, A>(&self, address: &str, path: &str, message: &Q) -> Result<A, CallError>
    where
        Q: Serialize + Sync,
        A: DeserializeOwned,
    {
        self.call_within(address, path, message, CALL_TIMEOUT).await
    }

    /// As `call`, with a deadline of its own.
    ///
    /// # Errors
    /// As `call`.
    pub async fn call_within<Q, A>(
        &self,
        address: &str,
        path: &str,
        message: &Q,
        within: Duration,
    ) -> Result<A, CallError>
    where
        Q: Serialize + Sync,
        A: DeserializeOwned,
    {
        let text = serde_json::to_vec(message).expect("messages hold nothing JSON refuses");
        let signature = self.secret.sign_call("POST", path, &text, self.clock.now());
        let sent = self
            .http
            .post(format!("{address}{path}"))
            .header(SIGNATURE_HEADER, signature)
            .timeout(within)
            .body(text)
            .send()
            .await;
        let answer = sent.map_err(|e| CallError::from_reqwest(address, e))?;
        let status = answer.status();
        let bytes = read_bounded(answer).await.map_err(|e| match e {
            Some(e) => CallError::from_reqwest(address, e),
            None => CallError::Strange { address: address.to_owned(), status },
        })?;
        let strange = || CallError::Strange { address: address.to_owned(), status };
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|_| strange());
        }
        let refused: ErrorBody = serde_json::from_slice(&bytes).map_err(|_| strange())?;
        Err(CallError::Refused { address: address.to_owned(), status, detail: Box::new(refused.error) })
    }
}

/// `HOST:PORT` or a URL, as a base URL without a slash at its end.
pub fn base_url(text: &str) -> String {
    let text = text.trim().trim_end_matches('/');
    if text.contains("://") { text.to_owned() } else { format!("http://{text}") }
}

/// Fetches a server's own public address and warns when that fails: clients that are redirected there
/// would fail the same way.
pub async fn probe_public_url(http: &reqwest::Client, public_url: &str) {
    let answer = http.get(format!("{public_url}{HEALTH}")).timeout(CALL_TIMEOUT).send().await;
    let ours = answer.as_ref().is_ok_and(|a| a.headers().contains_key(REQUEST_ID_HEADER));
    if !ours {
        tracing::warn!(
            public_url,
            "this server cannot reach its own public address; clients that are redirected there will not \
             either: set --public-url to an address that works from where clients are"
        );
    }
}

impl CallError {
    /// Sorts a transport error by what the peer can have seen.
    pub fn from_reqwest(address: &str, source: reqwest::Error) -> Self {
        let (address, source) = (address.to_owned(), source.without_url());
        if source.is_connect() {
            Self::Unreachable { address, source }
        } else {
            Self::Unknown { address, source }
        }
    }
}

/// The answer's bytes; `Err(None)` when there are more than a message may have.
///
/// # Errors
/// When the connection breaks, or the answer is too large.
pub async fn read_bounded(mut answer: reqwest::Response) -> Result<Vec<u8>, Option<reqwest::Error>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(Some)? {
        if bytes.len() + chunk.len() > MESSAGE_BYTES_MAX {
            return Err(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
