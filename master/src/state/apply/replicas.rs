//! Replicas come and go: taken in by another volume, found missing, given up. A value's bytes do not change by any of
//! it, only where they are.
//!
//! Verify before destroy has its home here: a copy goes only by `apply_drop`, which names as many others as are wanted,
//! all of them listed; whoever proposes it has just seen them. A volume that merely lacks a copy is crossed out, unless it
//! is the last one listed.

use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::limits::PARTS_MAX;

use super::{counted, discard_copy};
use crate::state::command::{Drop, Outcome};
use crate::tables::listed::{self, Listed};
use crate::tables::meta::Progress;
use crate::tables::object::Object;
use crate::tables::standing::{Duty, Standing};
use crate::tables::unsettled::Spot;
use crate::tables::{TableError, Tables, object, replica, standing, unsettled, upload};

/// Writes where a blob is from now on.
fn place(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    blob: BlobId,
    spot: &Spot,
    now: &Listed,
) -> Result<(), TableError> {
    tables.put_settled(blob, spot, now.replicas.len(), now.wanted);
    let object = object::read(tables, &spot.key)?;
    let Some((upload, number)) = spot.part else {
        let Some(mut object) = object else { return Ok(()) };
        let before = object.degraded();
        if let Some(held) = object.blobs.iter_mut().find(|b| b.id == blob) {
            held.replicas.clone_from(&now.replicas);
        }
        if let Some(parts) = &mut object.parts {
            parts.whole.retain(|volume| now.replicas.contains(volume));
            tables.put_unweighed(parts.upload, &spot.key);
        }
        put(tables, progress, &spot.key, &object, before);
        return Ok(());
    };
    if let Some(mut record) = upload::part(tables, upload, number)? {
        record.replicas.clone_from(&now.replicas);
        tables.put_part(upload, &record);
    }
    // Whether another volume has all parts now is looked at later, once for many of them.
    let Some(mut object) = object else { return Ok(()) };
    let before = object.degraded();
    let Some(parts) = object.parts.as_mut().filter(|p| p.upload == upload) else { return Ok(()) };
    tables.put_unweighed(upload, &spot.key);
    let owed = now.replicas.len() < usize::from(now.wanted);
    let less = parts.whole.iter().any(|volume| !now.replicas.contains(volume));
    if less || (owed && !parts.degraded) {
        parts.whole.retain(|volume| now.replicas.contains(volume));
        parts.degraded |= owed;
        put(tables, progress, &spot.key, &object, before);
    }
    Ok(())
}

fn put(tables: &mut Tables<'_>, progress: &mut Progress, key: &Key, object: &Object, was_degraded: bool) {
    progress.degraded = progress.degraded - u64::from(was_degraded) + u64::from(object.degraded());
    tables.put_object(key, object);
}

pub(super) fn apply_expect(
    tables: &mut Tables<'_>,
    volume: VolumeId,
    blobs: &[(BlobId, Spot)],
) -> Result<Outcome, TableError> {
    for (blob, spot) in blobs {
        let needed = listed::read(tables, *blob, spot)?.is_some_and(|now| !now.replicas.contains(&volume));
        // What was deleted there a moment ago may be deleted once more, by a call that comes late.
        if needed && !counted(tables, *blob, &[volume])?.is_empty() {
            tables.put_arriving(*blob, volume, spot);
        }
    }
    Ok(Outcome::Done)
}

pub(super) fn apply_arrived(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    volume: VolumeId,
    blobs: &[(BlobId, u64, Spot)],
) -> Result<Outcome, TableError> {
    for (blob, length, spot) in blobs {
        let expected = unsettled::is_arriving(tables, *blob, volume)?.is_some();
        tables.remove_arriving(*blob, volume);
        match listed::read(tables, *blob, spot)? {
            // Said twice.
            Some(now) if now.replicas.contains(&volume) => {}
            Some(mut now) if expected && !standing::has_left(tables, volume)? => {
                tables.put_replica(volume, *blob, &spot.key);
                now.replicas.push(volume);
                place(tables, progress, *blob, spot, &now)?;
            }
            // What is referred to under another name is no stray.
            _ if replica::read(tables, volume, *blob)?.is_some() => {}
            _ => {
                discard_copy(tables, progress, volume, *blob, *length)?;
            }
        }
    }
    Ok(Outcome::Done)
}

pub(super) fn apply_forgo(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    volume: VolumeId,
    blobs: &[(BlobId, u64)],
) -> Result<Outcome, TableError> {
    for (blob, length) in blobs {
        if unsettled::is_arriving(tables, *blob, volume)?.is_some() {
            tables.remove_arriving(*blob, volume);
            discard_copy(tables, progress, volume, *blob, *length)?;
        }
    }
    Ok(Outcome::Done)
}

pub(super) fn apply_drop(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    drop: &Drop,
) -> Result<Outcome, TableError> {
    let Drop { volume, blob, spot, keep } = drop;
    let Some(mut now) = listed::read(tables, *blob, spot)?.filter(|now| now.replicas.contains(volume)) else {
        return Ok(Outcome::NotFound);
    };
    let mut kept = keep.clone();
    kept.sort_unstable();
    kept.dedup();
    let listed = kept.iter().all(|v| v != volume && now.replicas.contains(v));
    if !listed || kept.len() < usize::from(now.wanted).max(1) {
        return Ok(Outcome::LastCopies);
    }
    now.replicas.retain(|v| v != volume);
    tables.remove_replica(*volume, *blob);
    discard_copy(tables, progress, *volume, *blob, now.length)?;
    place(tables, progress, *blob, spot, &now)?;
    Ok(Outcome::Done)
}

pub(super) fn apply_missing(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    volume: VolumeId,
    blobs: &[(BlobId, Spot)],
) -> Result<Outcome, TableError> {
    for (blob, spot) in blobs {
        let Some(mut now) = listed::read(tables, *blob, spot)? else { continue };
        // The last one stays listed: that the value is lost must be seen, and the volume may have it again one day.
        if now.replicas.contains(&volume) && now.replicas.len() > 1 {
            now.replicas.retain(|v| *v != volume);
            tables.remove_replica(volume, *blob);
            place(tables, progress, *blob, spot, &now)?;
        }
    }
    Ok(Outcome::Done)
}

/// Which volumes have all of a value in parts, and whether one of those lacks a copy.
pub(super) fn apply_weigh(
    tables: &mut Tables<'_>,
    progress: &mut Progress,
    key: &Key,
    upload: BlobId,
) -> Result<Outcome, TableError> {
    tables.remove_unweighed(upload);
    let Some(mut object) =
        object::read(tables, key)?.filter(|o| o.parts.as_ref().is_some_and(|p| p.upload == upload))
    else {
        return Ok(Outcome::NotFound);
    };
    let (before, wanted) = (object.degraded(), usize::from(object.wanted));
    let mut whole = object.blobs.first().map(|manifest| manifest.replicas.clone()).unwrap_or_default();
    let mut degraded = false;
    for record in upload::first_parts(tables, upload, usize::from(PARTS_MAX))? {
        whole.retain(|volume| record.replicas.contains(volume));
        degraded |= record.replicas.len() < wanted;
    }
    if let Some(parts) = object.parts.as_mut() {
        (parts.whole, parts.degraded) = (whole, degraded);
    }
    put(tables, progress, key, &object, before);
    Ok(Outcome::Done)
}

pub(super) fn apply_owe(
    tables: &mut Tables<'_>,
    blobs: &[(BlobId, Spot)],
    last: bool,
) -> Result<Outcome, TableError> {
    if last {
        tables.put_listed();
    }
    for (blob, spot) in blobs {
        if let Some(now) = listed::read(tables, *blob, spot)? {
            tables.put_settled(*blob, spot, now.replicas.len(), now.wanted);
        }
    }
    Ok(Outcome::Done)
}

/// A volume leaves for good only when nothing refers to it any more.
pub(super) fn apply_duty(
    tables: &mut Tables<'_>,
    volume: VolumeId,
    standing: Standing,
) -> Result<Outcome, TableError> {
    let before = standing::read(tables, volume)?.map_or(Duty::Serve, |s| s.duty);
    if before == Duty::Gone {
        return Ok(if standing.duty == Duty::Gone { Outcome::Done } else { Outcome::NotFound });
    }
    let needed = standing::holds_any(tables, volume)? || unsettled::awaits(tables, volume)?;
    if standing.duty == Duty::Gone && (before != Duty::Leave || needed) {
        return Ok(Outcome::LastCopies);
    }
    tables.put_standing(volume, standing);
    Ok(Outcome::Done)
}
