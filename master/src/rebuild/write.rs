//! Writes the new tables: walks the collected records key by key, decides, and commits in batches. It blocks.

use std::path::Path;
use std::sync::atomic::Ordering;

use shared::attributes::Attributes;
use shared::clock::Timestamp;
use shared::ids::{BlobId, VolumeId};
use shared::limits::REBUILD_BATCH;
use shared::tombstone::KeyHash;
use shared::wire::volume::VolumeReport;

use super::ask::Volumes;
use super::collect::Collected;
use super::parts::{self, PartsFound};
use super::plan::{Against, Fate, Version, decide};
use super::{RebuildError, RebuildProgress, Report};
use crate::db::files::{open_sled, released};
use crate::db::{Database, OpenError};
use crate::tables::meta::{self, FIRST_VERSION, Gap, Identity};
use crate::tables::object::{Blob, Object};
use crate::tables::volume::VolumeRecord;
use crate::tables::{TableError, Tables};

struct Writer<'a> {
    database: &'a Database,
    tree: &'a sled::Tree,
    collected: &'a Collected,
    tables: Tables<'a>,
    changes: usize,
    counters: meta::Counters,
    report: Report,
    wanted: u8,
    now: Timestamp,
}

/// Writes the metadata directory at `folder`, and closes it.
pub fn write(
    folder: &Path,
    volumes: &Volumes,
    collected: &Collected,
    wanted: u8,
    now: Timestamp,
    progress: &RebuildProgress,
) -> Result<Report, RebuildError> {
    let database = create(folder, volumes)?;
    let sum = |of: fn(&VolumeReport) -> u64| volumes.all.iter().map(|(_, report)| of(report)).sum();
    let report = Report {
        cluster: Some(volumes.cluster),
        volumes: volumes.all.len() as u64,
        segments_refused: sum(|r| r.segments_refused),
        ranges_quarantined: sum(|r| r.ranges_quarantined),
        ..Report::default()
    };
    let tree = database.tree();
    let mut writer = Writer {
        tables: Tables::new(&tree),
        database: &database,
        tree: &tree,
        collected,
        changes: 0,
        counters: meta::Counters::default(),
        report,
        wanted,
        now,
    };
    for (_, report) in &volumes.all {
        writer.tables.put_volume(&VolumeRecord {
            volume: report.volume,
            address: report.address.clone(),
            public_url: report.public_url.clone(),
            zone: report.zone.clone(),
            capacity_bytes: report.capacity_bytes,
        });
    }
    let mut last: Option<(shared::key::Key, bool)> = None;
    for version in collected.versions() {
        let version = version?;
        let newer = last.as_ref().is_some_and(|(key, found)| *key == version.key && *found);
        let current = writer.version(&version, newer)?;
        progress.written.fetch_add(version.copies.len() as u64, Ordering::Relaxed);
        last = Some((version.key, newer || current));
    }
    writer.parts()?;
    writer.corrupt()?;
    writer.tombstones()?;
    let report = writer.end()?;
    drop(tree);
    database.close().map_err(|source| RebuildError::Io { path: folder.to_owned(), source })?;
    Ok(report)
}

fn create(folder: &Path, volumes: &Volumes) -> Result<Database, RebuildError> {
    let path = folder.join("sled");
    shared::durable::create_dir_all(folder)
        .map_err(|source| RebuildError::Io { path: folder.to_owned(), source })?;
    let sled = open_sled(&path).map_err(OpenError::of_files(folder))?;
    meta::write_identity(&sled, &Identity { cluster: volumes.cluster, format_version: FIRST_VERSION })?;
    sled.flush()?;
    drop(sled);
    released(&path).map_err(|source| RebuildError::Io { path, source })?;
    Ok(Database::open(folder)?)
}

impl Writer<'_> {
    /// Adds one version of a key. Returns whether it is the value of the key.
    fn version(&mut self, version: &Version, newer: bool) -> Result<bool, RebuildError> {
        let against = Against {
            newer,
            deleted: self.collected.deleted(KeyHash::of(&version.key))?,
            refused: self.collected.is_refused(version.blob)?,
        };
        self.saw(version.blob);
        self.report.blobs += version.copies.len() as u64;
        let corrupt = self.collected.take_corrupt(version.blob)?;
        self.report.corrupt += corrupt.len() as u64;
        let fate = decide(version, against);
        let mut lost = false;
        match &fate {
            Fate::Current(value, holders) => {
                if holders.len() < version.copies.len() {
                    self.report.conflicts += 1;
                    tracing::warn!(
                        key = %version.key, blob = %version.blob,
                        "replicas of a value differ; the majority decides"
                    );
                }
                // A corrupt replica still counts: its volume heals it from the others.
                let same = corrupt.iter().filter(|(_, length)| *length == value.length).map(|(v, _)| *v);
                let replicas: Vec<_> = holders.iter().copied().chain(same).collect();
                let blobs = vec![Blob { id: version.blob, length: value.length, replicas }];
                let mut object = Object {
                    generation: version.blob,
                    size: value.length,
                    digest: value.digest,
                    content_type: value.content_type.clone(),
                    metadata: value.metadata.clone(),
                    wanted: self.wanted,
                    blobs,
                    attributes: Attributes::default(),
                    parts: None,
                    expiry: self.collected.expiry(version.blob)?,
                };
                let noted = value.manifest;
                match parts::find(self.collected, &version.key, version.blob, noted)? {
                    PartsFound::One => self.object(&version.key, &object),
                    PartsFound::Parts(manifest, records) => {
                        let tables = &mut self.tables;
                        let changes = parts::assemble(tables, &version.key, &mut object, manifest, &records);
                        records.iter().for_each(|record| self.saw(record.part.blob));
                        self.object(&version.key, &object);
                        self.changed(changes)?;
                    }
                    // It may never have been committed, so an older version stays current. Its parts are kept: manual
                    // recovery may still use them.
                    PartsFound::Lost => {
                        tracing::warn!(
                            key = %version.key, blob = %version.blob,
                            "a multipart object lacks its manifest or a part: an older version is used, if any"
                        );
                        self.report.lost += 1;
                        lost = true;
                    }
                }
            }
            Fate::Superseded => self.report.superseded += 1,
            Fate::Deleted(_) => self.report.deleted += 1,
            Fate::Refused(_) => self.report.refused += 1,
        }
        if !matches!(fate, Fate::Current(..)) {
            self.reclaim(version, corrupt, &fate);
        }
        self.changed(1 + version.copies.len())?;
        Ok(matches!(fate, Fate::Current(..)) && !lost)
    }

    /// Puts all records of a version that is not current onto the reclaim list, with the reason.
    fn reclaim(&mut self, version: &Version, corrupt: Vec<(VolumeId, u64)>, fate: &Fate) {
        let records = version.copies.iter().map(|(volume, value)| (*volume, value.length));
        for (volume, length) in records.chain(corrupt) {
            self.tables.put_reclaim(volume, version.blob, length);
            self.counters.reclaim_pending += 1;
            if let Some(tombstone) = fate.tombstone() {
                self.tables.put_tombstone(volume, version.blob, tombstone);
            }
        }
    }

    fn object(&mut self, key: &shared::key::Key, object: &Object) {
        for blob in &object.blobs {
            for volume in &blob.replicas {
                self.tables.put_replica(*volume, blob.id, key);
            }
        }
        self.tables.put_object(key, object);
        self.tables.put_expiry(key, object);
        self.counters.objects += 1;
        self.counters.bytes += object.size;
        self.counters.under_replicated += u64::from(object.is_under_replicated());
    }

    /// Counts the parts that no object references. They are kept: their manifest may be on a volume that
    /// was not asked.
    fn parts(&mut self) -> Result<(), RebuildError> {
        for part in self.collected.all_parts() {
            let (blob, _, _) = part?;
            self.saw(blob);
            self.report.blobs += 1;
            self.report.parts_left += 1;
        }
        Ok(())
    }

    /// Counts the unreadable records. They are kept: manual recovery may still use them.
    fn corrupt(&mut self) -> Result<(), RebuildError> {
        let mut last: Option<BlobId> = None;
        for corrupt in self.collected.all_corrupt() {
            let (blob, volume) = corrupt?;
            self.saw(blob);
            self.report.corrupt += 1;
            if self.collected.is_refused(blob)? {
                continue;
            }
            self.report.lost += u64::from(last.replace(blob) != Some(blob));
            tracing::warn!(%blob, %volume, "a record cannot be read, and no other volume has it: its key is unknown");
        }
        Ok(())
    }

    /// Adds the tombstones of deleted keys and refused blobs.
    fn tombstones(&mut self) -> Result<(), RebuildError> {
        for deleted in self.collected.all_deleted() {
            let (key, generation) = deleted?;
            self.saw(generation);
            self.tables.put_key_tombstone(key, generation);
            self.changed(1)?;
        }
        for refused in self.collected.all_refused() {
            let (blob, volume): (BlobId, VolumeId) = refused?;
            self.saw(blob);
            self.tables.put_replica_tombstone(volume, blob, self.now);
            self.changed(1)?;
        }
        Ok(())
    }

    fn saw(&mut self, blob: BlobId) {
        self.counters.last_blob = self.counters.last_blob.max(Some(blob));
    }

    fn changed(&mut self, changes: usize) -> Result<(), TableError> {
        self.changes += changes;
        if self.changes < REBUILD_BATCH {
            return Ok(());
        }
        self.changes = 0;
        self.database.commit(std::mem::replace(&mut self.tables, Tables::new(self.tree)))?;
        self.database.checkpoint()
    }

    fn end(mut self) -> Result<Report, RebuildError> {
        // Not 0: that would be a new directory, from which nothing can be missing.
        self.counters.applied = 1;
        // A volume that was not asked may hold a newer blob than all others, stamped by a clock ahead of ours.
        let gap = Gap { after: None, ..Gap::since(self.counters.last_blob, self.now) };
        self.counters.last_blob = Some(gap.end());
        self.tables.put_counters(&self.counters);
        self.tables.put_gap(&gap);
        self.tables.advance_time(self.now)?;
        self.database.commit(self.tables)?;
        self.database.checkpoint()?;
        let counted = self.counters;
        Ok(Report {
            objects: counted.objects,
            bytes: counted.bytes,
            under_replicated: counted.under_replicated,
            ..self.report
        })
    }
}
