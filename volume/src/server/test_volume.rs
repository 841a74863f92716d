//! A volume for unit tests: without a listener and without a master.

use std::sync::{Arc, RwLock};

use shared::http::client::PeerClient;
use shared::secret::ClusterSecret;
use shared::telemetry::{HttpMetrics, Metrics};
use tempfile::TempDir;

use super::Volume;
use crate::config::Config;
use crate::identity::Identity;
use crate::masters::Masters;
use crate::replicas::heal::Healer;
use crate::store::{Options, RealDisk, Store};
use crate::tombstones::Tombstones;
use crate::used_tickets::UsedTickets;

/// Returns a volume and its directory.
pub fn volume() -> (TempDir, Arc<Volume>) {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::new(folder.path().to_owned(), ClusterSecret::from_bytes(b"the secret of this test"));
    let identity = Identity::open(&config.data).unwrap();
    let options = Options {
        volume: identity.volume(),
        segment_bytes: config.segment_bytes,
        segment_age: config.segment_age,
        reserve_bytes: 0,
        capacity_bytes: None,
        clock: config.clock.clone(),
        open_threads: 1,
    };
    let (store, _) = Store::open(Arc::new(RealDisk::open(&config.data).unwrap()), options).unwrap();
    let now = config.clock.now();
    let volume = Volume {
        incarnation: 1,
        tombstones: Tombstones::open(&config.data, identity.volume(), now).unwrap(),
        identity,
        store,
        segments_refused: 0,
        address: String::new(),
        address_by_masters: RwLock::default(),
        public_url: String::new(),
        peers: PeerClient::new(config.secret.clone(), config.clock.clone()),
        http_metrics: HttpMetrics::new(&Metrics::default()),
        used_tickets: UsedTickets::default(),
        healer: Healer::default(),
        incoming_replicas: Arc::default(),
        masters: Masters::new(Vec::new()),
        config,
    };
    (folder, Arc::new(volume))
}
