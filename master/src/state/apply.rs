//! `apply(tables, command) → outcome`: the only place where metadata changes.
//!
//! Generations of a key only grow. A commit that arrives after a newer one is ordered just before it: the two
//! overlapped, so the history is linearizable, and a rebuild from the volumes, which knows only generations, arrives
//! at the same state. If one of the two has a condition, that order could be wrong, so the late commit is refused; so
//! is one whose key was deleted meanwhile. A rebuild must also know deletes and refusals: entries of the reclaim list
//! carry tombstones for the volumes.

mod buckets;
mod expiry;
mod references;
mod replicas;
mod uploads;

use crate::state::apply::references::{
    countable_replicas, enqueue_reclaim, enqueue_reclaim_replica, link_object, unlink_object,
    unreference_parts,
};
use shared::attributes::Attributes;
mod access_keys;

use shared::clock::Timestamp;
use shared::condition::WriteCondition;
use shared::ids::{BlobId, ClusterId, VolumeId};
use shared::key::Key;
use shared::tombstone::{KeyHash, Tombstone};
use shared::wire::master::CommitOutcome;

use super::command::{Command, Commit, Outcome, S3Commit};
use super::expiry::NewExpiry;
use crate::tables::bucket;
use crate::tables::meta::{Counters, FORMAT_VERSION, Identity};
use crate::tables::object::{Blob, Expiry, Object, Parts, condition_holds};
use crate::tables::{TableError, Tables, meta, object, reclaim, repair_queue, replica, tombstone};

/// Applies one command.
///
/// # Errors
/// When the tables cannot be read; then nothing of the batch may be written.
pub fn apply(tables: &mut Tables<'_>, command: &Command) -> Result<Outcome, TableError> {
    if let Command::InSequence { sequence, change } = command {
        return access_keys::in_sequence(tables, *sequence, change);
    }
    let mut counters = meta::counters(tables)?;
    counters.applied += 1;
    let count = &mut counters;
    let outcome = match command {
        Command::Commit(commit) => apply_commit(tables, count, commit, Details::default())?,
        Command::CommitS3(store) => apply_commit_s3(tables, count, store)?,
        Command::Delete { key, condition } => apply_delete(tables, count, key, condition)?,
        Command::Volume(record) => replicas::put_volume(tables, record),
        Command::Reclaimed { volume, blobs, at } => apply_reclaimed(tables, count, *volume, blobs, *at)?,
        Command::PurgeReplicaTombstones { tombstones } => apply_purge_replica_tombstones(tables, tombstones),
        Command::ReclaimOrphans { volume, blobs } => apply_reclaim_orphans(tables, count, *volume, blobs)?,
        Command::CreateCluster(cluster) => apply_create_cluster(tables, *cluster)?,
        Command::PurgeKeyTombstones { keys } => apply_purge_key_tombstones(tables, keys)?,
        Command::CreateMultipartUpload { key, id, upload } => {
            uploads::create(tables, count, key, *id, upload)?
        }
        Command::PutPart { key, upload, part, min_replicas } => {
            uploads::put_part(tables, count, (key, *upload), part, *min_replicas)?
        }
        Command::CompleteMultipartUpload { upload, numbers, store } => {
            uploads::complete(tables, count, *upload, numbers, store)?
        }
        Command::AbortMultipartUpload { key, upload } => uploads::abort(tables, key, *upload)?,
        Command::RemoveUnreferencedParts { uploads } => {
            uploads::remove_unreferenced_parts(tables, count, uploads)?
        }
        Command::Tag { key, generation, tags } => apply_tag(tables, key, *generation, tags)?,
        Command::CreateBucket { name, bucket } => buckets::create(tables, name, bucket)?,
        Command::SetBucket { name, setting } => buckets::set(tables, name, setting)?,
        Command::DeleteBucket { name } => buckets::delete(tables, name)?,
        Command::PutAccessKey { id, key } => access_keys::put(tables, id, key),
        Command::RevokeAccessKey { id } => access_keys::revoke(tables, id)?,
        Command::AddPendingReplica { volume, blobs } => {
            replicas::add_pending_replica(tables, *volume, blobs)?
        }
        Command::ReplicaAdded { volume, blobs } => replicas::replica_added(tables, count, *volume, blobs)?,
        Command::CancelPendingReplica { volume, blobs } => {
            replicas::cancel_pending_replica(tables, count, *volume, blobs)?
        }
        Command::RemoveReplica(drop) => replicas::remove_replica(tables, count, drop)?,
        Command::ReplicaLost { volume, blobs } => replicas::replica_lost(tables, count, *volume, blobs)?,
        Command::RecomputeFullReplicas { key, upload } => {
            replicas::recompute_full_replicas(tables, count, key, *upload)?
        }
        Command::EnqueueRepair { blobs, last } => replicas::enqueue_repair(tables, blobs, *last)?,
        Command::SetAdminState { volume, admin_state } => {
            replicas::set_admin_state(tables, *volume, *admin_state)?
        }
        Command::SetRebalance(rebalance) => replicas::set_rebalance(tables, rebalance.as_ref()),
        Command::SetReplicationMode { bucket, mode } => buckets::set_mode(tables, bucket, *mode),
        Command::CommitExpiring { commit, expiry } => {
            apply_commit(tables, count, commit, Details { expiry: Some(*expiry), ..Details::default() })?
        }
        Command::SetExpiry { key, at, condition, generation } => {
            expiry::set(tables, key, *at, (*generation, *condition))?
        }
        Command::AdvanceTime { to } => expiry::advance_time(tables, *to)?,
        Command::RemoveExpired { objects } => expiry::remove_expired(tables, count, objects)?,
        // Handled above.
        Command::InSequence { .. } => Outcome::Outdated,
    };
    tables.put_counters(&counters);
    Ok(outcome)
}

/// Only the first of these commands has an effect.
fn apply_create_cluster(tables: &mut Tables<'_>, cluster: ClusterId) -> Result<Outcome, TableError> {
    if meta::identity(tables)?.is_none() {
        tables.put_identity(&Identity { cluster, format_version: FORMAT_VERSION });
        tables.put_repair_queue_complete();
    }
    Ok(Outcome::Done)
}

/// A commit by an S3 client: its bucket must exist.
fn apply_commit_s3(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    store: &S3Commit,
) -> Result<Outcome, TableError> {
    if !in_bucket(tables, &store.commit.key)? {
        refuse(tables, progress, &store.commit)?;
        return Ok(Outcome::NoBucket);
    }
    let details = Details { attributes: store.attributes.clone(), ..Details::default() };
    apply_commit(tables, progress, &store.commit, details)
}

fn in_bucket(tables: &Tables<'_>, key: &Key) -> Result<bool, TableError> {
    bucket::of(key).map_or(Ok(false), |name| bucket::exists(tables, name))
}

/// Refuses a commit for good: its replicas go to the reclaim list with a tombstone.
fn refuse(tables: &mut Tables<'_>, progress: &mut Counters, commit: &Commit) -> Result<(), TableError> {
    progress.last_blob = progress.last_blob.max(Some(commit.blob));
    let blob = Blob { id: commit.blob, length: commit.size, replicas: commit.replicas.clone() };
    enqueue_reclaim(tables, progress, &[blob], Some(&Tombstone::Refused { blob: commit.blob }))
}

/// What a commit says of its object besides the value.
#[derive(Default)]
struct Details {
    attributes: Attributes,
    /// Of a multipart object: its parts, and its size in bytes.
    parts: Option<(Parts, u64)>,
    expiry: Option<NewExpiry>,
}

/// Decides whether a value was stored: the write quorum (`min_replicas` receipts that count) and the condition.
fn apply_commit(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    commit: &Commit,
    Details { attributes, parts, expiry }: Details,
) -> Result<Outcome, TableError> {
    progress.last_blob = progress.last_blob.max(Some(commit.blob));
    let stored = object::read_stored(tables, &commit.key)?;
    if let Some(same) = stored.as_ref().filter(|o| o.generation == commit.blob) {
        // A retry: the first answer was lost.
        return Ok(Outcome::Commit(
            CommitOutcome::Created,
            same.blobs.first().map_or(0, |b| b.replicas.len()),
        ));
    }
    // Nobody sees a value that has expired, though it is referenced until it is removed.
    let current = object::read(tables, &commit.key)?;
    let replicas = countable_replicas(tables, commit.blob, &commit.replicas)?;
    let copies = replicas.len();
    // What is kept depends on the value before it, as a condition does.
    let conditional = commit.condition != WriteCondition::None || expiry == Some(NewExpiry::Keep);
    // If one replica does not count, refuse the others, too: the tombstone is for the blob on every volume.
    let refusal = if copies < usize::from(commit.min_replicas).max(1) || copies < commit.replicas.len() {
        Some(CommitOutcome::NotEnoughReceipts)
    } else if !condition_holds(&commit.condition, current.as_ref()) {
        Some(CommitOutcome::ConditionFailed)
    } else if overtaken(tables, commit, conditional, stored.as_ref())? {
        Some(CommitOutcome::Overtaken)
    } else {
        None
    };
    let blob = Blob { id: commit.blob, length: commit.size, replicas };
    if let Some(refusal) = refusal {
        enqueue_reclaim(tables, progress, &[blob], Some(&Tombstone::Refused { blob: commit.blob }))?;
        return Ok(Outcome::Commit(refusal, copies));
    }
    let new = Object {
        generation: commit.blob,
        size: parts.as_ref().map_or(commit.size, |(_, size)| *size),
        digest: commit.digest,
        content_type: commit.content_type.clone(),
        metadata: commit.metadata.clone(),
        wanted: commit.wanted,
        blobs: vec![blob],
        attributes,
        parts: parts.map(|(parts, _)| parts),
        expiry: expiry.map_or_else(Expiry::default, |expiry| expiry::of_new(expiry, current.as_ref())),
    };
    let existed = current.is_some();
    match stored {
        Some(newer) if newer.generation > commit.blob => {
            enqueue_reclaim(tables, progress, &new.blobs, None)?;
            unreference_parts(tables, &new);
        }
        old => {
            if let Some(old) = old {
                unlink_object(tables, progress, &old, None)?;
            }
            link_object(tables, progress, &commit.key, &new);
            if conditional {
                tables.put_conditional(&commit.key, commit.blob);
            }
        }
    }
    let outcome = if existed { CommitOutcome::Replaced } else { CommitOutcome::Created };
    Ok(Outcome::Commit(outcome, copies))
}

/// Whether the commit is too late, and would bring a deleted or replaced value back: a newer generation exists, and
/// one of the two has a condition that the other order could violate; or a newer generation was deleted, perhaps with
/// a condition, and its client has the answer.
fn overtaken(
    tables: &Tables<'_>,
    commit: &Commit,
    conditional: bool,
    current: Option<&Object>,
) -> Result<bool, TableError> {
    let Some(newer) = current else {
        return Ok(tombstone::key_tombstone(tables, KeyHash::of(&commit.key))? >= Some(commit.blob));
    };
    if newer.generation < commit.blob {
        return Ok(false);
    }
    Ok(conditional || object::is_conditional(tables, &commit.key, newer)?)
}

/// Removes an object. The tombstone that remains refuses late commits of it (`overtaken`).
fn apply_delete(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    key: &Key,
    condition: &WriteCondition,
) -> Result<Outcome, TableError> {
    let Some(object) = object::read(tables, key)? else { return Ok(Outcome::NotFound) };
    if !condition_holds(condition, Some(&object)) {
        return Ok(Outcome::ConditionFailed);
    }
    remove(tables, progress, key, &object)?;
    Ok(Outcome::Deleted(Box::new(object)))
}

/// Removes the object of a key, with a tombstone.
fn remove(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    key: &Key,
    object: &Object,
) -> Result<(), TableError> {
    let (hash, generation) = (KeyHash::of(key), buries(tables, object)?);
    progress.last_blob = progress.last_blob.max(Some(generation));
    unlink_object(tables, progress, object, Some(&Tombstone::Deleted { key: hash, generation }))?;
    tables.remove_object(key)?;
    tables.put_key_tombstone(hash, generation);
    Ok(())
}

/// Returns up to which generation a delete of this object covers its key: a gap may contain a newer generation.
fn buries(tables: &Tables<'_>, object: &Object) -> Result<BlobId, TableError> {
    let unknown = meta::gap(tables)?.map(|gap| gap.end());
    Ok(unknown.map_or(object.generation, |end| end.max(object.generation)))
}

fn apply_reclaimed(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    volume: VolumeId,
    blobs: &[BlobId],
    at: Timestamp,
) -> Result<Outcome, TableError> {
    for blob in blobs {
        if reclaim::contains(tables, volume, *blob)? {
            tables.remove_reclaim(volume, *blob);
            tables.remove_tombstone(volume, *blob);
            tables.put_replica_tombstone(volume, *blob, at);
            progress.reclaim_pending -= 1;
        }
    }
    Ok(Outcome::Done)
}

fn apply_reclaim_orphans(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    volume: VolumeId,
    blobs: &[(BlobId, u64)],
) -> Result<Outcome, TableError> {
    for (blob, length) in blobs {
        // Check again: the tables may have changed since the worker read them.
        if replica::read(tables, volume, *blob)?.is_none()
            && repair_queue::pending_replica(tables, *blob, volume)?.is_none()
        {
            enqueue_reclaim_replica(tables, progress, volume, *blob, *length)?;
        }
    }
    Ok(Outcome::Done)
}

/// Those that no commit can need any longer.
fn apply_purge_replica_tombstones(tables: &mut Tables<'_>, tombstones: &[(VolumeId, BlobId)]) -> Outcome {
    tombstones.iter().for_each(|(volume, blob)| tables.remove_replica_tombstone(*volume, *blob));
    Outcome::Done
}

fn apply_purge_key_tombstones(
    tables: &mut Tables<'_>,
    keys: &[(KeyHash, BlobId)],
) -> Result<Outcome, TableError> {
    for (key, generation) in keys {
        if tombstone::key_tombstone(tables, *key)? == Some(*generation) {
            tables.remove_key_tombstone(*key);
        }
    }
    Ok(Outcome::Done)
}

fn apply_tag(
    tables: &mut Tables<'_>,
    key: &Key,
    generation: BlobId,
    tags: &[(String, String)],
) -> Result<Outcome, TableError> {
    let Some(mut object) = object::read(tables, key)?.filter(|o| o.generation == generation) else {
        return Ok(Outcome::NotFound);
    };
    object.attributes.tags = tags.to_vec();
    tables.put_object(key, &object);
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests;
