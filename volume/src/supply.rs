//! The bytes of a blob: from this disk, verified, and where they are bad here from another replica, in the middle of
//! the same response. Whatever was met is handed to the healer.

use std::sync::Arc;

use bytes::Bytes;
use shared::digest::Digest;
use shared::ids::BlobId;
use shared::limits::BLOCK_BYTES;

use crate::config::Reads;
use crate::copies::{Copies, NoCopies};
use crate::server::Volume;
use crate::store::{Damage, Hold, ReadError, Reader};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A blob being read. It holds the record against being punched out until it is dropped.
#[derive(Debug)]
pub struct Supply {
    volume: Arc<Volume>,
    blob: BlobId,
    /// None when nothing of the record here can be used.
    own: Option<Reader>,
    copies: Option<Copies>,
    /// The master could not be asked: nobody can say that there is no good copy.
    unknown: bool,
    asker: Asker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    Client,
    /// A volume whose own copy is bad: only what is on this disk counts.
    Peer,
    /// The healer of this volume: nothing goes unverified.
    Healer,
}

impl Supply {
    /// Opens a blob.
    ///
    /// # Errors
    /// When neither this disk nor another replica has it.
    pub async fn open(volume: &Arc<Volume>, blob: BlobId, asker: Asker) -> Result<Self, ReadError> {
        Self::of(volume, blob, volume.store.reader(blob).await, asker).await
    }

    /// As `open`, of what is held.
    ///
    /// # Errors
    /// As `open`.
    pub async fn held(
        volume: &Arc<Volume>,
        blob: BlobId,
        hold: Hold,
        asker: Asker,
    ) -> Result<Self, ReadError> {
        Self::of(volume, blob, hold.reader().await, asker).await
    }

    async fn of(
        volume: &Arc<Volume>,
        blob: BlobId,
        own: Result<Reader, ReadError>,
        asker: Asker,
    ) -> Result<Self, ReadError> {
        let mut supply =
            Self { volume: Arc::clone(volume), blob, own: None, copies: None, unknown: false, asker };
        match own {
            Ok(reader) => supply.own = Some(reader),
            Err(error) => supply.without_own(error).await?,
        }
        Ok(supply)
    }

    pub fn blob(&self) -> BlobId {
        self.blob
    }
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.own.as_ref().map_or_else(|| self.copies.as_ref().map_or(0, |c| c.known().length), Reader::length)
    }
    /// BLAKE3 of its bytes.
    pub fn digest(&self) -> Option<Digest> {
        self.own.as_ref().map(Reader::digest).or(self.copies.as_ref().map(|c| c.known().blake3))
    }
    /// Media type, as the client gave it.
    pub fn content_type(&self) -> Option<&str> {
        match &self.own {
            Some(reader) => reader.content_type(),
            None => self.copies.as_ref().and_then(|c| c.known().content_type.as_deref()),
        }
    }
    /// User metadata: names and values.
    pub fn metadata(&self) -> &[(String, String)] {
        match &self.own {
            Some(reader) => reader.metadata(),
            None => self.copies.as_ref().map_or(&[], |c| &c.known().metadata),
        }
    }

    /// Bytes from `offset`, verified unless the volume was told otherwise: at least one, and at most `max`; none at
    /// the end.
    ///
    /// # Errors
    /// What is wrong with the copy here, when there is no good one elsewhere either.
    pub async fn read(&mut self, offset: u64, max: usize) -> Result<Bytes, ReadError> {
        let Some(own) = &mut self.own else { return self.read_elsewhere(offset, max).await };
        let unverified = self.volume.config.reads == Reads::ZeroCopy && self.asker == Asker::Client;
        let read =
            if unverified { own.read_unverified(offset, max).await } else { own.read(offset, max).await };
        let error = match read {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        self.volume.healer.met(&self.volume, self.blob, &error);
        if self.asker == Asker::Peer {
            return Err(error);
        }
        if self.copies.is_none() {
            self.find_copies().await;
        }
        if let Some(bytes) = self.fetch_for(&error, offset, max).await {
            return Ok(bytes);
        }
        // Tickets end, and replicas move: once more, with new ones.
        self.find_copies().await;
        let fetched = self.fetch_for(&error, offset, max).await;
        fetched.ok_or_else(|| self.lost(error))
    }

    async fn fetch_for(&self, error: &ReadError, offset: u64, max: usize) -> Option<Bytes> {
        match error {
            ReadError::Damaged { what: Damage::Block(_), .. } => self.fetch_block(offset, max).await,
            _ => self.fetch(offset, max).await,
        }
    }

    /// The one block that `offset` lies in, from another replica: whole, so that its checksum here can tell.
    async fn fetch_block(&self, offset: u64, max: usize) -> Option<Bytes> {
        let (own, copies) = (self.own.as_ref()?, self.copies.as_ref()?);
        let block = offset / BLOCK;
        let bytes = copies.read(block * BLOCK, BLOCK_BYTES, |bytes| own.is_block(block, bytes)).await?;
        self.volume.healer.served_block();
        let skip = usize::try_from(offset - block * BLOCK).unwrap_or(0);
        Some(bytes.slice(skip..bytes.len().min(skip.saturating_add(max))))
    }

    async fn fetch(&self, offset: u64, max: usize) -> Option<Bytes> {
        self.copies.as_ref()?.read(offset, max, |_| true).await
    }

    async fn read_elsewhere(&mut self, offset: u64, max: usize) -> Result<Bytes, ReadError> {
        if offset >= self.length() {
            return Ok(Bytes::new());
        }
        let mut fetched = self.fetch(offset, max).await;
        if fetched.is_none() {
            self.find_copies().await;
            fetched = self.fetch(offset, max).await;
        }
        let missing = ReadError::Damaged { blob: self.blob, what: Damage::Missing };
        fetched.ok_or_else(|| self.lost(missing))
    }

    /// The record here cannot be opened: everything comes from elsewhere, if there is such a place.
    async fn without_own(&mut self, error: ReadError) -> Result<(), ReadError> {
        if self.asker == Asker::Peer {
            if !matches!(error, ReadError::NotFound { .. }) {
                self.volume.healer.met(&self.volume, self.blob, &error);
            }
            return Err(error);
        }
        let blob = self.blob;
        let error = match (Copies::find(&self.volume, blob).await, error) {
            (Ok(copies), error) => {
                self.copies = Some(copies);
                self.volume.healer.met(&self.volume, blob, &error);
                self.volume.healer.served_record();
                return Ok(());
            }
            // The master expects it here, and nobody else has it.
            (Err(NoCopies::None), ReadError::NotFound { .. }) => {
                ReadError::Damaged { blob, what: Damage::Missing }
            }
            (Err(_), error @ ReadError::NotFound { .. }) => return Err(error),
            (Err(why), error) => {
                self.unknown = !matches!(why, NoCopies::None);
                error
            }
        };
        self.volume.healer.met(&self.volume, blob, &error);
        Err(self.lost(error))
    }

    /// Asks the master for tickets. What was known stays when it does not answer.
    async fn find_copies(&mut self) {
        match Copies::find(&self.volume, self.blob).await {
            Ok(copies) => self.copies = Some(copies),
            Err(error) => {
                self.unknown |= !matches!(error, NoCopies::None);
                tracing::debug!(blob = %self.blob, %error, "no other copy");
            }
        }
    }

    /// There is no good copy: the blob is listed as damaged.
    fn lost(&self, error: ReadError) -> ReadError {
        if !self.unknown {
            self.volume.healer.lost(self.blob);
        }
        error
    }
}
