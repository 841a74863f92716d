//! When uploads of a bucket are acknowledged, where it is not as everywhere: `bucket` → mode. Beside the record of the bucket, not
//! in it: a bucket that only has values has none.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Kind, Read, TableError, Tables, scan};

/// When an upload is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// When all copies are durable that can be.
    #[default]
    Sync,
    /// When the majority of its copies is durable; the rest follows at once.
    Quorum,
    /// When one copy is durable; the rest follows in batches.
    Async,
}

/// There is no such mode.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("say sync, quorum or async")]
pub struct ModeError;

impl FromStr for Mode {
    type Err = ModeError;
    fn from_str(s: &str) -> Result<Self, ModeError> {
        match s {
            "sync" => Ok(Self::Sync),
            "quorum" => Ok(Self::Quorum),
            "async" => Ok(Self::Async),
            _ => Err(ModeError),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sync => "sync",
            Self::Quorum => "quorum",
            Self::Async => "async",
        })
    }
}

/// The mode of a bucket, where it has one of its own.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn read(records: &impl Read, bucket: &str) -> Result<Option<Mode>, TableError> {
    let key = bucket.as_bytes();
    records.get(Kind::Mode, key)
}

/// All buckets that have a mode of their own.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn all(tree: &sled::Tree) -> Result<Vec<(String, Mode)>, TableError> {
    let named = |(name, mode): (Vec<u8>, Mode)| (String::from_utf8_lossy(&name).into_owned(), mode);
    scan::<Mode>(tree, Kind::Mode, b"", None).map(|r| r.map(named)).collect()
}

impl Tables<'_> {
    /// Writes the mode of a bucket; none: as everywhere.
    pub fn put_mode(&mut self, bucket: &str, mode: Option<Mode>) {
        match mode {
            Some(mode) => self.put(Kind::Mode, bucket.as_bytes(), &mode),
            None => self.remove(Kind::Mode, bucket.as_bytes()),
        }
    }
}
