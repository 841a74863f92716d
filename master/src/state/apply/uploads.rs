//! Uploads in parts: begun, filled, made one value of, or given up.
//!
//! A part is referenced from the moment it is put until nothing refers to its upload or object: no collector takes it. The
//! completion names the parts by number and by the digest of their manifest, so that a part that was put again meanwhile is
//! noticed, however many there are.

use shared::digest::Digest;
use shared::ids::BlobId;
use shared::key::Key;
use shared::limits::{PARTS_MAX, SCRAP_PARTS};
use shared::manifest::Manifest;
use shared::tombstone::Tombstone;

use super::{apply_commit, counted, discard, in_bucket, recall, refuse};
use crate::state::command::{Outcome, Store};
use crate::tables::bucket::{self, Bucket};
use crate::tables::meta::Progress;
use crate::tables::object::{Blob, Parts};
use crate::tables::unsettled::Spot;
use crate::tables::upload::{PartRecord, Upload};
use crate::tables::{TableError, Tables, object, upload};

pub(super) fn apply_begin(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    key: &Key,
    id: BlobId,
    upload: &Upload,
) -> Result<Outcome, TableError> {
    progress.last_blob = progress.last_blob.max(Some(id));
    let Some(name) = bucket::of(key).filter(|_| in_bucket(tables, key).is_ok_and(|there| there)) else {
        return Ok(Outcome::NoBucket);
    };
    // A bucket that only has values must not go with the last of them while this is under way.
    if bucket::record(tables, name)?.is_none() {
        tables.put_bucket(name, &Bucket::new(id.created()));
    }
    tables.put_upload(key, id, upload);
    Ok(Outcome::Done)
}

fn blob_of(part: &PartRecord) -> Blob {
    Blob { id: part.part.blob, length: part.part.length, replicas: part.replicas.clone() }
}

pub(super) fn apply_part(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    (key, upload): (&Key, BlobId),
    record: &PartRecord,
    min_replicas: u8,
) -> Result<Outcome, TableError> {
    let id = record.part.blob;
    progress.last_blob = progress.last_blob.max(Some(id));
    let before = upload::part(tables, upload, record.part.number)?;
    if before.as_ref().is_some_and(|b| b.part.blob == id) {
        // Sent again: the first answer was lost.
        return Ok(Outcome::Done);
    }
    let refused = Some(&Tombstone::Refused { blob: id });
    let Some(begun) = upload::read(tables, key, upload)? else {
        discard(tables, progress, &[blob_of(record)], refused)?;
        return Ok(Outcome::NoUpload);
    };
    let replicas = counted(tables, id, &record.replicas)?;
    if replicas.len() < usize::from(min_replicas).max(1) || replicas.len() < record.replicas.len() {
        let blob = Blob { replicas, ..blob_of(record) };
        discard(tables, progress, &[blob], refused)?;
        return Ok(Outcome::PartsChanged);
    }
    if let Some(before) = before {
        scrap(tables, progress, upload, &before)?;
    }
    for volume in &replicas {
        tables.put_replica(*volume, id, key);
    }
    if replicas.len() != usize::from(begun.wanted) {
        let spot = Spot::part(key, upload, record.part.number);
        tables.put_settled(id, &spot, replicas.len(), begun.wanted);
    }
    tables.put_part(upload, &PartRecord { part: record.part.clone(), replicas });
    Ok(Outcome::Done)
}

/// The part is one no more.
fn scrap(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    upload: BlobId,
    record: &PartRecord,
) -> Result<(), TableError> {
    for volume in &record.replicas {
        tables.remove_replica(*volume, record.part.blob);
    }
    tables.remove_part(upload, record.part.number);
    // How many copies were wanted of it nobody knows any more.
    tables.remove_unsettled(record.part.blob);
    recall(tables, progress, &blob_of(record), None)?;
    discard(tables, progress, &[blob_of(record)], None)
}

pub(super) fn apply_complete(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    upload: BlobId,
    numbers: &[u16],
    store: &Store,
) -> Result<Outcome, TableError> {
    let key = &store.commit.key;
    let Some(begun) = upload::read(tables, key, upload)? else {
        let object =
            object::read(tables, key)?.filter(|o| o.parts.as_ref().is_some_and(|p| p.upload == upload));
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
        degraded: chosen.iter().any(|record| record.replicas.len() < usize::from(begun.wanted)),
        whole,
    };
    let size = manifest.size();
    let outcome = apply_commit(tables, progress, &store.commit, &store.attributes, Some((parts, size)))?;
    if let Outcome::Commit(
        shared::wire::master::CommitOutcome::Created | shared::wire::master::CommitOutcome::Replaced,
        _,
    ) = &outcome
    {
        tables.remove_upload(key, upload);
        for record in &others {
            scrap(tables, progress, upload, record)?;
        }
    }
    Ok(outcome)
}

pub(super) fn apply_abort(tables: &mut Tables<'_>, key: &Key, upload: BlobId) -> Result<Outcome, TableError> {
    if upload::read(tables, key, upload)?.is_none() {
        return Ok(Outcome::NoUpload);
    }
    tables.remove_upload(key, upload);
    tables.put_condemned(upload);
    Ok(Outcome::Done)
}

pub(super) fn apply_scrap(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    uploads: &[BlobId],
) -> Result<Outcome, TableError> {
    let mut left = SCRAP_PARTS;
    for upload in uploads {
        // The second look: only what is condemned has no owner.
        if !upload::is_condemned(tables, *upload)? {
            continue;
        }
        let parts = upload::first_parts(tables, *upload, left)?;
        for record in &parts {
            scrap(tables, progress, *upload, record)?;
        }
        if parts.len() == left {
            return Ok(Outcome::Done);
        }
        left -= parts.len();
        tables.remove_condemned(*upload);
    }
    Ok(Outcome::Done)
}
