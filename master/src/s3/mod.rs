//! The S3 face of a master: words of S3 in, words of ours out. What happens is decided where it is for the native face, too;
//! `bucket/key` here is `/bucket/key` there. The library `s3s` knows protocol, signatures and XML.
//!
//! Never a redirect, and never a value in memory.

mod algorithms;
pub mod args;
mod asked;
mod attributes;
mod audited;
pub mod auth;
mod body;
mod buckets;
mod chunks;
mod combine;
mod complete;
mod convert;
mod copy;
mod cors;
mod delete_many;
mod document;
mod error;
mod finish;
mod form;
mod guard;
mod hoisted;
mod host;
mod lenient;
mod listing;
mod look;
mod multipart;
mod objects;
mod operations;
mod ops;
mod reference;
mod refused;
mod settings;
mod sums;
mod xml;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::dto;
pub use s3s::host::DomainError;
use s3s::host::SingleDomain;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3Result, s3_error};
use shared::attributes::Algorithm;
use shared::http::body::{self as ours, Body};
use shared::http::serve::{Context, Service};
use shared::ids::RequestId;
use shared::md5::Pool;
use shared::wire::error::{ErrorCode, ErrorReply};

use crate::audit::Audit;
use crate::auth::{Caller, Sender};
use crate::http::admin;
use crate::master::Master;
use finish::About;

/// The largest XML document of a request: a completion of 10,000 parts with checksums.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// The region that clients are told where they ask and none was configured: S3's first.
const REGION: &str = "us-east-1";

/// The operations, over a master.
#[derive(Clone)]
pub(crate) struct Ops {
    master: Arc<Master>,
    /// Who owns everything: the cluster.
    owner: String,
    region: String,
    /// Whether entity tags are MD5.
    md5: bool,
    md5s: Arc<Pool>,
}

impl Ops {
    fn new(master: &Arc<Master>) -> Self {
        let settings = &master.config.s3;
        Self {
            master: Arc::clone(master),
            owner: master.cluster.id().to_string(),
            region: settings.region.clone().unwrap_or_else(|| REGION.to_owned()),
            md5: !settings.blake3_etags,
            md5s: Arc::default(),
        }
    }

    /// This master knows the present.
    pub(crate) async fn current(&self) -> S3Result<()> {
        self.master.group.current().await.map_err(|e| error::from_reply(e.into()))
    }

    fn region_is_default(&self) -> bool {
        self.region == REGION
    }
}

/// The listener's service: 503 until this master belongs to a cluster.
#[derive(Default)]
pub(crate) struct Face {
    inside: OnceLock<Inside>,
    audit: Option<Audit>,
}

struct Inside {
    master: Arc<Master>,
    ops: Ops,
    service: S3Service,
    /// For documents that are read.
    places: Arc<document::places::Places>,
}

impl Face {
    /// Notes requests, where there is an audit log.
    pub(crate) fn noting(audit: Option<Audit>) -> Self {
        Self { audit, ..Self::default() }
    }

    /// From here on requests are answered.
    ///
    /// # Errors
    /// When the domain is none.
    pub(crate) fn open(&self, master: &Arc<Master>) -> Result<(), DomainError> {
        let ops = Ops::new(master);
        let gate = auth::Gate(Arc::clone(master));
        let domain = master.config.s3.domain.as_ref();
        // Whether it is one at all, the library knows.
        domain.map(|domain| SingleDomain::new(domain)).transpose()?;
        let builder = || {
            let mut builder = S3ServiceBuilder::new(ops.clone());
            // The library asks for permission only where signatures are proved.
            builder.set_auth(gate.clone());
            builder.set_access(gate.clone());
            builder.set_config(config());
            domain.into_iter().for_each(|domain| builder.set_host(host::Domain(domain.clone())));
            builder
        };
        let mut proving = builder();
        proving.set_route(lenient::Again { service: builder().build() });
        let service = proving.build();
        let places = Arc::default();
        let _ = self.inside.set(Inside { master: Arc::clone(master), ops, service, places });
        Ok(())
    }
}

/// Messages are as bounded as on the native face; a completion of 10,000 parts is the largest.
fn config() -> Arc<StaticConfigProvider> {
    let mut config = S3Config::default();
    config.xml_max_body_size = DOCUMENT_BYTES_MAX;
    Arc::new(StaticConfigProvider::new(Arc::new(config)))
}

impl Service for Face {
    async fn handle(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        hoisted::restore(&mut request);
        let inside = self.inside.get();
        let domain = inside.and_then(|inside| inside.master.config.s3.domain.as_deref());
        let about = About::of(&request, domain, context.peer.ip(), context.request_id.to_string());
        match &self.audit {
            Some(audit) => audited::answer(inside, audit, request, &about, context).await,
            None => answer(inside, request, &about).await,
        }
    }

    fn render(&self, refusal: ErrorReply, request_id: RequestId) -> Response<Body> {
        refused::render(refusal, request_id)
    }
}

/// Answers a request, if this master belongs to a cluster.
async fn answer(
    inside: Option<&Inside>,
    mut request: Request<Incoming>,
    about: &About,
) -> Result<Response<Body>, ErrorReply> {
    if let Some(answer) = reachable(inside, request.method(), about) {
        return Ok(answer);
    }
    let Some(inside) = inside else {
        let (head, body) = request.into_parts();
        ours::drain_unless_waiting(&head.headers, body);
        return Err(ErrorReply::new(
            ErrorCode::NotJoined,
            "this master does not belong to a cluster yet",
            "try again in a moment",
        ));
    };
    let waits = body::Called::watch(&mut request);
    let answer = inside.answer(request, about).await;
    let answer = inside.note_guess(answer, about).await;
    let mut answer = about.finish(answer).await;
    waits.into_iter().for_each(|called| called.end(&mut answer));
    let headers = answer.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&about.request_id) {
        headers.insert("x-amz-request-id", id);
    }
    // What a client uploaded is never run as something else than it was called, nor with this server's rights.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    Ok(answer)
}

/// What somebody asks who wants to know whether this port can be reached, or whether this master is well: no bucket has
/// such a name.
fn reachable(inside: Option<&Inside>, method: &Method, about: &About) -> Option<Response<Body>> {
    let place = (about.bucket.as_deref(), about.key.as_deref());
    match (method, place) {
        (&Method::GET | &Method::HEAD, (Some("_"), Some("health"))) => {
            Some(inside.map_or_else(admin::waiting, |inside| admin::health(&inside.master)))
        }
        (&Method::HEAD, (None, None)) => Some(Response::new(ours::empty())),
        _ => None,
    }
}

impl Inside {
    async fn answer(&self, request: Request<Incoming>, about: &About) -> Response<Body> {
        let asked = cors::Origin::of(&self.master, &request, about);
        let permitted = matches!(&asked, Ok(cors::Asked::Request(origin)) if origin.is_permitted());
        let admitted = match self.pace(about).await {
            Ok(()) => self.admit_page(&request, permitted, about.peer).await,
            Err(busy) => Err(busy),
        };
        if let Err(error) = admitted {
            let (head, body) = request.into_parts();
            body::refuse(&head, body);
            return refusal(error);
        }
        let origin = match asked {
            Ok(cors::Asked::Preflight(answer)) => return *answer,
            Ok(cors::Asked::Request(origin)) => origin,
            Err(error) => return refusal(error),
        };
        let settings = &self.master.config.s3;
        let checked = guard::sort(settings, &self.ops.owner, &request, about);
        let mut answer = match checked {
            Ok(guard::Kind::Form) => form::receive(&self.ops, request, about).await.unwrap_or_else(refusal),
            Ok(guard::Kind::Other) => self.pass_on(request, about).await,
            Err(error) => {
                let (head, body) = request.into_parts();
                body::refuse(&head, body);
                refusal(error)
            }
        };
        origin.mark(answer.headers_mut());
        answer
    }

    /// Waits, when this peer has signed with many wrong secrets of this key.
    async fn pace(&self, about: &About) -> S3Result<()> {
        let Some(id) = about.claimed() else { return Ok(()) };
        self.master.keys().pace(id, about.peer).await.map_err(error::from_reply)
    }

    /// Counts a signature that is not good.
    async fn note_guess(&self, answer: Response<Body>, about: &About) -> Response<Body> {
        let Some(id) = about.claimed().filter(|_| answer.status() == http::StatusCode::FORBIDDEN) else {
            return answer;
        };
        let (answer, code) = finish::code_of(answer).await;
        if let Some(wrong) = code.as_deref().and_then(auth::wrong) {
            auth::note(&self.master.keys(), id, about.peer, wrong);
        }
        answer
    }

    /// While anybody may do anything, a browser may not be made to: `permitted` is what the bucket's own rules say of its page.
    async fn admit_page(&self, request: &Request<Incoming>, permitted: bool, peer: IpAddr) -> S3Result<()> {
        let sender = Sender { method: request.method(), headers: request.headers(), peer };
        let Err(why) = self.master.keys().if_open(sender, permitted) else { return Ok(()) };
        // Whether it is open now: the last key may have been revoked a moment ago on another master.
        self.ops.current().await?;
        match self.master.keys().nobody().map_err(error::from_tables)? {
            Caller::Open => Err(error::from_reply(why.into())),
            _ => Ok(()),
        }
    }

    /// Has the library answer. It asks for the body when signature and permission are good, and not before.
    async fn pass_on(&self, request: Request<Incoming>, about: &About) -> Response<Body> {
        let (mut head, incoming) = request.into_parts();
        lenient::join_metadata(&mut head.headers);
        if let Some(odd) = lenient::odd(&head).filter(|_| about.key.is_some()) {
            head.extensions.insert(odd);
        }
        let mut body = body::incoming(&head, incoming);
        let mut fault = document::Fault::default();
        if document::is_one(&head.method, &head.uri, about) {
            (body, fault) = document::guarded(&head, body, &self.places, about.peer);
        }
        let found = auth::FoundOperation::default();
        head.extensions.insert(found.clone());
        let answer = self.call(Request::from_parts(head, body)).await;
        if let Some(operation) = found.get() {
            about.found(operation);
        }
        if let Some(error) = fault.take() {
            return refusal(error);
        }
        if answer.status() == http::StatusCode::NOT_IMPLEMENTED
            && let Some((operation, needs)) = found.get().and_then(|o| Some((o, reference::needs(o)?)))
        {
            // The library says no more than that.
            return refusal(error::not_implemented(settings::message(operation, needs)));
        }
        xml::readable(found.get(), answer).await
    }

    async fn call(&self, request: Request<s3s::Body>) -> Response<Body> {
        match self.service.call(request).await {
            Ok(answer) => answer.map(outgoing),
            Err(e) => {
                tracing::error!(error = ?e, "a request by S3 failed in the library");
                refusal(s3s::S3ErrorCode::InternalError.into())
            }
        }
    }
}

fn outgoing(body: s3s::Body) -> Body {
    use http_body_util::BodyExt;
    body.boxed_unsync()
}

/// An error, as XML.
fn refusal(error: S3Error) -> Response<Body> {
    match error.to_http_response() {
        Ok(answer) => answer.map(outgoing),
        Err(error) => {
            tracing::error!(%error, "an error of S3 cannot be written");
            let mut answer = Response::new(ours::empty());
            *answer.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            answer
        }
    }
}

/// What everybody has anyway is taken; other access lists are not there.
fn refuse_acl(acl: Option<&str>) -> S3Result<()> {
    match acl {
        None | Some("private" | "bucket-owner-full-control") => Ok(()),
        Some(_) => Err(s3_error!(
            AccessControlListNotSupported,
            "The bucket does not allow ACLs: access keys say who may do what"
        )),
    }
}

/// The checksum that the client says a value in parts has, with its text.
fn declared_sum(input: &dto::CompleteMultipartUploadInput) -> S3Result<Option<(Algorithm, String)>> {
    let mut stated = [
        (Algorithm::Crc32, &input.checksum_crc32),
        (Algorithm::Crc32c, &input.checksum_crc32c),
        (Algorithm::Crc64Nvme, &input.checksum_crc64nvme),
        (Algorithm::Sha1, &input.checksum_sha1),
        (Algorithm::Sha256, &input.checksum_sha256),
    ]
    .into_iter()
    .filter_map(|(algorithm, text)| text.clone().map(|text| (algorithm, text)));
    let first = stated.next();
    if stated.next().is_some() {
        return Err(s3_error!(InvalidRequest, "Expecting a single x-amz-checksum- header"));
    }
    Ok(first)
}
