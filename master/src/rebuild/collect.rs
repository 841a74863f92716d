//! Stores the answers of the volumes on disk, sorted by key, so that memory does not grow with the number of records.
//! It is a sled of its own, removed when the metadata is written; nothing in it has to survive a crash.
//!
//! Records: `key · NUL · blob, inverted (16) · volume (16)`, so that the newest version of a key comes first; no key
//! contains a NUL. Corrupt (unreadable): `blob · volume` → length. Refused: `blob · volume that reports it`. Deleted:
//! `hash of the key` → generation. Expiry: `blob` → revision and time. Parts: `blob · volume` → key, length and digest. Manifests: `blob` → bytes.

use std::path::Path;

use shared::clock::Timestamp;
use shared::digest::Digest;
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::tombstone::{BlobExpiry, KeyHash, Tombstone};
use shared::wire::routes::{MANIFEST_HEADER, PART_HEADER};
use shared::wire::volume::RecordEntry;

use super::RebuildError;
use super::plan::{Value, Version};
use crate::db::OpenError;
use crate::db::files::open_sled;
use crate::tables::object::Expiry;
use crate::tables::{Kind, TableError};

#[derive(Debug)]
pub struct Collected {
    records: sled::Tree,
    corrupt: sled::Tree,
    refused: sled::Tree,
    deleted: sled::Tree,
    parts: sled::Tree,
    manifests: sled::Tree,
    expiry: sled::Tree,
    _db: sled::Db,
}

fn strange(bytes: usize) -> RebuildError {
    RebuildError::Tables(TableError::Corrupt { kind: Kind::Object, bytes })
}

fn pair(blob: BlobId, volume: VolumeId) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(blob.as_bytes());
    bytes[16..].copy_from_slice(volume.as_bytes());
    bytes
}

fn unpair(bytes: &[u8]) -> Result<(BlobId, VolumeId), RebuildError> {
    let halves = || Some((bytes.get(..16)?.try_into().ok()?, bytes.get(16..32)?.try_into().ok()?));
    let (blob, volume): ([u8; 16], [u8; 16]) = halves().ok_or_else(|| strange(bytes.len()))?;
    Ok((BlobId::from_bytes(blob).map_err(|_| strange(16))?, VolumeId::from_bytes(volume)))
}

fn place(key: &Key, blob: BlobId, volume: VolumeId) -> Vec<u8> {
    let newest_first: Vec<u8> = blob.as_bytes().iter().map(|b| !b).collect();
    [key.as_str().as_bytes(), &[0], &newest_first, volume.as_bytes()].concat()
}

/// Decodes the key, the version and the volume from a place.
fn parts(place: &[u8]) -> Result<(Key, BlobId, VolumeId), RebuildError> {
    let bad = || strange(place.len());
    let (key, rest) = place.split_at_checked(place.len().saturating_sub(33)).ok_or_else(bad)?;
    let key = std::str::from_utf8(key).ok().and_then(|k| Key::new(k).ok()).ok_or_else(bad)?;
    let mut ids = [0; 32];
    ids.copy_from_slice(rest.get(1..33).ok_or_else(bad)?);
    ids[..16].iter_mut().for_each(|b| *b = !*b);
    let (blob, volume) = unpair(&ids)?;
    Ok((key, blob, volume))
}

impl Collected {
    /// Opens an empty collection in a new folder.
    pub fn open(folder: &Path) -> Result<Self, RebuildError> {
        let db = open_sled(folder).map_err(OpenError::of_files(folder))?;
        let tree = |name: &str| db.open_tree(name);
        Ok(Self {
            records: tree("records")?,
            corrupt: tree("corrupt")?,
            refused: tree("refused")?,
            deleted: tree("deleted")?,
            parts: tree("parts")?,
            manifests: tree("manifests")?,
            expiry: tree("expiry")?,
            _db: db,
        })
    }

    /// Stores a page of a volume's records.
    pub fn add_records(&self, volume: VolumeId, page: Vec<RecordEntry>) -> Result<(), RebuildError> {
        let (mut records, mut corrupt) = (sled::Batch::default(), sled::Batch::default());
        let mut parts = sled::Batch::default();
        for RecordEntry { blob, length, value } in page {
            let Some(value) = value else {
                corrupt.insert(&pair(blob, volume), &length.to_le_bytes());
                continue;
            };
            let noted = |note: &str| value.metadata.iter().any(|(name, _)| name == note);
            if noted(PART_HEADER) {
                let part = (&value.key, length, value.blake3);
                let bytes = postcard::to_stdvec(&part).expect("records hold nothing postcard refuses");
                parts.insert(&pair(blob, volume), bytes);
                continue;
            }
            let place = place(&value.key, blob, volume);
            let (content_type, mut metadata) = (value.content_type, value.metadata);
            let manifest = metadata.iter().any(|(name, _)| name == MANIFEST_HEADER);
            metadata.retain(|(name, _)| name != MANIFEST_HEADER);
            let value = Value { length, digest: value.blake3, content_type, metadata, manifest };
            let bytes = postcard::to_stdvec(&value).expect("records hold nothing postcard refuses");
            records.insert(place, bytes);
        }
        self.records.apply_batch(records)?;
        self.corrupt.apply_batch(corrupt)?;
        self.parts.apply_batch(parts)?;
        Ok(())
    }

    pub fn has_manifest(&self, blob: BlobId) -> Result<bool, RebuildError> {
        Ok(self.manifests.contains_key(blob.as_bytes())?)
    }

    pub fn add_manifest(&self, blob: BlobId, bytes: &[u8]) -> Result<(), RebuildError> {
        self.manifests.insert(blob.as_bytes(), bytes)?;
        Ok(())
    }

    /// Returns the bytes of a manifest; none for a blob that is no manifest, or an unreadable one.
    pub fn manifest(&self, blob: BlobId) -> Result<Option<sled::IVec>, RebuildError> {
        Ok(self.manifests.get(blob.as_bytes())?)
    }

    /// Removes and returns the replicas of a part that match its manifest.
    pub fn take_part(
        &self,
        key: &Key,
        (blob, length, digest): (BlobId, u64, Digest),
    ) -> Result<Vec<VolumeId>, RebuildError> {
        let mut holders = Vec::new();
        for item in self.parts.scan_prefix(blob.as_bytes()) {
            let (place, bytes) = item?;
            let said: (Key, u64, Digest) = postcard::from_bytes(&bytes).map_err(|_| strange(bytes.len()))?;
            if said == (key.clone(), length, digest) {
                holders.push(unpair(&place)?.1);
            }
        }
        for volume in &holders {
            self.parts.remove(pair(blob, *volume))?;
        }
        Ok(holders)
    }

    /// Iterates over the parts that were not taken: blob, volume and length.
    pub fn all_parts(&self) -> impl Iterator<Item = Result<(BlobId, VolumeId, u64), RebuildError>> + use<> {
        self.parts.iter().map(|item| {
            let (place, bytes) = item?;
            let (blob, volume) = unpair(&place)?;
            let (_, length, _): (Key, u64, Digest) =
                postcard::from_bytes(&bytes).map_err(|_| strange(bytes.len()))?;
            Ok((blob, volume, length))
        })
    }

    /// Stores a page of a volume's tombstones.
    pub fn add_tombstones(&self, volume: VolumeId, page: &[Tombstone]) -> Result<(), RebuildError> {
        for tombstone in page {
            match tombstone {
                Tombstone::Refused { blob } => drop(self.refused.insert(pair(*blob, volume), &[])?),
                Tombstone::Deleted { key, generation } => {
                    let newest = |old: Option<&[u8]>| {
                        Some(old.unwrap_or_default().max(&generation.as_bytes()[..]).to_vec())
                    };
                    self.deleted.update_and_fetch(key.as_bytes(), newest)?;
                }
                Tombstone::Expires(BlobExpiry { blob, at, revision }) => {
                    let at = at.map_or(u64::MAX, Timestamp::unix_ms);
                    let stated = [&revision.to_be_bytes()[..], &at.to_be_bytes()].concat();
                    let newest = |old: Option<&[u8]>| Some(old.unwrap_or_default().max(&stated[..]).to_vec());
                    self.expiry.update_and_fetch(blob.as_bytes(), newest)?;
                }
            }
        }
        Ok(())
    }

    /// Returns when a blob expires.
    pub fn expiry(&self, blob: BlobId) -> Result<Expiry, RebuildError> {
        let Some(bytes) = self.expiry.get(blob.as_bytes())? else { return Ok(Expiry::default()) };
        let halves = || Some((bytes.get(..4)?.try_into().ok()?, bytes.get(4..)?.try_into().ok()?));
        let (revision, at) = halves().ok_or_else(|| strange(bytes.len()))?;
        let at = Some(u64::from_be_bytes(at)).filter(|ms| *ms != u64::MAX).map(Timestamp::from_unix_ms);
        Ok(Expiry { at, revision: u32::from_be_bytes(revision) })
    }

    /// Iterates over all versions by key, the newest of a key first.
    pub fn versions(&self) -> impl Iterator<Item = Result<Version, RebuildError>> + use<> {
        let mut records = self.records.iter().map(|item| -> Result<_, RebuildError> {
            let (place, bytes) = item?;
            let (key, blob, volume) = parts(&place)?;
            let value = postcard::from_bytes(&bytes).map_err(|_| strange(bytes.len()))?;
            Ok((key, blob, volume, value))
        });
        let mut ahead: Option<Version> = None;
        std::iter::from_fn(move || {
            for record in records.by_ref() {
                let (key, blob, volume, value) = match record {
                    Ok(record) => record,
                    Err(error) => return Some(Err(error)),
                };
                match &mut ahead {
                    Some(version) if version.key == key && version.blob == blob => {
                        version.copies.push((volume, value));
                    }
                    ahead => {
                        let whole = ahead.replace(Version { key, blob, copies: vec![(volume, value)] });
                        if whole.is_some() {
                            return whole.map(Ok);
                        }
                    }
                }
            }
            ahead.take().map(Ok)
        })
    }

    /// Returns the last generation of a key that was deleted.
    pub fn deleted(&self, key: KeyHash) -> Result<Option<BlobId>, RebuildError> {
        self.deleted.get(key.as_bytes())?.map(|bytes| generation(&bytes)).transpose()
    }

    pub fn all_deleted(&self) -> impl Iterator<Item = Result<(KeyHash, BlobId), RebuildError>> + use<> {
        self.deleted.iter().map(|item| {
            let (key, bytes) = item?;
            let key = key.as_ref().try_into().map_err(|_| strange(key.len()))?;
            Ok((KeyHash::from_bytes(key), generation(&bytes)?))
        })
    }

    /// Whether a volume reports that the blob was refused.
    pub fn is_refused(&self, blob: BlobId) -> Result<bool, RebuildError> {
        Ok(self.refused.scan_prefix(blob.as_bytes()).next().transpose()?.is_some())
    }

    /// Iterates over all refused blobs, with the volumes that report them.
    pub fn all_refused(&self) -> impl Iterator<Item = Result<(BlobId, VolumeId), RebuildError>> + use<> {
        self.refused.iter().keys().map(|key| unpair(&key?))
    }

    /// Removes and returns the volumes whose record of the blob is corrupt, with its length.
    pub fn take_corrupt(&self, blob: BlobId) -> Result<Vec<(VolumeId, u64)>, RebuildError> {
        let mut found = Vec::new();
        for item in self.corrupt.scan_prefix(blob.as_bytes()) {
            let (key, bytes) = item?;
            let (_, volume) = unpair(&key)?;
            found.push((
                volume,
                u64::from_le_bytes(bytes.as_ref().try_into().map_err(|_| strange(bytes.len()))?),
            ));
        }
        for (volume, _) in &found {
            self.corrupt.remove(pair(blob, *volume))?;
        }
        Ok(found)
    }

    /// Iterates over the corrupt records that were not taken.
    pub fn all_corrupt(&self) -> impl Iterator<Item = Result<(BlobId, VolumeId), RebuildError>> + use<> {
        self.corrupt.iter().keys().map(|key| unpair(&key?))
    }
}

fn generation(bytes: &[u8]) -> Result<BlobId, RebuildError> {
    let bytes = bytes.try_into().map_err(|_| strange(bytes.len()))?;
    BlobId::from_bytes(bytes).map_err(|_| strange(16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_are_in_the_order_of_keys_and_the_newest_is_first(
            mut all in prop::collection::vec(("[ab/\u{1}]{1,4}", 0u64..5, 0u8..3), 1..40),
        ) {
            let blob = |n| BlobId::next(None, Timestamp::from_unix_ms(n), [1; 10]);
            let make = |(key, b, v): &(String, u64, u8)| (Key::new(key).unwrap(), blob(*b), VolumeId::from_bytes([*v; 16]));
            let mut places: Vec<_> = all.iter().map(make).map(|(k, b, v)| place(&k, b, v)).collect();
            places.sort();
            all.sort_by(|a, b| (&a.0, b.1, a.2).cmp(&(&b.0, a.1, b.2)));
            let read: Vec<_> = places.iter().map(|p| parts(p).unwrap()).collect();
            prop_assert_eq!(read, all.iter().map(make).collect::<Vec<_>>());
        }
    }
}
