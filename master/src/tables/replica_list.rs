//! The replica list of a blob, read from the object or part that references it.

use shared::ids::{BlobId, VolumeId};

use super::repair_queue::BlobRef;
use super::{Read, TableError, object, upload};

/// Length, replicas and replication factor of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaList {
    /// Length of the blob in bytes.
    pub length: u64,
    pub replicas: Vec<VolumeId>,
    /// The replication factor.
    pub wanted: u8,
}

/// Reads the replica list of `blob`; `None` if `blob_ref` no longer references it.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn read(
    records: &impl Read,
    blob: BlobId,
    blob_ref: &BlobRef,
) -> Result<Option<ReplicaList>, TableError> {
    let object = object::read_stored(records, &blob_ref.key)?;
    let Some((upload, number)) = blob_ref.part else {
        return Ok(object.and_then(|object| {
            let found = object.blobs.into_iter().find(|b| b.id == blob)?;
            Some(ReplicaList { length: found.length, replicas: found.replicas, wanted: object.wanted })
        }));
    };
    let Some(record) = upload::part(records, upload, number)?.filter(|record| record.part.blob == blob)
    else {
        return Ok(None);
    };
    let of_object = object.filter(|o| o.parts.as_ref().is_some_and(|p| p.upload == upload));
    let wanted = match of_object {
        Some(object) => Some(object.wanted),
        None => upload::read(records, &blob_ref.key, upload)?.map(|begun| begun.wanted),
    };
    Ok(wanted.map(|wanted| ReplicaList { length: record.part.length, replicas: record.replicas, wanted }))
}
