//! The volumes as a master uses them: which are up (`Cluster`), calls to them, and tickets for them.

use std::sync::atomic::{AtomicUsize, Ordering};

use shared::clock::Clock;
use shared::http::client::PeerClient;
use shared::ids::{BlobId, ClusterId};
use shared::key::Key;
use shared::limits::TICKET_LIFETIME;
use shared::secret::ClusterSecret;
use shared::ticket::{Operation, Ticket};
use shared::wire::routes::TICKET;

use crate::cluster::Cluster;
use crate::config::Config;
use crate::raft::Peer;

#[derive(Debug)]
pub struct Volumes {
    pub cluster: Cluster,
    pub peers: PeerClient,
    /// The addresses of this master, for tickets.
    me: Peer,
    secret: ClusterSecret,
    clock: Clock,
    /// Spreads reads over replicas.
    turn: AtomicUsize,
}

impl Volumes {
    pub fn new(cluster: Cluster, peers: PeerClient, me: Peer, config: &Config) -> Self {
        let (secret, clock) = (config.secret.clone(), config.clock.clone());
        Self { cluster, peers, me, secret, clock, turn: AtomicUsize::new(0) }
    }

    pub fn cluster_id(&self) -> ClusterId {
        self.cluster.id()
    }

    /// The key with which volumes prove their answers.
    pub fn secret(&self) -> &ClusterSecret {
        &self.secret
    }

    /// Returns path and query of a volume's URL for `operation` on `blob` of `key`. Contains a ticket: never log it.
    pub fn target(&self, key: &Key, blob: BlobId, hops: u8, operation: Operation) -> String {
        self.sign(key, &self.ticket(blob, hops, operation))
    }

    /// Returns path and query of a volume's URL with a ticket: never log it.
    pub fn sign(&self, key: &Key, ticket: &Ticket) -> String {
        format!("{}?{TICKET}={}", key.to_path(), ticket.sign(&self.secret, key))
    }

    /// Returns a ticket for `operation` on `blob`, valid for `TICKET_LIFETIME`.
    pub fn ticket(&self, blob: BlobId, hops: u8, operation: Operation) -> Ticket {
        Ticket {
            cluster: self.cluster_id(),
            blob,
            expires: self.clock.now().after(TICKET_LIFETIME),
            hops,
            master: self.me.address.clone(),
            master_public: self.me.public_url.clone(),
            operation,
        }
    }

    /// Returns the next of `n` in round-robin order.
    pub fn next_turn(&self, n: usize) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % n.max(1)
    }
}
