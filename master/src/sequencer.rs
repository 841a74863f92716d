//! Orders all commands. Commands are batched into one log entry, with one fsync on each master. Callers are answered
//! once a majority has synced the entry and this master has applied it.
//!
//! Any master accepts proposals; followers forward them to the leader.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::clock::Clock;
use shared::http::client::{CallError, PeerClient};
use shared::ids::BlobId;
use shared::limits::{COMMIT_BATCH, LEADER_TIMEOUT, PROPOSE_QUEUE, PROPOSE_TIMEOUT, RAFT_ENTRY_BYTES};
use shared::wire::error::ErrorCode;
use shared::wire::routes::PROPOSE;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::raft::Batch;
use crate::raft::error::{NoLeader, WriteError};
use crate::raft::group::Group;
use crate::raft::rpc::Envelope;
use crate::state::command::{Command, Outcome};
use crate::tables::{TableError, meta};

/// Proposes commands and allocates blob ids.
#[derive(Debug)]
pub struct Sequencer {
    queue: mpsc::Sender<Proposal>,
    group: Arc<Group>,
    peers: PeerClient,
    last_blob: Mutex<Option<BlobId>>,
    clock: Clock,
}

#[derive(Debug)]
struct Proposal {
    command: Command,
    answer: oneshot::Sender<Result<Outcome, WriteError>>,
}

/// Why a command has no known outcome.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProposeError {
    /// Nothing was done.
    #[error(transparent)]
    NoLeader(#[from] NoLeader),
    /// The command may or may not have been applied.
    #[error("the masters did not answer in time; whether the change was made is unknown")]
    OutcomeUnknown,
}

impl Sequencer {
    /// Starts the batching task; must be called inside the runtime.
    pub fn start(group: Arc<Group>, peers: PeerClient, clock: Clock) -> Self {
        let (queue, proposals) = mpsc::channel(PROPOSE_QUEUE);
        tokio::spawn(run(Arc::clone(&group), proposals));
        Self { queue, group, peers, last_blob: Mutex::default(), clock }
    }

    /// Proposes `command`; returns its outcome once it is durable on a majority of the masters and applied.
    ///
    /// # Errors
    /// When there is no leader, or the outcome is unknown.
    pub async fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        let deadline = Instant::now() + LEADER_TIMEOUT;
        loop {
            let tried = match self.group.leader() {
                Some((id, _)) if id == self.group.id() => self.propose_as_leader(command.clone()).await,
                Some((id, peer)) => self.pass_on(id, &peer.address, command.clone()).await,
                None => Err(WriteError::NotLeader),
            };
            match tried {
                Ok(outcome) => return Ok(outcome),
                Err(WriteError::Unknown) => return Err(ProposeError::OutcomeUnknown),
                Err(WriteError::NotLeader) if Instant::now() >= deadline => return Err(NoLeader.into()),
                Err(WriteError::NotLeader) => self.group.news().await,
            }
        }
    }

    /// Like `propose`, but only on the leader.
    ///
    /// # Errors
    /// When this master does not lead, or the outcome is unknown.
    pub async fn propose_as_leader(&self, command: Command) -> Result<Outcome, WriteError> {
        if !self.group.is_leader() {
            return Err(WriteError::NotLeader);
        }
        let (answer, outcome) = oneshot::channel();
        let decided = async {
            // The receiving task runs as long as the server.
            self.queue.send(Proposal { command, answer }).await.map_err(|_| WriteError::Unknown)?;
            outcome.await.unwrap_or(Err(WriteError::Unknown))
        };
        tokio::time::timeout(PROPOSE_TIMEOUT, decided).await.unwrap_or(Err(WriteError::Unknown))
    }

    async fn pass_on(&self, leader: u64, address: &str, command: Command) -> Result<Outcome, WriteError> {
        let message = Envelope { to: leader, message: command };
        let within = PROPOSE_TIMEOUT + Duration::from_secs(1);
        match self.peers.call_within(address, PROPOSE, &message, within).await {
            Ok(outcome) => Ok(outcome),
            Err(CallError::Unreachable { .. }) => Err(WriteError::NotLeader),
            Err(CallError::Refused { detail, .. }) if detail.code == ErrorCode::NotLeader => {
                Err(WriteError::NotLeader)
            }
            Err(error) => {
                tracing::warn!(%error, "forwarding a command to the leader failed; its outcome is unknown");
                Err(WriteError::Unknown)
            }
        }
    }

    /// Allocates a blob id: after every one committed before the call, and every one this master has allocated.
    ///
    /// The caller must have waited until this master has applied all commits (`Group::ensure_linearizable`).
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn next_blob(&self) -> Result<BlobId, TableError> {
        let committed = meta::counters(&self.group.machine().database().tree())?.last_blob;
        let random = uuid::Uuid::new_v4().into_bytes();
        let random: [u8; 10] = random[..10].try_into().expect("ten of sixteen bytes");
        let mut last = self.last_blob.lock().unwrap_or_else(PoisonError::into_inner);
        let next = BlobId::next((*last).max(committed), self.clock.now(), random);
        *last = Some(next);
        Ok(next)
    }
}

/// Collects the commands proposed during one batch into the next.
async fn run(group: Arc<Group>, mut proposals: mpsc::Receiver<Proposal>) {
    while let Some(first) = proposals.recv().await {
        let (mut commands, mut waiting, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut next = Some(first);
        while let Some(Proposal { command, answer }) = next {
            // If the caller has gone, the command is not started.
            if !answer.is_closed() {
                bytes += command.weight();
                commands.push(command);
                waiting.push(answer);
            }
            let full = waiting.len() >= COMMIT_BATCH || bytes >= RAFT_ENTRY_BYTES;
            next = if full { None } else { proposals.try_recv().ok() };
        }
        if commands.is_empty() {
            continue;
        }
        // A leader without a majority may wait forever; by then the callers have timed out.
        let written = tokio::time::timeout(PROPOSE_TIMEOUT * 2, group.write(Batch(commands))).await;
        match written.unwrap_or(Err(WriteError::Unknown)) {
            Ok(outcomes) => {
                for (answer, outcome) in waiting.into_iter().zip(outcomes.0) {
                    let _ = answer.send(Ok(outcome));
                }
            }
            Err(error) => waiting.into_iter().for_each(|answer| drop(answer.send(Err(error)))),
        }
    }
}
