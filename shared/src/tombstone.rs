//! Tombstones: a volume's notes of deleted values, so that metadata rebuilt from the volumes does not bring them back.
//! A volume that was down while a key was deleted still has the blob; a tombstone on another one says it is deleted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Timestamp;
use crate::ids::BlobId;
use crate::key::Key;

/// Why a blob is not a value, where no newer version of its key shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tombstone {
    /// All versions of a key up to this one were deleted.
    Deleted {
        /// The key's hash.
        key: KeyHash,
        /// The last deleted version.
        generation: BlobId,
    },
    /// This blob never became a value: its commit was refused.
    Refused {
        /// The blob that was refused.
        blob: BlobId,
    },
    /// No tombstone yet: this blob will be one. Kept with them, since a record cannot be changed.
    Expires(BlobExpiry),
}

/// When a blob expires, as a volume remembers it for a rebuild of the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlobExpiry {
    /// The blob that expires.
    pub blob: BlobId,
    /// By the group's time; none if it no longer expires.
    pub at: Option<Timestamp>,
    /// How often it was set: the greatest revision is the current one.
    pub revision: u32,
}

impl Tombstone {
    /// The newest blob that it covers.
    pub fn newest(&self) -> BlobId {
        match self {
            Self::Deleted { generation, .. } => *generation,
            Self::Refused { blob } | Self::Expires(BlobExpiry { blob, .. }) => *blob,
        }
    }
}

/// The first 16 bytes of a key's BLAKE3: as good as the key for telling keys apart, and of fixed length.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash([u8; 16]);

/// The text is not 32 hex digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a key's hash is 32 hex digits")]
pub struct KeyHashError;

impl KeyHash {
    /// Hashes a key.
    pub fn of(key: &Key) -> Self {
        let hash = blake3::hash(key.as_str().as_bytes());
        let (first, _) = hash.as_bytes().split_at(16);
        Self(first.try_into().expect("sixteen bytes"))
    }

    /// Wraps existing bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The hash's bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

// Hex in JSON, 16 bytes in postcard.
impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 16]>::deserialize(d).map(Self)
        }
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

impl FromStr for KeyHash {
    type Err = KeyHashError;
    fn from_str(text: &str) -> Result<Self, KeyHashError> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten().ok_or(KeyHashError)?;
        Ok(Self(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_round_trip() {
        let key = KeyHash::of(&"bucket/key".parse().unwrap());
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!("+0".repeat(16).parse::<KeyHash>(), Err(KeyHashError));
        let generation = BlobId::next(None, Timestamp::from_unix_ms(1 << 40), [7; 10]);
        let expires = BlobExpiry { blob: generation, at: Some(Timestamp::from_unix_ms(7)), revision: 1 };
        for tombstone in [
            Tombstone::Deleted { key, generation },
            Tombstone::Refused { blob: generation },
            Tombstone::Expires(expires),
        ] {
            let text = serde_json::to_string(&tombstone).unwrap();
            assert_eq!(serde_json::from_str::<Tombstone>(&text).unwrap(), tombstone);
            assert_eq!(tombstone.newest(), generation);
        }
    }
}
