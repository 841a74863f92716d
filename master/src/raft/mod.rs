//! The masters as one: a replicated log in front of the tables (openraft), and who belongs to the group.
//!
//! `log` keeps entries and votes, `machine` applies them to the tables, `rpc` carries them between masters,
//! `group` is what the rest of the master sees. One master is a group of one: the same code, the same directory.

pub(crate) mod content;
pub mod error;
pub(crate) mod genesis;
pub mod group;
pub(crate) mod heal;
mod lease;
pub mod log;
pub mod machine;
pub mod members;
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

/// The commands of one entry of the log: applied together, acknowledged together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch(pub Vec<Command>);

/// What became of each command of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes(pub Vec<Outcome>);

/// Where the records of a snapshot are.
#[derive(Clone, Debug)]
pub enum SnapshotData {
    /// In the tables of this master: they are written to a file when somebody needs them.
    Tables(Arc<Machine>),
    /// In tables that are ready beside the current ones: another master sent them.
    Staged,
}

openraft::declare_raft_types!(
    /// What the log is made of.
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
/// A place in the log.
pub type LogId = openraft::LogId<MasterId>;
/// An error of log or tables, which stops the master.
pub type StorageError = openraft::StorageError<MasterId>;
