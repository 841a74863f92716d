//! The other masters, in a file beside the tables: a master whose tables are damaged asks them for theirs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};
use shared::ids::ClusterId;

use super::Peer;
use super::group::Group;

const FILE: &str = "neighbours.json";

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbours {
    /// Of which cluster they are.
    pub cluster: ClusterId,
    /// The other masters.
    pub masters: Vec<Peer>,
}

impl Neighbours {
    /// Those that the directory names; none where there are none, or the file cannot be read.
    pub fn read(folder: &Path) -> Option<Self> {
        let found: Self = serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()?;
        (!found.masters.is_empty()).then_some(found)
    }

    fn write(&self, folder: &Path) -> io::Result<()> {
        let (path, draft) = (folder.join(FILE), folder.join(format!("{FILE}.new")));
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(folder)?.sync_all()
    }
}

impl Group {
    /// Writes the other masters down when they have changed.
    pub(super) fn note_neighbours(&self) {
        let database = self.machine().database();
        let Ok(Some(identity)) = database.identity() else { return };
        let masters = self.masters().into_iter().filter(|m| m.master != self.id());
        let masters = masters.map(|m| Peer { address: m.address, public_url: m.public_url }).collect();
        let now = Neighbours { cluster: identity.cluster, masters };
        let mut noted = self.neighbours.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.as_ref() == Some(&now) {
            return;
        }
        match now.write(database.path()) {
            Ok(()) => *noted = Some(now),
            Err(error) => tracing::warn!(%error, "the other masters could not be noted beside the metadata"),
        }
    }
}
