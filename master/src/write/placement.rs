//! Picks the volumes of a new value and signs the write ticket.

use super::Writer;
use crate::cluster::VolumeAddress;
use shared::condition::WriteCondition;
use shared::digest::Digest;
use shared::expiry::Expires;
use shared::ids::VolumeId;
use shared::key::Key;
use shared::size::record_bytes_max;
use shared::ticket::{ChainLink, Operation, Ticket, WriteGrant};
use shared::wire::error::ErrorReply;

/// What placement and ticket need to know of an upload.
#[derive(Clone, Debug)]
pub struct UploadSpec {
    pub key: Key,
    /// Length in bytes, where it is known.
    pub length: Option<u64>,
    /// BLAKE3 of the bytes, where it is known.
    pub digest: Option<Digest>,
    /// The condition that the commit checks.
    pub condition: WriteCondition,
    /// Volumes preferred over those the ring proposes.
    pub prefer: Vec<VolumeId>,
    /// How often the client was redirected back to a master.
    pub hops: u8,
    /// When the value expires.
    pub expires: Option<Expires>,
}

/// The volumes of an upload, and its ticket.
#[derive(Debug)]
pub struct WriteTarget {
    /// The volumes, in the order in which the bytes flow.
    pub chain: Vec<VolumeAddress>,
    pub ticket: Ticket,
    /// Path and query for the first volume. Contains the ticket: never log it.
    pub target: String,
}

impl Writer {
    /// Picks the volumes and signs the ticket. With `notes`, for callers that commit, it permits internal metadata.
    ///
    /// # Errors
    /// When too few volumes take writes, or none has room.
    pub fn place_and_grant(
        &self,
        wanted: &UploadSpec,
        avoid: &[VolumeId],
        notes: bool,
    ) -> Result<WriteTarget, ErrorReply> {
        let bytes = record_bytes_max(wanted.length.unwrap_or(0));
        let replication = self.config.replication;
        let at_once = replication.at_once(self.metadata.mode(&wanted.key)?);
        let chain =
            self.volumes.cluster.choose_volumes(&wanted.key, bytes, at_once, &wanted.prefer, avoid)?;
        let small = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
        let grant = WriteGrant {
            chain: chain.iter().map(|v| ChainLink { volume: v.volume, address: v.address.clone() }).collect(),
            length: wanted.length,
            digest: wanted.digest,
            condition: wanted.condition.clone(),
            wanted: small(replication.wanted()),
            min_replicas: small(at_once.min()),
            internal_metadata: notes,
            expires: wanted.expires,
        };
        let ticket = self.volumes.ticket(self.changes.next_blob()?, wanted.hops, Operation::Write(grant));
        let target = self.volumes.sign(&wanted.key, &ticket);
        Ok(WriteTarget { chain, ticket, target })
    }
}
