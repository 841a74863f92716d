//! Consensus of the masters: a replicated log in front of the tables (openraft), and the membership of the group.
//!
//! `log` stores entries and votes, `machine` applies entries to the tables, `rpc` sends messages between masters,
//! `group` is the interface for the rest of the master. A single master is a group of one: same code, same directory.

pub(crate) mod content;
pub mod error;
pub(crate) mod genesis;
pub mod group;
mod lease;
pub mod log;
pub mod machine;
pub mod members;
pub(crate) mod recover_tables;
pub mod rpc;
#[cfg(test)]
mod tests;
mod transfer;
mod upkeep;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::machine::Machine;
use crate::state::command::{Command, Outcome};
pub use crate::tables::peer::{MasterId, Peer};

/// The commands of one log entry: applied together, acknowledged together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch(pub Vec<Command>);

/// The outcome of each command of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes(pub Vec<Outcome>);

/// The source of a snapshot's records.
#[derive(Clone, Debug)]
pub enum SnapshotData {
    /// The tables of this master; a file is written only when another master needs one.
    Tables(Arc<Machine>),
    /// Staged tables beside the current ones, sent by another master.
    Staged,
}

openraft::declare_raft_types!(
    /// The types of the log.
    pub TypeConfig:
        D = Batch,
        R = Outcomes,
        NodeId = MasterId,
        Node = Peer,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = SnapshotData,
        AsyncRuntime = openraft::TokioRuntime,
);

pub type Raft = openraft::Raft<TypeConfig>;
/// Term, leader and index of a log entry.
pub type LogId = openraft::LogId<MasterId>;
/// An error of log or tables; it stops the master.
pub type StorageError = openraft::StorageError<MasterId>;
