//! Headers in the query. Whoever presigns a URL moves the `x-amz-*` headers of the request into its query, in any case of
//! letters (the SDKs call it hoisting), where the signature covers them as it covers the whole query. Here they become
//! headers again, before anything else looks at the request.

use http::header::{HeaderName, HeaderValue};
use http::{Request, Uri};

use shared::wire::routes::query_value;

use super::guard::SIGNING;

/// With what the names of S3's own headers begin.
pub const PREFIX: &str = "x-amz-";
/// That the client has chosen a checksum by itself.
const CHOSEN: &str = "x-amz-sdk-checksum-algorithm";

/// The parameters of a query that are headers, by their names in small letters.
pub fn of(uri: &Uri) -> Vec<(String, String)> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let mut found: Vec<(String, String)> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .filter(|(name, _)| !SIGNING.contains(&name.as_str()))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    // The SDK for JavaScript computes a checksum when it signs, of the body that it has then: mostly none. The body comes
    // later, from somebody else, so S3 asks nothing of it; a checksum that the user gave comes without this algorithm. What is
    // to be deleted is known by then, and its checksum is demanded.
    let deletes = query_value(uri.query(), "delete").is_some();
    if found.iter().any(|(name, _)| name == CHOSEN) {
        found.retain(|(name, _)| name != CHOSEN && (deletes || !name.starts_with("x-amz-checksum-")));
    }
    found
}

/// As forms have it: `+` is a space.
pub fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// Makes headers of them. What stands in a header as well stays as it is there: `guard` compares.
pub fn restore<B>(request: &mut Request<B>) {
    for (name, value) in of(request.uri()) {
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
    use super::*;

    fn restored(target: &str, headers: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let mut request = Request::put(target).body(()).unwrap();
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
        let sum = "x-amz-checksum-crc32=AAAAAA%3D%3D";
        assert_eq!(restored(&format!("/b/k?{sum}&x-amz-sdk-checksum-algorithm=CRC32"), &[]), []);
        assert_eq!(restored(&format!("/b/k?{sum}"), &[]), pairs(&[("x-amz-checksum-crc32", "AAAAAA==")]));
    }
}
