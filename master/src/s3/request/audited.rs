//! The S3 API with an audit log: each request gets a line, whether it is answered or refused.

use crate::s3::service::JoinedMaster;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use shared::http::body::{self, Body};
use shared::http::serve::Context;
use shared::wire::error::ErrorReply;

use crate::audit::Audit;
use crate::audit::line::Line;
use crate::auth::brute_force::shown;

use crate::s3::request::context::RequestContext;
use crate::s3::request::early_refusal::render_refusal;
use crate::s3::request::operation_name::operation_of;

pub(in crate::s3) async fn answer(
    inside: Option<&JoinedMaster>,
    audit: &Audit,
    request: Request<Incoming>,
    about: &RequestContext,
    context: Context,
) -> Result<Response<Body>, ErrorReply> {
    let (bucket, key) = (about.bucket.as_deref(), about.key.as_deref());
    let operation = operation_of(
        request.method(),
        request.uri().query(),
        request.headers(),
        bucket.is_some(),
        key.is_some(),
    );
    let underway = audit.begin(Line::new("s3", operation, context, audit.now()).about(bucket, key), false);
    let received = Arc::<AtomicU64>::default();
    let answering = Box::pin(crate::s3::service::answer(inside, request, about));
    let answer = body::receiving(Arc::clone(&received), answering).await;
    let answer = answer.unwrap_or_else(|refusal| render_refusal(refusal, context.request_id));
    let Some(mut line) = underway.end() else { return Ok(answer) };
    line.operation = about.operation().unwrap_or(line.operation);
    // A form names the key in its body, which has been read by now.
    line.access_key = about.claimed_key_id().map(|id| match inside {
        Some(inside) => inside.ops.keys().shown(id),
        None => shown(id, false),
    });
    line.status = answer.status().as_u16();
    line.bytes_in = received.load(Ordering::Relaxed);
    Ok(audit.watch(line, answer))
}
