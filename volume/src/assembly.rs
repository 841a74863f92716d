//! Reads a multipart object as one value: its manifest lists the records of this volume in order. All of them are
//! pinned from the beginning, so that a value that is overwritten or deleted meanwhile can be read to its end.

use std::sync::Arc;

use bytes::Bytes;
use shared::digest::Digest;
use shared::ids::BlobId;
use shared::limits::{MANIFEST_BYTES_MAX, READ_BUFFER_BYTES};
use shared::manifest::Manifest;

use crate::replicas::read_repair::{Asker, RepairingReader};
use crate::server::Volume;
use crate::store::{Corruption, FormatError, PinnedRecord, ReadError};

/// The parts of a value, in order.
#[derive(Debug)]
pub struct Assembly {
    volume: Arc<Volume>,
    /// The pin is `None` once the part was opened, or if it is missing here.
    parts: Vec<(BlobId, Option<PinnedRecord>)>,
    /// End offset of each part.
    ends: Vec<u64>,
    /// BLAKE3 of each part.
    digests: Vec<Digest>,
    open: Option<(usize, RepairingReader)>,
}

impl Assembly {
    /// Reads the manifest and pins the parts it lists.
    ///
    /// # Errors
    /// When the manifest cannot be read or decoded, or a part is on no volume.
    pub async fn open(volume: &Arc<Volume>, mut manifest: RepairingReader) -> Result<Self, ReadError> {
        let broken = |blob| ReadError::Corrupt { blob, what: Corruption::Header(FormatError::Content) };
        let length = usize::try_from(manifest.length()).unwrap_or(usize::MAX);
        if length > MANIFEST_BYTES_MAX {
            return Err(broken(manifest.blob()));
        }
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let piece = manifest.read(bytes.len() as u64, READ_BUFFER_BYTES).await?;
            if piece.is_empty() {
                return Err(broken(manifest.blob()));
            }
            bytes.extend_from_slice(&piece);
        }
        let manifest = Manifest::decode(&bytes).map_err(|_| broken(manifest.blob()))?;
        let hold = |blob| (blob, volume.store.pin(blob).ok());
        let parts: Vec<_> = manifest.parts.iter().map(|part| hold(part.blob)).collect();
        if let Some((missing, _)) = parts.iter().find(|(_, hold)| hold.is_none()) {
            // Either it is corrupt here and another volume has a replica, or the value was just deleted.
            RepairingReader::open(volume, *missing, Asker::Client).await?;
        }
        let ends = manifest.parts.iter().scan(0, |end, part| {
            *end += part.length;
            Some(*end)
        });
        let (ends, digests) = (ends.collect(), manifest.parts.iter().map(|part| part.digest).collect());
        Ok(Self { volume: Arc::clone(volume), parts, ends, digests, open: None })
    }

    /// Length of the whole value in bytes.
    pub fn length(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Number of parts.
    pub fn count(&self) -> usize {
        self.parts.len()
    }

    pub async fn read(&mut self, offset: u64, max: usize) -> Result<Bytes, ReadError> {
        let number = self.ends.partition_point(|end| *end <= offset);
        let Some(end) = self.ends.get(number).copied() else { return Ok(Bytes::new()) };
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let expected = (end - start, self.digests[number]);
        let supply = self.opened(number).await?;
        if (supply.length(), supply.digest()) != (expected.0, Some(expected.1)) {
            let what = Corruption::Header(FormatError::Content);
            return Err(ReadError::Corrupt { blob: supply.blob(), what });
        }
        supply.read(offset - start, max.min(left)).await
    }

    async fn opened(&mut self, number: usize) -> Result<&mut RepairingReader, ReadError> {
        let same = self.open.take().filter(|(open, _)| *open == number);
        let supply = match same {
            Some((_, supply)) => supply,
            None => {
                let (blob, hold) = &mut self.parts[number];
                match hold.take() {
                    Some(hold) => {
                        RepairingReader::open_pinned(&self.volume, *blob, hold, Asker::Client).await?
                    }
                    None => RepairingReader::open(&self.volume, *blob, Asker::Client).await?,
                }
            }
        };
        Ok(&mut self.open.insert((number, supply)).1)
    }
}
