//! The other replicas of a blob, as the master lists them, each with a ticket; and reads from them.
//!
//! Only addresses from the master are asked, and only answers with exactly the length and the digest that the master
//! knows are accepted.

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
use shared::wire::master::{ReplicaSourcesRequest, ReplicaSourcesResponse};
use shared::wire::routes::{HEALING_HEADER, REPLICA_SOURCES};

use crate::server::Volume;
use crate::store::NewRecord;

/// Largest range per request: one buffer of a reader.
const RANGE_BYTES_MAX: u64 = READ_BUFFER_BYTES as u64;
/// A replica that takes longer for one range is skipped.
const RANGE_TIMEOUT: Duration = CALL_TIMEOUT;

/// A blob's other replicas.
#[derive(Debug)]
pub struct ReplicaSources {
    http: HttpClient,
    blob: BlobId,
    known: ReplicaSourcesResponse,
    /// The source that answered last; it is asked first, since the others may be slow to fail.
    best: AtomicUsize,
}

/// Why nothing can be read from other replicas.
#[derive(Debug, thiserror::Error)]
pub enum NoReplicaSources {
    /// This volume has not joined a cluster, or has no master.
    #[error("this volume knows no master yet")]
    NoMaster,
    /// The masters did not answer, or do not expect the blob here.
    #[error("the master lists no replicas: {0}")]
    Master(#[from] CallError),
    /// There is no other replica, or its volume is down.
    #[error("no other volume that is up holds a replica")]
    None,
}

/// Why a source failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A volume without a good record redirects to the master.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// Its answer has another digest or another range.
    #[error("it answered with other bytes than requested")]
    Other,
    /// No byte in time, or too few.
    #[error("it stalled")]
    Stalled,
    #[error(transparent)]
    Body(#[from] body::ReadError),
    #[error("its answer ended early")]
    Short,
    #[error("it sent more bytes than the value has")]
    Long,
}

impl NoReplicaSources {
    /// Whether the master said that no object references the blob here any longer.
    pub fn is_unreferenced(&self) -> bool {
        matches!(self, Self::Master(CallError::Refused { detail, .. }) if detail.code == ErrorCode::NotFound)
    }
}

/// Returns the first answer of a master.
async fn ask_masters(
    volume: &Volume,
    question: &ReplicaSourcesRequest,
) -> Result<ReplicaSourcesResponse, NoReplicaSources> {
    let mut refusal = NoReplicaSources::NoMaster;
    for master in volume.masters.all() {
        match volume.peers.call(&master, REPLICA_SOURCES, question).await {
            Ok(known) => return Ok(known),
            Err(error) => {
                refusal = NoReplicaSources::Master(error);
                if refusal.is_unreferenced() {
                    break;
                }
            }
        }
    }
    Err(refusal)
}

impl ReplicaSources {
    /// Asks the masters for a blob's metadata and sources, if it is expected here.
    ///
    /// # Errors
    /// When it is not, or no master answers.
    pub async fn ask(volume: &Volume, blob: BlobId) -> Result<ReplicaSourcesResponse, NoReplicaSources> {
        let Some(cluster) = volume.identity.cluster() else { return Err(NoReplicaSources::NoMaster) };
        let question = ReplicaSourcesRequest { cluster, volume: volume.identity.volume(), blob };
        ask_masters(volume, &question).await
    }

    /// Asks the masters for other replicas.
    ///
    /// # Errors
    /// When no master answers, or there is no other replica.
    pub async fn find(volume: &Volume, blob: BlobId) -> Result<Self, NoReplicaSources> {
        let known = Self::ask(volume, blob).await?;
        if known.sources.is_empty() {
            return Err(NoReplicaSources::None);
        }
        Ok(Self::of(volume, blob, known))
    }

    /// With sources that are known, at least one.
    pub fn of(volume: &Volume, blob: BlobId, known: ReplicaSourcesResponse) -> Self {
        Self { http: volume.peers.http().clone(), blob, known, best: AtomicUsize::new(0) }
    }

    /// What the master knows of the blob.
    pub fn known(&self) -> &ReplicaSourcesResponse {
        &self.known
    }

    /// Returns the record to rewrite.
    pub fn record(&self) -> NewRecord {
        NewRecord {
            blob: self.blob,
            key: self.known.key.clone(),
            content_type: self.known.content_type.clone(),
            metadata: self.known.metadata.clone(),
            length: Some(self.known.length),
        }
    }

    /// Number of sources, at least one.
    pub fn count(&self) -> usize {
        self.known.sources.len()
    }

    /// Address of source `number` (modulo `count`), without its ticket, for logs.
    pub fn address(&self, number: usize) -> String {
        let uri: Option<Uri> = self.source(number).parse().ok();
        uri.and_then(|uri| uri.authority().map(ToString::to_string)).unwrap_or_default()
    }

    fn source(&self, number: usize) -> &str {
        &self.known.sources[number % self.known.sources.len()]
    }

    /// Opens a stream of all bytes from `offset`, which is before the end, from one source.
    ///
    /// # Errors
    /// When the source does not answer in time, or with other bytes.
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

    /// Reads at most `max` bytes, and at most a read buffer full, from `offset`: tries one replica after the other
    /// until `good` accepts the bytes.
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

    use crate::replicas::sources::*;

    #[test]
    fn only_a_master_says_that_a_blob_is_forgotten() {
        let refused = |code: ErrorCode| {
            let detail =
                ErrorDetail { code, message: "no".into(), key: None, hint: String::new(), request_id: None };
            let address = "there".to_owned();
            NoReplicaSources::Master(CallError::Refused {
                address,
                status: code.status(),
                detail: Box::new(detail),
            })
        };
        assert!(refused(ErrorCode::NotFound).is_unreferenced());
        assert!(
            !refused(ErrorCode::NoSuchRoute).is_unreferenced(),
            "also a 404, but not from a master that knows"
        );
        assert!(!NoReplicaSources::NoMaster.is_unreferenced());
    }
}
