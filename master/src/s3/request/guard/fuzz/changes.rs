//! Changes to a request: by a client that is wrong, by an attacker on the way, or to make it ambiguous.

use http::Method;
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus as Chance;

use crate::s3::request::guard::fuzz::draft::{RequestDraft, one};
use crate::s3::request::guard::fuzz::signing::{encoded, titled};

/// Pairs of a query, valid and invalid.
const PAIRS: [&str; 40] = [
    "tagging",
    "acl",
    "uploads",
    "delete",
    "versionId=null",
    "partNumber=1",
    "uploadId=u2",
    "prefix=x",
    "list-type=2",
    "list-type=1",
    "x-id=GetObject",
    "x-id=ListDirectoryBuckets",
    "ACL",
    "Tagging",
    "response-content-type=text/html",
    "X-Amz-Signature=0",
    "Signature=1",
    "AWSAccessKeyId=BK",
    "=",
    "",
    "%00",
    "a=%ff",
    "%ff=a",
    "select&select-type=2",
    "events",
    "session",
    "location",
    "policy",
    "versions",
    "attributes",
    "restore",
    "torrent",
    "legal-hold",
    "retention",
    "metadataTable",
    "t%61gging",
    "+tagging",
    "prefix=a+b%2B",
    "versionId=",
    "cors;acl",
];
/// Headers, valid and invalid.
const HEADERS: [(&str, &[u8]); 26] = [
    ("range", b"bytes=0-0"),
    ("range", b"bytes=0-0,2-2"),
    ("range", b"lines=1-2"),
    ("if-modified-since", b"yesterday"),
    ("x-amz-copy-source", b"/other-bucket/evil"),
    ("x-amz-copy-source", b"other-bucket/%2Fa%3FversionId=x?versionId=null"),
    ("x-amz-copy-source", b"//other-bucket/evil"),
    ("x-amz-copy-source", b"other-bucket%2Fevil"),
    ("x-amz-copy-source", b"arn:aws:s3:us-east-1:123456789012:accesspoint/abc/object/k"),
    ("x-amz-copy-source", b"other-bucket/%ff"),
    ("x-amz-copy-source", b""),
    ("x-amz-meta-a", b"2"),
    ("x-amz-meta-b", b"\xff"),
    ("x-amz-acl", b"public-read"),
    ("x-amz-tagging", b"a=b"),
    ("x-amz-content-sha256", b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
    ("x-amz-content-sha256", b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("x-amz-date", b"20260101T000000Z"),
    ("x-amz-request-route", b"x"),
    ("x-amz-request-token", b"x"),
    ("x-amz-object-attributes", b"ETag"),
    ("authorization", b"AWS BK:c2lnbmF0dXJl"),
    (
        "authorization",
        b"AWS4-HMAC-SHA256 Credential=BK/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
    ),
    ("authorization", b"Bearer x"),
    ("date", b"Thu, 01 Jan 2026 00:00:00 GMT"),
    ("host", b"other-bucket.s3.test"),
];
/// Content types, most of which could be taken for that of a form.
const TYPES: [&[u8]; 12] = [
    b"multipart/form-data; boundary=BB",
    b"Multipart/Form-Data;boundary=BB",
    b" multipart/form-data; boundary=BB",
    b"multipart/form-data; boundary=BB; x=\"\xc3\xa9\"",
    b"multipart/form-data; boundary=BB; x=\"\xff\"",
    b"multipart/form-data; boundary=\"BB\"",
    b"multipart/form-data ; boundary=BB",
    b"multipart/form-data",
    b"multipart/form-data+xml; boundary=BB",
    b"text/plain, multipart/form-data; boundary=BB",
    b"multipart/mixed; boundary=BB",
    b"",
];
const HOSTS: [&[u8]; 14] = [
    b"bucket.s3.test",
    b"other-bucket.s3.test:9000",
    b"Bucket.S3.Test",
    b"b..s3.test",
    b"s3.test",
    b".s3.test",
    b"127.0.0.1",
    b"[::1]:9000",
    b"bucket.s3.test.",
    b"a.bucket.s3.test",
    b"bucket.s3.test:x",
    b"bucket.other.test",
    b"\xff.s3.test",
    b"",
];
const METHODS: [&str; 8] = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "get", "OPTIONS"];
const PATHS: [&str; 10] =
    ["/", "//", "/%2f", "/./", "/../other-bucket/k", "%00", ";a", "%3Ftagging", "%ff", "#x"];

/// Changes one thing.
pub fn change(draft: &mut RequestDraft, chance: &mut Chance) {
    match chance.random_range(0..14) {
        0 | 1 => {
            let pair = (*one(chance, &PAIRS)).to_owned();
            let at = chance.random_range(0..=draft.query.len());
            draft.query.insert(at, pair);
        }
        2 | 3 => {
            let (name, value) = *one(chance, &HEADERS);
            draft.add(name, value);
        }
        4 => content_type(draft, chance),
        5 => draft.host = one(chance, &HOSTS).to_vec(),
        6 => draft.method = Method::from_bytes(one(chance, &METHODS).as_bytes()).unwrap(),
        7 | 8 => path(draft, chance),
        9 => queries(draft, chance),
        10 | 11 => header(draft, chance),
        _ => claims(draft, chance),
    }
}

/// Sets another content type, or adds a second one.
pub fn content_type(draft: &mut RequestDraft, chance: &mut Chance) {
    if chance.random_bool(0.7) {
        draft.headers.retain(|(name, _)| name != "content-type");
    }
    let kind: &&[u8] = one(chance, &TYPES);
    draft.add("content-type", kind);
}

/// Moves headers of S3 into the query, in lower or title case.
pub fn hoist(draft: &mut RequestDraft, chance: &mut Chance) {
    let headers = std::mem::take(&mut draft.headers);
    let (moved, kept) = headers.into_iter().partition(|(name, _)| name.starts_with("x-amz-"));
    draft.headers = kept;
    for (name, value) in moved {
        let name = if chance.random_bool(0.5) { titled(&name) } else { name };
        draft.query.push(format!("{name}={}", encoded(&String::from_utf8_lossy(&value))));
    }
}

fn path(draft: &mut RequestDraft, chance: &mut Chance) {
    let what = *one(chance, &PATHS);
    match chance.random_range(0..6) {
        0 => draft.path.push_str(what),
        1 => draft.path.insert_str(0, if what.starts_with('/') { what } else { "/" }),
        2 => draft.path = format!("http://other-bucket.s3.test{}", draft.path),
        3 => draft.path = draft.path.replacen('/', "//", 2),
        4 => draft.path = escaped(&draft.path, chance),
        _ => {
            let above = draft.path.trim_end_matches('/').rsplit_once('/').map_or("", |(above, _)| above);
            draft.path = format!("{above}/");
        }
    }
}

/// Escapes one character, with digits in lower or upper case.
fn escaped(text: &str, chance: &mut Chance) -> String {
    let places: Vec<_> = text.char_indices().filter(|(at, c)| *at > 0 && c.is_ascii() && *c != '%').collect();
    if places.is_empty() {
        return text.to_owned();
    }
    let (at, c) = *one(chance, &places);
    let code = u32::from(c);
    let escape = if chance.random_bool(0.5) { format!("%{code:02X}") } else { format!("%{code:02x}") };
    format!("{}{escape}{}", &text[..at], &text[at + 1..])
}

fn queries(draft: &mut RequestDraft, chance: &mut Chance) {
    if draft.query.is_empty() {
        return;
    }
    let at = chance.random_range(0..draft.query.len());
    let pair = draft.query[at].clone();
    match chance.random_range(0..6) {
        0 => drop(draft.query.remove(at)),
        1 => draft.query.push(pair),
        2 => draft.query[at] = escaped(&pair, chance),
        3 => draft.query[at] = pair.to_ascii_lowercase(),
        4 => draft.query[at] = pair.to_ascii_uppercase(),
        _ => {
            let name = pair.split('=').next().unwrap_or_default();
            draft.query.push(format!("{name}=other"));
        }
    }
}

fn header(draft: &mut RequestDraft, chance: &mut Chance) {
    if draft.headers.is_empty() {
        return;
    }
    let at = chance.random_range(0..draft.headers.len());
    let (name, value) = draft.headers[at].clone();
    match chance.random_range(0..6) {
        0 => drop(draft.headers.remove(at)),
        1 => draft.headers.push((name, value)),
        2 => draft.headers.push((name, b"other".to_vec())),
        3 => draft.headers[at].1.clear(),
        4 => draft.headers[at].1 = [b" ", &value[..], b" \t"].concat(),
        _ => draft.headers[at].1.push(b'\xff'),
    }
}

/// Makes a signature claim a header that it does not cover, in various spellings.
fn claims(draft: &mut RequestDraft, chance: &mut Chance) {
    let added = *one(chance, &["x-amz-copy-source", "x-amz-meta-z", "x-amz-acl", "x-amz-tagging"]);
    let written = match chance.random_range(0..4) {
        0 => added.to_owned(),
        1 => added.to_ascii_uppercase(),
        2 => titled(added),
        _ => format!("x-amz-{}", added[6..].to_ascii_uppercase()),
    };
    let separator =
        if draft.query.iter().any(|p| p.starts_with("X-Amz-SignedHeaders=")) { "%3B" } else { ";" };
    let claim = |text: &str| {
        let (before, names) = text.split_once("SignedHeaders=")?;
        let end = names.find([',', '&']).unwrap_or(names.len());
        let mut all: Vec<&str> = names[..end].split(separator).collect();
        all.push(&written);
        all.sort_by_key(|name| name.to_ascii_lowercase());
        Some(format!("{before}SignedHeaders={}{}", all.join(separator), &names[end..]))
    };
    for pair in &mut draft.query {
        if let Some(claimed) = claim(pair) {
            *pair = claimed;
        }
    }
    for (name, value) in &mut draft.headers {
        let text = String::from_utf8_lossy(value).into_owned();
        if name == "authorization"
            && let Some(claimed) = claim(&text)
        {
            *value = claimed.into_bytes();
        }
    }
    draft.headers.retain(|(name, _)| name != added);
    let value: &[u8] = if added == "x-amz-copy-source" { b"/other-bucket/evil" } else { b"private" };
    draft.add(added, value);
}
