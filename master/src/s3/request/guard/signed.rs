//! Checks what a signature of version 4 says about itself: its credential, and the headers that it covers. Accepts
//! only the one form that clients send, so that the library cannot read it in a second way.

use http::header::{HOST, HeaderMap};
use http::{Request, StatusCode};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use crate::config::S3Settings;
use crate::s3::error::{custom, invalid};
use crate::s3::request::guard::{malformed, text};
use crate::s3::request::presigned_headers;

/// Values of `x-amz-content-sha256` other than a SHA-256.
const PAYLOADS: [&str; 6] = [
    "UNSIGNED-PAYLOAD",
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
    "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
];
#[derive(Debug)]
pub struct Authorization<'a> {
    pub credential: &'a str,
    /// The names of the signed headers, separated by semicolons.
    pub names: &'a str,
}

impl<'a> Authorization<'a> {
    /// Parses `AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=...`: each once, in this order, with at
    /// most one space after each comma.
    pub fn parse(text: &'a str) -> S3Result<Self> {
        if text.split(' ').next() != Some("AWS4-HMAC-SHA256") {
            return Err(invalid("Unsupported Authorization Type"));
        }
        Self::fields(text).ok_or_else(|| {
            malformed(
                "The authorization header is malformed; the authorization header requires three components: Credential, SignedHeaders, and Signature.",
            )
        })
    }

    fn fields(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix("AWS4-HMAC-SHA256 Credential=")?;
        let (credential, rest) = text.split_once(',')?;
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let (names, rest) = rest.strip_prefix("SignedHeaders=")?.split_once(',')?;
        let signature = rest.strip_prefix(' ').unwrap_or(rest).strip_prefix("Signature=")?;
        let hex = signature.len() == 64 && signature.bytes().all(|b| b.is_ascii_hexdigit());
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        (hex && plain(credential) && plain(names)).then_some(Self { credential, names })
    }
}

/// Checks the date and the payload digest that accompany an `Authorization` header.
pub fn dated(headers: &HeaderMap) -> S3Result<()> {
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
    Ok(())
}

/// Checks that every header of S3 is signed: one that is added on the way would change the operation. The library
/// leaves out of a signature what it does not find by its exact name, or what is not UTF-8, so each name must be one
/// that it finds.
pub fn covered<B>(request: &Request<B>, names: &str, presigned: bool) -> S3Result<()> {
    let headers = request.headers();
    #[cfg(test)]
    let names = &if crate::s3::request::guard::planted::is(
        crate::s3::request::guard::planted::Mistake::NamesInAnyCase,
    ) {
        names.to_ascii_lowercase()
    } else {
        names.to_owned()
    };
    let signed: Vec<_> = names.split(';').collect();
    let small = |name: &&str| !name.is_empty() && !name.bytes().any(|b| b.is_ascii_uppercase());
    let host = signed.contains(&HOST.as_str());
    if !signed.iter().all(small) || !signed.is_sorted_by(|a, b| a < b) || !host {
        let message =
            "The signed headers must be lower-case, sorted and unique, and host must be among them.";
        return Err(if presigned { parameters(message) } else { malformed(message) });
    }
    let there = |name: &&str| {
        // HTTP/2 has it in the URI.
        let elsewhere = *name == HOST.as_str() && request.uri().authority().is_some();
        let readable = headers.get_all(*name).iter().all(|v| std::str::from_utf8(v.as_bytes()).is_ok());
        headers.contains_key(*name) && readable || !headers.contains_key(*name) && elsewhere
    };
    if !signed.iter().all(there) {
        return Err(S3ErrorCode::SignatureDoesNotMatch.into());
    }
    // A presigned URL does not cover the body, and the library compares x-amz-content-sha256 with it anyway.
    // A cache in front of us adds x-amz-cf-id, which changes nothing.
    let free = |name: &str| presigned && name == "x-amz-content-sha256" || name == "x-amz-cf-id";
    // The query is signed as a whole.
    let hoisted = presigned_headers::of(request);
    let queried = |name: &str| hoisted.iter().any(|(query, _)| query == name);
    let left = headers
        .keys()
        .map(http::HeaderName::as_str)
        .find(|name| name.starts_with("x-amz-") && !free(name) && !queried(name) && !signed.contains(name));
    match left {
        None => Ok(()),
        Some(name) => Err(s3_error!(
            AccessDenied,
            "There were headers present in the request which were not signed: {}",
            name
        )),
    }
}

fn parameters(message: impl Into<String>) -> S3Error {
    custom("AuthorizationQueryParametersError", StatusCode::BAD_REQUEST, message)
}

pub fn scope(settings: &S3Settings, credential: &str, presigned: bool) -> S3Result<()> {
    let refuse = |message: String| if presigned { parameters(message) } else { malformed(message) };
    let parts: Vec<_> = credential.split('/').collect();
    let [_, _, region, service, end] = parts[..] else {
        return Err(refuse(
            "The credential is malformed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"."
                .into(),
        ));
    };
    if end != "aws4_request" || service != "s3" {
        return Err(refuse(
            "The credential is malformed; incorrect service or terminal. This endpoint belongs to \"s3\"."
                .into(),
        ));
    }
    region_is_ours(settings, region).map_err(refuse)
}

/// Checks the region of a signature; returns the error text if it is another one.
pub fn region_is_ours(settings: &S3Settings, region: &str) -> Result<(), String> {
    match &settings.region {
        Some(ours) if ours != region => Err(format!(
            "The authorization header is malformed; the region '{region}' is wrong; expecting '{ours}'"
        )),
        _ => Ok(()),
    }
}
