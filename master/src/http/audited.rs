//! The native API with an audit log: each request gets a line, answered or refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::http::body::{self, Body};
use shared::http::serve::{Context, render};
use shared::wire::error::ErrorReply;
use shared::wire::routes::ANSWER_HEADER;

use super::NativeApi;
use crate::audit::Audit;
use crate::audit::line::{Kind, Line, kind, place};

/// Calls between servers get no line, unless they were refused with one of these.
const STRANGERS: [StatusCode; 2] = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];

/// Answers a request and writes its audit line.
pub(super) async fn answer(
    api: &NativeApi,
    audit: &Audit,
    request: Request<Incoming>,
    context: Context,
) -> Result<Response<Body>, ErrorReply> {
    let kind = kind(request.method(), request.uri().path(), request.uri().query());
    let operation = match kind {
        Kind::Watching => return api.answer(request, context).await,
        Kind::Internal => "CallBetweenServers",
        Kind::Values(name) | Kind::Administration(name) => name,
    };
    let (bucket, key) = place(&request);
    let mut line = Line::new("native", operation, context, audit.now());
    line = line.about(bucket.as_deref(), key.as_deref());
    line.access_key = api.masters_api.keys().claimed(request.headers());
    let underway = audit.begin(line, kind == Kind::Internal);
    let received = Arc::<AtomicU64>::default();
    let answering = Box::pin(api.answer(request, context));
    let answer = body::receiving(Arc::clone(&received), answering).await;
    let answer = answer.unwrap_or_else(|refusal| render(refusal, context.request_id));
    let Some(mut line) = underway.end() else { return Ok(answer) };
    if kind == Kind::Internal && !STRANGERS.contains(&answer.status()) {
        return Ok(answer);
    }
    line.status = answer.status().as_u16();
    line.bytes_in = received.load(Ordering::Relaxed);
    // Only calls with a valid signature are answered with a signature.
    line.cluster_secret = answer.headers().contains_key(ANSWER_HEADER);
    Ok(audit.watch(line, answer))
}
