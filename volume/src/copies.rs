//! The other replicas of a blob, as the master names them, each with a ticket; and bytes from them.
//!
//! It never asks an address that anybody else than the master gave, and never takes an answer for good that
//! is not of exactly the length and the digest that the master knows.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_RANGE, ETAG, RANGE};
use http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use shared::http::body;
use shared::http::client::{CallError, HttpClient, HttpError};
use shared::ids::BlobId;
use shared::limits::{CALL_TIMEOUT, READ_BUFFER_BYTES};
use shared::range::ByteRange;
use shared::wire::error::ErrorCode;
use shared::wire::master::{CopiesRequest, CopiesResponse};
use shared::wire::routes::{COPIES, HEALING_HEADER};

use crate::server::Volume;
use crate::store::NewRecord;

/// Largest range asked for at once: one buffer of a reader.
const RANGE_BYTES_MAX: u64 = READ_BUFFER_BYTES as u64;
/// A replica that takes longer for one range is passed over.
const RANGE_TIMEOUT: Duration = CALL_TIMEOUT;

/// A blob's other replicas.
#[derive(Debug)]
pub struct Copies {
    http: HttpClient,
    blob: BlobId,
    known: CopiesResponse,
    /// The source that answered last: the others may be slow to fail.
    best: AtomicUsize,
}

/// Nothing can be had from other replicas.
#[derive(Debug, thiserror::Error)]
pub enum NoCopies {
    /// This volume does not know its master yet.
    #[error("no master is known")]
    NoMaster,
    /// The master did not answer, or knows of no such blob here.
    #[error("the master names no copies: {0}")]
    Master(#[from] CallError),
    /// There is no other copy, or its volume is down: all that can be known now.
    #[error("no other volume that is up holds a copy")]
    None,
}

/// A source does not give what is wanted of it.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It does not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It answers something else: a volume that has no good record sends back to the master.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// It answers with another value, or another part of it.
    #[error("it answered with other bytes than those asked for")]
    Other,
    /// No byte in time, or too few.
    #[error("it stalled")]
    Stalled,
    /// Its answer broke off.
    #[error(transparent)]
    Body(#[from] body::ReadError),
    /// Its answer ended before the value did.
    #[error("its answer ended early")]
    Short,
    /// It went on behind the value's end.
    #[error("it gave more bytes than the value has")]
    Long,
}

impl NoCopies {
    /// Whether the master says that no value refers to the blob here any more.
    pub fn is_forgotten(&self) -> bool {
        matches!(self, Self::Master(CallError::Refused { detail, .. }) if detail.code == ErrorCode::NotFound)
    }
}

/// The first answer of a master that knows.
async fn ask_masters(volume: &Volume, question: &CopiesRequest) -> Result<CopiesResponse, NoCopies> {
    let mut refusal = NoCopies::NoMaster;
    for master in volume.masters.all() {
        match volume.peers.call(&master, COPIES, question).await {
            Ok(known) => return Ok(known),
            Err(error) => {
                refusal = NoCopies::Master(error);
                if refusal.is_forgotten() {
                    break;
                }
            }
        }
    }
    Err(refusal)
}

impl Copies {
    /// Asks the masters what the blob is, and whether it is expected here.
    ///
    /// # Errors
    /// When it is not, or none of them says so.
    pub async fn ask(volume: &Volume, blob: BlobId) -> Result<CopiesResponse, NoCopies> {
        let Some(cluster) = volume.identity.cluster() else { return Err(NoCopies::NoMaster) };
        let question = CopiesRequest { cluster, volume: volume.identity.volume(), blob };
        ask_masters(volume, &question).await
    }

    /// Asks the masters for copies.
    ///
    /// # Errors
    /// When they do not know of any copy elsewhere.
    pub async fn find(volume: &Volume, blob: BlobId) -> Result<Self, NoCopies> {
        let known = Self::ask(volume, blob).await?;
        if known.sources.is_empty() {
            return Err(NoCopies::None);
        }
        Ok(Self::of(volume, blob, known))
    }

    /// Those that are known: one at least.
    pub fn of(volume: &Volume, blob: BlobId, known: CopiesResponse) -> Self {
        Self { http: volume.peers.http().clone(), blob, known, best: AtomicUsize::new(0) }
    }

    /// What the master knows of the blob.
    pub fn known(&self) -> &CopiesResponse {
        &self.known
    }

    /// The record, to be written anew.
    pub fn record(&self) -> NewRecord {
        NewRecord {
            blob: self.blob,
            key: self.known.key.clone(),
            content_type: self.known.content_type.clone(),
            metadata: self.known.metadata.clone(),
            length: Some(self.known.length),
        }
    }

    /// Sources there are: one at least.
    pub fn count(&self) -> usize {
        self.known.sources.len()
    }

    /// Where a source is, counted round and round, without its ticket.
    pub fn address(&self, number: usize) -> String {
        let uri: Option<Uri> = self.source(number).parse().ok();
        uri.and_then(|uri| uri.authority().map(ToString::to_string)).unwrap_or_default()
    }

    fn source(&self, number: usize) -> &str {
        &self.known.sources[number % self.known.sources.len()]
    }

    /// All bytes from `offset`, which is not the end, as one source gives them: a stream.
    ///
    /// # Errors
    /// When it does not answer in time, or not with these.
    pub async fn open(&self, number: usize, offset: u64) -> Result<Incoming, SourceError> {
        let mut request = Request::get(self.source(number)).header(HEALING_HEADER, "1");
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
        }
        let request = request.body(body::empty()).map_err(HttpError::from)?;
        let answer = self.http.send_within(request, CALL_TIMEOUT).await?;
        let wanted = if offset > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        if answer.status() != wanted {
            return Err(SourceError::Status(answer.status()));
        }
        let range = answer.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok());
        let there = offset == 0 || range.is_some_and(|r| r.starts_with(&format!("bytes {offset}-")));
        if there && self.is_it(&answer) { Ok(answer.into_body()) } else { Err(SourceError::Other) }
    }

    fn is_it(&self, answer: &Response<Incoming>) -> bool {
        answer.headers().get(ETAG).is_some_and(|e| *e == *self.known.blake3.etag())
    }

    /// Bytes from `offset`, at most `max` and at most a read buffer full, of each replica that gives them, one after
    /// the other until `good` says that they are what is wanted.
    pub async fn read(&self, offset: u64, max: usize, good: impl Fn(&Bytes) -> bool) -> Option<Bytes> {
        let wanted = RANGE_BYTES_MAX.min(max as u64);
        let end = offset.saturating_add(wanted).min(self.known.length);
        let range = ByteRange::new(offset, end.checked_sub(1)?, self.known.length)?;
        let count = self.known.sources.len();
        let first = self.best.load(Ordering::Relaxed);
        for n in (0..count).map(|n| (first + n) % count) {
            let source = &self.known.sources[n];
            let asked = tokio::time::timeout(RANGE_TIMEOUT, self.fetch(source, range)).await;
            if let Ok(Some(bytes)) = asked
                && good(&bytes)
            {
                self.best.store(n, Ordering::Relaxed);
                return Some(bytes);
            }
        }
        None
    }

    async fn fetch(&self, source: &str, range: ByteRange) -> Option<Bytes> {
        let request = Request::get(source)
            .header(RANGE, format!("bytes={}-{}", range.start(), range.end()))
            .header(HEALING_HEADER, "1")
            .body(body::empty())
            .ok()?;
        let answer = self.http.send(request).await.ok()?;
        if answer.status() != StatusCode::PARTIAL_CONTENT || !self.is_it(&answer) {
            return None;
        }
        let bytes = body::collect(answer.into_body(), READ_BUFFER_BYTES).await.ok()?;
        (bytes.len() as u64 == range.len()).then(|| bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use shared::wire::error::ErrorDetail;

    use super::*;

    #[test]
    fn only_a_master_says_that_a_blob_is_forgotten() {
        let refused = |code: ErrorCode| {
            let detail =
                ErrorDetail { code, message: "no".into(), key: None, hint: String::new(), request_id: None };
            let address = "there".to_owned();
            NoCopies::Master(CallError::Refused { address, status: code.status(), detail: Box::new(detail) })
        };
        assert!(refused(ErrorCode::NotFound).is_forgotten());
        assert!(!refused(ErrorCode::NoSuchRoute).is_forgotten(), "404 as well, and no word of a master");
        assert!(!NoCopies::NoMaster.is_forgotten());
    }
}
