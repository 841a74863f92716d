//! The metadata for reading: this master's tables, and whether they are up to date (linearizable reads, leadership).

use std::sync::Arc;

use shared::key::Key;

use crate::db::Database;
use crate::raft::error::NoLeader;
use crate::raft::group::Group;
use crate::tables::replication_mode::{self, ReplicationMode};
use crate::tables::{TableError, bucket};

#[derive(Clone, Debug)]
pub struct Metadata {
    pub database: Arc<Database>,
    group: Arc<Group>,
    default_mode: ReplicationMode,
}

impl Metadata {
    pub fn new(group: &Arc<Group>, default_mode: ReplicationMode) -> Self {
        Self { database: Arc::clone(group.machine().database()), group: Arc::clone(group), default_mode }
    }

    /// Waits until this master has applied all that was acknowledged before, so that its reads are linearizable.
    ///
    /// # Errors
    /// When there is no leader.
    pub async fn ensure_linearizable(&self) -> Result<(), NoLeader> {
        self.group.ensure_linearizable().await
    }

    /// Whether this master believes that it leads; another one may have been elected meanwhile.
    pub fn is_leader(&self) -> bool {
        self.group.is_leader()
    }

    /// Whether this master leads, and has applied all that was acknowledged before.
    pub async fn leads(&self) -> bool {
        self.is_leader() && self.ensure_linearizable().await.is_ok()
    }

    /// Returns the replication mode for `key`: its bucket's, or the default of the cluster.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn mode(&self, key: &Key) -> Result<ReplicationMode, TableError> {
        let of = |name| replication_mode::read(&self.database.tree(), name);
        Ok(bucket::of(key).map(of).transpose()?.flatten().unwrap_or(self.default_mode))
    }
}
