//! Headers that the library refuses and S3 passes over: ranges of other units, several at once, and dates that are none (RFC
//! 9110, sections 13.1.3 and 14.2). They may be signed, so they cannot be taken out before the signature was looked at.

use http::header::{AUTHORIZATION, HeaderName, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, RANGE};
use http::request::Parts;
use http::{HeaderMap, Method, Request};
use s3s::Body;

use super::finish::About;

/// Headers of a read that are passed over.
pub fn odd(head: &Parts) -> Vec<HeaderName> {
    if ![Method::GET, Method::HEAD].contains(&head.method) {
        return Vec::new();
    }
    let text = |name: &HeaderName| head.headers.get(name).map(|v| v.to_str().unwrap_or_default());
    let range = text(&RANGE).filter(|range| s3s::dto::Range::parse(range).is_err()).map(|_| RANGE);
    let dates = [IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];
    let no_date = |name: &HeaderName| text(name).is_some_and(|date| httpdate::parse_http_date(date).is_err());
    range.into_iter().chain(dates.into_iter().filter(no_date)).collect()
}

/// The same request without them and without its signature, for who has let it through before.
pub fn without(head: &Parts, odd: &[HeaderName], about: &About) -> Option<Request<Body>> {
    about.key.as_ref().filter(|_| !odd.is_empty())?;
    let kept = head.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.starts_with("X-Amz-"));
    let query = kept.filter(|pair| !pair.is_empty()).collect::<Vec<_>>().join("&");
    let path = head.uri.path();
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let mut request = Request::builder().method(head.method.clone()).uri(target).body(Body::empty()).ok()?;
    *request.headers_mut() = head.headers.clone();
    odd.iter().chain([&AUTHORIZATION]).for_each(|name| drop(request.headers_mut().remove(name)));
    Some(request)
}

/// User metadata that was sent in several lines is one, with commas: so it was signed.
pub fn join_metadata(headers: &mut HeaderMap) {
    let several: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-amz-meta-") && headers.get_all(*name).iter().count() > 1)
        .cloned()
        .collect();
    for name in several {
        let lines: Vec<_> = headers.get_all(&name).iter().map(|v| v.as_bytes().trim_ascii()).collect();
        if let Ok(joined) = http::HeaderValue::from_bytes(&lines.join(&b","[..])) {
            headers.insert(name, joined);
        }
    }
}
