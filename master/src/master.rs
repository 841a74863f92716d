//! One master, assembled: what the write path, the read path, the workers and the routes share.

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

use crate::auth::{Keys, Policy};
use crate::care::Care;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::db::Database;
use crate::delete_acks::DeleteAcks;
use crate::metrics::MasterMetrics;
use crate::raft::group::Group;
use crate::sequencer::Sequencer;
use crate::tables::mode::{self, Mode};
use crate::tables::{TableError, bucket};

/// The parts of a master.
#[derive(Debug)]
pub struct Master {
    /// What it was told.
    pub config: Config,
    /// How access keys are judged.
    pub policy: Arc<Policy>,
    /// Where volumes reach it, as a base URL.
    pub address: String,
    /// Where clients reach it, as a base URL.
    pub public_url: String,
    /// The metadata, for readers.
    pub database: Arc<Database>,
    /// The masters as one.
    pub group: Arc<Group>,
    /// The metadata, for changes.
    pub sequencer: Sequencer,
    pub cluster: Cluster,
    /// Calls to volumes.
    pub peers: PeerClient,
    pub metrics: MasterMetrics,
    /// Wakes the reclaim worker.
    pub reclaim: Arc<Notify>,
    /// Wakes the worker that takes deleted parts out of the tables.
    pub scrap: Arc<Notify>,
    /// Requests that wait until volumes have been told.
    pub delete_acks: DeleteAcks,
    /// Work on copies.
    pub care: Care,
    /// Spreads reads over replicas.
    pub turn: AtomicUsize,
}

impl Master {
    /// The path and query of a volume's URL for `operation` on `blob` of `key`. Holds a ticket: never logged.
    pub fn target(&self, key: &Key, blob: BlobId, hops: u8, operation: Operation) -> String {
        let ticket = self.ticket(blob, hops, operation);
        format!("{}?{TICKET}={}", key.to_path(), ticket.seal(&self.config.secret, key))
    }

    /// Permission for `operation` on `blob`, from now on.
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

    /// The access keys, as this master knows them.
    pub fn keys(&self) -> Keys {
        Keys::new(self.database.tree(), &self.policy)
    }

    /// When uploads of a key are acknowledged.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn mode(&self, key: &Key) -> Result<Mode, TableError> {
        let of = |name| mode::read(&self.database.tree(), name);
        Ok(bucket::of(key).map(of).transpose()?.flatten().unwrap_or(self.config.mode))
    }

    /// Whether a request is answered through this master although it could be redirected: for a client that cannot follow.
    pub fn streams(&self, headers: &HeaderMap) -> bool {
        let wanted = headers.get(NO_REDIRECT_HEADER).is_some_and(|said| said.as_bytes().trim_ascii() == b"1");
        wanted || self.config.no_redirect
    }

    /// The next of `n` in turn.
    pub fn next_turn(&self, n: usize) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % n.max(1)
    }
}
