//! How a master comes to its cluster: it has metadata, it joins the masters it was told of, it waits to be taken in, or it
//! begins a cluster of its own.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use shared::http::client::{CallError, PeerClient};
use shared::ids::ClusterId;
use shared::limits::{HEARTBEAT_INTERVAL, PROPOSE_TIMEOUT};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::{AddMaster, MasterSelf, Masters, Standing};
use shared::wire::routes::{MASTERS, MASTERS_ADD};

use crate::RunError;
use crate::config::Config;
use crate::master::Master;
use crate::raft::group::Group;
use crate::raft::{Batch, Peer};
use crate::state::command::Command;

/// A step of joining takes two changes of membership at most.
const STEP_TIMEOUT: Duration = PROPOSE_TIMEOUT.saturating_mul(2);

/// The cluster of this master, once it belongs to one.
///
/// # Errors
/// When its tables fail, or no cluster can be begun.
pub async fn cluster(config: &Config, group: &Group, peers: &PeerClient) -> Result<ClusterId, RunError> {
    let database = group.machine().database();
    let mut applied = group.machine().applied();
    let begins = config.join.is_empty() && !config.wait;
    if database.identity()?.is_none() && begins {
        match create_cluster(group).await {
            Ok(()) => {}
            // The tables were not durable yet; the log has everything since the first entry.
            Err(e) if e.code == ErrorCode::WrongCluster => {
                tracing::info!(
                    "the log knows of other masters: its entries are applied when one of them leads"
                );
            }
            Err(e) => return Err(RunError::NotFounded(e.message)),
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
                Ok(_) => "a snapshot of the metadata is on its way".to_owned(),
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

/// Makes a master that knows nothing yet the first of a new cluster.
pub(crate) async fn create_cluster(group: &Group) -> Result<(), ErrorReply> {
    group.found().await?;
    let founded = Batch(vec![Command::Founded(ClusterId::random())]);
    group.write(founded).await?;
    // So that whoever starts on these tables sees whose they are.
    group.machine().checkpoint().await?;
    Ok(())
}

/// Sees to it that this master has a vote, and that the others know where it is now.
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
        // It was taken out, and nobody has told it to join again; right after a start it is not known yet who belongs.
        let taken_out = known.log_id().is_some() && members.get_node(&group.id()).is_none();
        if taken_out && config.is_empty() {
            return;
        }
        config.extend(group.others().into_iter().map(|p| p.address));
        if let Err(error) = step(group, &master.peers, &config, Some(master.cluster.id())).await {
            tracing::debug!(error, "no step towards a vote");
        }
        config.truncate(master.config.join.len());
        tokio::time::sleep(HEARTBEAT_INTERVAL / 2).await;
    }
}

/// Asks the leader, wherever it is, to take the next step of taking this master in.
async fn step(
    group: &Group,
    peers: &PeerClient,
    masters: &[String],
    cluster: Option<ClusterId>,
) -> Result<Standing, String> {
    let Peer { address, public_url } = group.me().clone();
    if group.leads() {
        return group.add(group.id(), Peer { address, public_url }).await.map_err(|e| e.to_string());
    }
    let me = AddMaster::Known(MasterSelf { master: group.id(), address, public_url, cluster });
    let mut reason = "none of the masters is known".to_owned();
    for master in masters {
        match ask_leader(peers, master, &me).await {
            Ok(standing) => return Ok(standing),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(reason)
}

/// Takes a question to the leader that the master at `address` knows of.
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
