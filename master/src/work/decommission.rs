//! Finishes decommissioning: a volume leaves for good when no object refers to it and its reclaim list is done.

use shared::ids::VolumeId;
use shared::limits::INVENTORY_PAGE;

use crate::change::Changes;
use crate::metadata::Metadata;
use crate::sequencer::ProposeError;
use crate::state::command::{Command, Outcome};
use crate::tables::admin_state::{self, AdminState, AdminStateRecord};
use crate::tables::{TableError, reclaim};
use crate::volumes::Volumes;
use shared::clock::Clock;

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
pub async fn decommission_drained(
    metadata: &Metadata,
    volumes: &Volumes,
    changes: &Changes,
    clock: &Clock,
) -> Result<(), DecommissionError> {
    let tree = metadata.database.tree();
    for (volume, record) in admin_state::all(&tree)? {
        if record.state == AdminState::Decommissioning && !admin_state::has_replicas(&tree, volume)? {
            decommission(metadata, volumes, changes, clock, volume).await?;
        }
    }
    Ok(())
}

/// Decommissions a volume to which no object refers. A volume that is up first gets its outstanding deletes; for one
/// that is down, its reclaim list is cleared without them.
///
/// # Errors
/// When the tables cannot be read or written.
pub async fn decommission(
    metadata: &Metadata,
    volumes: &Volumes,
    changes: &Changes,
    clock: &Clock,
    volume: VolumeId,
) -> Result<(), DecommissionError> {
    let up = !volumes.cluster.alive(&[volume]).is_empty();
    if up && !reclaim::page(&metadata.database.tree(), volume, 1)?.is_empty() {
        changes.wake_reclaim.notify_one();
        return Ok(());
    }
    // A snapshot may replace the tables meanwhile.
    loop {
        let blobs = reclaim::page(&metadata.database.tree(), volume, INVENTORY_PAGE)?;
        if blobs.is_empty() {
            break;
        }
        let at = clock.now();
        changes.propose(Command::Reclaimed { volume, blobs, at }).await?;
    }
    let record = AdminStateRecord { state: AdminState::Decommissioned, since: clock.now() };
    if changes.propose(Command::SetAdminState { volume, admin_state: record }).await? == Outcome::LastReplicas
    {
        tracing::info!(%volume, "the volume is not decommissioned yet: objects still refer to it");
    }
    Ok(())
}
