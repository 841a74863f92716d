//! The other masters, in a file beside the tables: a master whose tables are corrupt fetches theirs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use shared::ids::ClusterId;

use crate::tables::peer::Peer;

const FILE: &str = "neighbours.json";

/// The other masters of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherMasters {
    pub cluster: ClusterId,
    pub masters: Vec<Peer>,
}

impl OtherMasters {
    /// Reads the file; `None` if it names no master or cannot be read.
    pub fn read(folder: &Path) -> Option<Self> {
        let found: Self = serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()?;
        (!found.masters.is_empty()).then_some(found)
    }

    /// Replaces the file, durably.
    ///
    /// # Errors
    /// When the disk returns an error; then the old file remains.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        let (path, draft) = (folder.join(FILE), folder.join(format!("{FILE}.new")));
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(folder)?.sync_all()
    }
}
