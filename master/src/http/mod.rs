//! The native HTTP API of a master: routes each request to its handler, for keys to `write`, `read` and `list`.

mod admin_state;
mod audited;
mod doctor;
pub mod error;
mod explain;
mod internal;
mod keys;
mod maintenance;
pub mod masters;
pub mod objects;
mod page;
mod rebalance;
mod replica_sources;
mod replication_modes;
pub mod status;

use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use shared::http::body::{self, Body};
use shared::http::serve::{Context, Service};
use shared::http::signed_calls::{CallVerifier, is_signed, read_signed};
use shared::http::unrouted;
use shared::limits::HEARTBEAT_INTERVAL;
use shared::telemetry::Metrics;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::routes;
use tokio::sync::SetOnce;

use crate::audit::Audit;
use crate::master::Master;
use crate::write::Writer;

/// The routes of a master.
pub struct NativeApi {
    /// Calls between masters, and cluster membership.
    pub masters_api: masters::MastersApi,
    /// Verifies signed calls.
    pub calls: Arc<CallVerifier>,
    /// Set as soon as this master belongs to a cluster.
    pub master: SetOnce<Arc<Master>>,
    /// Shown at `/_/metrics`.
    pub metrics: Metrics,
    /// The audit log, if there is one.
    pub audit: Option<Audit>,
}

impl Service for NativeApi {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        match &self.audit {
            Some(audit) => audited::answer(&self, audit, request, context).await,
            None => self.answer(request, context).await,
        }
    }
}

impl NativeApi {
    async fn answer(
        &self,
        request: Request<Incoming>,
        context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        self.calls.serve(request, context, |request| self.route(request, context)).await
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        let request = match self.masters_api.handle(request, context.peer.ip()).await {
            Ok(answer) => return Ok(answer),
            Err(masters::Unhandled::Refused(refusal)) => return Err(refusal),
            Err(masters::Unhandled::NotOurs(request)) => request,
        };
        let path = request.uri().path();
        let listing = routes::query_value(request.uri().query(), routes::LIST).is_some();
        let method = unrouted::method(&request);
        if path == "/" && !listing && method == Method::GET {
            return Ok(greeting());
        }
        let ours = path.starts_with("/_/") || path == "/_";
        let Some(master) = self.opened(&request).await else {
            let health = path == routes::HEALTH;
            let (head, body) = request.into_parts();
            body::drain_unless_waiting(&head.headers, body);
            return if health { Ok(status::waiting()) } else { Err(not_yet()) };
        };
        if !ours {
            return objects::handle(master, request, context.peer.ip()).await;
        }
        match (&method, path) {
            (&Method::GET, routes::HEALTH) => Ok(status::health(master)),
            (&Method::GET | &Method::POST, routes::STATUS | routes::EVENTS) => {
                self.shown(master, request, context).await
            }
            (&Method::GET, routes::METRICS) => {
                status::refresh(master)?;
                Ok(self.metrics.render())
            }
            (&Method::POST, routes::HEARTBEAT) => internal::heartbeat(master, request).await,
            (&Method::POST, routes::REPLICA_SOURCES) => {
                replica_sources::replica_sources(&master.metadata, &master.volumes, request).await
            }
            (&Method::POST, routes::COMMIT) => Writer::new(master).commit(request).await,
            (&Method::POST, routes::PROPOSE) => {
                internal::propose(&master.group, &master.changes, request).await
            }
            (&Method::POST, routes::CLOCK) => internal::clock(master, request).await,
            (&Method::POST, routes::BACKUP) => internal::backup(&master.group, request).await,
            (&Method::POST, _) => administer(master, request).await,
            _ => Err(unrouted(request)),
        }
    }

    /// Returns this master if it belongs to a cluster. A heartbeat waits for that a moment: a volume started at the
    /// same time would otherwise retry only a second later.
    async fn opened(&self, request: &Request<Incoming>) -> Option<&Arc<Master>> {
        let opened = self.master.get();
        if opened.is_none() && request.uri().path() == routes::HEARTBEAT && is_signed(request) {
            return tokio::time::timeout(HEARTBEAT_INTERVAL, self.master.wait()).await.ok();
        }
        opened
    }

    /// Answers `STATUS` and `EVENTS`.
    async fn shown(
        &self,
        master: &Master,
        request: Request<Incoming>,
        context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        let status = request.uri().path() == routes::STATUS;
        if unrouted::method(&request) == Method::GET {
            self.masters_api.admit(&request, context.peer.ip()).await?;
        } else {
            let () = read_signed(request).await?;
        }
        if status {
            status::status(master)
        } else {
            Ok(maintenance::events(&master.volumes.cluster, &master.config, &master.metrics))
        }
    }
}

/// Answers the calls that administer the cluster, of the command line and of other masters.
async fn administer(master: &Arc<Master>, request: Request<Incoming>) -> Result<Response<Body>, ErrorReply> {
    match request.uri().path() {
        routes::KEYS => keys::list(&master.group, &master.metadata.database, request).await,
        routes::KEYS_PUT => keys::put(&master.changes, &master.config, request).await,
        routes::KEYS_REVOKE => keys::revoke(&master.changes, request).await,
        routes::KEYS_ANONYMOUS => keys::anonymous(&master.changes, request).await,
        routes::ADMIN_STATE => admin_state::set_admin_state(master, request).await,
        routes::REBALANCE => rebalance::rebalance(master, request).await,
        routes::ORPHANS => maintenance::orphans(master, request).await,
        routes::EXPLAIN => explain::explain(&master.group, &master.metadata, &master.volumes, request).await,
        routes::EXAMINE => {
            doctor::examine(&master.volumes.cluster, &master.volumes.peers, &master.config, request).await
        }
        routes::DOCTOR => doctor::doctor(&master.group, &master.volumes, &master.config, request).await,
        routes::MODES => {
            replication_modes::modes(&master.group, &master.metadata.database, &master.config, request).await
        }
        routes::MODES_SET => {
            replication_modes::set_mode(&master.metadata, &master.changes, &master.config, request).await
        }
        _ => Err(unrouted(request)),
    }
}

fn unrouted(request: Request<Incoming>) -> ErrorReply {
    let allowed = allowed(request.uri().path());
    unrouted::unrouted(request, allowed)
}

/// The methods of a path under `/_/`; none if there is no such path.
fn allowed(path: &str) -> Option<&'static str> {
    match path {
        routes::HEALTH | routes::METRICS => Some(unrouted::SHOWN),
        routes::STATUS | routes::EVENTS | routes::MASTERS => Some(unrouted::SHOWN_AND_CALLED),
        routes::HEARTBEAT | routes::REPLICA_SOURCES | routes::COMMIT | routes::PROPOSE | routes::BACKUP => {
            Some(unrouted::CALLED)
        }
        routes::CLOCK => Some(unrouted::CALLED),
        routes::KEYS | routes::KEYS_PUT | routes::KEYS_REVOKE | routes::KEYS_ANONYMOUS => {
            Some(unrouted::CALLED)
        }
        routes::ADMIN_STATE | routes::REBALANCE | routes::ORPHANS | routes::EXPLAIN => Some(unrouted::CALLED),
        routes::EXAMINE | routes::DOCTOR | routes::MODES | routes::MODES_SET => Some(unrouted::CALLED),
        path => masters::ROUTES.contains(&path).then_some(unrouted::CALLED),
    }
}

fn not_yet() -> ErrorReply {
    ErrorReply::new(
        ErrorCode::NotJoined,
        "this master does not belong to a cluster yet",
        "it joins when it can reach the others; `barge cluster init` creates a new cluster",
    )
}

fn greeting() -> Response<Body> {
    let text = concat!(
        "Barge ",
        env!("CARGO_PKG_VERSION"),
        "\n",
        "  store   curl -L -T FILE  http://HOST/KEY\n",
        "  fetch   curl -L          http://HOST/KEY\n",
        "  delete  curl -L -X DELETE http://HOST/KEY\n",
        "  list    curl             'http://HOST/?list'\n",
        "  health, status, metrics under /_/\n",
    );
    Response::new(body::full(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = include_str!("../../../shared/src/wire/routes.rs");
    /// The table of routes that the permission test calls as every kind of caller.
    const WALKED: &str = include_str!("../../../tests/s3/permissions.py");

    #[test]
    fn every_call_of_a_master_is_walked_with_all_callers() {
        let paths = ROUTES.lines().filter_map(|line| line.split_once("= \"/_/")?.1.strip_suffix("\";"));
        let called = paths
            .filter(|path| allowed(&format!("/_/{path}")).is_some_and(|methods| methods.contains("POST")));
        let signed = WALKED.split_once("SIGNED = \"\"\"").and_then(|(_, rest)| rest.split_once("\"\"\""));
        let mut signed: Vec<_> = signed.expect("the list").0.split_whitespace().collect();
        let mut called: Vec<_> = called.collect();
        signed.sort_unstable();
        called.sort_unstable();
        assert!(called.len() > 30);
        assert_eq!(signed, called, "the list of tests/s3/permissions.py, and the routes");
    }
}
