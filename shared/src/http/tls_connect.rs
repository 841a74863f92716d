//! TLS connections for the pooled client, with a time limit for the handshake: hyper-rustls would wait for a frozen
//! peer for as long as its caller does.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::http::trust::Trust;
use crate::limits::CONNECT_TIMEOUT;

/// Connects and performs the handshake.
#[derive(Clone, Debug)]
pub(super) struct TimedTlsConnector(HttpsConnector<HttpConnector>);

impl TimedTlsConnector {
    /// A connector over the connections of `tcp`.
    pub(super) fn new(mut tcp: HttpConnector, trust: &Trust) -> Self {
        tcp.enforce_http(false);
        let builder = HttpsConnectorBuilder::new().with_tls_config((*trust.config()).clone());
        Self(builder.https_only().enable_http1().wrap_connector(tcp))
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Service<Uri> for TimedTlsConnector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connected = self.0.call(to);
        Box::pin(async move { tokio::time::timeout(CONNECT_TIMEOUT * 2, connected).await? })
    }
}
