//! The Raft transport (RPC) between masters: signed calls over the servers' own HTTP client, encoded as postcard.
//!
//! Every message names the master that it is for, so an address that leads to another one (a reused port, a second
//! cluster of the same user) does no harm.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openraft::error::{
    Fatal, NetworkError, PayloadTooLarge, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, Snapshot, Vote};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::http::client::{CallError, PeerClient};
use shared::limits::{CALL_TIMEOUT, RAFT_HEARTBEAT, RAFT_MESSAGE_BYTES_MAX, SNAPSHOT_INSTALL_TIMEOUT};
use shared::wire::error::ErrorCode;
use shared::wire::master::MasterIdentity;
use shared::wire::routes::{MASTER_SELF, RAFT_APPEND, RAFT_INSTALL, RAFT_OFFER, RAFT_PART, RAFT_VOTE};

use super::transfer::{Install, Offer, Part};
use super::{MasterId, Peer, SnapshotData, TypeConfig};

/// A message and the master that it is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope<T> {
    pub to: MasterId,
    pub message: T,
}

/// Shortest interval between two log lines about refusals.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Opens connections to other masters.
#[derive(Clone, Debug)]
pub struct Dialer {
    peers: PeerClient,
    /// When a refusal was last logged.
    said: Arc<Mutex<Option<Instant>>>,
}

impl Dialer {
    pub fn new(peers: PeerClient) -> Self {
        Self { peers, said: Arc::default() }
    }
}

impl Dialer {
    /// Logs a refusal (another secret, a wrong clock, an address that leads elsewhere): an operator must fix it. A
    /// master that cannot be reached shows in the status instead.
    fn say(&self, error: &CallError) {
        let CallError::Refused { detail, .. } = error else { return };
        if matches!(detail.code, ErrorCode::Unavailable | ErrorCode::NotJoined) {
            return;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|last| last.elapsed() > SAY_EVERY) {
            tracing::warn!(%error, "another master refuses the calls of this one");
            *said = Some(Instant::now());
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Dialer {
    type Network = Line;

    async fn new_client(&mut self, target: MasterId, node: &Peer) -> Line {
        Line { dialer: self.clone(), target, address: node.address.clone() }
    }
}

/// A connection to one master.
#[derive(Debug)]
pub struct Line {
    dialer: Dialer,
    target: MasterId,
    address: String,
}

impl Line {
    async fn call<Q, A>(&self, path: &str, message: Q, within: Duration) -> Result<A, CallError>
    where
        Q: Serialize,
        A: DeserializeOwned,
    {
        let envelope = Envelope { to: self.target, message };
        let body = postcard::to_stdvec(&envelope).expect("messages hold nothing postcard refuses");
        let peers = &self.dialer.peers;
        let answered = peers.exchange(&self.address, path, body, within, RAFT_MESSAGE_BYTES_MAX).await;
        let (status, answer) = answered.inspect_err(|e| self.dialer.say(e))?;
        postcard::from_bytes(&answer)
            .map_err(|_| CallError::Strange { address: self.address.clone(), status })
    }

    /// Sends the file of a snapshot, resuming after the bytes that the other master already has.
    async fn send(
        &self,
        vote: Vote<MasterId>,
        snapshot: Snapshot<TypeConfig>,
    ) -> Result<SnapshotResponse<MasterId>, Trouble> {
        let SnapshotData::Tables(machine) = *snapshot.snapshot else { return Err(Trouble::NotOurs) };
        // No file is written for a master that cannot be reached.
        let _: MasterIdentity = self.dialer.peers.call(&self.address, MASTER_SELF, &()).await?;
        let prepared =
            machine.prepare(snapshot.meta.last_log_id).await.map_err(|e| Trouble::Tables(e.to_string()))?;
        let offer = Offer { bytes: prepared.summary.bytes, digest: prepared.summary.digest };
        let mut have: u64 = self.call(RAFT_OFFER, offer.clone(), CALL_TIMEOUT).await?;
        tracing::info!(to = self.address, from = have, bytes = offer.bytes, "sending a snapshot");
        while have < offer.bytes {
            let bytes = prepared.part(have).await.map_err(|e| Trouble::Tables(e.to_string()))?;
            let part = Part { digest: offer.digest, offset: have, bytes };
            have = self.call(RAFT_PART, part, CALL_TIMEOUT).await?;
        }
        let install = Install { vote, offer, applied: prepared.applied.clone() };
        let installed = self.call(RAFT_INSTALL, install, SNAPSHOT_INSTALL_TIMEOUT).await?;
        // The installation may have taken long, and the other master needs the entries after the snapshot now.
        prepared.touch();
        Ok(installed)
    }
}

/// A snapshot could not be sent.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the snapshot does not belong to the tables of this master")]
    NotOurs,
    #[error("{0}")]
    Tables(String),
    #[error(transparent)]
    Call(#[from] CallError),
}

type Failed = RPCError<MasterId, Peer, RaftError<MasterId>>;

fn failed(error: &CallError) -> Failed {
    match error {
        CallError::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(error)),
        _ => RPCError::Network(NetworkError::new(error)),
    }
}

impl RaftNetwork<TypeConfig> for Line {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<MasterId>, Failed> {
        let entries = rpc.entries.len() as u64;
        let called = async { self.call(RAFT_APPEND, rpc, option.hard_ttl()).await.map_err(|e| failed(&e)) };
        if entries < 2 {
            return called.await;
        }
        match tokio::time::timeout(option.soft_ttl(), called).await {
            Ok(answered) => answered,
            // The same message would be as slow again, so openraft is told to halve it.
            Err(_) => Err(PayloadTooLarge::new_entries_hint(entries / 2).into()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<MasterId>,
        option: RPCOption,
    ) -> Result<VoteResponse<MasterId>, Failed> {
        self.call(RAFT_VOTE, rpc, option.hard_ttl()).await.map_err(|e| failed(&e))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<MasterId>,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<MasterId>, StreamingError<TypeConfig, Fatal<MasterId>>> {
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = self.send(vote, snapshot) => sent.map_err(|trouble| {
                tracing::warn!(
                    to = self.address, error = %trouble,
                    "a snapshot was not sent; the next attempt resumes there"
                );
                match trouble {
                    Trouble::Call(e @ CallError::Unreachable { .. }) => StreamingError::Unreachable(Unreachable::new(&e)),
                    other => StreamingError::Network(NetworkError::new(&other)),
                }
            }),
        }
    }

    fn backoff(&self) -> openraft::network::Backoff {
        openraft::network::Backoff::new(std::iter::repeat(RAFT_HEARTBEAT))
    }
}
