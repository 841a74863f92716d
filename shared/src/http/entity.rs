//! How a GET or HEAD of a value is answered: conditions, ranges and headers. One implementation for the volume that
//! reads its own disk and the master that streams from a volume.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderValue, LAST_MODIFIED, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Response, StatusCode};

use crate::clock::Timestamp;
use crate::condition::{ReadConditions, ReadVerdict, if_range_holds};
use crate::http::metadata;
use crate::ids::BlobId;
use crate::range::{ByteRange, Multipart, Ranges, unsatisfied_content_range};
use crate::wire::error::{ErrorCode, ErrorReply};
use crate::wire::routes::{EXPIRES_HEADER, GENERATION_HEADER};

/// The content type of a value whose client gave none.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// A value, as its answers describe it.
#[derive(Clone, Debug)]
pub struct Entity<'a> {
    /// Its generation, which contains its creation time.
    pub generation: BlobId,
    /// Its length in bytes.
    pub size: u64,
    /// Its entity tag, in quotes.
    pub etag: String,
    /// Content type, if one was given.
    pub content_type: Option<&'a str>,
    /// User metadata headers.
    pub metadata: &'a [(String, String)],
    /// When it expires, where that is known: masters know it.
    pub expires: Option<Timestamp>,
}

/// A piece of the answer's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text between the parts of a multipart answer.
    Text(Bytes),
    /// Bytes of the value.
    Range(ByteRange),
}

/// The answer: its head and the pieces of its body.
#[derive(Debug)]
pub struct Plan {
    /// Status and headers.
    pub head: Response<()>,
    /// The body, in order; empty for HEAD and 304.
    pub pieces: Vec<Piece>,
}

impl Entity<'_> {
    /// Adds the headers that every answer about the value carries.
    fn headers(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(UNKNOWN_TYPE));
        metadata::show(self.content_type, self.metadata, headers);
        headers.insert(ETAG, ascii(self.etag.clone()));
        headers.insert(LAST_MODIFIED, ascii(self.generation.created().http_date()));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(GENERATION_HEADER, ascii(self.generation.to_string()));
        if let Some(at) = self.expires {
            // Not before the time itself, which has milliseconds.
            headers.insert(EXPIRES_HEADER, ascii(at.after(Duration::from_millis(999)).http_date()));
        }
        // Browsers must not interpret an upload as another type than the declared one.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // An uploaded page gets an origin of its own: its scripts must not act as this server's.
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    }

    /// Evaluates the conditions of a request; `Some` is the whole answer if they prevent a normal one.
    ///
    /// # Errors
    /// 412 if `If-Match` or `If-Unmodified-Since` do not hold.
    pub fn evaluate(&self, request: &HeaderMap) -> Result<Option<Plan>, ErrorReply> {
        let verdict = ReadConditions::from_headers(request).evaluate(&self.etag, self.generation.created());
        match verdict {
            ReadVerdict::Proceed => Ok(None),
            ReadVerdict::Failed => Err(ErrorReply::new(
                ErrorCode::PreconditionFailed,
                "the value does not match the request's condition",
                "HEAD the key for its current ETag",
            )
            .with_header(ETAG, ascii(self.etag.clone()))),
            ReadVerdict::NotModified => {
                let mut head = Response::new(());
                *head.status_mut() = StatusCode::NOT_MODIFIED;
                self.headers(head.headers_mut());
                head.headers_mut().remove(CONTENT_TYPE);
                Ok(Some(Plan { head, pieces: Vec::new() }))
            }
        }
    }

    /// The whole answer to a GET or HEAD with these headers (RFC 9110 §13 and §14).
    ///
    /// # Errors
    /// 412 and 416.
    pub fn answer(&self, method: &Method, request: &HeaderMap) -> Result<Plan, ErrorReply> {
        if let Some(plan) = self.evaluate(request)? {
            return Ok(plan);
        }
        let mut head = Response::new(());
        self.headers(head.headers_mut());
        // Ranges are defined for GET only, and apply only while If-Range holds.
        let wanted = (method == Method::GET
            && if_range_holds(request, &self.etag, self.generation.created()))
        .then(|| request.get(RANGE).and_then(|v| v.to_str().ok()))
        .flatten();
        let pieces = match Ranges::parse(wanted, self.size) {
            Ranges::Whole => {
                head.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(self.size));
                ByteRange::whole(self.size).map(Piece::Range).into_iter().collect()
            }
            Ranges::Single(range) => {
                *head.status_mut() = StatusCode::PARTIAL_CONTENT;
                head.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(range.len()));
                head.headers_mut().insert(CONTENT_RANGE, ascii(range.content_range(self.size)));
                vec![Piece::Range(range)]
            }
            Ranges::Multi(ranges) => self.multipart(&ranges, &mut head),
            Ranges::Unsatisfiable => {
                return Err(ErrorReply::new(
                    ErrorCode::RangeNotSatisfiable,
                    format!("the value has {} bytes; the range lies outside of it", self.size),
                    "request a range within the value's length",
                )
                .with_header(CONTENT_RANGE, ascii(unsatisfied_content_range(self.size))));
            }
        };
        let pieces = if method == Method::HEAD { Vec::new() } else { pieces };
        Ok(Plan { head, pieces })
    }

    fn multipart(&self, ranges: &[ByteRange], head: &mut Response<()>) -> Vec<Piece> {
        let content_type = self.content_type.unwrap_or(UNKNOWN_TYPE);
        // The boundary must not occur in the value: random for each answer, so that no value can be made to contain
        // it.
        let boundary = uuid::Uuid::new_v4().into_bytes();
        let multipart = Multipart::new(boundary, content_type, self.size, ranges);
        *head.status_mut() = StatusCode::PARTIAL_CONTENT;
        head.headers_mut().insert(CONTENT_TYPE, ascii(multipart.content_type()));
        head.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(multipart.total_len()));
        let mut pieces = Vec::with_capacity(ranges.len() * 2 + 1);
        for (part, range) in ranges.iter().enumerate() {
            pieces.push(Piece::Text(multipart.part_header(part).into()));
            pieces.push(Piece::Range(*range));
        }
        pieces.push(Piece::Text(multipart.footer().into()));
        pieces
    }
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::digest::Digest;
    use http::header::{IF_MATCH, IF_NONE_MATCH};

    fn entity() -> Entity<'static> {
        Entity {
            generation: BlobId::next(None, Timestamp::from_unix_ms(1_700_000_000_000), [1; 10]),
            size: 1000,
            etag: Digest::of(b"x").etag(),
            content_type: Some("text/plain"),
            metadata: &[],
            expires: None,
        }
    }

    fn headers(pairs: &[(http::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.clone(), v.parse().unwrap())).collect()
    }

    #[test]
    fn whole_part_parts_and_none() {
        let whole = entity().answer(&Method::GET, &HeaderMap::new()).unwrap();
        assert_eq!((whole.head.status(), whole.pieces.len()), (StatusCode::OK, 1));
        let one = entity().answer(&Method::GET, &headers(&[(RANGE, "bytes=10-19")])).unwrap();
        assert_eq!(one.head.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(one.head.headers()[CONTENT_RANGE], "bytes 10-19/1000");
        assert_eq!(one.head.headers()[CONTENT_LENGTH], "10");
        let two = entity().answer(&Method::GET, &headers(&[(RANGE, "bytes=0-1,500-501")])).unwrap();
        assert_eq!(two.pieces.len(), 5);
        let bytes: u64 = two
            .pieces
            .iter()
            .map(|p| match p {
                Piece::Text(t) => t.len() as u64,
                Piece::Range(r) => r.len(),
            })
            .sum();
        assert_eq!(two.head.headers()[CONTENT_LENGTH], bytes.to_string());
        let outside = entity().answer(&Method::GET, &headers(&[(RANGE, "bytes=1000-")])).unwrap_err();
        assert_eq!(outside.code, ErrorCode::RangeNotSatisfiable);
        assert_eq!(outside.headers[CONTENT_RANGE], "bytes */1000");
        let head = entity().answer(&Method::HEAD, &headers(&[(RANGE, "bytes=10-19")])).unwrap();
        assert_eq!((head.head.status(), head.pieces.len()), (StatusCode::OK, 0));
        assert_eq!(head.head.headers()[CONTENT_LENGTH], "1000");
    }

    #[test]
    fn conditions() {
        let etag = Digest::of(b"x").etag();
        let same = entity().answer(&Method::GET, &headers(&[(IF_NONE_MATCH, &etag)])).unwrap();
        assert_eq!(same.head.status(), StatusCode::NOT_MODIFIED);
        let other = Digest::of(b"y").etag();
        let refused = entity().answer(&Method::GET, &headers(&[(IF_MATCH, &other)])).unwrap_err();
        assert_eq!(refused.code, ErrorCode::PreconditionFailed);
    }
}
