//! What one master has. Requests and workers are handed the parts that they use: `Metadata` to read, `Changes` to
//! change, `Volumes` to call.

use std::sync::Arc;

use http::HeaderMap;
use shared::ids::ClusterId;
use shared::wire::routes::NO_REDIRECT_HEADER;

use crate::auth::{AuthConfig, Keys};
use crate::change::Changes;
use crate::config::Config;
use crate::metadata::Metadata;
use crate::metrics::MasterMetrics;
use crate::raft::group::Group;
use crate::repair_tracker::RepairTracker;
use crate::volumes::Volumes;

#[derive(Debug)]
pub struct Master {
    pub config: Arc<Config>,
    pub policy: Arc<AuthConfig>,
    /// The Raft group of the masters.
    pub group: Arc<Group>,
    pub metadata: Metadata,
    pub volumes: Arc<Volumes>,
    pub changes: Arc<Changes>,
    /// Progress of repair, reconciliation and rebalancing.
    pub repair: Arc<RepairTracker>,
    pub metrics: Arc<MasterMetrics>,
}

impl Master {
    /// Returns the access keys as of this master's tables.
    pub fn keys(&self) -> Keys {
        Keys::new(self.metadata.database.tree(), &self.policy)
    }

    pub fn cluster_id(&self) -> ClusterId {
        self.volumes.cluster_id()
    }

    /// Whether to stream a request through this master, for a client that cannot follow a redirect.
    pub fn streams(&self, headers: &HeaderMap) -> bool {
        let wanted = headers.get(NO_REDIRECT_HEADER).is_some_and(|said| said.as_bytes().trim_ascii() == b"1");
        wanted || self.config.no_redirect
    }
}
