//! Headers with values that the library refuses and S3 accepts or ignores: dates in older formats, lists of entity
//! tags, ranges in other units (RFC 9110, sections 5.6.7, 13.1 and 14.2), an `Expires` that is not a date.
//!
//! They may be signed, so they stay until the library has verified the signature. It then hands the request to a
//! route of ours, with its body verified and decoded. The route calls the library again, without these headers and
//! the signature, and passes on who signed. The operations read the headers of the original request.

use http::header::{AUTHORIZATION, HeaderName};
use http::request::Parts;
use http::{Extensions, HeaderMap, Method, Request, Uri};
use s3s::dto::{ETagCondition, Timestamp, TimestampFormat};
use s3s::route::S3Route;
use s3s::service::S3Service;
use s3s::{Body, S3ErrorCode, S3Request, S3Response, S3Result, TrailingHeaders};

use crate::s3::request::presigned_headers;

/// Headers of a request that the library cannot read.
#[derive(Clone, Debug)]
pub struct UnreadableHeaders(Vec<HeaderName>);

/// The headers of a request as it came.
#[derive(Clone, Debug)]
struct OriginalHeaders(HeaderMap);

/// Who signed a request in its second pass; none: nobody.
#[derive(Clone, Debug)]
pub struct ProvedSigner(pub Option<String>);

#[derive(Clone, Debug)]
struct OriginalTrailers(TrailingHeaders);

/// The requests for which a header is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AppliesTo {
    Reads,
    Writes,
    Any,
}

/// Whether the library can read a value.
type Readable = fn(&str) -> bool;

/// Headers that may be unreadable, each with the check.
const READABLE: [(&str, AppliesTo, Readable); 10] = [
    ("expires", AppliesTo::Writes, is_date),
    ("if-match", AppliesTo::Any, is_tag),
    ("if-modified-since", AppliesTo::Reads, is_date),
    ("if-none-match", AppliesTo::Any, is_tag),
    ("if-unmodified-since", AppliesTo::Reads, is_date),
    ("range", AppliesTo::Reads, is_range),
    ("x-amz-copy-source-if-match", AppliesTo::Writes, is_tag),
    ("x-amz-copy-source-if-modified-since", AppliesTo::Writes, is_date),
    ("x-amz-copy-source-if-none-match", AppliesTo::Writes, is_tag),
    ("x-amz-copy-source-if-unmodified-since", AppliesTo::Writes, is_date),
];

pub fn unreadable_headers(head: &Parts) -> Option<UnreadableHeaders> {
    let of =
        if [Method::GET, Method::HEAD].contains(&head.method) { AppliesTo::Reads } else { AppliesTo::Writes };
    let odd = |(name, when, good): &(&'static str, AppliesTo, Readable)| {
        let value = head.headers.get(*name).filter(|_| *when == of || *when == AppliesTo::Any)?;
        let one = head.headers.get_all(*name).iter().count() == 1;
        let readable = one && value.to_str().is_ok_and(good);
        (!readable).then(|| HeaderName::from_static(name))
    };
    let found: Vec<HeaderName> = READABLE.iter().filter_map(odd).collect();
    (!found.is_empty()).then_some(UnreadableHeaders(found))
}

fn is_date(text: &str) -> bool {
    Timestamp::parse(TimestampFormat::HttpDate, text).is_ok()
}

fn is_tag(text: &str) -> bool {
    ETagCondition::parse_http_header(text.as_bytes()).is_ok()
}

fn is_range(text: &str) -> bool {
    s3s::dto::Range::parse(text).is_ok()
}

/// The headers of a request as it came.
pub fn original_headers<T>(req: &S3Request<T>) -> &HeaderMap {
    req.extensions.get::<OriginalHeaders>().map_or(&req.headers, |came| &came.0)
}

pub fn trailers<T>(req: &mut S3Request<T>) -> Option<TrailingHeaders> {
    req.trailing_headers.take().or_else(|| req.extensions.get::<OriginalTrailers>().map(|t| t.0.clone()))
}

/// Calls the library a second time.
pub struct SecondPass {
    /// Sees no signature, and checks permissions for the signer of the first pass.
    pub service: S3Service,
}

#[async_trait::async_trait]
impl S3Route for SecondPass {
    fn is_match(&self, _: &Method, _: &Uri, _: &HeaderMap, extensions: &mut Extensions) -> bool {
        extensions.get::<UnreadableHeaders>().is_some()
    }

    /// The second pass checks permissions, as for every request.
    async fn check_access(&self, _: &mut S3Request<Body>) -> S3Result<()> {
        Ok(())
    }

    async fn call(&self, mut req: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let odd = req.extensions.remove::<UnreadableHeaders>().ok_or(S3ErrorCode::InternalError)?;
        let proved = ProvedSigner(req.credentials.take().map(|shown| shown.access_key));
        let mut request = Request::new(req.input);
        *request.method_mut() = req.method;
        *request.uri_mut() = unsigned(&req.uri).ok_or(S3ErrorCode::InvalidURI)?;
        *request.extensions_mut() = req.extensions;
        request.extensions_mut().insert(proved);
        request.extensions_mut().insert(OriginalHeaders(req.headers.clone()));
        if let Some(trailers) = req.trailing_headers {
            request.extensions_mut().insert(OriginalTrailers(trailers));
        }
        *request.headers_mut() = req.headers;
        // The body has been verified against it.
        let digest = HeaderName::from_static("x-amz-content-sha256");
        for name in odd.0.iter().chain([&AUTHORIZATION, &digest]) {
            request.headers_mut().remove(name);
        }
        let answer = self.service.call(request).await.map_err(|e| {
            tracing::error!(error = ?e, "the S3 library failed to answer a request");
            S3ErrorCode::InternalError
        })?;
        let (head, body) = answer.into_parts();
        let mut again = S3Response::with_status(body, head.status);
        again.headers = head.headers;
        Ok(again)
    }
}

/// Returns the URL without the signature and the headers in its query, which are headers by now.
fn unsigned(uri: &Uri) -> Option<Uri> {
    let name = |pair: &&str| {
        presigned_headers::decoded(pair.split('=').next().unwrap_or_default()).to_ascii_lowercase()
    };
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let query =
        pairs.filter(|pair| !name(pair).starts_with(presigned_headers::PREFIX)).collect::<Vec<_>>().join("&");
    let target = if query.is_empty() { uri.path().to_owned() } else { format!("{}?{query}", uri.path()) };
    target.parse().ok()
}

/// Joins user metadata in several lines into one, with commas: that is how it was signed.
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
