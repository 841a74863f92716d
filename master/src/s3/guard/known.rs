//! Whether all that a request asks for is done: each header and query of S3's reference is known, and what is not there is
//! refused by its name. A query that selects an operation has one for the method.

use http::header::{ALLOW, HeaderMap, HeaderValue};
use http::{Method, Request};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::super::Settings;
use super::super::asked::Place;
use super::super::error::{invalid, not_implemented};
use super::super::finish::About;
use super::super::hoisted::{self, PREFIX, decoded};
use super::super::reference::{Answer, Is, Query, Refusal, header, methods, query};

/// A header whose value is a list of others that come behind the body.
const TRAILER: &str = "x-amz-trailer";

/// Looks at the headers of S3 that a request has.
pub fn headers<B>(settings: &Settings, request: &Request<B>) -> S3Result<()> {
    let headers = request.headers();
    for (name, value) in hoisted::of(request.uri()) {
        let there = headers.get(&name).is_some_and(|header| header.as_bytes() == value.as_bytes());
        if !there {
            return Err(invalid(format!(
                "{name} stands in the query, and is no header or stands in one with another value"
            )));
        }
    }
    for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with(PREFIX)) {
        field(settings, name.as_str(), value.to_str().unwrap_or_default())?;
    }
    trailers(headers)
}

/// Looks at one of them, or at a form's field of that name.
pub fn field(settings: &Settings, name: &str, value: &str) -> S3Result<()> {
    match header(name, settings.noop) {
        Some(Answer::Done | Answer::Holds) => Ok(()),
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
        Refusal::Algorithms => not_implemented(format!(
            "{name} is a checksum that is not computed here; CRC32, CRC32C, CRC64NVME, SHA1 and SHA256 are"
        )),
    }
}

/// What comes behind the body is a checksum that is compared.
fn trailers(headers: &HeaderMap) -> S3Result<()> {
    let announced = headers.get(TRAILER).map(|v| v.to_str().unwrap_or_default().to_ascii_lowercase());
    for name in announced.iter().flat_map(|names| names.split(',')).map(str::trim) {
        match header(name, false) {
            Some(Answer::Done) if name.starts_with("x-amz-checksum-") => {}
            Some(Answer::Refused(refusal)) => return Err(refused(name, refusal)),
            _ => return Err(not_implemented(format!("{name} cannot come behind the body; leave it out"))),
        }
    }
    Ok(())
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
                if !known.contains(method) {
                    return Err(not_allowed(&known));
                }
            }
            Some(Query::Of(is)) if fits(is, method, place) => {}
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

/// Letters and hyphens, as the queries of S3's operations are.
fn looks_like_one(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-')
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

/// The method is none that is taken here; these are.
pub fn not_allowed(known: &[Method]) -> S3Error {
    let mut error: S3Error = S3ErrorCode::MethodNotAllowed.into();
    error.set_message("The specified method is not allowed against this resource.");
    let names: Vec<_> = known.iter().map(Method::as_str).collect();
    if let Ok(value) = HeaderValue::from_str(&names.join(", ")) {
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
