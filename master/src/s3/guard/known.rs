//! Whether all that a request asks for is done: each header and query of S3's reference is known, and what is not there is
//! refused by its name. A query that selects an operation has one for the method.

use http::header::{ALLOW, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::{Method, Request};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use shared::wire::routes::query_value;

use super::super::algorithms::ALGORITHMS;
use super::super::asked::{Place, asked_for};
use super::super::error::{invalid, not_implemented};
use super::super::finish::About;
use super::super::hoisted::{self, PREFIX, decoded};
use super::super::reference::{Answer, Is, Query, Refusal, header, methods, query};
use crate::config::S3Settings;

/// A header whose value is a list of others that come behind the body.
const TRAILER: &str = "x-amz-trailer";

/// Conditions that beginning an upload, and a part of one, do not have: its completion does.
const CONDITIONS: [HeaderName; 2] = [IF_MATCH, IF_NONE_MATCH];

/// Looks at the headers of S3 that a request has.
pub fn headers<B>(settings: &S3Settings, request: &Request<B>, about: &About) -> S3Result<()> {
    let headers = request.headers();
    let hoisted = hoisted::of(request);
    for (name, value) in &hoisted {
        let there = headers.get(name).is_some_and(|header| header.as_bytes() == value.as_bytes());
        if !there {
            return Err(invalid(format!(
                "{name} stands in the query, and is no header or stands in one with another value"
            )));
        }
    }
    if hoisted.is_empty()
        && !has_signature(request)
        && let Some((name, _)) = hoisted::asked(request.uri()).first()
    {
        return Err(invalid(format!(
            "{name} stands in the query of a request that is not signed; send it as a header"
        )));
    }
    let (bucket, key) = (about.bucket.is_some(), about.key.is_some());
    let operation = asked_for(request.method(), request.uri().query(), headers, bucket, key);
    for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with(PREFIX)) {
        match header(name.as_str(), settings.noop) {
            Some(Answer::By(operations)) if !operations.contains(&operation) => {
                return Err(not_implemented(format!("{operation} does nothing with {name}; leave it out")));
            }
            Some(Answer::By(_)) => {}
            _ => field(settings, name.as_str(), value.to_str().unwrap_or_default())?,
        }
    }
    let condition = CONDITIONS.iter().find(|name| headers.contains_key(*name));
    if let Some(name) = condition.filter(|_| ["CreateMultipartUpload", "UploadPart"].contains(&operation)) {
        return Err(not_implemented(format!(
            "{operation} knows no condition: send {name} when you complete the upload"
        )));
    }
    trailers(headers)
}

fn has_signature<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(AUTHORIZATION)
        || query_value(request.uri().query(), "X-Amz-Signature").is_some()
}

/// The headers of a form: what it asks for stands in its fields.
pub fn headers_of_form<B>(settings: &S3Settings, request: &Request<B>) -> S3Result<()> {
    let headers = request.headers();
    for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with(PREFIX)) {
        if matches!(header(name.as_str(), settings.noop), Some(Answer::Done | Answer::By(_))) {
            return Err(not_implemented(format!("{name} is a header, and a form has fields: put it there")));
        }
        field(settings, name.as_str(), value.to_str().unwrap_or_default())?;
    }
    if headers.contains_key("content-md5") {
        return Err(not_implemented("Content-MD5 is a header, and a form has fields: put it there"));
    }
    Ok(())
}

/// Looks at one of them, or at a form's field of that name.
pub fn field(settings: &S3Settings, name: &str, value: &str) -> S3Result<()> {
    match header(name, settings.noop) {
        Some(Answer::Done | Answer::By(_) | Answer::Holds) => Ok(()),
        Some(Answer::Only(values, _)) if values.contains(&value) => Ok(()),
        Some(Answer::Only(_, refusal)) => Err(refused(&format!("{name}: {value}"), refusal)),
        Some(Answer::Refused(refusal)) => Err(refused(name, refusal)),
        None => Err(not_implemented(format!("{name} is not known here; leave it out"))),
    }
}

fn refused(name: &str, refusal: Refusal) -> S3Error {
    match refusal {
        Refusal::Missing(what) => {
            not_implemented(format!("{name} asks for {what}, which this store does not have; leave it out"))
        }
        Refusal::AccessLists => s3_error!(
            AccessControlListNotSupported,
            "The bucket does not allow ACLs: {}; access keys say who may do what, so leave it out",
            name
        ),
        Refusal::Classes => {
            s3_error!(InvalidStorageClass, "{}: STANDARD is the only storage class there is", name)
        }
        Refusal::Tokens => {
            s3_error!(InvalidToken, "There are no temporary credentials here: send no x-amz-security-token")
        }
    }
}

/// What comes behind the body is a checksum that is compared.
fn trailers(headers: &HeaderMap) -> S3Result<()> {
    let announced = headers.get(TRAILER).map(|v| v.to_str().unwrap_or_default().to_ascii_lowercase());
    let payload = headers.get("x-amz-content-sha256").map_or(&b""[..], HeaderValue::as_bytes);
    let comes = payload.starts_with(b"STREAMING-") && payload.ends_with(b"-TRAILER");
    if announced.as_ref().is_some_and(|names| !comes || names.contains(',')) {
        return Err(invalid(
            "x-amz-trailer announces one checksum, of a body in chunks: x-amz-content-sha256 is STREAMING-…-TRAILER then",
        ));
    }
    for name in announced.iter().flat_map(|names| names.split(',')).map(str::trim) {
        match header(name, false) {
            Some(Answer::Done | Answer::By(_)) if is_sum(name) => {}
            Some(Answer::Refused(refusal)) => return Err(refused(name, refusal)),
            _ => return Err(not_implemented(format!("{name} cannot come behind the body; leave it out"))),
        }
    }
    Ok(())
}

/// Whether a header or field is a checksum.
pub fn is_sum(name: &str) -> bool {
    ALGORITHMS.iter().any(|(_, header, _)| *header == name)
}

/// Looks at the queries.
pub fn queries<B>(request: &Request<B>, about: &About) -> S3Result<()> {
    let method = request.method();
    let reads = [Method::GET, Method::HEAD].contains(method);
    let place = Place::of(about.bucket.is_some(), about.key.is_some());
    let mut seen = Vec::new();
    for pair in request.uri().query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let name = decoded(pair.split('=').next().unwrap_or_default());
        if name.to_ascii_lowercase().starts_with(PREFIX) {
            continue;
        }
        match query(&name) {
            Some(Query::Selects) => {
                let known = methods(place, &name);
                // A link to an object may have anything behind it.
                let idle = reads && known.is_empty() && place == Place::Object && !valueless(pair);
                if !known.contains(method) && !idle {
                    return Err(not_allowed(method, Some(&name), place, &known));
                }
            }
            Some(Query::Of(is)) if fits(is, method, place) => {}
            Some(Query::Of(Is::Named)) if reads => {}
            Some(Query::Of(_)) => {
                return Err(not_implemented(format!("{method} does nothing with ?{name}; leave it out")));
            }
            Some(Query::Missing(what)) => {
                return Err(not_implemented(format!(
                    "?{name} asks for {what}, which this store does not have"
                )));
            }
            // A link may have more behind it, against caches for instance; what looks like an operation is none of those.
            None if reads && !(looks_like_one(&name) && valueless(pair)) => {}
            None => return Err(not_implemented(format!("?{name} is not known here; leave it out"))),
        }
        seen.push(name);
    }
    let has = |name: &str| seen.iter().any(|s| s == name);
    if *method == Method::PUT && has("versionId") && !has("tagging") {
        return Err(not_implemented("?versionId: only the tags of a version can be put"));
    }
    if *method == Method::PUT && has("partNumber") != has("uploadId") {
        return Err(invalid("partNumber and uploadId belong together"));
    }
    Ok(())
}

/// Letters and hyphens, as the queries of S3's operations are, and no digest in hex.
fn looks_like_one(name: &str) -> bool {
    let letters = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
    letters && !name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn valueless(pair: &str) -> bool {
    pair.split_once('=').is_none_or(|(_, value)| value.is_empty())
}

fn fits(is: Is, method: &Method, place: Place) -> bool {
    let reads = [Method::GET, Method::HEAD].contains(method);
    match is {
        Is::Any => true,
        Is::Read => reads,
        Is::Part => reads || *method == Method::PUT && place == Place::Object,
        Is::Version => reads || [Method::PUT, Method::DELETE].contains(method) && place == Place::Object,
        Is::Named => place == Place::Bucket,
    }
}

/// The method is none that is taken here, with this query or without one; these are.
pub fn not_allowed(method: &Method, query: Option<&str>, place: Place, known: &[Method]) -> S3Error {
    let mut error: S3Error = S3ErrorCode::MethodNotAllowed.into();
    let what = match place {
        Place::Root => "the list of buckets",
        Place::Bucket => "a bucket",
        Place::Object => "an object",
    };
    let asked = query.map(|name| format!("?{name} of ")).unwrap_or_default();
    // What has no such query takes what it takes without one.
    let known = if known.is_empty() { plain_methods(place) } else { known };
    let names = known.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    error.set_message(format!("{method} is not allowed for {asked}{what}: see Allow. Nothing was changed."));
    if let Ok(value) = HeaderValue::from_str(&names) {
        error.set_headers(HeaderMap::from_iter([(ALLOW, value)]));
    }
    error
}

/// What is taken without a query that selects another operation.
pub fn plain_methods(place: Place) -> &'static [Method] {
    match place {
        Place::Root => &[Method::GET, Method::HEAD],
        Place::Bucket => &[Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE],
        Place::Object => &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE],
    }
}
