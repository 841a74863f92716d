//! Checks that everything a request asks for is supported: each header and parameter is in the reference of S3, and
//! unsupported ones are refused by name. A parameter that selects an operation must fit the method.

use http::header::{ALLOW, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::{Method, Request};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use shared::wire::routes::query_value;

use crate::config::S3Settings;
use crate::s3::checksums::algorithms::ALGORITHMS;
use crate::s3::error::{invalid, not_implemented};
use crate::s3::request::context::RequestContext;
use crate::s3::request::operation_name::{ResourceKind, operation_of};
use crate::s3::request::presigned_headers;
use crate::s3::request::presigned_headers::{PREFIX, decoded};
use crate::s3::request::supported::{Query, QueryScope, Refusal, Support, header, methods, query};

const TRAILER: &str = "x-amz-trailer";

/// Conditions that neither CreateMultipartUpload nor UploadPart supports; the completion does.
const CONDITIONS: [HeaderName; 2] = [IF_MATCH, IF_NONE_MATCH];

/// Checks the `x-amz-*` headers of a request.
pub fn headers<B>(settings: &S3Settings, request: &Request<B>, about: &RequestContext) -> S3Result<()> {
    let headers = request.headers();
    let hoisted = presigned_headers::of(request);
    for (name, value) in &hoisted {
        let there = headers.get(name).is_some_and(|header| header.as_bytes() == value.as_bytes());
        if !there {
            return Err(invalid(format!(
                "{name} in the query is not a valid header, or differs from the header of that name"
            )));
        }
    }
    if hoisted.is_empty()
        && !has_signature(request)
        && let Some((name, _)) = presigned_headers::x_amz_parameters(request.uri()).first()
    {
        return Err(invalid(format!(
            "{name} is in the query of a request that is not signed; send it as a header"
        )));
    }
    let (bucket, key) = (about.bucket.is_some(), about.key.is_some());
    let operation = operation_of(request.method(), request.uri().query(), headers, bucket, key);
    for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with(PREFIX)) {
        match header(name.as_str(), settings.noop) {
            Some(Support::By(operations)) if !operations.contains(&operation) => {
                return Err(not_implemented(format!("{operation} does not support {name}; leave it out")));
            }
            Some(Support::By(_)) => {}
            _ => field(settings, name.as_str(), value.to_str().unwrap_or_default())?,
        }
    }
    let condition = CONDITIONS.iter().find(|name| headers.contains_key(*name));
    if let Some(name) = condition.filter(|_| ["CreateMultipartUpload", "UploadPart"].contains(&operation)) {
        return Err(not_implemented(format!(
            "{operation} supports no conditions; send {name} when you complete the upload"
        )));
    }
    trailers(request)
}

fn has_signature<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(AUTHORIZATION)
        || query_value(request.uri().query(), "X-Amz-Signature").is_some()
}

/// Checks the headers of a form, which has its options in fields.
pub fn headers_of_form<B>(settings: &S3Settings, request: &Request<B>) -> S3Result<()> {
    let headers = request.headers();
    for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with(PREFIX)) {
        if matches!(header(name.as_str(), settings.noop), Some(Support::Done | Support::By(_))) {
            return Err(not_implemented(format!("{name} must be a field of the form, not a header")));
        }
        field(settings, name.as_str(), value.to_str().unwrap_or_default())?;
    }
    if headers.contains_key("content-md5") {
        return Err(not_implemented("Content-MD5 must be a field of the form, not a header"));
    }
    Ok(())
}

/// Checks one header, or the form field of that name.
pub fn field(settings: &S3Settings, name: &str, value: &str) -> S3Result<()> {
    match header(name, settings.noop) {
        Some(Support::Done | Support::By(_) | Support::AlwaysTrue) => Ok(()),
        Some(Support::Only(values, _)) if values.contains(&value) => Ok(()),
        Some(Support::Only(_, refusal)) => Err(refused(&format!("{name}: {value}"), refusal)),
        Some(Support::Refused(refusal)) => Err(refused(name, refusal)),
        None => Err(not_implemented(format!("{name} is unknown; leave it out"))),
    }
}

fn refused(name: &str, refusal: Refusal) -> S3Error {
    match refusal {
        Refusal::Missing(what) => {
            not_implemented(format!("{name} asks for {what}, which is not supported; leave it out"))
        }
        Refusal::AccessLists => s3_error!(
            AccessControlListNotSupported,
            "The bucket does not allow ACLs: {}; leave it out, and use the permissions of access keys",
            name
        ),
        Refusal::Classes => {
            s3_error!(InvalidStorageClass, "{}: STANDARD is the only supported storage class", name)
        }
        Refusal::Tokens => {
            s3_error!(InvalidToken, "Temporary credentials are not supported; omit x-amz-security-token")
        }
    }
}

/// Checks that the trailer announces one checksum, and nothing else, and that chunks are signed for: the library
/// stores those of a request without a signature with their framing.
fn trailers<B>(request: &Request<B>) -> S3Result<()> {
    let headers = request.headers();
    let announced = headers.get(TRAILER).map(|v| v.to_str().unwrap_or_default().to_ascii_lowercase());
    let payload = headers.get("x-amz-content-sha256").map_or(&b""[..], HeaderValue::as_bytes);
    if payload.starts_with(b"STREAMING-") && !has_signature(request) {
        return Err(invalid("A body in aws-chunked form needs a signature; send the value as it is"));
    }
    let comes = payload.starts_with(b"STREAMING-") && payload.ends_with(b"-TRAILER");
    if announced.as_ref().is_some_and(|names| !comes || names.contains(',')) {
        return Err(invalid(
            "x-amz-trailer must announce one checksum, and x-amz-content-sha256 must be STREAMING-…-TRAILER",
        ));
    }
    for name in announced.iter().flat_map(|names| names.split(',')).map(str::trim) {
        match header(name, false) {
            Some(Support::Done | Support::By(_)) if is_sum(name) => {}
            Some(Support::Refused(refusal)) => return Err(refused(name, refusal)),
            _ => return Err(not_implemented(format!("{name} is not supported in a trailer; leave it out"))),
        }
    }
    Ok(())
}

pub fn is_sum(name: &str) -> bool {
    ALGORITHMS.iter().any(|(_, header, _)| *header == name)
}

pub fn queries<B>(request: &Request<B>, about: &RequestContext) -> S3Result<()> {
    let method = request.method();
    let reads = [Method::GET, Method::HEAD].contains(method);
    let place = ResourceKind::of(about.bucket.is_some(), about.key.is_some());
    let mut seen = Vec::new();
    for pair in request.uri().query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let name = decoded(pair.split('=').next().unwrap_or_default());
        if name.to_ascii_lowercase().starts_with(PREFIX) {
            continue;
        }
        match query(&name) {
            Some(Query::Selects) => {
                let known = methods(place, &name);
                // The URL of an object may carry any parameter with a value.
                let idle = reads && known.is_empty() && place == ResourceKind::Object && !valueless(pair);
                if !known.contains(method) && !idle {
                    return Err(not_allowed(method, Some(&name), place, &known));
                }
            }
            Some(Query::Of(is)) if fits(is, method, place) => {}
            Some(Query::Of(QueryScope::Named)) if reads => {}
            Some(Query::Of(_)) => {
                return Err(not_implemented(format!("{method} does not support ?{name}; leave it out")));
            }
            Some(Query::Missing(what)) => {
                return Err(not_implemented(format!(
                    "?{name} asks for {what}, which is not supported; leave it out"
                )));
            }
            // A read may carry other parameters, against caches for instance, unless they look like an operation.
            None if reads && !(looks_like_one(&name) && valueless(pair)) => {}
            None => return Err(not_implemented(format!("?{name} is unknown; leave it out"))),
        }
        seen.push(name);
    }
    let has = |name: &str| seen.iter().any(|s| s == name);
    if *method == Method::PUT && has("versionId") && !has("tagging") {
        return Err(not_implemented("?versionId: PUT supports it for tags only; leave it out"));
    }
    if *method == Method::PUT && has("partNumber") != has("uploadId") {
        return Err(invalid("partNumber and uploadId must be sent together"));
    }
    Ok(())
}

/// Returns whether a name is letters and hyphens, as the parameters of S3 operations are, and not a hex digest.
fn looks_like_one(name: &str) -> bool {
    let letters = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
    letters && !name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn valueless(pair: &str) -> bool {
    pair.split_once('=').is_none_or(|(_, value)| value.is_empty())
}

fn fits(is: QueryScope, method: &Method, place: ResourceKind) -> bool {
    let reads = [Method::GET, Method::HEAD].contains(method);
    match is {
        QueryScope::Any => true,
        QueryScope::Read => reads,
        QueryScope::Part => reads || *method == Method::PUT && place == ResourceKind::Object,
        QueryScope::Version => {
            reads || [Method::PUT, Method::DELETE].contains(method) && place == ResourceKind::Object
        }
        QueryScope::Named => place == ResourceKind::Bucket,
    }
}

/// Returns the error of a method that the resource does not support; `known` are those that it does.
pub fn not_allowed(method: &Method, query: Option<&str>, place: ResourceKind, known: &[Method]) -> S3Error {
    let mut error: S3Error = S3ErrorCode::MethodNotAllowed.into();
    let what = match place {
        ResourceKind::Root => "the list of buckets",
        ResourceKind::Bucket => "a bucket",
        ResourceKind::Object => "an object",
    };
    let asked = query.map(|name| format!("?{name} of ")).unwrap_or_default();
    // A resource without this parameter supports its plain methods.
    let known = if known.is_empty() { plain_methods(place) } else { known };
    let names = known.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    error.set_message(format!("{method} is not allowed for {asked}{what}: see Allow. Nothing was changed."));
    if let Ok(value) = HeaderValue::from_str(&names) {
        error.set_headers(HeaderMap::from_iter([(ALLOW, value)]));
    }
    error
}

/// Returns the methods of a resource without a parameter that selects another operation.
pub fn plain_methods(place: ResourceKind) -> &'static [Method] {
    match place {
        ResourceKind::Root => &[Method::GET, Method::HEAD],
        ResourceKind::Bucket => &[Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE],
        ResourceKind::Object => &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE],
    }
}
