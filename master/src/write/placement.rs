//! Picks the volumes of a new value and signs the write ticket.

use crate::cluster::VolumeAddress;
use crate::master::Master;
use shared::condition::WriteCondition;
use shared::digest::Digest;
use shared::ids::VolumeId;
use shared::key::Key;
use shared::size::record_bytes_max;
use shared::ticket::{ChainLink, Operation, Ticket, WriteGrant};
use shared::wire::error::ErrorReply;
use shared::wire::routes::TICKET;

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

/// Picks the volumes and signs the ticket. With `notes`, for callers that commit, it permits internal metadata.
///
/// # Errors
/// When too few volumes take writes, or none has room.
pub fn place_and_grant(
    master: &Master,
    wanted: &UploadSpec,
    avoid: &[VolumeId],
    notes: bool,
) -> Result<WriteTarget, ErrorReply> {
    let bytes = record_bytes_max(wanted.length.unwrap_or(0));
    let replication = master.config.replication;
    let at_once = replication.at_once(master.mode(&wanted.key)?);
    let chain = master.cluster.choose_volumes(&wanted.key, bytes, at_once, &wanted.prefer, avoid)?;
    let small = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    let grant = WriteGrant {
        chain: chain.iter().map(|v| ChainLink { volume: v.volume, address: v.address.clone() }).collect(),
        length: wanted.length,
        digest: wanted.digest,
        condition: wanted.condition.clone(),
        wanted: small(replication.wanted()),
        min_replicas: small(at_once.min()),
        internal_metadata: notes,
    };
    let ticket = master.ticket(master.sequencer.next_blob()?, wanted.hops, Operation::Write(grant));
    let sealed = ticket.sign(&master.config.secret, &wanted.key);
    let target = format!("{}?{TICKET}={sealed}", wanted.key.to_path());
    Ok(WriteTarget { chain, ticket, target })
}
