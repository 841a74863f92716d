//! The S3 face beside an audit log: each request has its line, answered or refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use shared::http::body::{self, Body};
use shared::http::serve::Context;
use shared::wire::error::ErrorReply;

use super::Inside;
use super::asked::asked_for;
use super::finish::About;
use super::refused::render;
use crate::audit::Audit;
use crate::audit::line::Line;
use crate::auth::guesses::shown;

/// Answers a request, and notes it.
pub(super) async fn answer(
    inside: Option<&Inside>,
    audit: &Audit,
    request: Request<Incoming>,
    about: &About,
    context: Context,
) -> Result<Response<Body>, ErrorReply> {
    let (bucket, key) = (about.bucket.as_deref(), about.key.as_deref());
    let operation = asked_for(
        request.method(),
        request.uri().query(),
        request.headers(),
        bucket.is_some(),
        key.is_some(),
    );
    let underway = audit.begin(Line::new("s3", operation, context, audit.now()).about(bucket, key), false);
    let received = Arc::<AtomicU64>::default();
    let answering = Box::pin(super::answer(inside, request, about));
    let answer = body::receiving(Arc::clone(&received), answering).await;
    let answer = answer.unwrap_or_else(|refusal| render(refusal, context.request_id));
    let Some(mut line) = underway.end() else { return Ok(answer) };
    line.operation = about.operation().unwrap_or(line.operation);
    // A form has said it by now.
    line.access_key = about.claimed().map(|id| match inside {
        Some(inside) => inside.master.keys().shown(id),
        None => shown(id, false),
    });
    line.status = answer.status().as_u16();
    line.bytes_in = received.load(Ordering::Relaxed);
    Ok(audit.watch(line, answer))
}
