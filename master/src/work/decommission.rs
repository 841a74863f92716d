//! Finishes decommissioning: a volume leaves for good when no object refers to it and its reclaim list is done.

use shared::ids::VolumeId;
use shared::limits::INVENTORY_PAGE;

use crate::master::Master;
use crate::sequencer::ProposeError;
use crate::state::command::{Command, Outcome};
use crate::tables::admin_state::{self, AdminState, AdminStateRecord};
use crate::tables::{TableError, reclaim};

/// Why a decommission did not finish; it is retried later.
#[derive(Debug, thiserror::Error)]
pub enum DecommissionError {
    /// The command was not committed.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The tables cannot be read.
    #[error(transparent)]
    Tables(#[from] TableError),
}

/// Decommissions all decommissioning volumes to which no object refers.
///
/// # Errors
/// When the tables cannot be read or written.
pub async fn decommission_drained(master: &Master) -> Result<(), DecommissionError> {
    let tree = master.database.tree();
    for (volume, record) in admin_state::all(&tree)? {
        if record.state == AdminState::Decommissioning && !admin_state::has_replicas(&tree, volume)? {
            decommission(master, volume).await?;
        }
    }
    Ok(())
}

/// Decommissions a volume to which no object refers. A volume that is up first gets its outstanding deletes; for one
/// that is down, its reclaim list is cleared without them.
///
/// # Errors
/// When the tables cannot be read or written.
pub async fn decommission(master: &Master, volume: VolumeId) -> Result<(), DecommissionError> {
    let tree = master.database.tree();
    let up = !master.cluster.alive(&[volume]).is_empty();
    if up && !reclaim::page(&tree, volume, 1)?.is_empty() {
        master.wake_reclaim.notify_one();
        return Ok(());
    }
    loop {
        let blobs = reclaim::page(&tree, volume, INVENTORY_PAGE)?;
        if blobs.is_empty() {
            break;
        }
        let at = master.config.clock.now();
        master.sequencer.propose(Command::Reclaimed { volume, blobs, at }).await?;
    }
    let record = AdminStateRecord { state: AdminState::Decommissioned, since: master.config.clock.now() };
    if master.sequencer.propose(Command::SetAdminState { volume, admin_state: record }).await?
        == Outcome::LastReplicas
    {
        tracing::info!(%volume, "the volume is not decommissioned yet: objects still refer to it");
    }
    Ok(())
}
