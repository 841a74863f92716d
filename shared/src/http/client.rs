//! How servers call each other: signed JSON messages and value streams, over one pool of connections.
//! Never follows redirects and never uses a proxy: the address is the configured one.
//!
//! Uses hyper's pooled client because its read buffers can be bounded; each stream through a master holds two of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use http::uri::Scheme;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::Recipient;
use crate::clock::Clock;
use crate::http::body::{self, Body, ReadError};
use crate::http::socket::receive_bytes;
use crate::http::tls_connect::TimedTlsConnector;
use crate::http::trust::Trust;
use crate::ids::{BlobId, ClusterId, VolumeId};
use crate::key::Key;
use crate::limits::{
    CALL_TIMEOUT, CONNECT_TIMEOUT, HTTP_BUFFER_BYTES, MESSAGE_BYTES_MAX, POOL_IDLE_TIMEOUT, TICKET_LIFETIME,
};
use crate::secret::ClusterSecret;
use crate::ticket::{Operation, Ticket};
use crate::wire::error::ErrorDetail;
use crate::wire::routes::{HEALTH, REQUEST_ID_HEADER, TICKET};

mod calls;
mod streamed;
pub use streamed::StreamedAnswer;

/// The pooled connections. TLS connections have a pool of their own, created on first use, so that clusters without
/// TLS pay nothing for it.
#[derive(Clone, Debug)]
pub struct HttpClient {
    plain: legacy::Client<HttpConnector, Body>,
    secure: Arc<OnceLock<legacy::Client<TimedTlsConnector, Body>>>,
    trust: Trust,
}

/// A request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address or the headers are invalid.
    #[error("invalid request: {0}")]
    Request(#[from] http::Error),
    /// The connection could not be opened, or broke.
    #[error("{}", reason(.0))]
    Transport(#[from] legacy::Error),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

/// The innermost cause: hyper's outer messages tell an operator nothing.
fn reason(error: &legacy::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

impl HttpError {
    /// Whether the peer cannot have seen any part of the request.
    pub fn is_unsent(&self) -> bool {
        match self {
            Self::Request(_) => true,
            Self::Transport(e) => e.is_connect(),
            Self::Timeout(_) => false,
        }
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new(Trust::default())
    }
}

fn tcp() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    connector.set_recv_buffer_size(receive_bytes().and_then(|bytes| usize::try_from(bytes).ok()));
    connector
}

fn pool() -> legacy::Builder {
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_timer(TokioTimer::new())
        .http1_max_buf_size(HTTP_BUFFER_BYTES);
    builder
}

impl HttpClient {
    /// A client that trusts the authorities of `trust` in TLS connections.
    pub fn new(trust: Trust) -> Self {
        Self { plain: pool().build(tcp()), secure: Arc::default(), trust }
    }

    /// Sends a request and waits for the head of its answer, without a deadline.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, HttpError> {
        if request.uri().scheme() != Some(&Scheme::HTTPS) {
            return Ok(self.plain.request(request).await?);
        }
        let secure = self.secure.get_or_init(|| pool().build(TimedTlsConnector::new(tcp(), &self.trust)));
        Ok(secure.request(request).await?)
    }

    /// Like `send`, with a deadline for the head of the answer.
    ///
    /// # Errors
    /// If there is no answer in time.
    pub async fn send_within(
        &self,
        request: Request<Body>,
        within: Duration,
    ) -> Result<Response<Incoming>, HttpError> {
        tokio::time::timeout(within, self.send(request)).await.map_err(|_| HttpError::Timeout(within))?
    }

    /// Sends a GET without a body.
    ///
    /// # Errors
    /// The errors of `send_within`.
    pub async fn get(&self, url: &str, within: Duration) -> Result<Response<Incoming>, HttpError> {
        self.send_within(Request::get(url).body(body::empty())?, within).await
    }
}

/// Calls peers of the same cluster.
#[derive(Clone, Debug)]
pub struct PeerClient {
    http: HttpClient,
    secret: ClusterSecret,
    clock: Clock,
    /// The recipient name under which the server at an address takes calls.
    recipients: Arc<Mutex<HashMap<String, Recipient>>>,
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The peer was not reached: it has not seen the call.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// The base URL of the peer.
        address: String,
        /// The error of the connection.
        #[source]
        source: HttpError,
    },
    /// The call was sent, but no (complete) answer arrived: whether it was carried out is unknown.
    #[error("no answer from {address}: {source}")]
    Unknown {
        /// The base URL of the peer.
        address: String,
        /// The error of the connection.
        #[source]
        source: HttpError,
    },
    /// The answer broke off or was too large: whether the call was carried out is unknown.
    #[error("the answer of {address} cannot be read: {source}")]
    Broken {
        /// The base URL of the peer.
        address: String,
        /// The error of the connection.
        #[source]
        source: ReadError,
    },
    /// The peer refused the call.
    #[error("{address} answered {status}: {}", detail.message)]
    Refused {
        /// The base URL of the peer.
        address: String,
        /// The HTTP status of the answer.
        status: StatusCode,
        /// The error that the peer answered.
        detail: Box<ErrorDetail>,
    },
    /// The answer was not signed by a server of the cluster: whether the call was carried out is unknown.
    #[error(
        "the answer of {address} (status {status}) is not signed with this cluster's secret: it has another --secret-file, is not a server of this cluster, or its answer was altered on the way"
    )]
    Forged {
        /// The base URL of the peer.
        address: String,
        /// The status of the answer.
        status: StatusCode,
    },
    /// The answer is not one that a peer sends.
    #[error("{address} sent an answer that Barge does not send (status {status})")]
    Strange {
        /// The base URL of the peer.
        address: String,
        /// The HTTP status of the answer.
        status: StatusCode,
    },
}

impl PeerClient {
    /// A client for the cluster of `secret`.
    pub fn new(secret: ClusterSecret, clock: Clock) -> Self {
        Self { http: HttpClient::default(), secret, clock, recipients: Arc::default() }
    }

    /// Uses connections that trust the authorities of `trust`.
    #[must_use]
    pub fn trusting(mut self, trust: Trust) -> Self {
        self.http = HttpClient::new(trust);
        self
    }

    /// The connections alone, for value streams, which carry tickets instead of signatures.
    pub fn http(&self) -> &HttpClient {
        &self.http
    }

    /// The path and query at which a volume serves a raw record. Holds a ticket: never log it.
    pub fn raw_read(&self, cluster: ClusterId, volume: VolumeId, key: &Key, blob: BlobId) -> String {
        let ticket = Ticket {
            cluster,
            blob,
            expires: self.clock.now().after(TICKET_LIFETIME),
            hops: 0,
            master: String::new(),
            master_public: String::new(),
            operation: Operation::Read(volume),
        };
        format!("{}?{TICKET}={}", key.to_path(), ticket.sign(&self.secret, key))
    }

    /// Sends `message` to `path` on the peer at `address` and reads its answer.
    ///
    /// # Errors
    /// Each kind says what the caller may assume about the peer.
    pub async fn call<Q, A>(&self, address: &str, path: &str, message: &Q) -> Result<A, CallError>
    where
        Q: Serialize + Sync,
        A: DeserializeOwned,
    {
        self.call_within(address, path, message, CALL_TIMEOUT).await
    }

    /// Like `call`, with a deadline of its own.
    ///
    /// # Errors
    /// The errors of `call`.
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
        let (status, bytes) = self.exchange(address, path, text, within, MESSAGE_BYTES_MAX).await?;
        serde_json::from_slice(&bytes).map_err(|_| CallError::Strange { address: address.to_owned(), status })
    }
}

/// Turns `HOST:PORT` or a URL into a base URL without a trailing slash.
pub fn base_url(text: &str) -> String {
    base_url_by("http", text)
}

/// Like `base_url`, with `scheme` for addresses that have none.
pub fn base_url_by(scheme: &str, text: &str) -> String {
    let text = text.trim().trim_end_matches('/');
    if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}") }
}

/// An address that leads each user to a different machine.
#[derive(Debug, thiserror::Error)]
#[error(
    "other machines cannot use the address {0}: set --advertise and --public-url to the name or address of this machine"
)]
pub struct Nowhere(String);

/// Checks an address before it is given to others: one without a host (0.0.0.0, ::) leads each of them to itself.
///
/// # Errors
/// If it is such an address, or not a URL.
pub fn check_reachable(url: &str) -> Result<(), Nowhere> {
    let uri: http::Uri = url.parse().map_err(|_| Nowhere(url.to_owned()))?;
    let host = uri.host().unwrap_or("").trim_matches(['[', ']']).to_owned();
    let unspecified = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    if host.is_empty() || unspecified { Err(Nowhere(url.to_owned())) } else { Ok(()) }
}

/// Fetches a server's own public address and warns if that fails: clients that are redirected there would fail in
/// the same way.
pub async fn probe_public_url(http: &HttpClient, public_url: &str) {
    let answer = http.get(&format!("{public_url}{HEALTH}"), CALL_TIMEOUT).await;
    let ours = answer.is_ok_and(|a| a.headers().contains_key(REQUEST_ID_HEADER));
    if !ours {
        tracing::warn!(
            public_url,
            "this server cannot reach its own public address; clients that are redirected there will not \
             either: set --public-url to an address that works from where clients are"
        );
    }
}

impl CallError {
    /// Classifies a transport error by what the peer can have seen.
    fn new(address: &str, source: HttpError) -> Self {
        let address = address.to_owned();
        if source.is_unsent() {
            Self::Unreachable { address, source }
        } else {
            Self::Unknown { address, source }
        }
    }
}
