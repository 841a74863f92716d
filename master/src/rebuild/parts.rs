//! Values in parts: a manifest that is the newest of its key makes an object of the parts it lists. Without one of them
//! there is no value, and an older one stands; what no manifest lists was part of an upload that was not completed, or of a
//! value that is gone, and is left alone.

use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::limits::PARTS_MAX;
use shared::manifest::Manifest;

use super::RebuildError;
use super::collect::Collected;
use crate::tables::Tables;
use crate::tables::object::{Object, Parts};
use crate::tables::upload::PartRecord;

/// What a version is, besides what its record says.
pub enum Whole {
    One,
    /// Parts, all of which are there.
    Parts(Manifest, Vec<PartRecord>),
    /// Parts of which some are not.
    Lost,
}

/// Looks for the parts of a version.
pub fn find(collected: &Collected, key: &Key, blob: BlobId, noted: bool) -> Result<Whole, RebuildError> {
    let Some(bytes) = collected.manifest(blob)? else {
        return Ok(if noted { Whole::Lost } else { Whole::One });
    };
    let Ok(manifest) = Manifest::decode(&bytes) else { return Ok(Whole::Lost) };
    let (mut records, mut whole) = (Vec::with_capacity(manifest.parts.len()), true);
    for part in &manifest.parts {
        let mut replicas = collected.take_part(key, (part.blob, part.length, part.digest))?;
        // A bad copy is a copy still: its volume heals it from the others.
        let damaged = collected.take_damaged(part.blob)?;
        replicas.extend(damaged.into_iter().filter(|(_, n)| *n == part.length).map(|(volume, _)| volume));
        if replicas.is_empty() {
            tracing::warn!(%key, part = part.number, blob = %part.blob, "a part of a value is on no volume");
            whole = false;
            continue;
        }
        records.push(PartRecord { part: part.clone(), replicas });
    }
    Ok(if whole { Whole::Parts(manifest, records) } else { Whole::Lost })
}

/// Makes `object`, whose blob is the manifest, the value in these parts. How many records it took.
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
        degraded: records.iter().any(|record| record.replicas.len() < usize::from(object.wanted)),
        whole: holders.iter().filter(all).copied().collect(),
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
