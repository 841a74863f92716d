//! Compares a volume's inventory (block report) with the tables by `Comparison::differing` (anti-entropy, in place of
//! a Merkle tree): first digests of ranges, where they differ digests of smaller ranges, and where those differ
//! lists. A volume that matches costs about 10 kB per million blobs.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::clock::Timestamp;
use shared::http::client::CallError;
use shared::ids::{BlobId, VolumeId};
use shared::inventory::{RangeDigest, digests};
use shared::limits::{COMPARE_LIST, DIGEST_BOUNDS_MAX, INVENTORY_PAGE};
use shared::wire::replicas::{DigestsRequest, DigestsResponse};
use shared::wire::routes::{DIGESTS, INVENTORY};
use shared::wire::volume::{InventoryEntry, InventoryPage, InventoryRequest};
use shared::work::blocking;

use crate::cluster::VolumeAddress;
use crate::db::Database;
use crate::tables::{TableError, replica};
use crate::volumes::Volumes;

/// Blobs in one range of the first round.
const FIRST_RANGE: u64 = 4096;

/// A half-open range of blob ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First blob, inclusive; none: from the beginning.
    pub from: Option<BlobId>,
    /// Last blob, exclusive; none: to the end.
    pub until: Option<BlobId>,
}

/// The differences in a part of an inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// On the volume but not in the tables.
    pub extra: Vec<InventoryEntry>,
    /// In the tables but not on the volume.
    pub missing: Vec<BlobId>,
}

/// Why a comparison failed.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The volume did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The tables cannot be read.
    #[error(transparent)]
    Tables(#[from] TableError),
    /// The volume's answer does not fit the request.
    #[error("the volume gave {0} digests for {1} ranges")]
    Digests(usize, usize),
}

/// One volume being compared.
pub struct Comparison<'a> {
    database: &'a Arc<Database>,
    volumes: &'a Volumes,
    volume: VolumeAddress,
    /// Bytes of all messages so far.
    pub exchanged_bytes: u64,
}

/// The digests of a range according to the tables.
struct Own {
    bounds: Vec<BlobId>,
    digests: Vec<RangeDigest>,
}

impl<'a> Comparison<'a> {
    pub fn new(database: &'a Arc<Database>, volumes: &'a Volumes, volume: VolumeAddress) -> Self {
        Self { database, volumes, volume, exchanged_bytes: 0 }
    }

    /// Returns the ranges that differ. Each is small enough to list, unless the volume has very many unknown records.
    ///
    /// # Errors
    /// When the volume or the tables cannot be read.
    pub async fn differing(&mut self, blobs: u64) -> Result<Vec<Range>, CompareError> {
        let step = FIRST_RANGE.max(blobs / (DIGEST_BOUNDS_MAX as u64 / 2) + 1);
        let mut ranges = Vec::new();
        for (range, own) in self.split(Range::default(), step).await? {
            if own.count <= COMPARE_LIST as u64 {
                ranges.push(range);
                continue;
            }
            let smaller =
                self.split(range, (COMPARE_LIST as u64).max(own.count / DIGEST_BOUNDS_MAX as u64 + 1));
            ranges.extend(smaller.await?.into_iter().map(|(range, _)| range));
        }
        Ok(ranges)
    }

    /// Splits a range into parts of about `step` blobs. Returns those that differ, each with the tables' digest.
    async fn split(&mut self, range: Range, step: u64) -> Result<Vec<(Range, RangeDigest)>, CompareError> {
        let (database, volume) = (Arc::clone(self.database), self.volume.volume);
        let own = blocking(move || own(&database.tree(), volume, range, step)).await?;
        let question = DigestsRequest {
            cluster: self.volumes.cluster_id(),
            volume,
            from: range.from,
            until: range.until,
            bounds: own.bounds.clone(),
        };
        let theirs: DigestsResponse = self.ask(DIGESTS, &question).await?;
        if theirs.ranges.len() != own.digests.len() {
            return Err(CompareError::Digests(theirs.ranges.len(), own.digests.len()));
        }
        let bounds: Vec<_> = own.bounds.iter().copied().map(Some).collect();
        let starts = std::iter::once(range.from).chain(bounds.iter().copied());
        let ends = bounds.iter().copied().chain([range.until]);
        let ranges = starts.zip(ends).map(|(from, until)| Range { from, until });
        let both = ranges.zip(own.digests.iter().zip(&theirs.ranges));
        Ok(both
            .filter(|(_, (ours, theirs))| ours != theirs)
            .map(|(range, (ours, _))| (range, *ours))
            .collect())
    }

    /// Returns the differences in the next page of a range, after blob `after`, and the `after` of the following
    /// page, if any.
    ///
    /// # Errors
    /// When the volume or the tables cannot be read.
    pub async fn list(
        &mut self,
        range: Range,
        after: Option<BlobId>,
    ) -> Result<(Difference, Option<BlobId>), CompareError> {
        let question = InventoryRequest {
            cluster: self.volumes.cluster_id(),
            volume: self.volume.volume,
            after: after.or_else(|| range.from.and_then(below)),
            until: range.until,
            limit: INVENTORY_PAGE,
        };
        let page: InventoryPage = self.ask(INVENTORY, &question).await?;
        let next = page.entries.last().filter(|_| page.entries.len() == INVENTORY_PAGE).map(|e| e.blob);
        let (database, volume) = (Arc::clone(self.database), self.volume.volume);
        let from = after.or(range.from);
        let looked = Range { from, until: range.until };
        let ours = blocking(move || {
            // Blobs after the last entry of a full page belong to the next page.
            let here = |blob: &Result<BlobId, TableError>| match (blob, next) {
                (Ok(blob), Some(next)) => *blob <= next,
                _ => true,
            };
            within(&database.tree(), volume, looked).take_while(here).collect::<Result<BTreeSet<_>, _>>()
        });
        let mut ours = ours.await?;
        if let Some(after) = after {
            ours.remove(&after);
        }
        let theirs: BTreeSet<_> = page.entries.iter().map(|e| e.blob).collect();
        let missing = ours.difference(&theirs).copied().collect();
        let inside = |e: &InventoryEntry| range.from.is_none_or(|from| e.blob >= from);
        let extra = page.entries.into_iter().filter(|e| inside(e) && !ours.contains(&e.blob)).collect();
        Ok((Difference { extra, missing }, next))
    }

    async fn ask<Q: Serialize + Sync, A: DeserializeOwned + Serialize>(
        &mut self,
        path: &str,
        question: &Q,
    ) -> Result<A, CallError> {
        let answer: A = self.volumes.peers.call(&self.volume.address, path, question).await?;
        let bytes = |text: Result<Vec<u8>, serde_json::Error>| text.map_or(0, |t| t.len() as u64);
        self.exchanged_bytes += bytes(serde_json::to_vec(question)) + bytes(serde_json::to_vec(&answer));
        Ok(answer)
    }
}

/// An id just below this one.
fn below(blob: BlobId) -> Option<BlobId> {
    let ms = blob.created().unix_ms().checked_sub(1)?;
    Some(BlobId::next(None, Timestamp::from_unix_ms(ms), [0xff; 10]))
}

/// The blobs of a range that objects place on a volume.
fn within(
    tree: &sled::Tree,
    volume: VolumeId,
    range: Range,
) -> impl Iterator<Item = Result<BlobId, TableError>> {
    replica::blobs(tree, volume, range.from)
        .take_while(move |blob| blob.as_ref().map_or(true, |blob| range.until.is_none_or(|u| *blob < u)))
}

fn own(tree: &sled::Tree, volume: VolumeId, range: Range, step: u64) -> Result<Own, TableError> {
    let (mut bounds, mut ranges, mut current) = (Vec::new(), Vec::new(), RangeDigest::default());
    for blob in within(tree, volume, range) {
        let blob = blob?;
        if current.count == step && bounds.len() < DIGEST_BOUNDS_MAX {
            bounds.push(blob);
            ranges.push(std::mem::take(&mut current));
        }
        current.add(blob);
    }
    ranges.push(current);
    debug_assert_eq!(ranges.len(), digests([], &bounds).len());
    Ok(Own { bounds, digests: ranges })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Tables;

    fn blob(n: u64) -> BlobId {
        BlobId::next(None, Timestamp::from_unix_ms(n), [7; 10])
    }

    #[test]
    fn the_tables_are_divided_as_the_volume_divides() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let volume = VolumeId::from_bytes([1; 16]);
        let mut tables = Tables::new(&db);
        (0..1000).for_each(|n| tables.put_replica(volume, blob(n), &"k".parse().unwrap()));
        tables.put_replica(VolumeId::from_bytes([2; 16]), blob(5000), &"k".parse().unwrap());
        db.apply_batch(tables.into_batch().unwrap()).unwrap();
        for (range, step, there) in [
            (Range::default(), 64, 0..1000),
            (Range { from: Some(blob(100)), until: Some(blob(300)) }, 7, 100..300),
            (Range { from: Some(blob(2000)), until: None }, 7, 0..0),
        ] {
            let own = own(&db, volume, range, step).unwrap();
            assert_eq!(own.digests, digests(there.map(blob), &own.bounds));
        }
    }
}
