//! Replication modes (write concern) of buckets that differ from the cluster's default: `bucket` → mode. Not in the
//! record of the bucket, because a bucket that only has values has none.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Kind, Read, TableError, Tables, scan};

/// When an upload is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicationMode {
    /// When all replicas are durable; fewer, but at least the minimum, if volumes are missing.
    #[default]
    Sync,
    /// When a majority of the replicas is durable; the others are added at once.
    Quorum,
    /// When one replica is durable; the others are added in batches.
    Async,
}

/// The text names no mode.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the mode must be sync, quorum or async")]
pub struct ModeError;

impl FromStr for ReplicationMode {
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

impl fmt::Display for ReplicationMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sync => "sync",
            Self::Quorum => "quorum",
            Self::Async => "async",
        })
    }
}

/// Reads the mode of a bucket; `None` for the cluster's default.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn read(records: &impl Read, bucket: &str) -> Result<Option<ReplicationMode>, TableError> {
    let key = bucket.as_bytes();
    records.get(Kind::ReplicationMode, key)
}

/// Returns all buckets with a mode of their own.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn all(tree: &sled::Tree) -> Result<Vec<(String, ReplicationMode)>, TableError> {
    let named =
        |(name, mode): (Vec<u8>, ReplicationMode)| (String::from_utf8_lossy(&name).into_owned(), mode);
    scan::<ReplicationMode>(tree, Kind::ReplicationMode, b"", None).map(|r| r.map(named)).collect()
}

impl Tables<'_> {
    /// Writes the mode of a bucket; `None` for the cluster's default.
    pub fn put_mode(&mut self, bucket: &str, mode: Option<ReplicationMode>) {
        match mode {
            Some(mode) => self.put(Kind::ReplicationMode, bucket.as_bytes(), &mode),
            None => self.remove(Kind::ReplicationMode, bucket.as_bytes()),
        }
    }
}
