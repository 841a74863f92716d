//! Changes of replica lists: replicas are added, removed, or found missing. The bytes of a value never change,
//! only their locations.
//!
//! Verify before destroy: a good replica is removed only by `remove_replica`, which names as many others as wanted,
//! all of them listed and just verified by the proposer. A volume that lacks a replica is unlisted, unless it is
//! the last one.

use crate::state::apply::references::{countable_replicas, enqueue_reclaim_replica};
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::limits::PARTS_MAX;

use crate::state::command::{Outcome, RemoveReplica};
use crate::tables::admin_state::{AdminState, AdminStateRecord};
use crate::tables::meta::{Counters, Rebalance};
use crate::tables::object::Object;
use crate::tables::repair_queue::BlobRef;
use crate::tables::replica_list::{self, ReplicaList};
use crate::tables::volume::VolumeRecord;
use crate::tables::{TableError, Tables, admin_state, object, repair_queue, replica, upload};

pub(super) fn put_volume(tables: &mut Tables<'_>, record: &VolumeRecord) -> Outcome {
    tables.put_volume(record);
    Outcome::Done
}

pub(super) fn set_rebalance(tables: &mut Tables<'_>, rebalance: Option<&Rebalance>) -> Outcome {
    tables.put_rebalance(rebalance);
    Outcome::Done
}

/// Writes the new replica list of a blob.
fn put_replica_list(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    blob: BlobId,
    blob_ref: &BlobRef,
    now: &ReplicaList,
) -> Result<(), TableError> {
    tables.update_repair_queue(blob, blob_ref, now.replicas.len(), now.wanted);
    let object = object::read_stored(tables, &blob_ref.key)?;
    let Some((upload, number)) = blob_ref.part else {
        let Some(mut object) = object else { return Ok(()) };
        let before = object.is_under_replicated();
        if let Some(held) = object.blobs.iter_mut().find(|b| b.id == blob) {
            held.replicas.clone_from(&now.replicas);
        }
        if let Some(parts) = &mut object.parts {
            parts.full_replicas.retain(|volume| now.replicas.contains(volume));
            tables.put_stale_full_replicas(parts.upload, &blob_ref.key);
        }
        put_object_counted(tables, progress, &blob_ref.key, &object, before);
        return Ok(());
    };
    if let Some(mut record) = upload::part(tables, upload, number)? {
        record.replicas.clone_from(&now.replicas);
        tables.put_part(upload, &record);
    }
    // Which volumes now have all parts is recomputed later, once for many parts.
    let Some(mut object) = object else { return Ok(()) };
    let before = object.is_under_replicated();
    let Some(parts) = object.parts.as_mut().filter(|p| p.upload == upload) else { return Ok(()) };
    tables.put_stale_full_replicas(upload, &blob_ref.key);
    let under_replicated = now.replicas.len() < usize::from(now.wanted);
    let less = parts.full_replicas.iter().any(|volume| !now.replicas.contains(volume));
    if less || (under_replicated && !parts.under_replicated) {
        parts.full_replicas.retain(|volume| now.replicas.contains(volume));
        parts.under_replicated |= under_replicated;
        put_object_counted(tables, progress, &blob_ref.key, &object, before);
    }
    Ok(())
}

fn put_object_counted(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    key: &Key,
    object: &Object,
    was_degraded: bool,
) {
    progress.under_replicated =
        progress.under_replicated - u64::from(was_degraded) + u64::from(object.is_under_replicated());
    tables.put_object(key, object);
}

pub(super) fn add_pending_replica(
    tables: &mut Tables<'_>,
    volume: VolumeId,
    blobs: &[(BlobId, BlobRef)],
) -> Result<Outcome, TableError> {
    for (blob, blob_ref) in blobs {
        let needed =
            replica_list::read(tables, *blob, blob_ref)?.is_some_and(|now| !now.replicas.contains(&volume));
        // A replica just deleted there may be deleted again, by a delayed call.
        if needed && !countable_replicas(tables, *blob, &[volume])?.is_empty() {
            tables.put_pending_replica(*blob, volume, blob_ref);
        }
    }
    Ok(Outcome::Done)
}

pub(super) fn replica_added(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    volume: VolumeId,
    blobs: &[(BlobId, u64, BlobRef)],
) -> Result<Outcome, TableError> {
    for (blob, length, blob_ref) in blobs {
        let expected = repair_queue::pending_replica(tables, *blob, volume)?.is_some();
        tables.remove_pending_replica(*blob, volume);
        match replica_list::read(tables, *blob, blob_ref)? {
            // A repeated command.
            Some(now) if now.replicas.contains(&volume) => {}
            Some(mut now) if expected && !admin_state::is_decommissioned(tables, volume)? => {
                tables.put_replica(volume, *blob, &blob_ref.key);
                now.replicas.push(volume);
                put_replica_list(tables, progress, *blob, blob_ref, &now)?;
            }
            // A record that is referenced otherwise is no orphan.
            _ if replica::read(tables, volume, *blob)?.is_some() => {}
            _ => {
                enqueue_reclaim_replica(tables, progress, volume, *blob, *length)?;
            }
        }
    }
    Ok(Outcome::Done)
}

pub(super) fn cancel_pending_replica(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    volume: VolumeId,
    blobs: &[(BlobId, u64)],
) -> Result<Outcome, TableError> {
    for (blob, length) in blobs {
        if repair_queue::pending_replica(tables, *blob, volume)?.is_some() {
            tables.remove_pending_replica(*blob, volume);
            enqueue_reclaim_replica(tables, progress, volume, *blob, *length)?;
        }
    }
    Ok(Outcome::Done)
}

pub(super) fn remove_replica(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    drop: &RemoveReplica,
) -> Result<Outcome, TableError> {
    let RemoveReplica { volume, blob, blob_ref, keep } = drop;
    let Some(mut now) =
        replica_list::read(tables, *blob, blob_ref)?.filter(|now| now.replicas.contains(volume))
    else {
        return Ok(Outcome::NotFound);
    };
    let mut kept = keep.clone();
    kept.sort_unstable();
    kept.dedup();
    let listed = kept.iter().all(|v| v != volume && now.replicas.contains(v));
    if !listed || kept.len() < usize::from(now.wanted).max(1) {
        return Ok(Outcome::LastReplicas);
    }
    now.replicas.retain(|v| v != volume);
    tables.remove_replica(*volume, *blob);
    enqueue_reclaim_replica(tables, progress, *volume, *blob, now.length)?;
    put_replica_list(tables, progress, *blob, blob_ref, &now)?;
    Ok(Outcome::Done)
}

pub(super) fn replica_lost(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    volume: VolumeId,
    blobs: &[(BlobId, BlobRef)],
) -> Result<Outcome, TableError> {
    for (blob, blob_ref) in blobs {
        let Some(mut now) = replica_list::read(tables, *blob, blob_ref)? else { continue };
        // Keep the last one listed: the loss must stay visible, and the volume may have the record again one day.
        if now.replicas.contains(&volume) && now.replicas.len() > 1 {
            now.replicas.retain(|v| *v != volume);
            tables.remove_replica(volume, *blob);
            put_replica_list(tables, progress, *blob, blob_ref, &now)?;
        }
    }
    Ok(Outcome::Done)
}

/// Recomputes which volumes hold the manifest and all parts of an object, and whether a part is under-replicated.
pub(super) fn recompute_full_replicas(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    key: &Key,
    upload: BlobId,
) -> Result<Outcome, TableError> {
    tables.remove_stale_full_replicas(upload);
    let Some(mut object) =
        object::read_stored(tables, key)?.filter(|o| o.parts.as_ref().is_some_and(|p| p.upload == upload))
    else {
        return Ok(Outcome::NotFound);
    };
    let (before, wanted) = (object.is_under_replicated(), usize::from(object.wanted));
    let mut whole = object.blobs.first().map(|manifest| manifest.replicas.clone()).unwrap_or_default();
    let mut degraded = false;
    for record in upload::first_parts(tables, upload, usize::from(PARTS_MAX))? {
        whole.retain(|volume| record.replicas.contains(volume));
        degraded |= record.replicas.len() < wanted;
    }
    if let Some(parts) = object.parts.as_mut() {
        (parts.full_replicas, parts.under_replicated) = (whole, degraded);
    }
    put_object_counted(tables, progress, key, &object, before);
    Ok(Outcome::Done)
}

pub(super) fn enqueue_repair(
    tables: &mut Tables<'_>,
    blobs: &[(BlobId, BlobRef)],
    last: bool,
) -> Result<Outcome, TableError> {
    if last {
        tables.put_repair_queue_complete();
    }
    for (blob, blob_ref) in blobs {
        if let Some(now) = replica_list::read(tables, *blob, blob_ref)? {
            tables.update_repair_queue(*blob, blob_ref, now.replicas.len(), now.wanted);
        }
    }
    Ok(Outcome::Done)
}

/// Sets the admin state of a volume. A volume is decommissioned only when nothing references it any longer.
pub(super) fn set_admin_state(
    tables: &mut Tables<'_>,
    volume: VolumeId,
    record: AdminStateRecord,
) -> Result<Outcome, TableError> {
    let before = admin_state::read(tables, volume)?.map_or(AdminState::InService, |s| s.state);
    if before == AdminState::Decommissioned {
        return Ok(if record.state == AdminState::Decommissioned {
            Outcome::Done
        } else {
            Outcome::NotFound
        });
    }
    let needed =
        admin_state::has_replicas(tables, volume)? || repair_queue::has_pending_replicas(tables, volume)?;
    if record.state == AdminState::Decommissioned && (before != AdminState::Decommissioning || needed) {
        return Ok(Outcome::LastReplicas);
    }
    tables.put_admin_state(volume, record);
    Ok(Outcome::Done)
}
