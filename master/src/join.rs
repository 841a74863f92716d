//! How a master finds its cluster: its tables name it, it joins the masters in its configuration, it waits to be
//! added, or it creates a new cluster.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use shared::http::client::{CallError, PeerClient};
use shared::ids::ClusterId;
use shared::limits::{HEARTBEAT_INTERVAL, PROPOSE_TIMEOUT};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::{AddMaster, MasterIdentity, Masters, MembershipState};
use shared::wire::routes::{MASTERS, MASTERS_ADD};

use crate::config::Config;
use crate::master::Master;
use crate::raft::group::Group;
use crate::raft::{Batch, Peer};
use crate::state::command::Command;
use crate::tables::TableError;

/// A master could not find or create its cluster.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    Tables(#[from] TableError),
    #[error("a new cluster cannot be created: {reason}")]
    NotCreated { reason: String },
}

/// A step of joining makes at most two membership changes.
const STEP_TIMEOUT: Duration = PROPOSE_TIMEOUT.saturating_mul(2);

/// Returns the cluster of this master, once it belongs to one.
///
/// # Errors
/// When its tables fail, or no cluster can be created.
pub async fn cluster(config: &Config, group: &Group, peers: &PeerClient) -> Result<ClusterId, JoinError> {
    let database = group.machine().database();
    let mut applied = group.machine().applied();
    let begins = config.join.is_empty() && !config.wait;
    if database.identity()?.is_none() && begins {
        match create_cluster(group).await {
            Ok(()) => {}
            // The tables were not durable yet; the log has all entries since the first.
            Err(e) if e.code == ErrorCode::WrongCluster => {
                tracing::info!("the log names other masters: its entries are applied once there is a leader");
            }
            Err(e) => return Err(JoinError::NotCreated { reason: e.message }),
        }
    }
    let mut said = None;
    loop {
        if let Some(identity) = database.identity()? {
            return Ok(identity.cluster);
        }
        if !config.join.is_empty() {
            let step = step(group, peers, &config.join, None).await;
            let news = match step {
                Ok(_) => "waiting for the metadata".to_owned(),
                Err(error) => error,
            };
            if said.as_ref() != Some(&news) {
                tracing::info!(masters = ?config.join, "joining: {news}");
            }
            said = Some(news);
        }
        let _ = tokio::time::timeout(HEARTBEAT_INTERVAL, applied.changed()).await;
    }
}

/// Makes a master without metadata the first of a new cluster.
pub(crate) async fn create_cluster(group: &Group) -> Result<(), ErrorReply> {
    group.initialize().await?;
    let founded = Batch(vec![Command::CreateCluster(ClusterId::random())]);
    group.write(founded).await?;
    // Makes the identity durable in the tables.
    group.machine().checkpoint().await?;
    Ok(())
}

/// Runs until this master has a vote, unless it waits to be added, and its current address is in the membership.
pub async fn become_voter(master: Arc<Master>) {
    let group = &master.group;
    let mut config = master.config.join.clone();
    loop {
        let known = group.metrics().membership_config;
        let members = known.membership();
        let right = members.get_node(&group.id()) == Some(group.me());
        if right && (group.votes(group.id()) || master.config.wait) {
            return;
        }
        // It was removed and is not configured to join again. Right after a start the membership is not known yet.
        let taken_out = known.log_id().is_some() && members.get_node(&group.id()).is_none();
        if taken_out && config.is_empty() {
            return;
        }
        config.extend(group.others().into_iter().map(|p| p.address));
        if let Err(error) = step(group, &master.volumes.peers, &config, Some(master.cluster_id())).await {
            tracing::debug!(error, "could not advance towards a vote; retrying");
        }
        config.truncate(master.config.join.len());
        tokio::time::sleep(HEARTBEAT_INTERVAL / 2).await;
    }
}

/// Asks the leader to take the next step of adding this master.
async fn step(
    group: &Group,
    peers: &PeerClient,
    masters: &[String],
    cluster: Option<ClusterId>,
) -> Result<MembershipState, String> {
    let Peer { address, public_url } = group.me().clone();
    if group.is_leader() {
        return group.add(group.id(), Peer { address, public_url }).await.map_err(|e| e.to_string());
    }
    let me = AddMaster::Known(MasterIdentity { master: group.id(), address, public_url, cluster });
    let mut reason = "no master to ask is known".to_owned();
    for master in masters {
        match ask_leader(peers, master, &me).await {
            Ok(record) => return Ok(record),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(reason)
}

/// Sends `message` to the leader that the master at `address` names.
async fn ask_leader<A: for<'d> Deserialize<'d>>(
    peers: &PeerClient,
    address: &str,
    message: &AddMaster,
) -> Result<A, CallError> {
    let known = peers.call_within::<_, Masters>(address, MASTERS, &(), HEARTBEAT_INTERVAL * 2).await;
    let found = known.as_ref().ok().and_then(Masters::leader);
    let leader = found.map_or_else(|| address.to_owned(), |leader| leader.address.clone());
    peers.call_within(&leader, MASTERS_ADD, message, STEP_TIMEOUT).await
}
