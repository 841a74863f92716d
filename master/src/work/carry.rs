//! Carries out what a plan says of one blob: copy, verify at the destination, switch the pointer, wait, free. Each step is noted
//! in the tables before anything happens that would have to be cleaned up, and may be done again.
//!
//! The waiting is the volume's: a record that is deleted stays until its last reader has gone, and a reader that comes too late is
//! sent back to the master, which names the volumes of the present.

use std::time::Duration;

use shared::http::client::CallError;
use shared::ids::{BlobId, VolumeId};
use shared::limits::{CALL_TIMEOUT, RECEIPT_TIMEOUT};
use shared::ticket::{Receipt, TicketError};
use shared::wire::replicas::{CopyRequest, CopyResponse, LookRequest, LookResponse};
use shared::wire::routes::{COPY, LOOK};

use crate::master::Master;
use crate::plan::repair::Held;
use crate::sequencer::ProposeError;
use crate::state::command::{Command, Drop, Outcome};
use crate::tables::unsettled::Spot;

/// No copy is slower than this, in bytes a second: one that is has come to a halt.
const SLOWEST: u64 = 4 << 20;
/// Whether a volume that takes in a copy is still up is looked at so often.
const STILL_UP: Duration = Duration::from_secs(1);

/// What was to be done could not be.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The volume's address is not known.
    #[error("volume {0} is not known")]
    Unknown(VolumeId),
    /// The volume did not do it.
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("volume {0} fell silent while it took in a copy")]
    Silent(VolumeId),
    /// What it gave is no receipt for that.
    #[error("the volume's receipt is not good: {0}")]
    Receipt(#[from] TicketError),
    /// What it gave is a receipt for something else.
    #[error("the volume's receipt is for something else")]
    OtherReceipt,
    /// The masters did not note it.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// It would leave fewer good copies than are wanted.
    #[error("{good} good copies would stay, and {wanted} are wanted")]
    TooFew {
        /// That would stay.
        good: usize,
        /// That are wanted.
        wanted: usize,
    },
}

/// Has a volume take in a copy. `verify`: it is read back from its disk, because another one is to go for it.
///
/// # Errors
/// When it has not, or nobody knows. The tables say that it was on its way.
pub async fn copy(
    master: &Master,
    spot: &Spot,
    held: &Held,
    to: VolumeId,
    verify: bool,
) -> Result<(), CarryError> {
    let lane = master.care.lane(to);
    let _room = lane.acquire().await;
    let address = master.cluster.address_of(to).ok_or(CarryError::Unknown(to))?;
    if !held.arriving.contains(&to) {
        let blobs = vec![(held.blob, spot.clone())];
        master.sequencer.propose(Command::Expect { volume: to, blobs }).await?;
    }
    let question = CopyRequest {
        cluster: master.cluster.id(),
        volume: to,
        blob: held.blob,
        bytes_per_second: master.config.repair_rate,
        verify,
    };
    let slowest =
        if master.config.repair_rate == 0 { SLOWEST } else { master.config.repair_rate.min(SLOWEST) };
    let within = RECEIPT_TIMEOUT + CALL_TIMEOUT + Duration::from_secs(held.length / slowest.max(1));
    let call = master.peers.call_within(&address, COPY, &question, within);
    // A machine that has lost its power says nothing for as long as anybody waits.
    let answer: CopyResponse = tokio::select! {
        answer = call => answer?,
        () = silence(master, to) => return Err(CarryError::Silent(to)),
    };
    let (now, lifetime) = (master.config.clock.now(), master.config.receipt_lifetime());
    let receipt = Receipt::open(&answer.receipt, &master.config.secret, now, lifetime)?;
    let meant = (master.cluster.id(), to, held.blob, held.length);
    if (receipt.cluster, receipt.volume, receipt.blob, receipt.length) != meant {
        return Err(CarryError::OtherReceipt);
    }
    let blobs = vec![(held.blob, held.length, spot.clone())];
    master.sequencer.propose(Command::Arrived { volume: to, blobs }).await?;
    master.care.copied(held.length, held.replicas.len() < held.wanted);
    master.metrics.copied(held.length);
    Ok(())
}

/// Returns when a volume is not up any more.
async fn silence(master: &Master, volume: VolumeId) {
    while !master.cluster.alive(&[volume]).is_empty() {
        tokio::time::sleep(STILL_UP).await;
    }
}

/// Takes a copy away, when those that stay say that they hold theirs.
///
/// # Errors
/// When it has not been, or nobody knows.
pub async fn take_away(
    master: &Master,
    spot: &Spot,
    held: &Held,
    from: VolumeId,
    keep: &[VolumeId],
) -> Result<(), CarryError> {
    let mut good = Vec::new();
    for volume in keep {
        if good.len() == held.wanted {
            break;
        }
        match holds(master, *volume, held.blob).await {
            Ok(true) => good.push(*volume),
            Ok(false) => tracing::warn!(%volume, blob = %held.blob, "a copy that should be there is not"),
            Err(error) => tracing::debug!(%volume, %error, "a volume does not say what it holds"),
        }
    }
    if good.len() < held.wanted {
        return Err(CarryError::TooFew { good: good.len(), wanted: held.wanted });
    }
    let drop = Drop { volume: from, blob: held.blob, spot: spot.clone(), keep: good };
    match master.sequencer.propose(Command::Drop(drop)).await? {
        Outcome::Done => {
            master.care.dropped();
            master.metrics.copies_dropped.inc();
            master.reclaim.notify_one();
        }
        outcome => tracing::debug!(?outcome, blob = %held.blob, "a copy stays"),
    }
    Ok(())
}

/// Whether a volume holds a blob that it does not know to be bad.
async fn holds(master: &Master, volume: VolumeId, blob: BlobId) -> Result<bool, CarryError> {
    let address = master.cluster.address_of(volume).ok_or(CarryError::Unknown(volume))?;
    let question = LookRequest { cluster: master.cluster.id(), volume, blobs: vec![blob] };
    let answer: LookResponse = master.peers.call(&address, LOOK, &question).await?;
    Ok(answer.places.first().is_some_and(|place| place.is_some_and(|place| !place.bad)))
}

/// A copy that is on its way is not needed.
///
/// # Errors
/// When that was not noted.
pub async fn forgo(master: &Master, held: &Held, to: VolumeId) -> Result<(), CarryError> {
    let blobs = vec![(held.blob, held.length)];
    master.sequencer.propose(Command::Forgo { volume: to, blobs }).await?;
    master.reclaim.notify_one();
    Ok(())
}
