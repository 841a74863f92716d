//! The listener of the S3 API: checks each request, has the library carry it out, and completes the response.

use http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use s3s::config::{S3Config, StaticConfigProvider};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use super::request::context::RequestContext;
use super::{S3Operations, buckets, documents, error, objects, outgoing, refusal, request};
use crate::audit::Audit;
use crate::auth::{Caller, Sender};
use crate::http::status;
use crate::master::Master;
use s3s::S3Result;
use s3s::host::{DomainError, SingleDomain};
use s3s::service::{S3Service, S3ServiceBuilder};
use shared::http::body::{self as ours, Body};
use shared::http::serve::{Context, Service};
use shared::ids::RequestId;
use shared::wire::error::{ErrorCode, ErrorReply};

/// Largest XML document of a request, in bytes: a completion of 10,000 parts with checksums fits.
pub(super) const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// The service of the listener. Answers 503 until this master has joined a cluster.
#[derive(Default)]
pub(crate) struct S3Api {
    joined: OnceLock<JoinedMaster>,
    audit: Option<Audit>,
}

pub(super) struct JoinedMaster {
    /// For health checks.
    master: Arc<Master>,
    pub(super) ops: S3Operations,
    service: S3Service,
    /// Limits how many documents are read at once.
    places: Arc<documents::slots::DocumentSlots>,
}

impl S3Api {
    /// Records requests in the audit log, if there is one.
    pub(crate) fn with_audit(audit: Option<Audit>) -> Self {
        Self { audit, ..Self::default() }
    }

    /// Starts to answer requests.
    ///
    /// # Errors
    /// When the configured domain is not valid.
    pub(crate) fn open(&self, master: &Arc<Master>) -> Result<(), DomainError> {
        let ops = S3Operations::new(master);
        let gate = request::auth::Gate(ops.clone());
        let domain = master.config.s3.domain.as_ref();
        // The library decides whether the domain is valid.
        domain.map(|domain| SingleDomain::new(domain)).transpose()?;
        let builder = || {
            let mut builder = S3ServiceBuilder::new(ops.clone());
            // The library checks permissions only if it also verifies signatures.
            builder.set_auth(gate.clone());
            builder.set_access(gate.clone());
            builder.set_config(config());
            domain
                .into_iter()
                .for_each(|domain| builder.set_host(request::virtual_host::Domain(domain.clone())));
            builder
        };
        let mut proving = builder();
        proving.set_route(request::unreadable_headers::SecondPass { service: builder().build() });
        let service = proving.build();
        let places = Arc::default();
        let _ = self.joined.set(JoinedMaster { master: Arc::clone(master), ops, service, places });
        Ok(())
    }
}

/// Returns the configuration of the library, which limits XML documents to `DOCUMENT_BYTES_MAX`.
pub(super) fn config() -> Arc<StaticConfigProvider> {
    let mut config = S3Config::default();
    config.xml_max_body_size = DOCUMENT_BYTES_MAX;
    Arc::new(StaticConfigProvider::new(Arc::new(config)))
}

impl Service for S3Api {
    async fn handle(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        request::presigned_headers::restore(&mut request);
        let inside = self.joined.get();
        let domain = inside.and_then(|inside| inside.ops.config.s3.domain.as_deref());
        let about = RequestContext::of(&request, domain, context.peer.ip(), context.request_id.to_string());
        match &self.audit {
            Some(audit) => request::audited::answer(inside, audit, request, &about, context).await,
            None => answer(inside, request, &about).await,
        }
    }

    fn render(&self, refusal: ErrorReply, request_id: RequestId) -> Response<Body> {
        request::early_refusal::render_refusal(refusal, request_id)
    }
}

/// Answers a request, or refuses it until this master has joined a cluster.
pub(super) async fn answer(
    inside: Option<&JoinedMaster>,
    mut request: Request<Incoming>,
    about: &RequestContext,
) -> Result<Response<Body>, ErrorReply> {
    if let Some(answer) = reachable(inside, request.method(), about) {
        return Ok(answer);
    }
    let Some(inside) = inside else {
        let (head, body) = request.into_parts();
        ours::drain_unless_waiting(&head.headers, body);
        return Err(ErrorReply::new(
            ErrorCode::NotJoined,
            "this master has not joined a cluster yet",
            "try again in a moment",
        ));
    };
    let waits = request::body::ContinueWatch::watch(&mut request);
    let answer = inside.answer(request, about).await;
    let answer = inside.note_guess(answer, about).await;
    let mut answer = about.finish_response(answer).await;
    waits.into_iter().for_each(|called| called.end(&mut answer));
    let headers = answer.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&about.request_id) {
        headers.insert("x-amz-request-id", id);
    }
    // A browser must not guess another type for an uploaded value, nor run it with the rights of this origin.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    Ok(answer)
}

/// Answers health checks: `HEAD /`, and `/_/health`. No bucket can be named `_`.
fn reachable(
    inside: Option<&JoinedMaster>,
    method: &Method,
    about: &RequestContext,
) -> Option<Response<Body>> {
    let place = (about.bucket.as_deref(), about.key.as_deref());
    match (method, place) {
        (&Method::GET | &Method::HEAD, (Some("_"), Some("health"))) => {
            Some(inside.map_or_else(status::waiting, |inside| status::health(&inside.master)))
        }
        (&Method::HEAD, (None, None)) => Some(Response::new(ours::empty())),
        _ => None,
    }
}

impl JoinedMaster {
    async fn answer(&self, request: Request<Incoming>, about: &RequestContext) -> Response<Body> {
        let asked = request::cors::CorsHeaders::of(&self.ops.metadata, &request, about);
        let permitted =
            matches!(&asked, Ok(request::cors::CorsRequest::Request(origin)) if origin.is_permitted());
        let admitted = match self.pace(about).await {
            Ok(()) => self.admit_page(&request, permitted, about.peer).await,
            Err(busy) => Err(busy),
        };
        if let Err(error) = admitted {
            let (head, body) = request.into_parts();
            request::body::refuse(&head, body);
            return refusal(error);
        }
        let origin = match asked {
            Ok(request::cors::CorsRequest::Preflight(answer)) => return *answer,
            Ok(request::cors::CorsRequest::Request(origin)) => origin,
            Err(error) => return refusal(error),
        };
        let settings = &self.ops.config.s3;
        let checked = request::guard::check_request(settings, &self.ops.owner, &request, about);
        let mut answer = match checked {
            Ok(request::guard::RequestKind::Form) => {
                objects::post_form::receive(&self.ops, request, about).await.unwrap_or_else(refusal)
            }
            Ok(request::guard::RequestKind::Other) => self.pass_on(request, about).await,
            Err(error) => {
                let (head, body) = request.into_parts();
                request::body::refuse(&head, body);
                refusal(error)
            }
        };
        origin.mark(answer.headers_mut());
        answer
    }

    /// Delays a peer that has sent many wrong signatures for this access key.
    async fn pace(&self, about: &RequestContext) -> S3Result<()> {
        let Some(id) = about.claimed_key_id() else { return Ok(()) };
        self.ops.keys().throttle(id, about.peer).await.map_err(error::from_reply)
    }

    /// Counts a wrong signature or an unknown access key.
    async fn note_guess(&self, answer: Response<Body>, about: &RequestContext) -> Response<Body> {
        // The operation is known only after the signature of the request was proved: then a chunk was signed wrongly.
        let guessed = answer.status() == http::StatusCode::FORBIDDEN && about.operation().is_none();
        let Some(id) = about.claimed_key_id().filter(|_| guessed) else {
            return answer;
        };
        let (answer, code) = request::context::code_of(answer).await;
        if let Some(wrong) = code.as_deref().and_then(request::auth::wrong) {
            request::auth::note(&self.ops.keys(), id, about.peer, wrong);
        }
        answer
    }

    /// Refuses cross-site requests of web pages while there are no access keys. `permitted`: the CORS rules of the
    /// bucket allow the page.
    async fn admit_page(&self, request: &Request<Incoming>, permitted: bool, peer: IpAddr) -> S3Result<()> {
        let sender = Sender { method: request.method(), headers: request.headers(), peer };
        let Err(why) = self.ops.keys().if_open(sender, permitted) else { return Ok(()) };
        // Decide by current metadata: this master may lag behind.
        self.ops.current().await?;
        match self.ops.keys().nobody().map_err(error::from_tables)? {
            Caller::Open => Err(error::from_reply(why.into())),
            _ => Ok(()),
        }
    }

    /// Passes a request to the library, which reads the body only after it has verified signature and permission.
    async fn pass_on(&self, request: Request<Incoming>, about: &RequestContext) -> Response<Body> {
        let (mut head, incoming) = request.into_parts();
        request::unreadable_headers::join_metadata(&mut head.headers);
        if let Some(odd) =
            request::unreadable_headers::unreadable_headers(&head).filter(|_| about.key.is_some())
        {
            head.extensions.insert(odd);
        }
        let fault = request::body::BodyFault::default();
        let mut body = request::body::incoming(&head, incoming, &fault);
        // Held until the answer is there: the document stays in memory.
        let mut _slot = documents::KeptSlot::default();
        if documents::is_document(&head.method, &head.uri, about) {
            (body, _slot) = documents::limit_document(&head, body, &self.places, about.peer, &fault);
        }
        head.extensions.insert(request::auth::CheckedTarget::of(&head, about));
        let found = request::auth::FoundOperation::default();
        head.extensions.insert(found.clone());
        let answer = self.call(Request::from_parts(head, body)).await;
        if let Some(operation) = found.get() {
            about.set_operation(operation);
        }
        let failed = answer.status().is_client_error() || answer.status().is_server_error();
        if let Some(error) = fault.take().filter(|_| failed) {
            return refusal(error);
        }
        if answer.status() == http::StatusCode::NOT_IMPLEMENTED
            && let Some((operation, needs)) =
                found.get().and_then(|o| Some((o, request::supported::missing_feature(o)?)))
        {
            // The error of the library does not name the missing feature.
            return refusal(error::not_implemented(buckets::unsupported::message(operation, needs)));
        }
        documents::xml::readable(found.get(), answer).await
    }

    async fn call(&self, request: Request<s3s::Body>) -> Response<Body> {
        match self.service.call(request).await {
            Ok(answer) => answer.map(outgoing),
            Err(e) => {
                tracing::error!(error = ?e, "the S3 library failed to answer a request");
                refusal(s3s::S3ErrorCode::InternalError.into())
            }
        }
    }
}
