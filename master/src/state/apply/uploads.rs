//! Multipart uploads: created, filled with parts, completed, or aborted.
//!
//! A part is referenced from its own commit until its upload or object is unreferenced, so it is never an
//! orphan. A completion names its parts by number and by the digest of their manifest, so that a part replaced
//! meanwhile is noticed.

use crate::state::apply::references::{cancel_pending_replicas, countable_replicas, enqueue_reclaim};
use shared::digest::Digest;
use shared::ids::BlobId;
use shared::key::Key;
use shared::limits::{PARTS_MAX, PARTS_REMOVED_AT_ONCE};
use shared::manifest::Manifest;
use shared::tombstone::Tombstone;

use super::{Details, apply_commit, in_bucket, refuse};
use crate::state::command::{Outcome, S3Commit};
use crate::tables::bucket::{self, Bucket};
use crate::tables::meta::Counters;
use crate::tables::object::{Blob, Parts};
use crate::tables::repair_queue::BlobRef;
use crate::tables::upload::{PartRecord, UploadRecord};
use crate::tables::{TableError, Tables, object, upload};

pub(super) fn create(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    key: &Key,
    id: BlobId,
    upload: &UploadRecord,
) -> Result<Outcome, TableError> {
    progress.last_blob = progress.last_blob.max(Some(id));
    let Some(name) = bucket::of(key).filter(|_| in_bucket(tables, key).is_ok_and(|there| there)) else {
        return Ok(Outcome::NoBucket);
    };
    // A bucket that only has values must not disappear with the last of them during the upload.
    if bucket::record(tables, name)?.is_none() {
        tables.put_bucket(name, &Bucket::new(id.created()));
    }
    tables.put_upload(key, id, upload);
    Ok(Outcome::Done)
}

fn blob_of(part: &PartRecord) -> Blob {
    Blob { id: part.part.blob, length: part.part.length, replicas: part.replicas.clone() }
}

pub(super) fn put_part(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    (key, upload): (&Key, BlobId),
    record: &PartRecord,
    min_replicas: u8,
) -> Result<Outcome, TableError> {
    let id = record.part.blob;
    progress.last_blob = progress.last_blob.max(Some(id));
    let before = upload::part(tables, upload, record.part.number)?;
    if before.as_ref().is_some_and(|b| b.part.blob == id) {
        // A retry: the first answer was lost.
        return Ok(Outcome::Done);
    }
    let refused = Some(&Tombstone::Refused { blob: id });
    let Some(begun) = upload::read(tables, key, upload)? else {
        enqueue_reclaim(tables, progress, &[blob_of(record)], refused)?;
        return Ok(Outcome::NoUpload);
    };
    let replicas = countable_replicas(tables, id, &record.replicas)?;
    if replicas.len() < usize::from(min_replicas).max(1) || replicas.len() < record.replicas.len() {
        let blob = Blob { replicas, ..blob_of(record) };
        enqueue_reclaim(tables, progress, &[blob], refused)?;
        return Ok(Outcome::NotEnoughReceipts);
    }
    if let Some(before) = before {
        unlink_part(tables, progress, upload, &before)?;
    }
    for volume in &replicas {
        tables.put_replica(*volume, id, key);
    }
    if replicas.len() != usize::from(begun.wanted) {
        let blob_ref = BlobRef::part(key, upload, record.part.number);
        tables.update_repair_queue(id, &blob_ref, replicas.len(), begun.wanted);
    }
    tables.put_part(upload, &PartRecord { part: record.part.clone(), replicas });
    Ok(Outcome::Done)
}

/// Removes a part: its blob goes to the reclaim list.
fn unlink_part(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    upload: BlobId,
    record: &PartRecord,
) -> Result<(), TableError> {
    for volume in &record.replicas {
        tables.remove_replica(*volume, record.part.blob);
    }
    tables.remove_part(upload, record.part.number);
    // Unconditionally: the replication factor may no longer be known.
    tables.remove_from_repair_queue(record.part.blob);
    cancel_pending_replicas(tables, progress, &blob_of(record), None)?;
    enqueue_reclaim(tables, progress, &[blob_of(record)], None)
}

pub(super) fn complete(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    upload: BlobId,
    numbers: &[u16],
    store: &S3Commit,
) -> Result<Outcome, TableError> {
    let key = &store.commit.key;
    let Some(begun) = upload::read(tables, key, upload)? else {
        let object = object::read_stored(tables, key)?
            .filter(|o| o.parts.as_ref().is_some_and(|p| p.upload == upload));
        if object.as_ref().is_none_or(|o| o.generation != store.commit.blob) {
            refuse(tables, progress, &store.commit)?;
        }
        return Ok(object.map_or(Outcome::NoUpload, |o| Outcome::CompletedBefore(Box::new(o))));
    };
    if !in_bucket(tables, key)? {
        refuse(tables, progress, &store.commit)?;
        return Ok(Outcome::NoBucket);
    }
    let all = upload::first_parts(tables, upload, usize::from(PARTS_MAX))?;
    let (chosen, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|record| numbers.binary_search(&record.part.number).is_ok());
    let attributes = store.attributes.clone();
    let manifest = Manifest { upload, attributes, parts: chosen.iter().map(|r| r.part.clone()).collect() };
    if chosen.len() != numbers.len() || Digest::of(&manifest.encode()) != store.commit.digest {
        refuse(tables, progress, &store.commit)?;
        return Ok(Outcome::PartsChanged);
    }
    let mut whole = store.commit.replicas.clone();
    whole.retain(|volume| chosen.iter().all(|record| record.replicas.contains(volume)));
    let parts = Parts {
        upload,
        count: u16::try_from(chosen.len()).unwrap_or(PARTS_MAX),
        under_replicated: chosen.iter().any(|record| record.replicas.len() < usize::from(begun.wanted)),
        full_replicas: whole,
    };
    let size = manifest.size();
    let details = Details { attributes: store.attributes.clone(), parts: Some((parts, size)), expiry: None };
    let outcome = apply_commit(tables, progress, &store.commit, details)?;
    if let Outcome::Commit(
        shared::wire::master::CommitOutcome::Created | shared::wire::master::CommitOutcome::Replaced,
        _,
    ) = &outcome
    {
        tables.remove_upload(key, upload);
        for record in &others {
            unlink_part(tables, progress, upload, record)?;
        }
    }
    Ok(outcome)
}

pub(super) fn abort(tables: &mut Tables<'_>, key: &Key, upload: BlobId) -> Result<Outcome, TableError> {
    if upload::read(tables, key, upload)?.is_none() {
        return Ok(Outcome::NoUpload);
    }
    tables.remove_upload(key, upload);
    tables.put_unreferenced_parts(upload);
    Ok(Outcome::Done)
}

pub(super) fn remove_unreferenced_parts(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    uploads: &[BlobId],
) -> Result<Outcome, TableError> {
    let mut left = PARTS_REMOVED_AT_ONCE;
    for upload in uploads {
        // Check again: only unreferenced uploads have no owner.
        if !upload::has_unreferenced_parts(tables, *upload)? {
            continue;
        }
        let parts = upload::first_parts(tables, *upload, left)?;
        for record in &parts {
            unlink_part(tables, progress, *upload, record)?;
        }
        if parts.len() == left {
            return Ok(Outcome::Done);
        }
        left -= parts.len();
        tables.remove_unreferenced_parts(*upload);
    }
    Ok(Outcome::Done)
}
