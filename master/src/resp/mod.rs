//! The Redis protocol (RESP2 and RESP3) for the same keys and access keys as on the other APIs: `SET bucket/key` is
//! `PUT /bucket/key`. Values stream: a connection holds buffers, never a value.
//!
//! Commands of one connection are answered in order, one at a time; those that a client has sent ahead wait
//! in its socket.

mod command_table;
mod connection;
mod cursors;
mod expiry;
mod glob;
mod inline;
mod keyspace;
pub(crate) mod metrics;
mod refusal;
mod reply;
mod request;
mod session;
mod store;
mod values;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use shared::http::serve::{SHUTDOWN_GRACE, accept};
use shared::http::tls::Tls;
use shared::http::write_timeout::WriteTimeoutStream;
use shared::limits::{CONNECTIONS_MAX, IDLE_TIMEOUT, RESP_SCANS_AT_ONCE};
use shared::work::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::audit::Audit;
use crate::auth::{AuthConfig, Keys};
use crate::change::Changes;
use crate::master::Master;
use crate::metadata::Metadata;
use crate::metrics::MasterMetrics;
use crate::read::Reader;
use crate::write::Writer;
use cursors::Cursors;
use metrics::RespMetrics;

/// The API. Refuses commands until this master has joined a cluster.
#[derive(Debug)]
pub(crate) struct RespApi {
    joined: OnceLock<Operations>,
    metrics: RespMetrics,
    audit: Option<Audit>,
    connections: AtomicU64,
}

/// What commands use.
struct Operations {
    metadata: Metadata,
    changes: Arc<Changes>,
    reader: Reader,
    writer: Writer,
    policy: Arc<AuthConfig>,
    metrics: Arc<MasterMetrics>,
    cursors: Cursors,
    /// Limits how many scans run at once.
    scans: Semaphore,
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Operations(..)")
    }
}

impl Operations {
    /// Returns the access keys as of this master's tables.
    fn keys(&self) -> Keys {
        Keys::new(self.metadata.database.tree(), &self.policy)
    }
}

impl RespApi {
    pub(crate) fn new(metrics: RespMetrics, audit: Option<Audit>) -> Self {
        Self { joined: OnceLock::new(), metrics, audit, connections: AtomicU64::new(0) }
    }

    /// Starts to answer commands.
    pub(crate) fn open(&self, master: &Master) {
        let _ = self.joined.set(Operations {
            metadata: master.metadata.clone(),
            changes: Arc::clone(&master.changes),
            reader: Reader::new(master),
            writer: Writer::new(master),
            policy: Arc::clone(&master.policy),
            metrics: Arc::clone(&master.metrics),
            cursors: Cursors::default(),
            scans: Semaphore::new(RESP_SCANS_AT_ONCE),
        });
    }

    /// Serves `listener` until `shutdown`. Commands that are being carried out then are completed, if they end soon.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, tls: Option<Tls>, shutdown: Shutdown) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Some((stream, peer, place)) = accept(&listener, &places, &shutdown).await else { break };
            let (api, tls, shutdown) = (Arc::clone(&self), tls.clone(), shutdown.clone());
            let id = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
            tokio::spawn(async move {
                let _place = place;
                let Some(tls) = tls else {
                    let stream = WriteTimeoutStream::new(stream, IDLE_TIMEOUT);
                    return connection::run(&api, stream, (peer, id), shutdown).await;
                };
                match tls.accept(stream).await {
                    Ok(stream) => {
                        let stream = WriteTimeoutStream::new(stream, IDLE_TIMEOUT);
                        connection::run(&api, stream, (peer, id), shutdown).await;
                    }
                    Err(error) => tracing::debug!(%peer, %error, "the TLS handshake failed"),
                }
            });
        }
        drop(listener);
        // Connections hold their places until they end.
        let ended = places.acquire_many(u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX));
        if tokio::time::timeout(SHUTDOWN_GRACE, ended).await.is_err() {
            tracing::info!("commands still in progress at shutdown were cut");
        }
    }
}
