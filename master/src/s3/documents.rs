//! Requests whose body is an XML document of at most `DOCUMENT_BYTES_MAX`. Verifies the checksums that the client
//! declares, which the library does not.
//!
//! No byte is read before the library has verified signature and permission: it asks for the body last. A document
//! that fits into the buffer of its connection needs no slot. A longer one takes a slot once that much has arrived,
//! and loses it if its bytes arrive too slowly.

use crate::s3::service::DOCUMENT_BYTES_MAX;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::header::HeaderMap;
use http::request::Parts;
use http::{Method, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::BodyExt;
use md5::{Digest as _, Md5};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use sha2::Sha256;
use shared::limits::HTTP_BUFFER_BYTES;
use shared::wire::routes::query_value;
use tokio::time::Instant;

use crate::s3::checksums::algorithms::{ALGORITHMS, Hasher};
use crate::s3::checksums::body::DeclaredChecksums;
use crate::s3::error::{custom, not_implemented};
use crate::s3::request::body::{BodyFault, StdError, incomplete, sized};
use crate::s3::request::context::RequestContext;
use slots::{DocumentSlot, DocumentSlots};

pub mod slots;
pub mod xml;

/// Largest document that needs no slot: what hyper may buffer per connection. A thousand keys to delete fit.
const UNPLACED_BYTES: u64 = HTTP_BUFFER_BYTES as u64;
/// Minimum rate of a document that holds a slot, in bytes per second.
const PLACED_RATE_MIN: u64 = 64 << 10;
/// Grace period after a slot is taken, so that a link may stall for a moment.
const PLACED_GRACE: Duration = Duration::from_secs(5);
/// Deadline of a document; the largest at `PLACED_RATE_MIN` meets it. A small one that misses it is slow on purpose.
const DOCUMENT_TIME_MAX: Duration = Duration::from_secs(70);

const _: () = assert!(
    DOCUMENT_BYTES_MAX as u64 / PLACED_RATE_MIN + PLACED_GRACE.as_secs() <= DOCUMENT_TIME_MAX.as_secs()
);

/// Query parameters with which the body of a request for an object is a document.
const OF_OBJECTS: [&str; 4] = ["tagging", "acl", "retention", "legal-hold"];

/// Returns whether the body is a document: always for a bucket; for an object with one of these parameters,
/// or a completion.
pub fn is_document(method: &Method, uri: &Uri, about: &RequestContext) -> bool {
    let asked = |name: &str| query_value(uri.query(), name).is_some();
    let completes = *method == Method::POST && asked("uploadId");
    let sends = [Method::PUT, Method::POST].contains(method);
    sends && (about.key.is_none() || completes || OF_OBJECTS.into_iter().any(asked))
}

/// Holds the slot of a document, which stays in memory until the operation is done.
#[derive(Clone, Debug, Default)]
pub struct KeptSlot(Arc<Mutex<Option<HeldSlot>>>);

impl KeptSlot {
    fn keep(&self, place: Option<HeldSlot>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = place.or(kept.take());
    }
}

/// Returns the body that the library reads, limited and verified, and its slot, to be held until the end.
pub fn limit_document(
    head: &Parts,
    body: s3s::Body,
    places: &Arc<DocumentSlots>,
    peer: IpAddr,
    fault: &BodyFault,
) -> (s3s::Body, KeptSlot) {
    let (length, fault, kept) = (body.size_hint(), fault.clone(), KeptSlot::default());
    let reading = DocumentReader {
        frames: body.into_data_stream().boxed(),
        length: length.exact(),
        sums: Some(DocumentChecksums::declared(head)),
        elements: Elements::default(),
        seen: 0,
        began: Instant::now(),
        places: Arc::clone(places),
        peer,
        place: None,
        kept: kept.clone(),
    };
    let stream = futures_util::stream::unfold(Some(reading), move |state| {
        let fault = fault.clone();
        async move {
            let mut reading = state?;
            match reading.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(reading))),
                Ok(None) => None,
                Err(error) => Some((Err(fault.set(error)), None)),
            }
        }
    });
    (sized(stream.boxed(), length), kept)
}

struct DocumentReader {
    frames: BoxStream<'static, Result<Bytes, StdError>>,
    length: Option<u64>,
    sums: Option<S3Result<DocumentChecksums>>,
    elements: Elements,
    seen: u64,
    began: Instant,
    places: Arc<DocumentSlots>,
    peer: IpAddr,
    place: Option<HeldSlot>,
    kept: KeptSlot,
}

/// A slot, when it was taken, and how many bytes had arrived before.
#[derive(Debug)]
struct HeldSlot {
    _place: DocumentSlot,
    since: Instant,
    before: u64,
}

impl DocumentReader {
    async fn next(&mut self) -> S3Result<Option<Bytes>> {
        if self.length.is_some_and(|bytes| bytes > DOCUMENT_BYTES_MAX as u64) {
            return Err(too_large());
        }
        if let Some(Err(e)) = self.sums.take_if(|sums| sums.is_err()) {
            return Err(e);
        }
        let next = tokio::time::timeout_at(self.deadline(), self.frames.next()).await;
        let Some(frame) = next.map_err(|_| S3ErrorCode::RequestTimeout)? else {
            self.end()?;
            return Ok(None);
        };
        let bytes = frame.map_err(|_| incomplete())?;
        self.seen += bytes.len() as u64;
        shared::http::body::count(bytes.len());
        if self.seen > DOCUMENT_BYTES_MAX as u64 {
            return Err(too_large());
        }
        if self.seen > UNPLACED_BYTES && self.place.is_none() {
            let place = self.places.take(self.peer).await?;
            self.place = Some(HeldSlot { _place: place, since: Instant::now(), before: self.seen });
        }
        if let Some(Ok(sums)) = &mut self.sums {
            sums.update(&bytes);
        }
        if let Some((_, asks)) = self.elements.unknown(&bytes) {
            return Err(not_implemented(*asks));
        }
        // Before the last bytes: the library then verifies a checksum itself, with a less precise error.
        if self.length == Some(self.seen) {
            self.end()?;
        }
        Ok(Some(bytes))
    }

    /// Verifies the checksums of the complete document.
    fn end(&mut self) -> S3Result<()> {
        self.kept.keep(self.place.take());
        self.sums.take().transpose()?.map_or(Ok(()), DocumentChecksums::check)
    }

    /// Returns the deadline for the next bytes.
    fn deadline(&self) -> Instant {
        let last = self.began + DOCUMENT_TIME_MAX;
        self.place.as_ref().map_or(last, |held| {
            let earned = Duration::from_secs((self.seen - held.before) / PLACED_RATE_MIN);
            last.min(held.since + PLACED_GRACE + earned)
        })
    }
}

/// Elements of S3's reference that the library ignores, each with its error text.
const PASSED_OVER: [(&str, &str); 6] = [
    ("ChecksumMD5", "ChecksumMD5 is not supported in multipart uploads; leave it out"),
    ("ChecksumSHA512", "ChecksumSHA512 is not supported in multipart uploads; leave it out"),
    ("ChecksumXXHASH128", "ChecksumXXHASH128 is not supported in multipart uploads; leave it out"),
    ("ChecksumXXHASH3", "ChecksumXXHASH3 is not supported in multipart uploads; leave it out"),
    ("ChecksumXXHASH64", "ChecksumXXHASH64 is not supported in multipart uploads; leave it out"),
    ("Tags", "CreateBucket does not set Tags; create the bucket, then send PutBucketTagging"),
];
/// Longer than any of these names with a namespace prefix.
const ELEMENT_BYTES_MAX: usize = 64;

/// Finds element names in a document that arrives in pieces.
#[derive(Debug, Default)]
struct Elements {
    /// The name that is being read.
    name: Option<Vec<u8>>,
}

impl Elements {
    /// Returns the first element of `PASSED_OVER` whose name ends in these bytes, with its error text.
    fn unknown(&mut self, bytes: &[u8]) -> Option<&'static (&'static str, &'static str)> {
        for byte in bytes {
            let ends = byte.is_ascii_whitespace() || [b'>', b'/'].contains(byte);
            match &mut self.name {
                _ if *byte == b'<' => self.name = Some(Vec::new()),
                Some(_) if ends => {
                    let name = self.name.take().unwrap_or_default();
                    let bare = name.rsplit(|b| *b == b':').next().unwrap_or_default();
                    let found = PASSED_OVER.iter().find(|(known, _)| known.as_bytes() == bare);
                    if found.is_some() {
                        return found;
                    }
                }
                Some(name) if name.len() < ELEMENT_BYTES_MAX => name.push(*byte),
                _ => self.name = None,
            }
        }
        None
    }
}

fn too_large() -> S3Error {
    custom("MaxMessageLengthExceeded", StatusCode::BAD_REQUEST, "Your request was too big.")
}

/// The checksums that the headers declare for a document.
struct DocumentChecksums {
    md5: Option<(Md5, [u8; 16])>,
    checksum: Option<(Hasher, Vec<u8>)>,
    sha256: Option<(Sha256, String)>,
}

impl DocumentChecksums {
    fn declared(head: &Parts) -> S3Result<Self> {
        let mut own: HeaderMap = head.headers.clone();
        own.remove("x-amz-sdk-checksum-algorithm");
        let payload = own.get("x-amz-content-sha256").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let sha256 = (payload.len() == 64).then(|| (Sha256::new(), payload.to_ascii_lowercase()));
        // A completion declares the checksum of the object, not of its document.
        if query_value(head.uri.query(), "uploadId").is_some() {
            ALGORITHMS.iter().for_each(|(_, header, _)| drop(own.remove(*header)));
        }
        let declared = DeclaredChecksums::from_headers(&own, None, false)?;
        let checksum = declared.checksum;
        Ok(Self {
            md5: declared.md5.flatten().map(|wanted| (Md5::new(), wanted)),
            checksum: checksum.and_then(|(a, wanted)| Some((Hasher::new(a), wanted?))),
            sha256,
        })
    }

    fn update(&mut self, bytes: &[u8]) {
        self.md5.iter_mut().for_each(|(md5, _)| md5.update(bytes));
        self.checksum.iter_mut().for_each(|(hasher, _)| hasher.update(bytes));
        self.sha256.iter_mut().for_each(|(sha, _)| sha.update(bytes));
    }

    fn check(self) -> S3Result<()> {
        if let Some((sha, wanted)) = self.sha256
            && shared::attributes::hex(&sha.finalize()) != wanted
        {
            let message = "The provided 'x-amz-content-sha256' header does not match what was computed";
            return Err(custom("XAmzContentSHA256Mismatch", StatusCode::BAD_REQUEST, message));
        }
        if let Some((md5, wanted)) = self.md5
            && md5.finalize()[..] != wanted
        {
            let message = "The Content-MD5 you specified did not match what we received.";
            return Err(s3_error!(BadDigest, "{}", message));
        }
        if let Some((hasher, wanted)) = self.checksum
            && hasher.finish() != wanted
        {
            let message = "The checksum you specified did not match the calculated checksum.";
            return Err(s3_error!(BadDigest, "{}", message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::s3::documents::*;

    #[test]
    fn elements_are_found_wherever_the_document_is_cut() {
        let found = |document: &str, cut: usize| {
            let mut elements = Elements::default();
            let (before, after) = document.as_bytes().split_at(cut);
            elements.unknown(before).or_else(|| elements.unknown(after)).map(|(name, _)| *name)
        };
        let document = "<?xml version=\"1.0\"?><A xmlns='x'><!-- > --><s3:Tags a='b'><Tag/></s3:Tags></A>";
        for cut in 0..document.len() {
            assert_eq!(found(document, cut), Some("Tags"), "{cut}");
        }
        for other in
            ["<Tagging><TagSet><Tag>Tags</Tag></TagSet></Tagging>", "</Tags>", "<TagsOf/>", "Tags", ""]
        {
            assert_eq!(found(other, 0), None, "{other}");
        }
    }
}
