//! Volumes that are to leave do so when nothing refers to them any more, and when what waited to be deleted on them is.

use shared::ids::VolumeId;
use shared::limits::INVENTORY_PAGE;

use crate::master::Master;
use crate::sequencer::ProposeError;
use crate::state::command::{Command, Outcome};
use crate::tables::standing::{self, Duty, Standing};
use crate::tables::{TableError, reclaim};

/// It is tried again later.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    /// The masters did not note it.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The tables cannot be read.
    #[error(transparent)]
    Tables(#[from] TableError),
}

/// Lets all volumes go that may.
///
/// # Errors
/// When the tables cannot be read or written.
pub async fn leave_all(master: &Master) -> Result<(), LeaveError> {
    let tree = master.database.tree();
    for (volume, standing) in standing::all(&tree)? {
        if standing.duty == Duty::Leave && !standing::holds_any(&tree, volume)? {
            leave(master, volume).await?;
        }
    }
    Ok(())
}

/// A volume to which nothing refers leaves for good. One that is up is told first what it is still to delete; of one that is not, that
/// is its own business from then on.
///
/// # Errors
/// When the tables cannot be read or written.
pub async fn leave(master: &Master, volume: VolumeId) -> Result<(), LeaveError> {
    let tree = master.database.tree();
    let up = !master.cluster.alive(&[volume]).is_empty();
    if up && !reclaim::page(&tree, volume, 1)?.is_empty() {
        master.reclaim.notify_one();
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
    let standing = Standing { duty: Duty::Gone, since: master.config.clock.now() };
    if master.sequencer.propose(Command::SetDuty { volume, standing }).await? == Outcome::LastCopies {
        tracing::info!(%volume, "a volume that is to leave still holds something");
    }
    Ok(())
}
