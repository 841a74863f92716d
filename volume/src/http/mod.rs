//! The volume's HTTP API: values by ticket, signed calls of masters, health and metrics.

mod admin;
mod chain;
mod commit;
mod digests;
mod download;
pub mod error;
mod records;
mod replicas;
mod upload;

use std::sync::Arc;

use http::header::ALLOW;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use shared::call::ticket_proof;
use shared::http::body::{self, Body};
use shared::http::serve::{Context, Service};
use shared::http::signed_calls::CallVerifier;
use shared::http::unrouted;
use shared::key::Key;
use shared::ticket::{Operation, Ticket};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::routes::{self, NONCE_HEADER, PROOF_HEADER, TICKET, query_value};

use crate::metrics::VolumeMetrics;
use crate::server::Volume;

pub struct Api {
    pub volume: Arc<Volume>,
    /// Verifies the signatures of calls.
    pub calls: Arc<CallVerifier>,
    /// Served at `/_/metrics`.
    pub metrics: VolumeMetrics,
}

impl Service for Api {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        self.calls.serve(request, context, |request| self.route(request)).await
    }
}

impl Api {
    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, ErrorReply> {
        let path = request.uri().path();
        if !path.starts_with("/_/") {
            return value(&self.volume, request).await;
        }
        match (&unrouted::method(&request), path) {
            (&Method::GET, routes::HEALTH) => admin::health(&self.volume),
            (&Method::POST, routes::STATUS) => admin::status(&self.volume, request).await,
            (&Method::GET, routes::STATUS) => Err(admin::not_shown(request)),
            (&Method::GET, routes::METRICS) => Ok(self.metrics.render(&self.volume)),
            (&Method::POST, routes::IDENTIFY) => admin::identify(&self.volume, request).await,
            (&Method::POST, routes::DELETE) => admin::delete(&self.volume, request).await,
            (&Method::POST, routes::INVENTORY) => admin::inventory(&self.volume, request).await,
            (&Method::POST, routes::ADD_REPLICA) => replicas::add_replica(&self.volume, request).await,
            (&Method::POST, routes::LOCATE) => replicas::locate(&self.volume, request).await,
            (&Method::POST, routes::DIGESTS) => replicas::digests(&self.volume, request).await,
            (&Method::POST, routes::EXAMINE) => replicas::examine(&self.volume, request).await,
            (&Method::POST, routes::RECORDS) => records::records(&self.volume, request).await,
            (&Method::POST, routes::TOMBSTONES) => records::tombstones(&self.volume, request).await,
            _ => {
                let allowed = allowed(path);
                Err(unrouted::unrouted(request, allowed))
            }
        }
    }
}

/// Returns the methods of a `/_/` path; `None` if there is no such path.
fn allowed(path: &str) -> Option<&'static str> {
    match path {
        routes::HEALTH | routes::METRICS => Some(unrouted::SHOWN),
        routes::STATUS | routes::IDENTIFY | routes::DELETE | routes::INVENTORY => Some(unrouted::CALLED),
        routes::ADD_REPLICA | routes::LOCATE | routes::DIGESTS | routes::EXAMINE => Some(unrouted::CALLED),
        routes::RECORDS | routes::TOMBSTONES => Some(unrouted::CALLED),
        _ => None,
    }
}

/// Answers a request for a value. It must have a ticket.
async fn value(volume: &Arc<Volume>, request: Request<Incoming>) -> Result<Response<Body>, ErrorReply> {
    let opened = open_ticket(volume, &request);
    let (key, ticket_text, ticket) = match opened {
        Ok(opened) => opened,
        Err(refusal) => {
            let (head, body) = request.into_parts();
            body::drain_unless_waiting(&head.headers, body);
            return Err(refusal);
        }
    };
    match (request.method().clone(), &ticket.operation) {
        (Method::GET | Method::HEAD, Operation::Read(v)) if *v == volume.identity.volume() => {
            let answer = download::serve(volume, &key, &ticket, &request).await;
            answer.map(|answer| proved(volume, &request, answer))
        }
        (Method::POST | Method::PUT, Operation::Write(_)) => {
            upload::receive(volume, key, ticket_text, ticket, request).await
        }
        (method, _) => {
            let (head, body) = request.into_parts();
            body::drain_unless_waiting(&head.headers, body);
            let refusal = if [Method::GET, Method::HEAD, Method::POST, Method::PUT].contains(&method) {
                ErrorReply::new(
                    ErrorCode::BadTicket,
                    "the ticket is for another operation or another volume",
                    "ask the master, and follow its redirect",
                )
            } else {
                ErrorReply::new(
                    ErrorCode::MethodNotAllowed,
                    "a volume supports GET, HEAD, PUT and POST, each with a ticket",
                    "send other requests to the master",
                )
                .with_header(ALLOW, HeaderValue::from_static("GET, HEAD, PUT, POST"))
            };
            Err(refusal.for_key(&key))
        }
    }
}

/// Adds a proof of identity to the answer if the request has a nonce, as those of servers do.
fn proved(volume: &Volume, request: &Request<Incoming>, mut answer: Response<Body>) -> Response<Body> {
    let target = request.uri().path_and_query().map_or("", |t| t.as_str());
    if let Some(nonce) = request.headers().get(NONCE_HEADER).and_then(|v| v.to_str().ok()) {
        let proof = ticket_proof(&volume.config.secret, nonce, target, answer.status());
        if let Ok(proof) = HeaderValue::from_str(&proof.to_hex()) {
            answer.headers_mut().insert(PROOF_HEADER, proof);
        }
    }
    answer
}

fn open_ticket(volume: &Volume, request: &Request<Incoming>) -> Result<(Key, String, Ticket), ErrorReply> {
    let key = Key::from_path(request.uri().path())?;
    let refuse = |code, why: String| {
        ErrorReply::new(code, why, "ask the master, and follow its redirect").for_key(&key)
    };
    let ticket_text = query_value(request.uri().query(), TICKET)
        .ok_or_else(|| refuse(ErrorCode::BadTicket, "the request has no ticket".into()))?;
    let now = volume.config.clock.now();
    let ticket = Ticket::verify(&ticket_text, &volume.config.secret, &key, now).map_err(|e| {
        let code = match e {
            shared::ticket::TicketError::Expired => ErrorCode::TicketExpired,
            _ => ErrorCode::BadTicket,
        };
        refuse(code, format!("the ticket cannot be verified: {e}"))
    })?;
    if volume.identity.cluster() != Some(ticket.cluster) {
        return Err(refuse(
            ErrorCode::WrongCluster,
            "the ticket is from another cluster than this volume".into(),
        ));
    }
    Ok((key, ticket_text, ticket))
}
