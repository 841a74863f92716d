//! References to blobs, and the only way onto the reclaim list: here, when nothing references a blob any longer.

use crate::tables::meta::Counters;
use crate::tables::object::{Blob, Object};
use crate::tables::repair_queue::BlobRef;
use crate::tables::{TableError, Tables, admin_state, reclaim, repair_queue};
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::tombstone::Tombstone;

/// Returns the volumes whose replicas count. Not those on the reclaim list or reclaimed recently: the record
/// was taken for an orphan, or the command is a retry and its blob was replaced or deleted since. Not those
/// of decommissioned volumes.
pub(super) fn countable_replicas(
    tables: &Tables<'_>,
    blob: BlobId,
    volumes: &[VolumeId],
) -> Result<Vec<VolumeId>, TableError> {
    let mut replicas = Vec::with_capacity(volumes.len());
    for volume in volumes {
        let here = !admin_state::is_decommissioned(tables, *volume)?;
        if here
            && !reclaim::contains(tables, *volume, blob)?
            && !reclaim::was_reclaimed(tables, *volume, blob)?
        {
            replicas.push(*volume);
        }
    }
    Ok(replicas)
}

/// Makes `object` the current object of `key` and references its blobs.
pub(super) fn link_object(tables: &mut Tables<'_>, progress: &mut Counters, key: &Key, object: &Object) {
    for blob in &object.blobs {
        for volume in &blob.replicas {
            tables.put_replica(*volume, blob.id, key);
        }
        if blob.replicas.len() != usize::from(object.wanted) {
            tables.update_repair_queue(blob.id, &BlobRef::object(key), blob.replicas.len(), object.wanted);
        }
    }
    tables.put_object(key, object);
    tables.put_expiry(key, object);
    progress.objects += 1;
    progress.bytes += object.size;
    progress.under_replicated += u64::from(object.is_under_replicated());
}

/// Ends all references of an object that is no longer current: its blobs go to the reclaim list.
pub(super) fn unlink_object(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    object: &Object,
    tombstone: Option<&Tombstone>,
) -> Result<(), TableError> {
    for blob in &object.blobs {
        for volume in &blob.replicas {
            tables.remove_replica(*volume, blob.id);
        }
        if blob.replicas.len() != usize::from(object.wanted) {
            tables.remove_from_repair_queue(blob.id);
        }
        cancel_pending_replicas(tables, progress, blob, tombstone)?;
    }
    tables.remove_expiry(object);
    progress.objects -= 1;
    progress.bytes -= object.size;
    progress.under_replicated -= u64::from(object.is_under_replicated());
    unreference_parts(tables, object);
    enqueue_reclaim(tables, progress, &object.blobs, tombstone)
}

/// Cancels the pending replicas of a blob that is no longer referenced: they go to the reclaim list, too.
pub(super) fn cancel_pending_replicas(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    blob: &Blob,
    tombstone: Option<&Tombstone>,
) -> Result<(), TableError> {
    let replicas = repair_queue::pending_volumes(tables, blob.id)?;
    replicas.iter().for_each(|volume| tables.remove_pending_replica(blob.id, *volume));
    enqueue_reclaim(tables, progress, &[Blob { id: blob.id, length: blob.length, replicas }], tombstone)
}

/// Marks the parts of an object for removal. They are removed a few at a time, without tombstones: a rebuild ignores
/// parts without a manifest.
pub(super) fn unreference_parts(tables: &mut Tables<'_>, object: &Object) {
    if let Some(parts) = &object.parts {
        tables.remove_stale_full_replicas(parts.upload);
        tables.put_unreferenced_parts(parts.upload);
    }
}

/// Puts unreferenced blobs on the reclaim list. A tombstone is needed if no newer version of the key proves to a
/// rebuild that the blob is obsolete.
pub(super) fn enqueue_reclaim(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    blobs: &[Blob],
    tombstone: Option<&Tombstone>,
) -> Result<(), TableError> {
    for blob in blobs {
        for volume in &blob.replicas {
            // A decommissioned volume gets no delete calls.
            if !admin_state::is_decommissioned(tables, *volume)?
                && !reclaim::contains(tables, *volume, blob.id)?
            {
                tables.put_reclaim(*volume, blob.id, blob.length);
                progress.reclaim_pending += 1;
                if let Some(tombstone) = tombstone {
                    tables.put_tombstone(*volume, blob.id, tombstone);
                }
            }
        }
    }
    Ok(())
}

/// Like `enqueue_reclaim`, for one replica. No tombstone: the blob may be live on other volumes.
pub(super) fn enqueue_reclaim_replica(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    volume: VolumeId,
    blob: BlobId,
    length: u64,
) -> Result<(), TableError> {
    enqueue_reclaim(tables, progress, &[Blob { id: blob, length, replicas: vec![volume] }], None)
}
