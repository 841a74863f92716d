//! Read repair: reads a blob from this disk, verified, and its corrupt blocks from another replica, within the same
//! response. Corruption is reported to the healer.

use std::sync::Arc;

use bytes::Bytes;
use shared::digest::Digest;
use shared::ids::BlobId;
use shared::limits::BLOCK_BYTES;

use crate::config::Reads;
use crate::replicas::sources::{NoReplicaSources, ReplicaSources};
use crate::server::Volume;
use crate::store::{Corruption, PinnedRecord, ReadError, Reader};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A reader of a blob. It pins the record against hole punching until it is dropped.
#[derive(Debug)]
pub struct RepairingReader {
    volume: Arc<Volume>,
    blob: BlobId,
    /// `None` if the record here cannot be opened.
    local: Option<Reader>,
    replicas: Option<ReplicaSources>,
    /// A master could not be asked, so it is unknown whether there is a good replica.
    unknown: bool,
    asker: Asker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    Client,
    /// A volume whose own replica is corrupt: it gets what is on this disk only.
    Peer,
    /// The healer of this volume: reads are always verified.
    Healer,
}

impl RepairingReader {
    /// Opens a blob.
    ///
    /// # Errors
    /// When neither this disk nor another volume has it.
    pub async fn open(volume: &Arc<Volume>, blob: BlobId, asker: Asker) -> Result<Self, ReadError> {
        Self::of(volume, blob, volume.store.reader(blob).await, asker).await
    }

    /// Like `open`, for a pinned record.
    ///
    /// # Errors
    /// The errors of `open`.
    pub async fn open_pinned(
        volume: &Arc<Volume>,
        blob: BlobId,
        hold: PinnedRecord,
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
            Self { volume: Arc::clone(volume), blob, local: None, replicas: None, unknown: false, asker };
        match own {
            Ok(reader) => supply.local = Some(reader),
            Err(error) => supply.without_local(error).await?,
        }
        Ok(supply)
    }

    pub fn blob(&self) -> BlobId {
        self.blob
    }
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.local
            .as_ref()
            .map_or_else(|| self.replicas.as_ref().map_or(0, |c| c.known().length), Reader::length)
    }
    /// BLAKE3 of the bytes.
    pub fn digest(&self) -> Option<Digest> {
        self.local.as_ref().map(Reader::digest).or(self.replicas.as_ref().map(|c| c.known().blake3))
    }
    /// Media type, as the client gave it.
    pub fn content_type(&self) -> Option<&str> {
        match &self.local {
            Some(reader) => reader.content_type(),
            None => self.replicas.as_ref().and_then(|c| c.known().content_type.as_deref()),
        }
    }
    /// User metadata: names and values.
    pub fn metadata(&self) -> &[(String, String)] {
        match &self.local {
            Some(reader) => reader.metadata(),
            None => self.replicas.as_ref().map_or(&[], |c| &c.known().metadata),
        }
    }

    /// Reads bytes from `offset`, verified unless the volume is configured otherwise: at least one and at most `max`,
    /// none at the end.
    ///
    /// # Errors
    /// What is wrong with the replica here, if there is no good one elsewhere.
    pub async fn read(&mut self, offset: u64, max: usize) -> Result<Bytes, ReadError> {
        let Some(own) = &mut self.local else { return self.read_elsewhere(offset, max).await };
        let unverified = self.volume.config.reads == Reads::ZeroCopy && self.asker == Asker::Client;
        let read =
            if unverified { own.read_unverified(offset, max).await } else { own.read(offset, max).await };
        let error = match read {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        self.volume.healer.report(&self.volume, self.blob, &error);
        if self.asker == Asker::Peer {
            return Err(error);
        }
        if self.replicas.is_none() {
            self.find_replicas().await;
        }
        if let Some(bytes) = self.fetch_for(&error, offset, max).await {
            return Ok(bytes);
        }
        // Tickets expire, and replicas move: retry once with new sources.
        self.find_replicas().await;
        let fetched = self.fetch_for(&error, offset, max).await;
        fetched.ok_or_else(|| self.lost(error))
    }

    async fn fetch_for(&self, error: &ReadError, offset: u64, max: usize) -> Option<Bytes> {
        match error {
            ReadError::Corrupt { what: Corruption::Block(_), .. } => self.fetch_block(offset, max).await,
            _ => self.fetch(offset, max).await,
        }
    }

    /// Fetches the whole block that contains `offset` from another replica, to verify it with the checksum here.
    async fn fetch_block(&self, offset: u64, max: usize) -> Option<Bytes> {
        let (own, sources) = (self.local.as_ref()?, self.replicas.as_ref()?);
        let block = offset / BLOCK;
        let bytes = sources.read(block * BLOCK, BLOCK_BYTES, |bytes| own.is_block(block, bytes)).await?;
        self.volume.healer.served_block();
        let skip = usize::try_from(offset - block * BLOCK).unwrap_or(0);
        Some(bytes.slice(skip..bytes.len().min(skip.saturating_add(max))))
    }

    async fn fetch(&self, offset: u64, max: usize) -> Option<Bytes> {
        self.replicas.as_ref()?.read(offset, max, |_| true).await
    }

    async fn read_elsewhere(&mut self, offset: u64, max: usize) -> Result<Bytes, ReadError> {
        if offset >= self.length() {
            return Ok(Bytes::new());
        }
        let mut fetched = self.fetch(offset, max).await;
        if fetched.is_none() {
            self.find_replicas().await;
            fetched = self.fetch(offset, max).await;
        }
        let missing = ReadError::Corrupt { blob: self.blob, what: Corruption::Missing };
        fetched.ok_or_else(|| self.lost(missing))
    }

    /// The record here cannot be opened: everything is read from another replica, if there is one.
    async fn without_local(&mut self, error: ReadError) -> Result<(), ReadError> {
        if self.asker == Asker::Peer {
            if !matches!(error, ReadError::NotFound { .. }) {
                self.volume.healer.report(&self.volume, self.blob, &error);
            }
            return Err(error);
        }
        let blob = self.blob;
        let error = match (ReplicaSources::find(&self.volume, blob).await, error) {
            (Ok(sources), error) => {
                self.replicas = Some(sources);
                self.volume.healer.report(&self.volume, blob, &error);
                self.volume.healer.served_record();
                return Ok(());
            }
            // The master expects it here, and no other volume has it.
            (Err(NoReplicaSources::None), ReadError::NotFound { .. }) => {
                ReadError::Corrupt { blob, what: Corruption::Missing }
            }
            (Err(_), error @ ReadError::NotFound { .. }) => return Err(error),
            (Err(why), error) => {
                self.unknown = !matches!(why, NoReplicaSources::None);
                error
            }
        };
        self.volume.healer.report(&self.volume, blob, &error);
        Err(self.lost(error))
    }

    /// Asks the masters for sources. Keeps the known ones if that fails.
    async fn find_replicas(&mut self) {
        match ReplicaSources::find(&self.volume, self.blob).await {
            Ok(sources) => self.replicas = Some(sources),
            Err(error) => {
                self.unknown |= !matches!(error, NoReplicaSources::None);
                tracing::debug!(blob = %self.blob, %error, "no other replica");
            }
        }
    }

    /// Lists the blob as lost, unless it is unknown whether there is a good replica.
    fn lost(&self, error: ReadError) -> ReadError {
        if !self.unknown {
            self.volume.healer.report_lost(self.blob);
        }
        error
    }
}
