//! What the library would let through, or refuse in other words than S3: the old signature, links that are good for longer
//! than S3 permits, signatures for another region, headers beside the signature, and what is not there at all. Refused
//! before a byte of the body is read.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use http::{Method, Request, StatusCode};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use shared::wire::routes::query_value;

use super::Settings;
use super::error::{custom, invalid, not_implemented};
use super::finish::About;

/// S3's limit: seven days.
const EXPIRES_SECS_MAX: u64 = 7 * 24 * 3600;
/// Queries that an object takes with POST.
const POSTS: [&str; 2] = ["uploads", "uploadId"];
/// Of version 4, what a link must say.
const NEEDED: [&str; 5] =
    ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders"];
/// How a body may be signed besides by its SHA-256.
const PAYLOADS: [&str; 6] = [
    "UNSIGNED-PAYLOAD",
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
    "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
];
/// Headers that ask for what is not there.
const NOT_THERE: [(&str, &str); 4] = [
    ("x-amz-object-lock-", "Object locks are not there"),
    ("x-amz-server-side-encryption", "Encryption by the server is not there"),
    ("x-amz-copy-source-server-side-encryption", "Encryption by the server is not there"),
    ("x-amz-website-redirect-location", "Websites are not there"),
];

/// Looks at a request.
pub fn check<B>(settings: &Settings, owner: &str, request: &Request<B>, about: &About) -> S3Result<()> {
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
    let both = headers.get_all(AUTHORIZATION).iter().count() + usize::from(presigned) > 1;
    if both {
        return Err(invalid(
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified",
        ));
    }
    if presigned {
        link(query)?;
    } else if query_value(query, "X-Amz-Credential").is_some() {
        return Err(parameters("X-Amz-Signature is missing"));
    }
    let credential = query_value(query, "X-Amz-Credential").filter(|_| presigned);
    let credential =
        credential.or_else(|| authorization.and_then(|a| field(a, "Credential").map(str::to_owned)));
    scope(settings, credential.as_deref(), presigned)?;
    let signed = match authorization {
        Some(text) => Some(by_header(text, headers)?),
        None if presigned => query_value(query, "X-Amz-SignedHeaders"),
        None => None,
    };
    if let Some(signed) = &signed {
        covered(headers, signed, presigned)?;
    }
    for name in ["x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"] {
        if text(headers, name).is_some_and(|expected| expected != owner) {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        }
    }
    queries(request, about)?;
    asked(request, about)
}

/// Queries that change what is done, by method: of an object ...
const OF_OBJECTS: [(Method, &[&str]); 3] = [
    (Method::PUT, &["partNumber", "uploadId", "tagging", "acl", "retention", "legal-hold", "versionId"]),
    (Method::POST, &["uploads", "uploadId"]),
    (Method::DELETE, &["uploadId", "versionId", "tagging"]),
];
/// ... and of a bucket, as far as the library knows them.
const OF_BUCKETS: [&str; 22] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "delete",
    "encryption",
    "id",
    "intelligent-tiering",
    "inventory",
    "lifecycle",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "tagging",
    "versioning",
    "website",
];

/// A query that nobody knows would be passed over, and what is asked for done to the whole object or bucket.
fn queries<B>(request: &Request<B>, about: &About) -> S3Result<()> {
    let method = request.method();
    let Some((_, of_object)) = OF_OBJECTS.iter().find(|(m, _)| m == method) else { return Ok(()) };
    let known: &[&str] = if about.key.is_some() { of_object } else { &OF_BUCKETS };
    let mut seen = Vec::new();
    for pair in request.uri().query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split('=').next().unwrap_or_default();
        let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned();
        let free = name.starts_with("X-Amz-") || name == "x-id";
        if seen.contains(&name) {
            return Err(invalid("A query parameter stands there twice"));
        }
        if !free && !known.contains(&name.as_str()) {
            return Err(not_implemented("A query parameter asks for what is not there"));
        }
        seen.push(name);
    }
    let has = |name: &str| seen.iter().any(|s| s == name);
    if *method == Method::PUT && has("versionId") && !has("tagging") {
        return Err(not_implemented("Only the tags of a version can be put"));
    }
    if *method == Method::PUT && has("partNumber") != has("uploadId") {
        return Err(invalid("partNumber and uploadId belong together"));
    }
    Ok(())
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|v| v.to_str().unwrap_or_default())
}

fn parameters(message: &'static str) -> S3Error {
    custom("AuthorizationQueryParametersError", StatusCode::BAD_REQUEST, message)
}

fn malformed(message: impl Into<String>) -> S3Error {
    S3Error::with_message(S3ErrorCode::AuthorizationHeaderMalformed, message.into())
}

/// A presigned link says all it must, and is not good for too long.
fn link(query: Option<&str>) -> S3Result<()> {
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

/// A field of the `Authorization` header.
fn field<'a>(authorization: &'a str, name: &str) -> Option<&'a str> {
    let fields = authorization.strip_prefix("AWS4-HMAC-SHA256")?.split(',').map(str::trim);
    fields.filter_map(|f| f.split_once('=')).find(|(n, _)| *n == name).map(|(_, value)| value)
}

/// The form of an `Authorization` header and of what belongs to it; the headers that it signs.
fn by_header(authorization: &str, headers: &HeaderMap) -> S3Result<String> {
    if !authorization.starts_with("AWS4-HMAC-SHA256") {
        return Err(invalid("Unsupported Authorization Type"));
    }
    let all = ["Credential", "SignedHeaders", "Signature"].map(|name| field(authorization, name));
    let [Some(_), Some(signed), Some(_)] = all else {
        return Err(malformed(
            "The authorization header is malformed; the authorization header requires three components: Credential, SignedHeaders, and Signature.",
        ));
    };
    let date = text(headers, "x-amz-date").unwrap_or_default();
    let digits = |range: std::ops::Range<usize>| {
        date.get(range).is_some_and(|part| part.bytes().all(|b| b.is_ascii_digit()))
    };
    let dated =
        date.len() == 16 && digits(0..8) && &date[8..9] == "T" && digits(9..15) && date.ends_with('Z');
    if !dated {
        return Err(s3_error!(AccessDenied, "AWS authentication requires a valid Date or x-amz-date header"));
    }
    if let Some(payload) = text(headers, "x-amz-content-sha256") {
        let sum = payload.len() == 64 && payload.bytes().all(|b| b.is_ascii_hexdigit());
        if !sum && !PAYLOADS.contains(&payload) {
            return Err(invalid(
                "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
            ));
        }
    }
    Ok(signed.to_owned())
}

/// Every header of S3 is signed: one that was put in on the way would change what is done.
fn covered(headers: &HeaderMap, signed: &str, presigned: bool) -> S3Result<()> {
    let signed: Vec<_> = signed.split(';').collect();
    let free = |name: &str| presigned && name == "x-amz-content-sha256";
    let left = headers.keys().map(http::HeaderName::as_str).find(|name| {
        name.starts_with("x-amz-") && !free(name) && !signed.iter().any(|s| s.eq_ignore_ascii_case(name))
    });
    match left {
        None => Ok(()),
        Some(name) => Err(s3_error!(
            AccessDenied,
            "There were headers present in the request which were not signed: {}",
            name
        )),
    }
}

/// `ID/DATE/REGION/s3/aws4_request`.
fn scope(settings: &Settings, credential: Option<&str>, presigned: bool) -> S3Result<()> {
    let Some(credential) = credential else { return Ok(()) };
    let refuse = |message: String| {
        if presigned {
            custom("AuthorizationQueryParametersError", StatusCode::BAD_REQUEST, message)
        } else {
            malformed(message)
        }
    };
    // An id may have slashes; the scope has none.
    let mut parts = credential.rsplit('/');
    let (end, service, region, date) = (parts.next(), parts.next(), parts.next(), parts.next());
    if date.is_none() || parts.next().is_none() {
        return Err(refuse(
            "The credential is malformed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"."
                .into(),
        ));
    }
    if end != Some("aws4_request") || service != Some("s3") {
        return Err(refuse(
            "The credential is malformed; incorrect service or terminal. This endpoint belongs to \"s3\"."
                .into(),
        ));
    }
    match (&settings.region, region) {
        (Some(ours), Some(theirs)) if ours != theirs => Err(refuse(format!(
            "The authorization header is malformed; the region '{theirs}' is wrong; expecting '{ours}'"
        ))),
        _ => Ok(()),
    }
}

/// What is asked for is there.
fn asked<B>(request: &Request<B>, about: &About) -> S3Result<()> {
    let (query, headers, method) = (request.uri().query(), request.headers(), request.method());
    for (begins, message) in NOT_THERE {
        if headers.keys().any(|name| name.as_str().starts_with(begins)) {
            return Err(not_implemented(message));
        }
    }
    if headers.keys().any(|name| name.as_str().starts_with("x-amz-grant-")) {
        return Err(s3_error!(
            AccessControlListNotSupported,
            "The bucket does not allow ACLs: access keys say who may do what"
        ));
    }
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
        if *method == Method::POST && !POSTS.iter().any(|name| query_value(query, name).is_some()) {
            let plain = query.is_none_or(str::is_empty);
            let missing = || not_implemented("This action is not there");
            return Err(if plain { not_allowed() } else { missing() });
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
    if [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE].contains(method) {
        return Ok(());
    }
    Err(not_allowed())
}

fn not_allowed() -> S3Error {
    s3_error!(MethodNotAllowed, "The specified method is not allowed against this resource.")
}

#[cfg(test)]
mod tests;
