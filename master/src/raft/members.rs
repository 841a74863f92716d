//! Membership of the group. A master becomes a learner, catches up, and only then gets a vote. Each call takes one
//! step and returns the state, so that the caller can repeat it with any leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, ServerState};
use shared::limits::{LEADER_TIMEOUT, MASTERS_MAX, PROPOSE_TIMEOUT, RAFT_LAG_MAX};
use shared::wire::master::{MasterRole, MasterSummary, MembershipState};

use super::error::NoLeader;
use super::group::Group;
use super::{MasterId, Peer};

/// A membership change failed.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// This master is not the leader, or has no majority.
    #[error(transparent)]
    NoLeader(#[from] NoLeader),
    #[error("a cluster has at most {MASTERS_MAX} masters: remove one first")]
    TooMany,
    #[error("the cluster has no master {named}")]
    Unknown { named: String },
    #[error("the last master cannot be removed")]
    Last,
    #[error("this master already belongs to a cluster")]
    NotNew,
    /// The change may have been made, or may still be made.
    #[error("the membership change was not confirmed in time; its outcome is unknown")]
    Unconfirmed,
    #[error("another membership change is in progress")]
    Underway,
    #[error("the masters cannot be changed now: {reason}")]
    Refused { reason: String },
}

impl Group {
    /// The masters of the cluster, by id.
    pub fn masters(&self) -> Vec<MasterSummary> {
        let metrics = self.metrics();
        let members = metrics.membership_config.membership();
        let voters: BTreeSet<MasterId> = members.voter_ids().collect();
        let behind = |id: &MasterId| {
            let replication = metrics.replication.as_ref()?;
            let matched = replication.get(id)?.map_or(0, |l| l.index);
            Some(metrics.last_log_index.unwrap_or(0).saturating_sub(matched))
        };
        let summary = |(id, peer): (&MasterId, &Peer)| MasterSummary {
            master: *id,
            address: peer.address.clone(),
            public_url: peer.public_url.clone(),
            role: match () {
                () if metrics.current_leader == Some(*id) => MasterRole::Leader,
                () if voters.contains(id) => MasterRole::Follower,
                () => MasterRole::Learner,
            },
            behind: if *id == self.id() { Some(0) } else { behind(id) },
        };
        members.nodes().map(summary).collect()
    }

    /// The other masters. This one is left out: its recorded address may be older than its last start.
    pub fn others(&self) -> Vec<Peer> {
        let metrics = self.metrics();
        let nodes = metrics.membership_config.membership().nodes();
        nodes.filter(|(id, _)| **id != self.id()).map(|(_, peer)| peer.clone()).collect()
    }

    /// Whether a master has a vote and no change of the voters is half done. During one, two majorities are
    /// needed (joint consensus).
    pub fn votes(&self, id: MasterId) -> bool {
        let metrics = self.metrics();
        let members = metrics.membership_config.membership();
        members.get_joint_config().len() == 1 && members.voter_ids().any(|v| v == id)
    }

    /// Whether the cluster has a master under this id with these addresses.
    pub fn knows(&self, id: MasterId, peer: &Peer) -> bool {
        self.metrics().membership_config.membership().get_node(&id) == Some(peer)
    }

    /// Finishes a change of the voters that was interrupted by a failover: it takes two log entries (joint
    /// consensus), and the new leader writes the second one.
    ///
    /// # Errors
    /// The errors of `add`.
    pub(super) async fn finish_change(&self) -> Result<(), MemberError> {
        let half_made = self.metrics().membership_config.membership().get_joint_config().len() > 1;
        // A change in progress on this master is left to its own task.
        if !(half_made && self.is_leader()) || self.changing.try_lock().is_err() {
            return Ok(());
        }
        tracing::info!("finishing an interrupted membership change");
        self.change(ChangeMembers::AddVoterIds(BTreeSet::new())).await
    }

    async fn change(&self, change: ChangeMembers<MasterId, Peer>) -> Result<(), MemberError> {
        let turn = Arc::clone(&self.changing).try_lock_owned().map_err(|_| MemberError::Underway)?;
        let (raft, mut metrics, term) = (self.raft().clone(), self.watch(), self.metrics().current_term);
        // In its own task: the caller may give up between the two entries.
        let changed = tokio::spawn(async move {
            let _turn = turn;
            let deposed = metrics.wait_for(|m| m.state != ServerState::Leader || m.current_term != term);
            // openraft never answers for an entry that a snapshot has overtaken.
            tokio::select! {
                changed = raft.change_membership(change, false) => Some(changed),
                _ = deposed => None,
            }
        });
        match tokio::time::timeout(PROPOSE_TIMEOUT, changed).await {
            Ok(Ok(Some(Ok(_)))) => Ok(()),
            // The first entry may have been committed before the leadership was lost.
            Ok(Ok(Some(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) | None) | Err(_))
            | Err(_) => Err(MemberError::Unconfirmed),
            Ok(Ok(Some(Err(error)))) => Err(MemberError::Refused { reason: error.to_string() }),
        }
    }

    /// Takes the next step towards making `id` at `peer` a voter. Call it on the leader.
    ///
    /// # Errors
    /// When that is not possible now.
    pub async fn add(&self, id: MasterId, peer: Peer) -> Result<MembershipState, MemberError> {
        self.read_index().await?;
        let metrics = self.metrics();
        let members = metrics.membership_config.membership();
        match members.get_node(&id) {
            None => {
                // A wiped master comes back with a new id at its old address.
                let former = members.nodes().find(|(_, p)| p.address == peer.address).map(|(id, _)| *id);
                if let Some(former) = former {
                    tracing::info!(master = former, address = peer.address, "a master rejoins with a new id");
                    self.remove(former).await?;
                } else if members.nodes().count() >= MASTERS_MAX {
                    return Err(MemberError::TooMany);
                }
                tracing::info!(master = id, address = peer.address, "a master joins");
                self.change(ChangeMembers::AddNodes(BTreeMap::from([(id, peer)]))).await?;
                Ok(MembershipState::Learner { behind: None })
            }
            Some(known) if *known != peer => {
                self.change(ChangeMembers::SetNodes(BTreeMap::from([(id, peer)]))).await?;
                Ok(MembershipState::Learner { behind: None })
            }
            Some(_) if self.votes(id) => Ok(MembershipState::Voter),
            Some(_) if members.voter_ids().any(|v| v == id) => {
                self.finish_change().await?;
                Ok(MembershipState::Learner { behind: Some(0) })
            }
            Some(_) => {
                let summary = self.masters().into_iter().find(|m| m.master == id);
                let caught_up =
                    metrics.replication.as_ref().is_some_and(|r| r.get(&id).is_some_and(Option::is_some));
                match summary.and_then(|m| m.behind).filter(|_| caught_up) {
                    Some(behind) if behind <= RAFT_LAG_MAX => {
                        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await?;
                        tracing::info!(master = id, "a master has caught up and is a voter now");
                        Ok(MembershipState::Voter)
                    }
                    behind => Ok(MembershipState::Learner { behind }),
                }
            }
        }
    }

    /// Removes a master from the cluster. Call it on the leader.
    ///
    /// # Errors
    /// When it is the last one or unknown, or when that is not possible now.
    pub async fn remove(&self, id: MasterId) -> Result<(), MemberError> {
        self.read_index().await?;
        let metrics = self.metrics();
        let members = metrics.membership_config.membership();
        if members.get_node(&id).is_none() {
            return Err(MemberError::Unknown { named: id.to_string() });
        }
        let voters: BTreeSet<MasterId> = members.voter_ids().collect();
        if !voters.contains(&id) {
            return self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await;
        }
        if voters.len() == 1 {
            return Err(MemberError::Last);
        }
        self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id]))).await?;
        tracing::info!(master = id, "a master was removed");
        Ok(())
    }

    /// Makes this new master a group of one.
    ///
    /// # Errors
    /// When it already belongs to a cluster.
    pub async fn initialize(&self) -> Result<(), MemberError> {
        let members = BTreeMap::from([(self.id(), self.me().clone())]);
        match self.raft().initialize(members).await {
            // An earlier start was interrupted here.
            Err(RaftError::APIError(_)) if self.is_alone() => {}
            Err(RaftError::APIError(_)) => return Err(MemberError::NotNew),
            Err(RaftError::Fatal(e)) => return Err(MemberError::Refused { reason: e.to_string() }),
            Ok(()) => {}
        }
        self.stand_alone().await;
        let leads = async {
            while !self.is_leader() {
                self.news().await;
            }
        };
        tokio::time::timeout(LEADER_TIMEOUT.max(Duration::from_secs(1)), leads)
            .await
            .map_err(|_| NoLeader.into())
    }
}
