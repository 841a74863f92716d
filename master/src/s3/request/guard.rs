//! Refuses what the library would accept, or would refuse with other errors than S3: signatures of version 2,
//! presigned URLs that are valid for longer than S3 permits, other regions, unsigned headers, and unsupported
//! features. Refuses before a byte of the body is read.

use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, TRANSFER_ENCODING,
};
use http::{Method, Request, StatusCode};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use shared::wire::routes::query_value;

use crate::config::S3Settings;
use crate::s3::documents;
use crate::s3::error::{custom, invalid};
use crate::s3::request::context::RequestContext;
use crate::s3::request::operation_name::ResourceKind;
use crate::s3::request::permissions::SELECTING;
use crate::s3::request::presigned_headers;
pub use signed::region_is_ours;
use signed::{Authorization, covered, dated, scope};

/// Longest validity of a presigned URL: seven days (S3's limit).
const EXPIRES_SECS_MAX: u64 = 7 * 24 * 3600;
/// Parameters that a presigned URL of version 4 must have.
const NEEDED: [&str; 5] =
    ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders"];
/// Parameters of a signature in the query.
pub const SIGNING: [&str; 6] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
];
/// Headers of S3 that are lists and may span several lines. So may user metadata, whose lines are joined.
const LISTS: [&str; 2] = ["x-amz-object-attributes", "x-amz-optional-object-attributes"];
const FORM: &str = "multipart/form-data";
/// Who answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// An HTML form for a bucket: answered by `post_form`, never by the library.
    Form,
    /// Any other request: answered by the library.
    Other,
}

/// Checks a request and returns its kind.
pub fn check_request<B>(
    settings: &S3Settings,
    owner: &str,
    request: &Request<B>,
    about: &RequestContext,
) -> S3Result<RequestKind> {
    check_single_headers(request)?;
    match kind(request, about)? {
        RequestKind::Form => {
            alone(request)?;
            check_expected_owner(owner, request)?;
            known::headers_of_form(settings, request).map(|()| RequestKind::Form)
        }
        RequestKind::Other => check(settings, owner, request, about).map(|()| RequestKind::Other),
    }
}

/// Returns whether a request is a form. The library reads a unique `Content-Type` as UTF-8, in any case, and takes
/// every POST of the type `multipart/form-data` for a form. What it could read as one and we could not is refused.
fn kind<B>(request: &Request<B>, about: &RequestContext) -> S3Result<RequestKind> {
    if *request.method() != Method::POST {
        return Ok(RequestKind::Other);
    }
    let Some(kind) = request.headers().get(CONTENT_TYPE) else { return Ok(RequestKind::Other) };
    #[cfg(test)]
    if planted::is(planted::Mistake::FormsAreAscii) && kind.to_str().is_err() {
        return Ok(RequestKind::Other);
    }
    let kind = kind.to_str().map_err(|_| s3_error!(InvalidRequest, "The Content-Type is not ASCII"))?;
    if !kind.trim_start().to_ascii_lowercase().starts_with(FORM) {
        return Ok(RequestKind::Other);
    }
    let place = ResourceKind::of(about.bucket.is_some(), about.key.is_some());
    if place != ResourceKind::Bucket {
        Err(not_allowed(request.method(), place))
    } else {
        Ok(RequestKind::Form)
    }
}

/// Checks that a form has no signature or query outside its fields.
fn alone<B>(request: &Request<B>) -> S3Result<()> {
    if request.headers().contains_key(AUTHORIZATION) || SIGNING.iter().any(|n| has(request, n)) {
        return Err(two_mechanisms());
    }
    if request.uri().query().is_some_and(|query| !query.is_empty()) {
        return Err(invalid("A form must be sent without a query"));
    }
    Ok(())
}

/// Refuses duplicate headers and parameters, which could be read in two ways.
fn check_single_headers<B>(request: &Request<B>) -> S3Result<()> {
    let headers = request.headers();
    let several = |name: &HeaderName| headers.get_all(name).iter().count() > 1;
    let single = |name: &HeaderName| {
        let name = name.as_str();
        let list = name.starts_with("x-amz-meta-") || LISTS.contains(&name);
        [HOST.as_str(), CONTENT_TYPE.as_str()].contains(&name) || name.starts_with("x-amz-") && !list
    };
    if let Some(name) = headers.keys().find(|name| single(name) && several(name)) {
        return Err(invalid(format!("The header {name} appears twice")));
    }
    let mut seen = Vec::new();
    for pair in request.uri().query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let raw = pair.split('=').next().unwrap_or_default();
        let mut name = presigned_headers::decoded(raw);
        let signing = SIGNING.iter().find(|known| known.eq_ignore_ascii_case(&name));
        if signing.is_some_and(|known| *known != raw) {
            return Err(parameters("The name of a signature parameter is escaped or in the wrong case"));
        }
        // They stand for headers, whose case does not matter.
        if name.to_ascii_lowercase().starts_with(presigned_headers::PREFIX) {
            name.make_ascii_lowercase();
        }
        if seen.contains(&name) {
            return Err(invalid(format!("The query parameter {name} appears twice")));
        }
        seen.push(name);
    }
    Ok(())
}

fn has<B>(request: &Request<B>, name: &str) -> bool {
    query_value(request.uri().query(), name).is_some()
}

fn two_mechanisms() -> S3Error {
    invalid(
        "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified",
    )
}

/// Refuses an expected owner other than ours.
fn check_expected_owner<B>(owner: &str, request: &Request<B>) -> S3Result<()> {
    let names = ["x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"];
    let other = |name| text(request.headers(), name).is_some_and(|expected| expected != owner);
    if names.into_iter().any(other) { Err(s3_error!(AccessDenied, "Access Denied")) } else { Ok(()) }
}

/// Checks a request that is not a form.
fn check<B>(
    settings: &S3Settings,
    owner: &str,
    request: &Request<B>,
    about: &RequestContext,
) -> S3Result<()> {
    let (query, headers) = (request.uri().query(), request.headers());
    let authorization = text(headers, AUTHORIZATION.as_str());
    let old = ["AWSAccessKeyId", "Signature"].iter().any(|name| query_value(query, name).is_some());
    if old || authorization.is_some_and(|a| a.starts_with("AWS ")) {
        return Err(s3_error!(
            InvalidRequest,
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
        ));
    }
    let presigned = query_value(query, "X-Amz-Signature").is_some();
    if headers.get_all(AUTHORIZATION).iter().count() + usize::from(presigned) > 1 {
        return Err(two_mechanisms());
    }
    if presigned {
        check_presigned_url(query)?;
        let credential = query_value(query, "X-Amz-Credential").unwrap_or_default();
        scope(settings, &credential, true)?;
        let names = query_value(query, "X-Amz-SignedHeaders").unwrap_or_default();
        covered(request, &names, true)?;
    } else if SIGNING.iter().any(|name| query_value(query, name).is_some()) {
        return Err(parameters("X-Amz-Signature is missing"));
    }
    if let Some(text) = authorization {
        let parsed = Authorization::parse(text)?;
        scope(settings, parsed.credential, false)?;
        dated(headers)?;
        covered(request, parsed.names, false)?;
    }
    check_expected_owner(owner, request)?;
    if SELECTING.iter().filter(|name| has(request, name)).count() > 1 {
        return Err(invalid("The query parameters name two different operations"));
    }
    known::headers(settings, request, about)?;
    known::queries(request, about)?;
    let payload = text(headers, "x-amz-content-sha256").unwrap_or_default();
    if payload.starts_with("STREAMING-") && documents::is_document(request.method(), request.uri(), about) {
        return Err(invalid(
            "An XML document must not be sent in chunks: sign it as a whole, or send UNSIGNED-PAYLOAD",
        ));
    }
    check_supported(request, about)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|v| v.to_str().unwrap_or_default())
}

fn parameters(message: &'static str) -> S3Error {
    custom("AuthorizationQueryParametersError", StatusCode::BAD_REQUEST, message)
}

pub(in crate::s3) fn malformed(message: impl Into<String>) -> S3Error {
    S3Error::with_message(S3ErrorCode::AuthorizationHeaderMalformed, message.into())
}

/// Checks that a presigned URL is complete, and not valid for too long.
fn check_presigned_url(query: Option<&str>) -> S3Result<()> {
    if NEEDED.iter().any(|name| query_value(query, name).is_none()) {
        return Err(parameters(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        ));
    }
    let text = query_value(query, "X-Amz-Expires").unwrap_or_default();
    if text.starts_with('-') {
        return Err(parameters("X-Amz-Expires must be non-negative"));
    }
    match text.parse::<u64>() {
        Ok(secs) if secs <= EXPIRES_SECS_MAX => Ok(()),
        Ok(_) => Err(parameters(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
        )),
        Err(_) => Err(parameters("X-Amz-Expires should be a number")),
    }
}

/// Checks that the resource supports what is asked for.
fn check_supported<B>(request: &Request<B>, about: &RequestContext) -> S3Result<()> {
    let (query, headers, method) = (request.uri().query(), request.headers(), request.method());
    let place = ResourceKind::of(about.bucket.is_some(), about.key.is_some());
    if let Some(source) = text(headers, "x-amz-copy-source") {
        let path = source.split("?versionId=").next().unwrap_or_default().trim_start_matches('/');
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        if decoded.split_once('/').is_none_or(|(bucket, key)| bucket.is_empty() || key.is_empty()) {
            return Err(invalid(
                "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            ));
        }
    }
    if query_value(query, "attributes").is_some() && !headers.contains_key("x-amz-object-attributes") {
        return Err(invalid("The x-amz-object-attributes header is missing"));
    }
    if about.key.is_some() {
        if *method == Method::POST && !SELECTING.iter().any(|name| has(request, name)) {
            return Err(not_allowed(method, place));
        }
        if let Some(number) = query_value(query, "partNumber") {
            let known = number.parse::<i64>().is_ok_and(|n| (1..=10_000).contains(&n));
            if !known {
                return Err(invalid("Part number must be an integer between 1 and 10000, inclusive"));
            }
        }
        let unsized_put = *method == Method::PUT
            && !headers.contains_key(CONTENT_LENGTH)
            && !headers.contains_key(TRANSFER_ENCODING)
            && !headers.contains_key("x-amz-copy-source");
        if unsized_put {
            return Err(s3_error!(MissingContentLength, "You must provide the Content-Length HTTP header."));
        }
    }
    let posts = *method == Method::POST && place == ResourceKind::Object;
    if known::plain_methods(place).contains(method) || posts {
        Ok(())
    } else {
        Err(not_allowed(method, place))
    }
}

fn not_allowed(method: &Method, place: ResourceKind) -> S3Error {
    known::not_allowed(method, None, place, known::plain_methods(place))
}

#[cfg(test)]
mod fuzz;
pub mod known;
#[cfg(test)]
mod planted;
mod signed;
#[cfg(test)]
mod tests;
