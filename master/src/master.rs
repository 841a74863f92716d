//! The state that the write path, the read path, the workers and the routes of a master share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderMap;
use shared::http::client::PeerClient;
use shared::ids::BlobId;
use shared::key::Key;
use shared::limits::TICKET_LIFETIME;
use shared::ticket::{Operation, Ticket};
use shared::wire::routes::{NO_REDIRECT_HEADER, TICKET};
use tokio::sync::Notify;

use crate::auth::{AuthConfig, Keys};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::db::Database;
use crate::delete_acks::DeleteAcks;
use crate::metrics::MasterMetrics;
use crate::raft::group::Group;
use crate::repair_tracker::RepairTracker;
use crate::sequencer::Sequencer;
use crate::tables::replication_mode::{self, ReplicationMode};
use crate::tables::{TableError, bucket};

#[derive(Debug)]
pub struct Master {
    pub config: Config,
    pub policy: Arc<AuthConfig>,
    /// Base URL at which volumes reach it.
    pub address: String,
    /// Base URL at which clients reach it.
    pub public_url: String,
    /// The metadata, for reads.
    pub database: Arc<Database>,
    /// The Raft group of the masters.
    pub group: Arc<Group>,
    /// Takes all changes of the metadata.
    pub sequencer: Sequencer,
    pub cluster: Cluster,
    /// Calls to volumes.
    pub peers: PeerClient,
    pub metrics: MasterMetrics,
    /// Wakes the reclaim worker.
    pub wake_reclaim: Arc<Notify>,
    /// Wakes the worker that removes unreferenced parts from the tables.
    pub wake_part_removal: Arc<Notify>,
    /// Requests that wait for volumes to acknowledge deletes.
    pub delete_acks: DeleteAcks,
    /// Progress of repair, reconciliation and rebalancing.
    pub repair: RepairTracker,
    /// Spreads reads over replicas.
    pub turn: AtomicUsize,
}

impl Master {
    /// Returns path and query of a volume's URL for `operation` on `blob` of `key`. Contains a ticket: never log it.
    pub fn target(&self, key: &Key, blob: BlobId, hops: u8, operation: Operation) -> String {
        let ticket = self.ticket(blob, hops, operation);
        format!("{}?{TICKET}={}", key.to_path(), ticket.sign(&self.config.secret, key))
    }

    /// Returns a ticket for `operation` on `blob`, valid for `TICKET_LIFETIME`.
    pub fn ticket(&self, blob: BlobId, hops: u8, operation: Operation) -> Ticket {
        Ticket {
            cluster: self.cluster.id(),
            blob,
            expires: self.config.clock.now().after(TICKET_LIFETIME),
            hops,
            master: self.address.clone(),
            master_public: self.public_url.clone(),
            operation,
        }
    }

    /// Returns the access keys as of this master's tables.
    pub fn keys(&self) -> Keys {
        Keys::new(self.database.tree(), &self.policy)
    }

    /// Returns the replication mode for `key`: its bucket's, or the default of the cluster.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn mode(&self, key: &Key) -> Result<ReplicationMode, TableError> {
        let of = |name| replication_mode::read(&self.database.tree(), name);
        Ok(bucket::of(key).map(of).transpose()?.flatten().unwrap_or(self.config.mode))
    }

    /// Whether to stream a request through this master, for a client that cannot follow a redirect.
    pub fn streams(&self, headers: &HeaderMap) -> bool {
        let wanted = headers.get(NO_REDIRECT_HEADER).is_some_and(|said| said.as_bytes().trim_ascii() == b"1");
        wanted || self.config.no_redirect
    }

    /// Returns the next of `n` in round-robin order.
    pub fn next_turn(&self, n: usize) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % n.max(1)
    }
}
