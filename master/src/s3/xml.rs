//! Texts in XML that XML has no way to say. A carriage return that stands there as it is comes out of every parser as a
//! newline (XML 1.0, section 2.11), so it is written as a reference. Other control characters have no form at all: in lists
//! they are references all the same, as S3 writes them, so that no two keys look alike; elsewhere, U+FFFD.

use http::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use shared::http::body::{self, Body};

/// What stands for a character that cannot be said.
const REPLACEMENT: &str = "\u{fffd}";

/// Operations whose answers are lists of what is in a bucket.
const LISTS: [&str; 4] = ["ListObjects", "ListObjectsV2", "ListObjectVersions", "ListMultipartUploads"];

/// The answer of an operation, when it is a document: one that can be read.
pub async fn readable(operation: Option<&str>, answer: Response<Body>) -> Response<Body> {
    let document = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/xml");
    // What is in an object is its owner's.
    if !document || operation == Some("GetObject") && answer.status().is_success() {
        return answer;
    }
    let lists = operation.is_some_and(|name| LISTS.contains(&name));
    let (mut head, body) = answer.into_parts();
    // It is in memory already.
    let Ok(bytes) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        head.status = http::StatusCode::INTERNAL_SERVER_ERROR;
        head.headers.remove(CONTENT_LENGTH);
        return Response::from_parts(head, body::empty());
    };
    // An answer to HEAD says how long another one would be.
    let Some(text) = said(&bytes, lists) else { return Response::from_parts(head, body::full(bytes)) };
    head.headers.insert(CONTENT_LENGTH, text.len().into());
    Response::from_parts(head, body::full(text))
}

/// A document of which every character can be read; none when it is one.
fn said(document: &[u8], lists: bool) -> Option<String> {
    let odd = |c: char| c != '\t' && c != '\n' && (c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}'));
    if !document.iter().any(|b| *b < b' ' && *b != b'\n' && *b != b'\t' || *b == 0xef) {
        return None;
    }
    let text = String::from_utf8_lossy(document);
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\r' => out.push_str("&#13;"),
            c if odd(c) && lists => out.push_str(&format!("&#x{:x};", u32::from(c))),
            c if odd(c) => out.push_str(REPLACEMENT),
            c => out.push(c),
        }
    }
    Some(out)
}

/// A text, as XML has it.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            c => out.push(c),
        }
    }
    said(out.as_bytes(), false).unwrap_or(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_xml_cannot_say() {
        let key = "<Key>a\r\u{1}\u{1f}\u{7f}\u{fffe}\n\tä漢</Key>";
        let list = said(key.as_bytes(), true).unwrap();
        assert_eq!(list, "<Key>a&#13;&#x1;&#x1f;\u{7f}&#xfffe;\n\tä漢</Key>");
        let other = said(key.as_bytes(), false).unwrap();
        assert_eq!(other, "<Key>a&#13;\u{fffd}\u{fffd}\u{7f}\u{fffd}\n\tä漢</Key>");
        assert_eq!(said("<Key>a\nb</Key>".as_bytes(), true), None);
        assert_eq!(escaped("a&b<\r\n\0"), "a&amp;b&lt;&#13;&#10;\u{fffd}");
    }
}
