//! `apply(tables, command) → outcome`: the one place where metadata changes.
//!
//! Generations of a key only grow. A commit that comes after a newer one was committed is ordered
//! just before it: the two overlapped, so that is a true history, and a rebuild from the volumes,
//! which knows only generations, arrives at the same present. Where one of the two has a condition that
//! would not be true, and the late one is refused; so is one that comes after its key was deleted. A rebuild must also
//! know what was deleted and what was refused: beside the reclaim list stands a tombstone that the volume keeps.

mod buckets;
mod replicas;
mod uploads;

use shared::attributes::Attributes;
mod access_keys;

use shared::clock::Timestamp;
use shared::condition::WriteCondition;
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::tombstone::{KeyHash, Tombstone};
use shared::wire::master::CommitOutcome;

use super::command::{Command, Commit, Outcome, Store};
use crate::tables::bucket;
use crate::tables::meta::{FORMAT_VERSION, Identity, Progress};
use crate::tables::object::{Blob, Object, Parts, holds};
use crate::tables::unsettled::Spot;
use crate::tables::{TableError, Tables, meta, object, reclaim, replica, standing, tombstone, unsettled};

/// Applies one command.
///
/// # Errors
/// When the tables cannot be read; nothing of the batch may be written then.
pub fn apply(tables: &mut Tables<'_>, command: &Command) -> Result<Outcome, TableError> {
    if let Command::InSequence { sequence, change } = command {
        return access_keys::in_sequence(tables, *sequence, change);
    }
    let mut progress = meta::progress(tables)?;
    progress.applied += 1;
    let outcome = match command {
        Command::Commit(commit) => apply_commit(tables, &mut progress, commit, &Attributes::default(), None)?,
        Command::Store(store) => apply_store(tables, &mut progress, store)?,
        Command::Delete { key, condition } => apply_delete(tables, &mut progress, key, condition)?,
        Command::Volume(record) => {
            tables.put_volume(record);
            Outcome::Done
        }
        Command::Reclaimed { volume, blobs, at } => {
            apply_reclaimed(tables, &mut progress, *volume, blobs, *at)?
        }
        Command::Purge { graves } => {
            graves.iter().for_each(|(volume, blob)| tables.remove_grave(*volume, *blob));
            Outcome::Done
        }
        Command::Orphaned { volume, blobs } => apply_orphaned(tables, &mut progress, *volume, blobs)?,
        Command::Founded(cluster) => {
            if meta::identity(tables)?.is_none() {
                tables.put_identity(&Identity { cluster: *cluster, format_version: FORMAT_VERSION });
                tables.put_listed();
            }
            Outcome::Done
        }
        Command::Forget { keys } => apply_forget(tables, keys)?,
        Command::BeginUpload { key, id, upload } => {
            uploads::apply_begin(tables, &mut progress, key, *id, upload)?
        }
        Command::PutPart { key, upload, part, min_replicas } => {
            uploads::apply_part(tables, &mut progress, (key, *upload), part, *min_replicas)?
        }
        Command::Complete { upload, numbers, store } => {
            uploads::apply_complete(tables, &mut progress, *upload, numbers, store)?
        }
        Command::Abort { key, upload } => uploads::apply_abort(tables, key, *upload)?,
        Command::Scrap { uploads } => uploads::apply_scrap(tables, &mut progress, uploads)?,
        Command::Tag { key, generation, tags } => apply_tag(tables, key, *generation, tags)?,
        Command::CreateBucket { name, bucket } => buckets::apply_create(tables, name, bucket)?,
        Command::SetBucket { name, setting } => buckets::apply_set(tables, name, setting)?,
        Command::DeleteBucket { name } => buckets::apply_delete(tables, name)?,
        Command::PutAccessKey { id, key } => access_keys::put(tables, id, key),
        Command::RevokeAccessKey { id } => access_keys::revoke(tables, id)?,
        Command::Expect { volume, blobs } => replicas::apply_expect(tables, *volume, blobs)?,
        Command::Arrived { volume, blobs } => replicas::apply_arrived(tables, &mut progress, *volume, blobs)?,
        Command::Forgo { volume, blobs } => replicas::apply_forgo(tables, &mut progress, *volume, blobs)?,
        Command::Drop(drop) => replicas::apply_drop(tables, &mut progress, drop)?,
        Command::Missing { volume, blobs } => replicas::apply_missing(tables, &mut progress, *volume, blobs)?,
        Command::Weigh { key, upload } => replicas::apply_weigh(tables, &mut progress, key, *upload)?,
        Command::Owe { blobs, last } => replicas::apply_owe(tables, blobs, *last)?,
        Command::SetDuty { volume, standing } => replicas::apply_duty(tables, *volume, *standing)?,
        Command::SetRebalance(rebalance) => {
            tables.put_rebalance(rebalance.as_ref());
            Outcome::Done
        }
        Command::SetMode { bucket, mode } => {
            tables.put_mode(bucket, *mode);
            Outcome::Done
        }
        // Above: it counts as the change in it.
        Command::InSequence { .. } => Outcome::Outdated,
    };
    tables.put_progress(&progress);
    Ok(outcome)
}

/// A commit by an S3 client: its bucket must be there.
fn apply_store(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    store: &Store,
) -> Result<Outcome, TableError> {
    if !in_bucket(tables, &store.commit.key)? {
        refuse(tables, progress, &store.commit)?;
        return Ok(Outcome::NoBucket);
    }
    apply_commit(tables, progress, &store.commit, &store.attributes, None)
}

fn in_bucket(tables: &Tables<'_>, key: &Key) -> Result<bool, TableError> {
    bucket::of(key).map_or(Ok(false), |name| bucket::exists(tables, name))
}

/// Nothing becomes of what is to be committed, and nothing ever will.
fn refuse(tables: &mut Tables<'_>, progress: &mut Progress, commit: &Commit) -> Result<(), TableError> {
    progress.last_blob = progress.last_blob.max(Some(commit.blob));
    let blob = Blob { id: commit.blob, length: commit.size, replicas: commit.replicas.clone() };
    discard(tables, progress, &[blob], Some(&Tombstone::Refused { blob: commit.blob }))
}

/// The copies that count: one on its way out, or gone, does not, and none of a volume that has left. It was taken for an orphan, or this commit was decided
/// before and what it made was replaced or deleted since.
fn counted(tables: &Tables<'_>, blob: BlobId, volumes: &[VolumeId]) -> Result<Vec<VolumeId>, TableError> {
    let mut replicas = Vec::with_capacity(volumes.len());
    for volume in volumes {
        let here = !standing::has_left(tables, *volume)?;
        if here
            && !reclaim::contains(tables, *volume, blob)?
            && !reclaim::was_reclaimed(tables, *volume, blob)?
        {
            replicas.push(*volume);
        }
    }
    Ok(replicas)
}

fn apply_commit(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    commit: &Commit,
    attributes: &Attributes,
    parts: Option<(Parts, u64)>,
) -> Result<Outcome, TableError> {
    progress.last_blob = progress.last_blob.max(Some(commit.blob));
    let current = object::read(tables, &commit.key)?;
    if let Some(same) = current.as_ref().filter(|o| o.generation == commit.blob) {
        // Sent again: the first answer was lost.
        return Ok(Outcome::Commit(
            CommitOutcome::Created,
            same.blobs.first().map_or(0, |b| b.replicas.len()),
        ));
    }
    let replicas = counted(tables, commit.blob, &commit.replicas)?;
    let copies = replicas.len();
    // Whoever finds one copy dead must not make a value of the others: the tombstone is for the blob, wherever it is.
    let refusal = if copies < usize::from(commit.min_replicas).max(1) || copies < commit.replicas.len() {
        Some(CommitOutcome::NotEnoughReceipts)
    } else if !holds(&commit.condition, current.as_ref()) {
        Some(CommitOutcome::ConditionFailed)
    } else if overtaken(tables, commit, current.as_ref())? {
        Some(CommitOutcome::Overtaken)
    } else {
        None
    };
    let blob = Blob { id: commit.blob, length: commit.size, replicas };
    if let Some(refusal) = refusal {
        discard(tables, progress, &[blob], Some(&Tombstone::Refused { blob: commit.blob }))?;
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
        attributes: attributes.clone(),
        parts: parts.map(|(parts, _)| parts),
    };
    let existed = current.is_some();
    match current {
        Some(newer) if newer.generation > commit.blob => {
            discard(tables, progress, &new.blobs, None)?;
            condemn(tables, &new);
        }
        old => {
            if let Some(old) = old {
                forget(tables, progress, &old, None)?;
            }
            remember(tables, progress, &commit.key, &new);
            if commit.condition != WriteCondition::None {
                tables.put_conditional(&commit.key, commit.blob);
            }
        }
    }
    let outcome = if existed { CommitOutcome::Replaced } else { CommitOutcome::Created };
    Ok(Outcome::Commit(outcome, copies))
}

/// Whether a newer generation is there, and the two cannot change places, because the condition of the one would have
/// seen the other; or was there and is deleted: whoever deleted it was told what, and may have had a condition.
fn overtaken(tables: &Tables<'_>, commit: &Commit, current: Option<&Object>) -> Result<bool, TableError> {
    let Some(newer) = current else {
        return Ok(tombstone::deleted(tables, KeyHash::of(&commit.key))? >= Some(commit.blob));
    };
    if newer.generation < commit.blob {
        return Ok(false);
    }
    Ok(commit.condition != WriteCondition::None || object::is_conditional(tables, &commit.key, newer)?)
}

fn apply_delete(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    key: &Key,
    condition: &WriteCondition,
) -> Result<Outcome, TableError> {
    let Some(object) = object::read(tables, key)? else { return Ok(Outcome::NotFound) };
    if !holds(condition, Some(&object)) {
        return Ok(Outcome::ConditionFailed);
    }
    let (hash, generation) = (KeyHash::of(key), buries(tables, &object)?);
    progress.last_blob = progress.last_blob.max(Some(generation));
    forget(tables, progress, &object, Some(&Tombstone::Deleted { key: hash, generation }))?;
    tables.remove_object(key)?;
    tables.put_deleted(hash, generation);
    Ok(Outcome::Deleted(Box::new(object)))
}

/// Up to which generation a key is gone with this object: a time of which nothing is known may have brought a newer one.
fn buries(tables: &Tables<'_>, object: &Object) -> Result<BlobId, TableError> {
    let unknown = meta::gap(tables)?.map(|gap| gap.end());
    Ok(unknown.map_or(object.generation, |end| end.max(object.generation)))
}

fn apply_reclaimed(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    volume: VolumeId,
    blobs: &[BlobId],
    at: Timestamp,
) -> Result<Outcome, TableError> {
    for blob in blobs {
        if reclaim::contains(tables, volume, *blob)? {
            tables.remove_reclaim(volume, *blob);
            tables.remove_tombstone(volume, *blob);
            tables.put_grave(volume, *blob, at);
            progress.reclaim_pending -= 1;
        }
    }
    Ok(Outcome::Done)
}

fn apply_orphaned(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    volume: VolumeId,
    blobs: &[(BlobId, u64)],
) -> Result<Outcome, TableError> {
    for (blob, length) in blobs {
        // The second look: what the worker saw may have changed since.
        if replica::read(tables, volume, *blob)?.is_none()
            && unsettled::is_arriving(tables, *blob, volume)?.is_none()
        {
            discard_copy(tables, progress, volume, *blob, *length)?;
        }
    }
    Ok(Outcome::Done)
}

fn apply_forget(tables: &mut Tables<'_>, keys: &[(KeyHash, BlobId)]) -> Result<Outcome, TableError> {
    for (key, generation) in keys {
        if tombstone::deleted(tables, *key)? == Some(*generation) {
            tables.remove_deleted(*key);
        }
    }
    Ok(Outcome::Done)
}

/// Makes `object` the value of `key`, and its blobs referenced.
fn remember(tables: &mut Tables<'_>, progress: &mut Progress, key: &Key, object: &Object) {
    for blob in &object.blobs {
        for volume in &blob.replicas {
            tables.put_replica(*volume, blob.id, key);
        }
        if blob.replicas.len() != usize::from(object.wanted) {
            tables.put_settled(blob.id, &Spot::object(key), blob.replicas.len(), object.wanted);
        }
    }
    tables.put_object(key, object);
    progress.objects += 1;
    progress.bytes += object.size;
    progress.degraded += u64::from(object.degraded());
}

/// The object is the value of its key no more: its blobs go to the reclaim list.
fn forget(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    object: &Object,
    tombstone: Option<&Tombstone>,
) -> Result<(), TableError> {
    for blob in &object.blobs {
        for volume in &blob.replicas {
            tables.remove_replica(*volume, blob.id);
        }
        if blob.replicas.len() != usize::from(object.wanted) {
            tables.remove_unsettled(blob.id);
        }
        recall(tables, progress, blob, tombstone)?;
    }
    progress.objects -= 1;
    progress.bytes -= object.size;
    progress.degraded -= u64::from(object.degraded());
    condemn(tables, object);
    discard(tables, progress, &object.blobs, tombstone)
}

/// Copies of a blob that are on their way when nothing refers to it any more: their volumes are told to delete it like all others.
fn recall(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    blob: &Blob,
    tombstone: Option<&Tombstone>,
) -> Result<(), TableError> {
    let replicas = unsettled::arrivals(tables, blob.id)?;
    replicas.iter().for_each(|volume| tables.remove_arriving(blob.id, *volume));
    discard(tables, progress, &[Blob { id: blob.id, length: blob.length, replicas }], tombstone)
}

/// Nothing refers to the parts of an object any more. They go a few at a time, and without tombstones: without the manifest
/// no rebuild makes anything of them.
fn condemn(tables: &mut Tables<'_>, object: &Object) {
    if let Some(parts) = &object.parts {
        tables.remove_unweighed(parts.upload);
        tables.put_condemned(parts.upload);
    }
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

/// Puts blobs that nothing refers to on the reclaim list. The one way onto it. A tombstone is for those that no newer
/// version of their key speaks for.
fn discard(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    blobs: &[Blob],
    tombstone: Option<&Tombstone>,
) -> Result<(), TableError> {
    for blob in blobs {
        for volume in &blob.replicas {
            // Nobody tells a volume that has left.
            if !standing::has_left(tables, *volume)? && !reclaim::contains(tables, *volume, blob.id)? {
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

/// As `discard`, of one copy of a blob. No tombstone: elsewhere it may be a value.
fn discard_copy(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    volume: VolumeId,
    blob: BlobId,
    length: u64,
) -> Result<(), TableError> {
    discard(tables, progress, &[Blob { id: blob, length, replicas: vec![volume] }], None)
}

#[cfg(test)]
mod tests;
