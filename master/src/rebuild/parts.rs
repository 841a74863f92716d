//! Multipart objects: a manifest that is the newest version of its key becomes an object with the parts it lists. If
//! a part is missing, there is no object, and an older version stays current. Parts that no manifest lists belonged
//! to an unfinished upload, or to an object that is gone; they are kept.

use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::limits::PARTS_MAX;
use shared::manifest::Manifest;

use super::RebuildError;
use super::collect::Collected;
use crate::tables::Tables;
use crate::tables::object::{Object, Parts};
use crate::tables::upload::PartRecord;

/// The parts of a version.
pub enum PartsFound {
    /// No multipart object: its blob is the value.
    One,
    /// All parts were found.
    Parts(Manifest, Vec<PartRecord>),
    /// The manifest or a part is missing.
    Lost,
}

/// Looks for the parts of a version.
pub fn find(collected: &Collected, key: &Key, blob: BlobId, noted: bool) -> Result<PartsFound, RebuildError> {
    let Some(bytes) = collected.manifest(blob)? else {
        return Ok(if noted { PartsFound::Lost } else { PartsFound::One });
    };
    let Ok(manifest) = Manifest::decode(&bytes) else { return Ok(PartsFound::Lost) };
    let (mut records, mut whole) = (Vec::with_capacity(manifest.parts.len()), true);
    for part in &manifest.parts {
        let mut replicas = collected.take_part(key, (part.blob, part.length, part.digest))?;
        // A corrupt replica still counts: its volume heals it from the others.
        let corrupt = collected.take_corrupt(part.blob)?;
        replicas.extend(corrupt.into_iter().filter(|(_, n)| *n == part.length).map(|(volume, _)| volume));
        if replicas.is_empty() {
            tracing::warn!(%key, part = part.number, blob = %part.blob, "no volume has this part");
            whole = false;
            continue;
        }
        records.push(PartRecord { part: part.clone(), replicas });
    }
    Ok(if whole { PartsFound::Parts(manifest, records) } else { PartsFound::Lost })
}

/// Makes `object`, whose blob is the manifest, a multipart object of these parts. Returns how many
/// records that wrote.
pub fn assemble(
    tables: &mut Tables<'_>,
    key: &Key,
    object: &mut Object,
    manifest: Manifest,
    records: &[PartRecord],
) -> usize {
    let holders: &[VolumeId] = object.blobs.first().map_or(&[], |b| &b.replicas);
    let all = |volume: &&VolumeId| records.iter().all(|record| record.replicas.contains(volume));
    let parts = Parts {
        upload: manifest.upload,
        count: u16::try_from(records.len()).unwrap_or(PARTS_MAX),
        under_replicated: records.iter().any(|record| record.replicas.len() < usize::from(object.wanted)),
        full_replicas: holders.iter().filter(all).copied().collect(),
    };
    object.size = manifest.size();
    object.parts = Some(parts);
    for record in records {
        for volume in &record.replicas {
            tables.put_replica(*volume, record.part.blob, key);
        }
        tables.put_part(manifest.upload, record);
    }
    object.attributes = manifest.attributes;
    records.iter().map(|record| 1 + record.replicas.len()).sum()
}
