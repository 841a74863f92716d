//! Errors between masters, grouped by what the caller may assume.

use std::io;

use super::MasterId;

/// No leader was found, or it has no majority (no quorum).
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the masters have no leader with a majority; nothing was done")]
pub struct NoLeader;

/// A batch was not acknowledged.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum WriteError {
    /// The batch is not in the log.
    #[error("this master is not the leader")]
    NotLeader,
    /// The batch may be in the log.
    #[error("the outcome is unknown")]
    Unknown,
}

/// The call was meant for another master.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the call is for master {0}, but its address leads to another master, this one")]
pub struct Misdirected(pub MasterId);

/// A Raft message could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error(transparent)]
    Misdirected(#[from] Misdirected),
    #[error("raft has stopped: {reason}")]
    Stopped { reason: String },
    #[error("a snapshot cannot be received: {0}")]
    Io(#[from] io::Error),
    #[error("a snapshot cannot be used: {0}")]
    Unusable(#[from] crate::snapshot::SnapshotError),
    /// Bytes are missing or wrong.
    #[error("the snapshot does not match its offer; it will be requested again")]
    NotWhole,
    #[error("this master belongs to another cluster")]
    OtherCluster,
}
