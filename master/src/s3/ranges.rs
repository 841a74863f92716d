//! Ranges that the library does not know: of other units, and several at once. S3 passes them over and sends the whole object
//! (RFC 9110, section 14.2). They may be signed, so they cannot be taken out before the signature was looked at.

use http::header::{AUTHORIZATION, RANGE};
use http::request::Parts;
use http::{Method, Request};
use s3s::Body;

use super::finish::About;

/// Whether a request has a range that is not `bytes=first-last` or the like.
pub fn odd(head: &Parts) -> bool {
    let Some(range) = head.headers.get(RANGE) else { return false };
    let known = range.to_str().ok().is_some_and(|text| s3s::dto::Range::parse(text).is_ok());
    !known && [Method::GET, Method::HEAD].contains(&head.method)
}

/// The same request without its range and signature, for who has let it through before.
pub fn without(head: &Parts, about: &About) -> Option<Request<Body>> {
    about.key.as_ref()?;
    let kept = head.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.starts_with("X-Amz-"));
    let query = kept.filter(|pair| !pair.is_empty()).collect::<Vec<_>>().join("&");
    let path = head.uri.path();
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let mut request = Request::builder().method(head.method.clone()).uri(target).body(Body::empty()).ok()?;
    *request.headers_mut() = head.headers.clone();
    request.headers_mut().remove(RANGE);
    request.headers_mut().remove(AUTHORIZATION);
    Some(request)
}
