//! A master as the log and the tables name it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A master. Random, and never used again by another directory: one that was wiped comes back as somebody else.
pub type MasterId = u64;

/// Where a master is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Where masters and volumes reach it, as a base URL.
    pub address: String,
    /// Where clients reach it, as a base URL.
    pub public_url: String,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}
