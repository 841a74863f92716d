//! The group of masters, as the rest of a master uses it: the leader, linearizable reads, and writing batches of
//! commands to the log.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{RaftMetrics, ServerState, SnapshotPolicy};
use shared::clock::millis;
use shared::http::client::PeerClient;
use shared::limits::{
    LEADER_TIMEOUT, RAFT_CHECKPOINT_ENTRIES, RAFT_ELECTION_MAX, RAFT_ELECTION_MIN, RAFT_HEARTBEAT,
    RAFT_LAG_MAX, SNAPSHOT_INSTALL_TIMEOUT,
};
use shared::wire::routes::READ_INDEX;
use shared::work::blocking;
use tokio::sync::watch;

use super::error::{AnswerError, Misdirected, NoLeader, WriteError};
use super::genesis::{StartError, master_id, match_up};
use super::lease::{Lease, SharedCall};
use super::log::LogStore;
use super::machine::{Machine, Observe};
use super::rpc::{Dialer, Envelope};
use super::transfer::{Install, Installer, Offer, Part, Receiver};
use super::{Batch, MasterId, Outcomes, Peer, Raft, TypeConfig};
use crate::db::other_masters::OtherMasters;
use crate::db::{Database, LOG};

/// Entries in one message to another master; each holds at most one batch.
const ENTRIES_A_MESSAGE: u64 = 64;
/// Interval between two looks for a leader when nothing changes.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// This master as a member of the group.
pub struct Group {
    raft: Raft,
    id: MasterId,
    me: Peer,
    machine: Arc<Machine>,
    log: LogStore<TypeConfig>,
    pub(super) peers: PeerClient,
    pub(super) lease: Lease,
    confirming: SharedCall<bool>,
    catching_up: SharedCall<bool>,
    committed: SharedCall<Option<u64>>,
    receiver: Arc<Receiver>,
    installer: Installer,
    pub(super) changing: Arc<tokio::sync::Mutex<()>>,
    pub(super) other_masters: Mutex<Option<OtherMasters>>,
    metrics: watch::Receiver<RaftMetrics<MasterId, Peer>>,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("id", &self.id).field("me", &self.me).finish_non_exhaustive()
    }
}

fn config(entries_kept: u64) -> openraft::Config {
    openraft::Config {
        cluster_name: "barge".into(),
        heartbeat_interval: millis(RAFT_HEARTBEAT),
        election_timeout_min: millis(RAFT_ELECTION_MIN),
        election_timeout_max: millis(RAFT_ELECTION_MAX),
        install_snapshot_timeout: millis(SNAPSHOT_INSTALL_TIMEOUT),
        max_payload_entries: ENTRIES_A_MESSAGE,
        replication_lag_threshold: RAFT_LAG_MAX,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(RAFT_CHECKPOINT_ENTRIES.min(entries_kept)),
        max_in_snapshot_log_to_keep: entries_kept,
        ..openraft::Config::default()
    }
}

impl Group {
    /// Joins the group with the tables of `database`; `me` has the addresses under which the others
    /// reach this master.
    ///
    /// # Errors
    /// When log, vote and tables cannot be read or do not match.
    pub async fn start(
        database: Arc<Database>,
        me: Peer,
        peers: PeerClient,
        entries_kept: u64,
        observe: Observe,
    ) -> Result<Self, StartError> {
        let folder = database.path().to_owned();
        let (id, new) = master_id(&folder)?;
        let log_folder: PathBuf = folder.join(LOG);
        let mut log = blocking(move || LogStore::open(&log_folder)).await?;
        match_up(&database, &mut log, id, new, &me).await?;
        let machine = Arc::new(Machine::new(database, observe)?);
        let snapshots = machine.snapshots();
        let receiver =
            Receiver::new(snapshots.clone()).map_err(|source| StartError::Io { path: snapshots, source })?;
        let dialer = Dialer::new(peers.clone());
        let raft = Raft::new(id, Arc::new(config(entries_kept)), dialer, log.clone(), Arc::clone(&machine))
            .await
            .map_err(|e| StartError::Consensus { reason: e.to_string() })?;
        let metrics = raft.metrics();
        // Before openraft's task has reported once, the metrics show no members, and `is_alone` would be false.
        let _ = metrics.clone().changed().await;
        let receiver = Arc::new(receiver);
        let installer = Installer {
            raft: raft.clone(),
            machine: Arc::clone(&machine),
            receiver: Arc::clone(&receiver),
            turn: Arc::default(),
        };
        let group = Self {
            raft,
            id,
            me,
            machine,
            log,
            peers,
            lease: Lease::default(),
            confirming: SharedCall::default(),
            catching_up: SharedCall::default(),
            committed: SharedCall::default(),
            receiver,
            installer,
            changing: Arc::default(),
            other_masters: Mutex::default(),
            metrics,
        };
        group.stand_alone().await;
        Ok(group)
    }

    /// Elects this master at once if it is a group of one: there is nobody to wait for.
    pub(super) async fn stand_alone(&self) {
        if self.is_alone() && self.metrics.borrow().state != ServerState::Leader {
            let _ = self.raft.trigger().elect().await;
        }
    }

    /// Whether this master is the only one with a vote.
    pub(super) fn is_alone(&self) -> bool {
        let metrics = self.metrics.borrow();
        let mut voters = metrics.membership_config.voter_ids();
        voters.next() == Some(self.id) && voters.next().is_none()
    }

    fn is_small(&self) -> bool {
        self.metrics.borrow().membership_config.voter_ids().count() <= 3
    }

    pub fn id(&self) -> MasterId {
        self.id
    }

    /// The addresses of this master.
    pub fn me(&self) -> &Peer {
        &self.me
    }

    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    pub(super) fn raft(&self) -> &Raft {
        &self.raft
    }

    pub(super) fn watch(&self) -> watch::Receiver<RaftMetrics<MasterId, Peer>> {
        self.metrics.clone()
    }

    pub fn metrics(&self) -> RaftMetrics<MasterId, Peer> {
        self.metrics.borrow().clone()
    }

    /// Bytes of the log on disk.
    pub fn log_bytes(&self) -> u64 {
        self.log.disk_bytes()
    }

    pub(super) fn log(&self) -> &LogStore<TypeConfig> {
        &self.log
    }

    /// The leader, as far as this master knows.
    pub fn leader(&self) -> Option<(MasterId, Peer)> {
        let metrics = self.metrics.borrow();
        let id = metrics.current_leader?;
        let peer = metrics.membership_config.membership().get_node(&id)?;
        Some((id, peer.clone()))
    }

    /// Whether this master is the leader, as far as it knows.
    pub fn is_leader(&self) -> bool {
        let metrics = self.metrics.borrow();
        metrics.state == ServerState::Leader && metrics.current_leader == Some(self.id)
    }

    /// Waits for a change of the metrics, `LOOK_AGAIN` at most.
    pub async fn news(&self) {
        let mut metrics = self.metrics.clone();
        metrics.mark_unchanged();
        let _ = tokio::time::timeout(LOOK_AGAIN, metrics.changed()).await;
    }

    /// Waits until everything acknowledged before the call can be read here.
    ///
    /// A leader asks a majority, unless its lease is valid (read index and lease: Ongaro, "Consensus: Bridging Theory
    /// and Practice", section 6.4). A follower asks the leader for its read index.
    ///
    /// # Errors
    /// When there is no leader with a majority.
    pub async fn ensure_linearizable(&self) -> Result<(), NoLeader> {
        if self.lease.holds() && self.applied_to_committed().await {
            return Ok(());
        }
        let found = tokio::time::timeout(LEADER_TIMEOUT, async {
            loop {
                let done = match self.leader() {
                    Some((id, _)) if id == self.id => self.confirm().await,
                    Some((id, peer)) => self.catch_up(id, &peer).await,
                    None => false,
                };
                if done {
                    return;
                }
                self.news().await;
            }
        });
        found.await.map_err(|_| NoLeader)
    }

    async fn confirm(&self) -> bool {
        let ask = || async {
            let asking = self.lease.ask();
            let asked = tokio::time::timeout(RAFT_ELECTION_MAX, self.raft.ensure_linearizable()).await;
            let confirmed = matches!(asked, Ok(Ok(_)));
            if confirmed {
                self.lease.confirmed(asking);
            }
            confirmed
        };
        self.confirming.get(ask).await
    }

    /// Asks the leader for its read index, and waits until this master has applied it.
    async fn catch_up(&self, id: MasterId, peer: &Peer) -> bool {
        let ask = || async {
            let question = Envelope { to: id, message: () };
            let asked = self.peers.call_within(&peer.address, READ_INDEX, &question, RAFT_ELECTION_MAX).await;
            let Ok::<u64, _>(index) = asked else { return false };
            let mut applied = self.machine.applied();
            let there = applied.wait_for(|a| a.last.map_or(0, |l| l.index) >= index);
            matches!(tokio::time::timeout(LEADER_TIMEOUT, there).await, Ok(Ok(_)))
        };
        self.catching_up.get(ask).await
    }

    /// The read index: the entry up to which a master must have applied to see everything that was acknowledged.
    ///
    /// # Errors
    /// When this master is not the leader, or no majority confirms it.
    pub async fn read_index(&self) -> Result<u64, NoLeader> {
        if !(self.lease.holds() || self.is_leader() && self.confirm().await) {
            return Err(NoLeader);
        }
        self.committed().await.ok_or(NoLeader)
    }

    /// The committed index, from openraft itself. `applied` would be too low: a reader on another master may already
    /// have seen more, and the tables show a batch a moment before `applied` does.
    async fn committed(&self) -> Option<u64> {
        let ask = || async { self.raft.with_raft_state(|s| s.committed.map_or(0, |l| l.index)).await.ok() };
        self.committed.get(ask).await
    }

    /// Waits until the tables show everything that is committed.
    async fn applied_to_committed(&self) -> bool {
        let Some(index) = self.committed().await else { return false };
        let mut applied = self.machine.applied();
        let there = applied.wait_for(|a| a.last.map_or(0, |l| l.index) >= index);
        matches!(tokio::time::timeout(LEADER_TIMEOUT, there).await, Ok(Ok(_)))
    }

    /// Writes a batch to the log and waits until it is applied.
    ///
    /// # Errors
    /// `NotLeader`: the batch is not in the log. `Unknown`: it may be.
    pub async fn write(&self, batch: Batch) -> Result<Outcomes, WriteError> {
        match self.raft.client_write(batch).await {
            Ok(written) => Ok(written.data),
            // openraft returns this also for an entry that a new leader has overwritten here. With more than three
            // masters, one that is down may still hold the entry and become leader.
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) if self.is_small() => {
                Err(WriteError::NotLeader)
            }
            Err(error) => {
                tracing::error!(%error, "a batch of commands was not acknowledged");
                Err(WriteError::Unknown)
            }
        }
    }

    /// Opens an envelope that is addressed to this master.
    ///
    /// # Errors
    /// When it is for another master.
    pub fn meant<T>(&self, envelope: Envelope<T>) -> Result<T, Misdirected> {
        if envelope.to == self.id { Ok(envelope.message) } else { Err(Misdirected(envelope.to)) }
    }

    /// Handles entries from the leader.
    ///
    /// # Errors
    /// When the message is for another master, or Raft has stopped.
    pub async fn append(
        &self,
        envelope: Envelope<AppendEntriesRequest<TypeConfig>>,
    ) -> Result<AppendEntriesResponse<MasterId>, AnswerError> {
        let rpc = self.meant(envelope)?;
        self.raft.append_entries(rpc).await.map_err(|e| AnswerError::Stopped { reason: e.to_string() })
    }

    /// Handles a vote request.
    ///
    /// # Errors
    /// The errors of `append`.
    pub async fn vote(
        &self,
        envelope: Envelope<VoteRequest<MasterId>>,
    ) -> Result<VoteResponse<MasterId>, AnswerError> {
        let rpc = self.meant(envelope)?;
        let answer = self.raft.vote(rpc).await;
        self.lease.end();
        answer.map_err(|e| AnswerError::Stopped { reason: e.to_string() })
    }

    /// Handles the offer of a snapshot. Returns how many of its bytes are already here.
    ///
    /// # Errors
    /// As `append`, and when the disk returns an error.
    pub async fn offered(&self, envelope: Envelope<Offer>) -> Result<u64, AnswerError> {
        let offer = self.meant(envelope)?;
        let receiver = Arc::clone(&self.receiver);
        Ok(blocking(move || receiver.offered(&offer)).await?)
    }

    /// Stores a part of a snapshot. Returns how many of its bytes are here now.
    ///
    /// # Errors
    /// The errors of `offered`.
    pub async fn part(&self, envelope: Envelope<Part>) -> Result<u64, AnswerError> {
        let part = self.meant(envelope)?;
        let receiver = Arc::clone(&self.receiver);
        Ok(blocking(move || receiver.part(&part)).await?)
    }

    /// Replaces the tables with a snapshot that was received completely.
    ///
    /// # Errors
    /// As `offered`, when it is incomplete, and when the tables cannot be written: then nothing has changed.
    pub async fn install(
        &self,
        envelope: Envelope<Install>,
    ) -> Result<SnapshotResponse<MasterId>, AnswerError> {
        self.installer.clone().install(self.meant(envelope)?).await
    }

    /// Leaves the group for a shutdown, with durable tables, so that the next start has nothing to apply.
    pub async fn stop(&self) {
        let _ = self.raft.shutdown().await;
        if self.machine.checkpoint().await.is_ok()
            && let Err(error) = self.machine.database().mark_closed()
        {
            tracing::warn!(%error, "the shutdown could not be marked as clean: the next start verifies all metadata");
        }
    }
}
