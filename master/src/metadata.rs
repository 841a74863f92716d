//! The metadata for reading: this master's tables, and whether they are up to date (linearizable reads, leadership).

use std::sync::Arc;

use shared::clock::Timestamp;
use shared::key::Key;

use crate::db::Database;
use crate::group_clock::GroupClock;
use crate::raft::error::NoLeader;
use crate::raft::group::Group;
use crate::tables::replication_mode::{self, ReplicationMode};
use crate::tables::{TableError, bucket, meta};

#[derive(Clone, Debug)]
pub struct Metadata {
    pub database: Arc<Database>,
    /// The clocks of the masters, by which values expire.
    pub clock: Arc<GroupClock>,
    group: Arc<Group>,
    default_mode: ReplicationMode,
}

impl Metadata {
    pub fn new(group: &Arc<Group>, clock: GroupClock, default_mode: ReplicationMode) -> Self {
        let database = Arc::clone(group.machine().database());
        Self { database, clock: Arc::new(clock), group: Arc::clone(group), default_mode }
    }

    /// Waits until this master has applied all that was acknowledged before, so that its reads are linearizable.
    ///
    /// # Errors
    /// When there is no leader.
    pub async fn ensure_linearizable(&self) -> Result<(), NoLeader> {
        self.group.ensure_linearizable().await
    }

    /// Returns the group's time: that of the tables, or a later one that a majority of the clocks has reached.
    ///
    /// # Errors
    /// When no majority tells its clock.
    pub async fn now(&self) -> Result<Timestamp, NoLeader> {
        let now = self.clock.now().await?;
        Ok(meta::time(&self.database.tree()).map_or(now, |time| time.max(now)))
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
