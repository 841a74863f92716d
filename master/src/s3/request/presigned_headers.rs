//! Headers in the query. A client that presigns a URL moves the `x-amz-*` headers into its query, in any case (the
//! SDKs call it hoisting), where they are signed with the rest of the query. Here they become headers again, before
//! any other code sees the request.

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{Request, Uri};

use shared::attributes::Algorithm;
use shared::wire::routes::query_value;

use crate::s3::checksums::algorithms::{ALGORITHMS, Hasher, encoded, named};
use crate::s3::request::guard::SIGNING;

pub const PREFIX: &str = "x-amz-";
/// Names the checksum that the client itself chose.
const CHOSEN: &str = "x-amz-sdk-checksum-algorithm";

/// Returns the parameters of a query that are headers, by lower-case name; none for an unsigned request, which has no
/// reason to put them there.
pub fn of<B>(request: &Request<B>) -> Vec<(String, String)> {
    let presigned = query_value(request.uri().query(), "X-Amz-Signature").is_some();
    if !presigned && !request.headers().contains_key(AUTHORIZATION) {
        return Vec::new();
    }
    let mut found = x_amz_parameters(request.uri());
    if presigned {
        let chosen = found.iter().find(|(name, _)| name == CHOSEN).and_then(|(_, name)| named(name));
        // The document of DeleteObjects is known when the URL is signed, so its checksum counts.
        let deletes = query_value(request.uri().query(), "delete").is_some();
        found.retain(|(name, value)| name != CHOSEN && (deletes || !is_idle(name, value, chosen)));
    }
    found
}

/// Returns all parameters that S3 takes for headers.
pub fn x_amz_parameters(uri: &Uri) -> Vec<(String, String)> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .filter(|(name, _)| !SIGNING.contains(&name.as_str()))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect()
}

/// Returns whether this is a checksum that nobody asked for. The SDK for JavaScript computes one when it presigns,
/// mostly of an empty body, since the real one comes later, from another client. It also names the algorithm. S3 does
/// not verify such a checksum. One that the user gave comes without the algorithm, and is not that of an empty body.
fn is_idle(name: &str, value: &str, chosen: Option<Algorithm>) -> bool {
    let Some((algorithm, ..)) = ALGORITHMS.iter().find(|(_, header, _)| *header == name) else {
        return false;
    };
    chosen == Some(*algorithm) || value == encoded(&Hasher::new(*algorithm).finish())
}

/// Decodes as in forms: `+` is a space.
pub fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// Turns the parameters into headers. Existing headers stay as they are: `guard` compares.
pub fn restore<B>(request: &mut Request<B>) {
    for (name, value) in of(request) {
        let name = HeaderName::try_from(name);
        let value = HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value)
            && !request.headers().contains_key(&name)
        {
            request.headers_mut().insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::s3::request::presigned_headers::*;

    fn restored(target: &str, headers: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let mut request = Request::put(format!("{target}&X-Amz-Signature=0")).body(()).unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        restore(&mut request);
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut found: Vec<_> =
            request.headers().iter().map(|(n, v)| (n.as_str().to_owned(), text(v))).collect();
        found.sort();
        found
    }

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn parameters_are_headers_in_any_case() {
        let target =
            "/b/k?x-id=PutObject&X-Amz-Meta-A=1+2&x-amz-tagging=a%3Db%26c&X-Amz-Date=d&x-amz-meta-%C3%A4=x";
        assert_eq!(
            restored(target, &[("x-amz-meta-b", "3")]),
            pairs(&[("x-amz-meta-a", "1 2"), ("x-amz-meta-b", "3"), ("x-amz-tagging", "a=b&c")])
        );
        assert_eq!(
            restored("/b/k?x-amz-acl=private", &[("x-amz-acl", "other")]),
            pairs(&[("x-amz-acl", "other")])
        );
    }

    #[test]
    fn a_checksum_of_what_was_there_when_it_was_signed_is_none() {
        let sum = |text: &str| format!("/b/k?x-amz-checksum-crc32={text}");
        let given = |text: &str| pairs(&[("x-amz-checksum-crc32", text)]);
        assert_eq!(restored(&format!("{}&x-amz-sdk-checksum-algorithm=CRC32", sum("hvuZYw%3D%3D")), &[]), []);
        assert_eq!(restored(&sum("AAAAAA%3D%3D"), &[]), [], "it is of nothing");
        assert_eq!(restored(&sum("hvuZYw%3D%3D"), &[]), given("hvuZYw=="));
        let other = format!("{}&x-amz-sdk-checksum-algorithm=SHA256", sum("hvuZYw%3D%3D"));
        assert_eq!(restored(&other, &[]), given("hvuZYw=="));
        let deletes = "/b?delete&x-amz-checksum-crc32=hvuZYw%3D%3D&x-amz-sdk-checksum-algorithm=CRC32";
        assert_eq!(restored(deletes, &[]), given("hvuZYw=="));
    }

    #[test]
    fn only_what_is_signed_is_a_header() {
        let mut request = Request::put("/b/k?x-amz-copy-source=c/k").body(()).unwrap();
        restore(&mut request);
        assert!(request.headers().is_empty());
        request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static("AWS4-HMAC-SHA256"));
        restore(&mut request);
        assert_eq!(request.headers()["x-amz-copy-source"], "c/k");
    }
}
