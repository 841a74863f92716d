//! Who belongs to the group. A master becomes a learner, catches up, and only then gets a vote; each call takes one
//! step and says how it stands, so that whoever asks may ask again, of any leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, ServerState};
use shared::limits::{LEADER_TIMEOUT, MASTERS_MAX, PROPOSE_TIMEOUT, RAFT_LAG_MAX};
use shared::wire::master::{MasterRole, MasterSummary, Standing};

use super::error::NoLeader;
use super::group::Group;
use super::{MasterId, Peer};

/// A step of membership could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// This master does not lead, or has no majority.
    #[error(transparent)]
    NoLeader(#[from] NoLeader),
    /// As it says.
    #[error("a cluster has at most {MASTERS_MAX} masters: remove one first")]
    TooMany,
    /// As it says.
    #[error("no master {0} belongs to the cluster")]
    Unknown(String),
    /// As it says.
    #[error("the last master cannot be removed")]
    Last,
    /// As it says.
    #[error("this master belongs to a cluster already")]
    NotNew,
    /// It may have been made, or will be.
    #[error("the change of the masters was not confirmed in time; whether it was made is unknown")]
    Unconfirmed,
    /// As it says.
    #[error("another change of the masters is under way")]
    Underway,
    #[error("the masters cannot be changed now: {0}")]
    Refused(String),
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

    /// Where the other masters are. What is written of this one may be where it was before its last start.
    pub fn others(&self) -> Vec<Peer> {
        let metrics = self.metrics();
        let nodes = metrics.membership_config.membership().nodes();
        nodes.filter(|(id, _)| **id != self.id()).map(|(_, peer)| peer.clone()).collect()
    }

    /// Whether a master has a vote, and no change of who votes is half made: then two majorities are needed, with and
    /// without the change.
    pub fn votes(&self, id: MasterId) -> bool {
        let metrics = self.metrics();
        let members = metrics.membership_config.membership();
        members.get_joint_config().len() == 1 && members.voter_ids().any(|v| v == id)
    }

    /// Whether this is how the cluster knows a master.
    pub fn knows(&self, id: MasterId, peer: &Peer) -> bool {
        self.metrics().membership_config.membership().get_node(&id) == Some(peer)
    }

    /// A change of who votes takes two entries. Should the leader die between them, the next one makes the second.
    ///
    /// # Errors
    /// As `add`.
    pub(super) async fn finish_change(&self) -> Result<(), MemberError> {
        let half_made = self.metrics().membership_config.membership().get_joint_config().len() > 1;
        // One that is under way is no business of ours.
        if !(half_made && self.leads()) || self.changing.try_lock().is_err() {
            return Ok(());
        }
        tracing::info!("finishing a change of the masters that was interrupted");
        self.change(ChangeMembers::AddVoterIds(BTreeSet::new())).await
    }

    async fn change(&self, change: ChangeMembers<MasterId, Peer>) -> Result<(), MemberError> {
        let turn = Arc::clone(&self.changing).try_lock_owned().map_err(|_| MemberError::Underway)?;
        let (raft, mut metrics, term) = (self.raft().clone(), self.watch(), self.metrics().current_term);
        // On its own: who asked may give up between the two entries.
        let changed = tokio::spawn(async move {
            let _turn = turn;
            let deposed = metrics.wait_for(|m| m.state != ServerState::Leader || m.current_term != term);
            // Of an entry that a snapshot has overtaken openraft says nothing any more.
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
            Ok(Ok(Some(Err(error)))) => Err(MemberError::Refused(error.to_string())),
        }
    }

    /// Takes the next step towards making `id` at `peer` a voter. To be called on the leader.
    ///
    /// # Errors
    /// When that cannot be done now.
    pub async fn add(&self, id: MasterId, peer: Peer) -> Result<Standing, MemberError> {
        self.read_index().await?;
        let metrics = self.metrics();
        let members = metrics.membership_config.membership();
        match members.get_node(&id) {
            None => {
                // A master that was wiped comes back under a new id, at its old address.
                let former = members.nodes().find(|(_, p)| p.address == peer.address).map(|(id, _)| *id);
                if let Some(former) = former {
                    tracing::info!(
                        master = former,
                        address = peer.address,
                        "a master comes back as a new one"
                    );
                    self.remove(former).await?;
                } else if members.nodes().count() >= MASTERS_MAX {
                    return Err(MemberError::TooMany);
                }
                tracing::info!(master = id, address = peer.address, "a master joins");
                self.change(ChangeMembers::AddNodes(BTreeMap::from([(id, peer)]))).await?;
                Ok(Standing::Learner { behind: None })
            }
            Some(known) if *known != peer => {
                self.change(ChangeMembers::SetNodes(BTreeMap::from([(id, peer)]))).await?;
                Ok(Standing::Learner { behind: None })
            }
            Some(_) if self.votes(id) => Ok(Standing::Voter),
            Some(_) if members.voter_ids().any(|v| v == id) => {
                self.finish_change().await?;
                Ok(Standing::Learner { behind: Some(0) })
            }
            Some(_) => {
                let summary = self.masters().into_iter().find(|m| m.master == id);
                let caught_up =
                    metrics.replication.as_ref().is_some_and(|r| r.get(&id).is_some_and(Option::is_some));
                match summary.and_then(|m| m.behind).filter(|_| caught_up) {
                    Some(behind) if behind <= RAFT_LAG_MAX => {
                        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await?;
                        tracing::info!(master = id, "a master has caught up, and votes from now on");
                        Ok(Standing::Voter)
                    }
                    behind => Ok(Standing::Learner { behind }),
                }
            }
        }
    }

    /// Takes a master out of the cluster. To be called on the leader.
    ///
    /// # Errors
    /// When it is the last one, unknown, or nothing can be changed now.
    pub async fn remove(&self, id: MasterId) -> Result<(), MemberError> {
        self.read_index().await?;
        let metrics = self.metrics();
        let members = metrics.membership_config.membership();
        if members.get_node(&id).is_none() {
            return Err(MemberError::Unknown(id.to_string()));
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

    /// Makes this master, which knows nothing yet, a group of one.
    ///
    /// # Errors
    /// When it belongs to a cluster.
    pub async fn found(&self) -> Result<(), MemberError> {
        let members = BTreeMap::from([(self.id(), self.me().clone())]);
        match self.raft().initialize(members).await {
            // A start before this one did not get any further.
            Err(RaftError::APIError(_)) if self.is_alone() => {}
            Err(RaftError::APIError(_)) => return Err(MemberError::NotNew),
            Err(RaftError::Fatal(e)) => return Err(MemberError::Refused(e.to_string())),
            Ok(()) => {}
        }
        self.stand_alone().await;
        let leads = async {
            while !self.leads() {
                self.news().await;
            }
        };
        tokio::time::timeout(LEADER_TIMEOUT.max(Duration::from_secs(1)), leads)
            .await
            .map_err(|_| NoLeader.into())
    }
}
