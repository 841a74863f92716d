//! Characters that XML cannot represent. A literal carriage return comes out of every parser as a newline (XML 1.0,
//! section 2.11), so it is written as a reference. Other control characters have no valid form: lists contain
//! references all the same, as in S3, so that no two keys look alike; other documents contain U+FFFD.

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use s3s::xml::{Deserializer, Serializer};
use shared::http::body::{self, Body};

const REPLACEMENT: &str = "\u{fffd}";

/// Operations whose responses list the contents of a bucket.
const LISTS: [&str; 4] = ["ListObjects", "ListObjectsV2", "ListObjectVersions", "ListMultipartUploads"];

/// Makes the XML document of a response readable by parsers. Other responses are unchanged.
pub async fn readable(operation: Option<&str>, answer: Response<Body>) -> Response<Body> {
    let document = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/xml");
    // The value of an object is never changed.
    if !document || operation == Some("GetObject") && answer.status().is_success() {
        return answer;
    }
    let lists = operation.is_some_and(|name| LISTS.contains(&name));
    let (mut head, body) = answer.into_parts();
    // The document is in memory already.
    let Ok(bytes) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        head.status = http::StatusCode::INTERNAL_SERVER_ERROR;
        head.headers.remove(CONTENT_LENGTH);
        return Response::from_parts(head, body::empty());
    };
    // The response to a HEAD has no body and keeps its Content-Length.
    let Some(text) = said(&bytes, lists) else { return Response::from_parts(head, body::full(bytes)) };
    head.headers.insert(CONTENT_LENGTH, text.len().into());
    Response::from_parts(head, body::full(text))
}

/// Returns the document with every character representable; none if nothing has to change.
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

/// Returns a document with these elements below `root`.
pub fn document(root: &str, elements: &[(impl AsRef<str>, impl AsRef<str>)]) -> Bytes {
    let mut bytes = Vec::new();
    let mut writer = Serializer::new(&mut bytes);
    let written = writer.decl().and_then(|()| {
        writer.element(root, |writer| {
            elements.iter().try_for_each(|(name, text)| writer.content(name.as_ref(), text.as_ref()))
        })
    });
    debug_assert!(written.is_ok(), "memory takes every write");
    said(&bytes, false).map_or_else(|| Bytes::from(bytes), Bytes::from)
}

/// Returns the elements below `root`, each with its text; none if this is no such document.
pub fn elements(document: &[u8], root: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut reader = Deserializer::new(document);
    let read = reader.named_element(root, |reader| {
        reader.for_each_element(|reader, name| {
            let text = reader.content::<String>()?;
            found.push((String::from_utf8_lossy(name).into_owned(), text));
            Ok(())
        })
    });
    read.is_ok().then_some(found)
}

#[cfg(test)]
mod tests {
    use crate::s3::documents::xml::*;

    #[test]
    fn characters_that_xml_cannot_say() {
        let key = "<Key>a\r\u{1}\u{1f}\u{7f}\u{fffe}\n\tä漢</Key>";
        let list = said(key.as_bytes(), true).unwrap();
        assert_eq!(list, "<Key>a&#13;&#x1;&#x1f;\u{7f}&#xfffe;\n\tä漢</Key>");
        let other = said(key.as_bytes(), false).unwrap();
        assert_eq!(other, "<Key>a&#13;\u{fffd}\u{fffd}\u{7f}\u{fffd}\n\tä漢</Key>");
        assert_eq!(said("<Key>a\nb</Key>".as_bytes(), true), None);
    }

    #[test]
    fn documents_are_read_as_they_were_written() {
        let texts = ["", "a&b<c>\"d'", "a\r\nb", "ä漢", " a ", "]]>"];
        for text in texts {
            let document = document("A", &[("Key", text), ("Other", "1")]);
            let read = elements(&document, "A").unwrap();
            assert_eq!(read, [("Key".to_owned(), text.to_owned()), ("Other".to_owned(), "1".to_owned())]);
            assert_eq!(elements(&document, "B"), None);
        }
        assert_eq!(elements(b"<A><B>", "A"), None);
        assert_eq!(elements(&document("A", &[("B", "\0")]), "A").unwrap()[0].1, REPLACEMENT);
    }
}
