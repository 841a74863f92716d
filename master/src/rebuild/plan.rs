//! What a record that was found is: the value of its key, or not any more. Pure: records and tombstones in, fates out.

use shared::digest::Digest;
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::tombstone::{KeyHash, Tombstone};

/// What a record says of its value.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Value {
    /// Length in bytes.
    pub length: u64,
    /// BLAKE3 of the bytes.
    pub digest: Digest,
    /// Content type, where one was given.
    pub content_type: Option<String>,
    /// User metadata headers.
    pub metadata: Vec<(String, String)>,
    /// Whether the bytes are a list of parts.
    pub manifest: bool,
}

/// A version of a key, with all its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub key: Key,
    pub blob: BlobId,
    /// Who holds it, and what each says of it; at least one.
    pub copies: Vec<(VolumeId, Value)>,
}

/// What is known against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Against {
    /// A newer version of its key is the value.
    pub newer: bool,
    /// All versions of its key up to this one were deleted.
    pub deleted: Option<BlobId>,
    /// Its commit was refused.
    pub refused: bool,
}

/// What becomes of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is the value of its key: what it is, and who holds that.
    Current(Value, Vec<VolumeId>),
    /// A newer one is.
    Superseded,
    Deleted(Tombstone),
    /// It never was a value.
    Refused(Tombstone),
}

impl Fate {
    /// What its volumes are to be told before they delete it.
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

/// What most copies say, and which they are; of as many, the one on the least volume.
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
