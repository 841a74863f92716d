//! Headers and trailers of records, without bodies, read from the disk page by page. For a rebuild of the metadata;
//! nothing is kept in memory.

use shared::digest::Digest;
use shared::ids::BlobId;
use shared::key::Key;
use shared::limits::PAGE_BYTES;
use shared::work::blocking;

use super::error::{Corruption, ReadError};
use super::read::check_header_and_trailer;
use super::{Inner, Store, lock};

/// A record, without its body.
#[derive(Debug)]
pub struct Record {
    pub blob: BlobId,
    /// Length of the body in bytes.
    pub length: u64,
    /// An error if they cannot be read.
    pub header_and_trailer: Result<HeaderAndTrailer, ReadError>,
}

/// The contents of header and trailer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderAndTrailer {
    pub key: Key,
    /// BLAKE3 of the body.
    pub digest: Digest,
    /// Media type, as the client gave it.
    pub content_type: Option<String>,
    /// User metadata: names and values.
    pub metadata: Vec<(String, String)>,
}

impl Store {
    /// Returns the records of the next `limit` blobs after `after`, in order, without those deleted meanwhile; and
    /// where to continue, `None` at the end.
    pub async fn records(&self, after: Option<BlobId>, limit: usize) -> (Vec<Record>, Option<BlobId>) {
        let store = self.clone();
        blocking(move || {
            let blobs = store.inventory(after, limit);
            let next = blobs.last().filter(|_| blobs.len() == limit).map(|e| e.blob);
            (blobs.into_iter().filter_map(|e| store.0.record(e.blob)).collect(), next)
        })
        .await
    }
}

impl Inner {
    fn record(&self, blob: BlobId) -> Option<Record> {
        // The segment's file stays open while it is read; a record that is rewritten meanwhile is read again.
        loop {
            let (segment, extent) = {
                let catalog = lock(&self.catalog);
                let extent = catalog.get(blob)?;
                (catalog.segment(extent.segment)?, extent)
            };
            let mut pages = vec![0; extent.header_bytes() + PAGE_BYTES];
            let (head, tail) = pages.split_at_mut(extent.header_bytes());
            let read = segment.file.read_at(head, extent.offset()).and_then(|first| {
                let second = segment.file.read_at(tail, extent.trailer())?;
                Ok(first == head.len() && second == tail.len())
            });
            let corrupt = |what| ReadError::Corrupt { blob, what };
            let ends = match read {
                Ok(true) => check_header_and_trailer(&segment.header, blob, &extent, &pages).map_err(corrupt),
                Ok(false) => Err(corrupt(Corruption::CutOff)),
                Err(e) => Err(e.into()),
            };
            if ends.is_err() && lock(&self.catalog).get(blob) != Some(extent) {
                continue;
            }
            let ends = ends.map(|(header, trailer, _)| HeaderAndTrailer {
                key: header.key,
                digest: trailer.digest,
                content_type: header.content_type,
                metadata: header.metadata,
            });
            return Some(Record { blob, length: extent.length, header_and_trailer: ends });
        }
    }
}
