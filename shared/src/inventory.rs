//! A compact summary of what a volume holds: digests over ranges of blob ids, for reconciliation (anti-entropy).
//! Comparing two inventories takes the digests of a few hundred ranges, and lists of only those that differ.

use serde::{Deserialize, Serialize};

use crate::ids::BlobId;

/// The blobs of one range: their number, and the exclusive or of their hashes, which does not depend on their order;
/// 128 bits of BLAKE3, so that no two sets have the same digest by chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeDigest {
    /// Number of blobs.
    pub count: u64,
    /// The first 16 bytes of BLAKE3 of each id, little endian, exclusive-ored.
    #[serde(with = "hex")]
    pub sum: u128,
}

impl RangeDigest {
    /// Adds a blob.
    pub fn add(&mut self, blob: BlobId) {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&blake3::hash(blob.as_bytes()).as_bytes()[..16]);
        self.count += 1;
        self.sum ^= u128::from_le_bytes(bytes);
    }
}

/// Digests of the ranges between bounds, of blobs in ascending order: `bounds.len() + 1` of them. Each bound is the
/// first id of the range after it.
pub fn digests(blobs: impl IntoIterator<Item = BlobId>, bounds: &[BlobId]) -> Vec<RangeDigest> {
    let mut ranges = vec![RangeDigest::default(); bounds.len() + 1];
    let mut at = 0;
    for blob in blobs {
        while bounds.get(at).is_some_and(|bound| *bound <= blob) {
            at += 1;
        }
        ranges[at].add(blob);
    }
    ranges
}

/// JSON has no integers of 128 bits.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(sum: &u128, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format!("{sum:x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u128, D::Error> {
        u128::from_str_radix(&String::deserialize(d)?, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;

    fn blob(n: u64) -> BlobId {
        BlobId::next(None, Timestamp::from_unix_ms(n), [7; 10])
    }

    proptest! {
        #[test]
        fn ranges_differ_where_blobs_do(
            ours in prop::collection::btree_set(0u64..500, 0..80),
            missing in any::<prop::sample::Index>(),
            bounds in prop::collection::btree_set(0u64..500, 0..9),
        ) {
            prop_assume!(!ours.is_empty());
            let bounds: Vec<_> = bounds.into_iter().map(blob).collect();
            let all = digests(ours.iter().copied().map(blob), &bounds);
            prop_assert_eq!(all.iter().map(|r| r.count).sum::<u64>(), ours.len() as u64);
            let lost = *ours.iter().nth(missing.index(ours.len())).unwrap();
            let theirs = digests(ours.iter().filter(|n| **n != lost).copied().map(blob), &bounds);
            let differ: Vec<_> = (0..all.len()).filter(|n| all[*n] != theirs[*n]).collect();
            prop_assert_eq!(differ, vec![bounds.partition_point(|b| *b <= blob(lost))]);
        }

        #[test]
        fn json_keeps_every_bit(sum in any::<u128>(), count in any::<u64>()) {
            let digest = RangeDigest { count, sum };
            let text = serde_json::to_string(&digest).unwrap();
            prop_assert_eq!(serde_json::from_str::<RangeDigest>(&text).unwrap(), digest);
        }
    }
}
