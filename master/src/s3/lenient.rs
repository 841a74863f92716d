//! Headers whose values the library refuses, and S3 takes or passes over: dates in the older forms, lists of entity tags, ranges
//! of other units (RFC 9110, sections 5.6.7, 13.1 and 14.2), an `Expires` that is no date.
//!
//! They may be signed, so they cannot be taken out before the library has proved the signature. It hands such a request to a
//! route of ours then, with its body proved and decoded; the route asks once more, without them and without the signature,
//! and says who was proved. The operations read them from the request as it came.

use http::header::{AUTHORIZATION, HeaderName};
use http::request::Parts;
use http::{Extensions, HeaderMap, Method, Request, Uri};
use s3s::dto::{ETagCondition, Timestamp, TimestampFormat};
use s3s::route::S3Route;
use s3s::service::S3Service;
use s3s::{Body, S3ErrorCode, S3Request, S3Response, S3Result, TrailingHeaders};

use super::hoisted;

/// Headers that the library cannot read, of a request that it is given.
#[derive(Clone, Debug)]
pub struct Odd(Vec<HeaderName>);

/// The headers of a request as it came.
#[derive(Clone, Debug)]
struct Came(HeaderMap);

/// Who has signed a request that is asked once more; none: nobody.
#[derive(Clone, Debug)]
pub struct Proved(pub Option<String>);

/// What came behind the body of such a request.
#[derive(Clone, Debug)]
struct Trailed(TrailingHeaders);

/// Of which requests a header is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Reads,
    Writes,
    Any,
}

/// Whether the library can read a value.
type Readable = fn(&str) -> bool;

/// What may be odd: whether the library can read a value.
const READABLE: [(&str, Of, Readable); 10] = [
    ("expires", Of::Writes, is_date),
    ("if-match", Of::Any, is_tag),
    ("if-modified-since", Of::Reads, is_date),
    ("if-none-match", Of::Any, is_tag),
    ("if-unmodified-since", Of::Reads, is_date),
    ("range", Of::Reads, is_range),
    ("x-amz-copy-source-if-match", Of::Writes, is_tag),
    ("x-amz-copy-source-if-modified-since", Of::Writes, is_date),
    ("x-amz-copy-source-if-none-match", Of::Writes, is_tag),
    ("x-amz-copy-source-if-unmodified-since", Of::Writes, is_date),
];

/// The headers that the library cannot read.
pub fn odd(head: &Parts) -> Option<Odd> {
    let of = if [Method::GET, Method::HEAD].contains(&head.method) { Of::Reads } else { Of::Writes };
    let odd = |(name, when, good): &(&'static str, Of, Readable)| {
        let value = head.headers.get(*name).filter(|_| *when == of || *when == Of::Any)?;
        let one = head.headers.get_all(*name).iter().count() == 1;
        let readable = one && value.to_str().is_ok_and(good);
        (!readable).then(|| HeaderName::from_static(name))
    };
    let found: Vec<HeaderName> = READABLE.iter().filter_map(odd).collect();
    (!found.is_empty()).then_some(Odd(found))
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
pub fn came<T>(req: &S3Request<T>) -> &HeaderMap {
    req.extensions.get::<Came>().map_or(&req.headers, |came| &came.0)
}

/// What came behind the body.
pub fn trailers<T>(req: &mut S3Request<T>) -> Option<TrailingHeaders> {
    req.trailing_headers.take().or_else(|| req.extensions.get::<Trailed>().map(|t| t.0.clone()))
}

/// Asks once more.
pub struct Again {
    /// It finds no signature, and asks who may do it.
    pub service: S3Service,
}

#[async_trait::async_trait]
impl S3Route for Again {
    fn is_match(&self, _: &Method, _: &Uri, _: &HeaderMap, extensions: &mut Extensions) -> bool {
        extensions.get::<Odd>().is_some()
    }

    /// The other service asks who may do it, as for every request.
    async fn check_access(&self, _: &mut S3Request<Body>) -> S3Result<()> {
        Ok(())
    }

    async fn call(&self, mut req: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let odd = req.extensions.remove::<Odd>().ok_or(S3ErrorCode::InternalError)?;
        let proved = Proved(req.credentials.take().map(|shown| shown.access_key));
        let mut request = Request::new(req.input);
        *request.method_mut() = req.method;
        *request.uri_mut() = unsigned(&req.uri).ok_or(S3ErrorCode::InvalidURI)?;
        *request.extensions_mut() = req.extensions;
        request.extensions_mut().insert(proved);
        request.extensions_mut().insert(Came(req.headers.clone()));
        if let Some(trailers) = req.trailing_headers {
            request.extensions_mut().insert(Trailed(trailers));
        }
        *request.headers_mut() = req.headers;
        // The body has been compared with it.
        let digest = HeaderName::from_static("x-amz-content-sha256");
        for name in odd.0.iter().chain([&AUTHORIZATION, &digest]) {
            request.headers_mut().remove(name);
        }
        let answer = self.service.call(request).await.map_err(|e| {
            tracing::error!(error = ?e, "a request by S3 failed in the library");
            S3ErrorCode::InternalError
        })?;
        let (head, body) = answer.into_parts();
        let mut again = S3Response::with_status(body, head.status);
        again.headers = head.headers;
        Ok(again)
    }
}

/// The address without the signature and what it covers: headers they are by now.
fn unsigned(uri: &Uri) -> Option<Uri> {
    let name =
        |pair: &&str| hoisted::decoded(pair.split('=').next().unwrap_or_default()).to_ascii_lowercase();
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let query = pairs.filter(|pair| !name(pair).starts_with(hoisted::PREFIX)).collect::<Vec<_>>().join("&");
    let target = if query.is_empty() { uri.path().to_owned() } else { format!("{}?{query}", uri.path()) };
    target.parse().ok()
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
