//! Downloads: conditions and ranges as in all APIs, bytes verified block by block before they are sent. A corrupt
//! block is read from another replica (read repair); without a good replica the answer breaks off: the client sees an
//! error, never a clean end.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::unfold;
use http::header::{CACHE_CONTROL, LOCATION};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::http::body::{self, Body, BodyFailure};
use shared::http::entity::{Entity, Piece};
use shared::key::Key;
use shared::ticket::Ticket;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::routes::{HEALING_HEADER, HOPS, MANIFEST_HEADER};

use crate::assembly::Assembly;
use crate::replicas::read_repair::{Asker, RepairingReader};
use crate::server::Volume;
use crate::store::ReadError;

/// Answers a GET or HEAD with a read ticket for this volume.
pub(super) async fn serve(
    volume: &Arc<Volume>,
    key: &Key,
    ticket: &Ticket,
    request: &Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let healing = request.headers().contains_key(HEALING_HEADER);
    let asker = if healing { Asker::Peer } else { Asker::Client };
    let supply = match RepairingReader::open(volume, ticket.blob, asker).await {
        Ok(supply) => supply,
        // Replaced, moved or deleted since the ticket was issued: the master knows the current state.
        Err(ReadError::NotFound { .. }) => return Ok(back_to_master(key, ticket)),
        Err(e) => return Err(ErrorReply::from(e).for_key(key)),
    };
    let Some(digest) = supply.digest() else { return Ok(back_to_master(key, ticket)) };
    let (metadata, content_type) = (supply.metadata().to_vec(), supply.content_type().map(str::to_owned));
    let value = match BlobReader::of(volume, supply, asker).await {
        Ok(value) => value,
        Err(ReadError::NotFound { .. }) => return Ok(back_to_master(key, ticket)),
        Err(e) => return Err(ErrorReply::from(e).for_key(key)),
    };
    let etag = match &value {
        BlobReader::One(_) => digest.etag(),
        BlobReader::Parts(assembly) => format!("\"{digest}-{}\"", assembly.count()),
    };
    let entity = Entity {
        generation: ticket.blob,
        size: value.length(),
        etag,
        content_type: content_type.as_deref(),
        metadata: &metadata,
        expires: None,
    };
    let plan = entity.answer(request.method(), request.headers()).map_err(|e| e.for_key(key))?;
    let mut download = Download { value, pieces: plan.pieces.into(), key: key.clone() };
    // Read the first bytes before the head is sent: if they are corrupt the answer is a 500, not a truncated body.
    let first = download.next().await.map_err(|e| ErrorReply::from(e).for_key(key))?;
    Ok(plan.head.map(|()| match first {
        None => body::empty(),
        Some(first) if download.pieces.is_empty() => body::full(first),
        Some(first) => body::stream(unfold((Some(first), Some(download)), step)),
    }))
}

type StreamState = (Option<Bytes>, Option<Download>);

async fn step((first, download): StreamState) -> Option<(Result<Bytes, BodyFailure>, StreamState)> {
    let mut download = download?;
    if let Some(first) = first {
        return Some((Ok(first), (None, Some(download))));
    }
    match download.next().await {
        Ok(Some(bytes)) => Some((Ok(bytes), (None, Some(download)))),
        Ok(None) => None,
        Err(error) => {
            tracing::error!(key = %download.key, %error, "a value could not be read to its end; the answer was cut off");
            Some((Err(error.into()), (None, None)))
        }
    }
}

/// The source of a download: one record, or the parts that a manifest lists.
enum BlobReader {
    One(RepairingReader),
    Parts(Assembly),
}

impl BlobReader {
    /// Follows a manifest to its parts for clients only: a volume that heals wants the manifest itself.
    async fn of(volume: &Arc<Volume>, supply: RepairingReader, asker: Asker) -> Result<Self, ReadError> {
        let manifest = supply.metadata().iter().any(|(name, _)| name == MANIFEST_HEADER);
        if manifest && asker == Asker::Client {
            return Ok(Self::Parts(Assembly::open(volume, supply).await?));
        }
        Ok(Self::One(supply))
    }

    fn length(&self) -> u64 {
        match self {
            Self::One(supply) => supply.length(),
            Self::Parts(assembly) => assembly.length(),
        }
    }

    async fn read(&mut self, offset: u64, max: usize) -> Result<Bytes, ReadError> {
        match self {
            Self::One(supply) => supply.read(offset, max).await,
            Self::Parts(assembly) => assembly.read(offset, max).await,
        }
    }
}

/// An answer under way. It pins the blob against hole punching until it ends.
struct Download {
    value: BlobReader,
    pieces: VecDeque<Piece>,
    key: Key,
}

impl Download {
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let range = match self.pieces.pop_front() {
            None => return Ok(None),
            Some(Piece::Text(text)) => return Ok(Some(text)),
            Some(Piece::Range(range)) => range,
        };
        let wanted = usize::try_from(range.len()).unwrap_or(usize::MAX);
        let bytes = self.value.read(range.start(), wanted).await?;
        let next = range.start() + bytes.len() as u64;
        if let Some(rest) = shared::range::ByteRange::new(next, range.end(), self.value.length()) {
            self.pieces.push_front(Piece::Range(rest));
        }
        Ok(Some(bytes))
    }
}

/// Redirects (307) to the master, with one hop more: after too many the master answers 503, which ends a loop.
fn back_to_master(key: &Key, ticket: &Ticket) -> Response<Body> {
    let location =
        format!("{}{}?{HOPS}={}", ticket.master_public, key.to_path(), ticket.hops.saturating_add(1));
    let mut answer = Response::new(body::empty());
    *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(location) = HeaderValue::from_str(&location) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

impl From<ReadError> for ErrorReply {
    fn from(e: ReadError) -> Self {
        let (code, hint) = match &e {
            ReadError::NotFound { .. } => (ErrorCode::NotFound, "ask the master again"),
            ReadError::Corrupt { .. } => (
                ErrorCode::Corrupt,
                "no good replica was found; see `barge cluster status`, and retry when all volumes are up",
            ),
            _ => (ErrorCode::Internal, "see the volume's log; retry to read another replica"),
        };
        Self::new(code, e.to_string(), hint)
    }
}

#[cfg(test)]
mod tests {
    use shared::clock::Timestamp;
    use shared::ids::{BlobId, ClusterId, VolumeId};
    use shared::ticket::Operation;

    use super::*;

    #[test]
    fn who_is_sent_back_to_the_master_has_come_further() {
        let mut ticket = Ticket {
            cluster: ClusterId::from_bytes([9; 16]),
            blob: BlobId::next(None, Timestamp::from_unix_ms(1 << 40), [3; 10]),
            expires: Timestamp::from_unix_ms(1 << 41),
            hops: 0,
            master: "http://master.internal:3000".into(),
            master_public: "http://localhost:3000".into(),
            operation: Operation::Read(VolumeId::from_bytes([1; 16])),
        };
        for (hops, next) in [(0, 1), (3, 4), (u8::MAX, u8::MAX)] {
            ticket.hops = hops;
            let answer = back_to_master(&Key::new("a/b").unwrap(), &ticket);
            assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT);
            let to = answer.headers()[LOCATION].to_str().unwrap();
            assert_eq!(to, format!("http://localhost:3000/a/b?{HOPS}={next}"));
        }
    }
}
