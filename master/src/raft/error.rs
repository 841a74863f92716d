//! What can go wrong between masters, by what whoever asked may assume.

use std::io;

use super::MasterId;

/// No leader was found, or it has no majority behind it.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the masters have no leader that a majority of them follows; nothing was done")]
pub struct NoLeader;

/// A batch was not acknowledged.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum WriteError {
    /// It was not even tried: somebody else leads.
    #[error("this master does not lead")]
    NotLeader,
    /// It may be in the log.
    #[error("the outcome is unknown")]
    Unknown,
}

/// The call was meant for another master.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the call is for master {0}, which is not this one: its address leads here")]
pub struct Misdirected(pub MasterId);

/// A message of the consensus could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error(transparent)]
    Misdirected(#[from] Misdirected),
    #[error("the consensus has stopped: {0}")]
    Stopped(String),
    #[error("a snapshot cannot be received: {0}")]
    Io(#[from] io::Error),
    /// The tables that it is to become.
    #[error("a snapshot cannot be used: {0}")]
    Unusable(#[from] crate::snapshot::SnapshotError),
    /// Bytes were lost.
    #[error("the snapshot is not what was offered; it is asked for again")]
    NotWhole,
}
