//! Ids of blobs (a blob's id is also the generation of its key), volumes, clusters and requests.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::clock::Timestamp;

/// The id of an immutable stored version of a value: a `UUIDv7` (RFC 9562 §5.7) allocated by the leader. Ids are
/// ordered by allocation, so the id is also its key's generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobId(Uuid);

/// Hex in JSON, 16 bytes in postcard.
macro_rules! text_in_json {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { self.as_bytes().serialize(s) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
                } else {
                    Self::from_stored(<[u8; 16]>::deserialize(d)?).map_err(serde::de::Error::custom)
                }
            }
        }
    };
}

text_in_json!(BlobId);

/// The text is not a blob id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a version 7 UUID")]
pub struct BlobIdError;

impl BlobId {
    /// The first id after `last`: its time is the larger of the clock and the last id's plus one millisecond, so a
    /// clock that goes back does not reverse the order. `random` fills the 74 bits that are not time.
    pub fn next(last: Option<Self>, now: Timestamp, random: [u8; 10]) -> Self {
        let ms = last.map_or(now.unix_ms(), |l| now.unix_ms().max(l.created().unix_ms() + 1));
        Self(uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid())
    }

    fn from_stored(bytes: [u8; 16]) -> Result<Self, BlobIdError> {
        Self::from_bytes(bytes)
    }

    /// Parses the 16 bytes of an id, as stored in a segment.
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, BlobIdError> {
        let uuid = Uuid::from_bytes(bytes);
        if uuid.get_version_num() == 7 { Ok(Self(uuid)) } else { Err(BlobIdError) }
    }

    /// Its 16 bytes, big endian: their order is the order of the ids.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// When it was allocated, by the master's clock.
    pub fn created(self) -> Timestamp {
        let b = self.0.as_bytes();
        Timestamp::from_unix_ms(u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]]))
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobId({self})")
    }
}

impl FromStr for BlobId {
    type Err = BlobIdError;
    fn from_str(s: &str) -> Result<Self, BlobIdError> {
        Uuid::parse_str(s).map_err(|_| BlobIdError).and_then(|u| Self::from_bytes(u.into_bytes()))
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        text_in_json!($name);

        impl $name {
            /// A new random id.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }
            fn from_stored(bytes: [u8; 16]) -> Result<Self, std::convert::Infallible> {
                Ok(Self::from_bytes(bytes))
            }
            /// Wraps its 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
            /// Its 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.simple().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(s).map(Self)
            }
        }
    };
}

random_id!(
    /// One volume: one directory on one disk. Created with the directory, kept in its `volume.json`.
    VolumeId
);
random_id!(
    /// One cluster: created by its first master, adopted by every volume that joins.
    ClusterId
);
random_id!(
    /// One request, in every log line and error about it.
    RequestId
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_are_ordered_whatever_the_clock_does(clocks in prop::collection::vec(0u64..1 << 47, 2..50), seed: [u8; 10]) {
            let mut last = None;
            for ms in clocks {
                let id = BlobId::next(last, Timestamp::from_unix_ms(ms), seed);
                prop_assert!(last.is_none_or(|l| id > l));
                prop_assert!(id.created().unix_ms() >= ms);
                last = Some(id);
            }
        }
    }

    #[test]
    fn text_form_round_trips_and_other_versions_are_refused() {
        let id = BlobId::next(None, Timestamp::from_unix_ms(1_700_000_000_000), [7; 10]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(VolumeId::random().to_string().parse::<BlobId>(), Err(BlobIdError));
    }
}
