//! Decides whether a record that was found is still the value of its key. Pure: records and tombstones in, fates out.

use shared::digest::Digest;
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::tombstone::{KeyHash, Tombstone};

/// A value, as its record describes it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Value {
    /// Length in bytes.
    pub length: u64,
    /// BLAKE3 of the bytes.
    pub digest: Digest,
    pub content_type: Option<String>,
    /// User metadata headers.
    pub metadata: Vec<(String, String)>,
    /// Whether the bytes are a manifest.
    pub manifest: bool,
}

/// A version of a key, with all its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub key: Key,
    pub blob: BlobId,
    /// The volumes that hold it, each with its value; at least one.
    pub copies: Vec<(VolumeId, Value)>,
}

/// The reasons why a version may not be current.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Against {
    /// Its key has a newer version.
    pub newer: bool,
    /// All versions of its key up to this generation were deleted.
    pub deleted: Option<BlobId>,
    /// Its commit was refused.
    pub refused: bool,
}

/// What becomes of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The value of its key, and the volumes that hold it.
    Current(Value, Vec<VolumeId>),
    /// Replaced by a newer version.
    Superseded,
    Deleted(Tombstone),
    Refused(Tombstone),
}

impl Fate {
    /// The tombstone that its volumes must store before they delete it.
    pub fn tombstone(&self) -> Option<&Tombstone> {
        match self {
            Self::Current(..) | Self::Superseded => None,
            Self::Deleted(tombstone) | Self::Refused(tombstone) => Some(tombstone),
        }
    }
}

pub fn decide(version: &Version, against: Against) -> Fate {
    if against.refused {
        return Fate::Refused(Tombstone::Refused { blob: version.blob });
    }
    match against.deleted {
        Some(generation) if generation >= version.blob => {
            return Fate::Deleted(Tombstone::Deleted { key: KeyHash::of(&version.key), generation });
        }
        _ => {}
    }
    if against.newer {
        return Fate::Superseded;
    }
    let (value, holders) = agree(&version.copies);
    Fate::Current(value, holders)
}

/// Returns the value that most replicas agree on, and the volumes that hold it. On a tie the lowest volume id wins.
fn agree(copies: &[(VolumeId, Value)]) -> (Value, Vec<VolumeId>) {
    let same = |a: &Value, b: &Value| (a.length, a.digest) == (b.length, b.digest);
    let votes = |value: &Value| copies.iter().filter(|(_, other)| same(value, other)).count();
    let mut best = &copies[0];
    for copy in &copies[1..] {
        let (ours, theirs) = (votes(&best.1), votes(&copy.1));
        if theirs > ours || theirs == ours && copy.0 < best.0 {
            best = copy;
        }
    }
    let mut holders: Vec<_> = copies.iter().filter(|(_, v)| same(v, &best.1)).map(|(id, _)| *id).collect();
    holders.sort_unstable();
    (best.1.clone(), holders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::clock::Timestamp;

    fn value(n: u8) -> Value {
        Value {
            length: u64::from(n),
            digest: Digest::of(&[n]),
            content_type: None,
            metadata: vec![],
            manifest: false,
        }
    }

    fn volume(n: u8) -> VolumeId {
        VolumeId::from_bytes([n; 16])
    }

    #[test]
    fn fates() {
        let blob = |n: u64| BlobId::next(None, Timestamp::from_unix_ms(n), [1; 10]);
        let key: Key = "k".parse().unwrap();
        let version = Version { key: key.clone(), blob: blob(5), copies: vec![(volume(1), value(1))] };
        let none = Against::default();
        assert_eq!(decide(&version, none), Fate::Current(value(1), vec![volume(1)]));
        assert_eq!(decide(&version, Against { newer: true, ..none }), Fate::Superseded);
        let fate = |deleted| decide(&version, Against { newer: true, deleted: Some(deleted), ..none });
        assert_eq!(fate(blob(4)), Fate::Superseded);
        for generation in [blob(5), blob(6)] {
            assert_eq!(
                fate(generation),
                Fate::Deleted(Tombstone::Deleted { key: KeyHash::of(&key), generation })
            );
        }
        let refused = decide(&version, Against { refused: true, deleted: Some(blob(9)), newer: true });
        assert_eq!(refused.tombstone(), Some(&Tombstone::Refused { blob: blob(5) }));
    }

    #[test]
    fn most_copies_win() {
        let copies = |of: &[(u8, u8)]| of.iter().map(|(v, n)| (volume(*v), value(*n))).collect::<Vec<_>>();
        assert_eq!(agree(&copies(&[(3, 1), (1, 2), (2, 1)])), (value(1), vec![volume(2), volume(3)]));
        assert_eq!(agree(&copies(&[(3, 1), (1, 2)])), (value(2), vec![volume(1)]));
    }
}
