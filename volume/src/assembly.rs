//! A value in parts, read as one: its manifest says which records of this volume follow each other. All of them are held
//! from the beginning, so that a value that is overwritten or deleted meanwhile is read to its end.

use std::sync::Arc;

use bytes::Bytes;
use shared::digest::Digest;
use shared::ids::BlobId;
use shared::limits::{MANIFEST_BYTES_MAX, READ_BUFFER_BYTES};
use shared::manifest::Manifest;

use crate::server::Volume;
use crate::store::{Damage, FormatError, Hold, ReadError};
use crate::supply::{Asker, Supply};

/// The parts of a value, in order.
#[derive(Debug)]
pub struct Assembly {
    volume: Arc<Volume>,
    /// None: it was opened before, or is missing here.
    parts: Vec<(BlobId, Option<Hold>)>,
    /// Where each of them ends ...
    ends: Vec<u64>,
    /// ... and what it is.
    digests: Vec<Digest>,
    open: Option<(usize, Supply)>,
}

impl Assembly {
    /// Reads the manifest, and holds what it names.
    ///
    /// # Errors
    /// When it cannot be read, is none, or one of its parts is not here.
    pub async fn open(volume: &Arc<Volume>, mut manifest: Supply) -> Result<Self, ReadError> {
        let broken = |blob| ReadError::Damaged { blob, what: Damage::Header(FormatError::Content) };
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
        let hold = |blob| (blob, volume.store.hold(blob).ok());
        let parts: Vec<_> = manifest.parts.iter().map(|part| hold(part.blob)).collect();
        if let Some((missing, _)) = parts.iter().find(|(_, hold)| hold.is_none()) {
            // Damaged here, and to be had elsewhere; or the value was deleted a moment ago.
            Supply::open(volume, *missing, Asker::Client).await?;
        }
        let ends = manifest.parts.iter().scan(0, |end, part| {
            *end += part.length;
            Some(*end)
        });
        let (ends, digests) = (ends.collect(), manifest.parts.iter().map(|part| part.digest).collect());
        Ok(Self { volume: Arc::clone(volume), parts, ends, digests, open: None })
    }

    /// Bytes of the whole.
    pub fn length(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// How many parts.
    pub fn count(&self) -> usize {
        self.parts.len()
    }

    /// As `Supply::read`.
    ///
    /// # Errors
    /// As there.
    pub async fn read(&mut self, offset: u64, max: usize) -> Result<Bytes, ReadError> {
        let number = self.ends.partition_point(|end| *end <= offset);
        let Some(end) = self.ends.get(number).copied() else { return Ok(Bytes::new()) };
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let expected = (end - start, self.digests[number]);
        let supply = self.opened(number).await?;
        if (supply.length(), supply.digest()) != (expected.0, Some(expected.1)) {
            let what = Damage::Header(FormatError::Content);
            return Err(ReadError::Damaged { blob: supply.blob(), what });
        }
        supply.read(offset - start, max.min(left)).await
    }

    async fn opened(&mut self, number: usize) -> Result<&mut Supply, ReadError> {
        let same = self.open.take().filter(|(open, _)| *open == number);
        let supply = match same {
            Some((_, supply)) => supply,
            None => {
                let (blob, hold) = &mut self.parts[number];
                match hold.take() {
                    Some(hold) => Supply::held(&self.volume, *blob, hold, Asker::Client).await?,
                    None => Supply::open(&self.volume, *blob, Asker::Client).await?,
                }
            }
        };
        Ok(&mut self.open.insert((number, supply)).1)
    }
}
