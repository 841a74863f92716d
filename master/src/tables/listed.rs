//! A blob as the object of a key, or an upload in parts, lists it: its length, its replicas, and how many are wanted.

use shared::ids::{BlobId, VolumeId};

use super::unsettled::Spot;
use super::{Read, TableError, object, upload};

/// What is listed of one blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Bytes.
    pub length: u64,
    pub replicas: Vec<VolumeId>,
    /// The replication factor.
    pub wanted: u8,
}

/// What is listed of `blob` at `spot`; none when that is another blob by now, or nothing.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn read(records: &impl Read, blob: BlobId, spot: &Spot) -> Result<Option<Listed>, TableError> {
    let object = object::read(records, &spot.key)?;
    let Some((upload, number)) = spot.part else {
        return Ok(object.and_then(|object| {
            let found = object.blobs.into_iter().find(|b| b.id == blob)?;
            Some(Listed { length: found.length, replicas: found.replicas, wanted: object.wanted })
        }));
    };
    let Some(record) = upload::part(records, upload, number)?.filter(|record| record.part.blob == blob)
    else {
        return Ok(None);
    };
    let of_object = object.filter(|o| o.parts.as_ref().is_some_and(|p| p.upload == upload));
    let wanted = match of_object {
        Some(object) => Some(object.wanted),
        None => upload::read(records, &spot.key, upload)?.map(|begun| begun.wanted),
    };
    Ok(wanted.map(|wanted| Listed { length: record.part.length, replicas: record.replicas, wanted }))
}
