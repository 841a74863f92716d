//! Ids and addresses of masters in the log and the tables.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Random id of a master. Belongs to one directory: a master whose directory was wiped returns with another id.
pub type MasterId = u64;

/// Addresses of a master.
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
