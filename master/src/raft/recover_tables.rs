//! Recovery of corrupt metadata: a master whose tables are corrupt fetches those of another master before it rejoins
//! the group. It keeps its log and its vote: its promises to the others remain valid, and entries that the other
//! master's tables lack are in the log.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::storage::RaftLogStorage;
use serde::{Deserialize, Serialize};
use shared::digest::Digest;
use shared::http::client::{CallError, PeerClient};
use shared::ids::ClusterId;
use shared::limits::{CALL_TIMEOUT, RAFT_MESSAGE_BYTES_MAX, SNAPSHOT_INSTALL_TIMEOUT};
use shared::wire::master::MasterIdentity;
use shared::wire::routes::{MASTER_SELF, TABLES_OFFER, TABLES_PART};
use shared::work::blocking;

use super::TypeConfig;
use super::error::AnswerError;
use super::group::Group;
use super::log::LogStore;
use crate::db::other_masters::OtherMasters;
use crate::db::{Database, LOG};
use crate::snapshot::SnapshotError;

/// The file that receives the tables.
const FILE: &str = "tables.snapshot";
/// Interval between two rounds of asking the other masters.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Shortest interval between two log lines about failed rounds.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// The offer of a master's tables as a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablesOffer {
    /// Length of the snapshot in bytes.
    pub bytes: u64,
    /// BLAKE3 of the snapshot.
    pub digest: Digest,
    /// The index of the last log entry that it covers.
    pub covers: u64,
}

/// A request for a part of offered tables.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TablesPart {
    pub digest: Digest,
    /// The position of its first byte in the snapshot.
    pub offset: u64,
}

impl Group {
    /// Writes a snapshot of this master's tables for a master whose own are corrupt.
    ///
    /// # Errors
    /// When this master belongs to another cluster, or its tables are corrupt, too.
    pub async fn tables_offer(&self, cluster: ClusterId) -> Result<TablesOffer, AnswerError> {
        let ours = self.machine().database().identity().map_err(SnapshotError::from)?.map(|i| i.cluster);
        if ours != Some(cluster) {
            return Err(AnswerError::OtherCluster);
        }
        let prepared = self.machine().prepare(None).await?;
        tracing::info!(
            bytes = prepared.summary.bytes,
            "another master requests the metadata: its own is corrupt"
        );
        let covers = prepared.applied.last.map_or(0, |l| l.index);
        Ok(TablesOffer { bytes: prepared.summary.bytes, digest: prepared.summary.digest, covers })
    }

    /// Reads a part of offered tables.
    ///
    /// # Errors
    /// When the snapshot has been dropped meanwhile.
    pub async fn tables_part(&self, part: &TablesPart) -> Result<Vec<u8>, AnswerError> {
        let prepared = self.machine().prepared.lock().await.as_ref().map(Arc::clone);
        let prepared = prepared.filter(|p| p.summary.digest == part.digest).ok_or(AnswerError::NotWhole)?;
        Ok(prepared.part(part.offset).await?)
    }
}

/// The tables could not be fetched.
#[derive(Debug, thiserror::Error)]
enum HealError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("the fetched metadata could not be stored: {0}")]
    Io(#[from] io::Error),
    #[error("the metadata from {address} does not match its offer")]
    NotWhole { address: String },
    #[error("the metadata of {address} ends at entry {covers}, but the log here begins after {needed}")]
    Behind { address: String, covers: u64, needed: u64 },
}

/// Replaces the tables in `folder` with those of another master. It retries until a master with good tables answers.
pub(crate) async fn recover(folder: &Path, others: &OtherMasters, peers: &PeerClient) {
    let mut said: Option<Instant> = None;
    let needed = dropped(folder).await;
    loop {
        for master in &others.masters {
            match from(folder, others.cluster, &master.address, needed, peers).await {
                Ok(()) => {
                    tracing::warn!(
                        master = master.address,
                        "the corrupt metadata was replaced by that of another master"
                    );
                    return;
                }
                Err(error) if said.is_none_or(|at| at.elapsed() > SAY_EVERY) => {
                    tracing::error!(
                        %error, master = master.address,
                        "the metadata is corrupt, and this other master cannot provide its own; retrying. If no \
                         master has good metadata, stop all of them and run `barge cluster rebuild`"
                    );
                    said = Some(Instant::now());
                }
                Err(error) => tracing::debug!(%error, master = master.address, "no metadata yet"),
            }
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Returns the last purged entry of the log beside the tables. The fetched tables must cover it.
async fn dropped(folder: &Path) -> u64 {
    let log = folder.join(LOG);
    let opened = blocking(move || LogStore::<TypeConfig>::open(&log)).await;
    // A log that cannot be opened is reported when the group starts.
    let Ok(mut log) = opened else { return 0 };
    let state = log.get_log_state().await;
    state.ok().and_then(|s| s.last_purged_log_id).map_or(0, |l| l.index)
}

async fn from(
    folder: &Path,
    cluster: ClusterId,
    address: &str,
    needed: u64,
    peers: &PeerClient,
) -> Result<(), HealError> {
    // A master that is itself recovering accepts connections but does not answer; this short call detects it quickly.
    let _: MasterIdentity = peers.call(address, MASTER_SELF, &()).await?;
    let offer: TablesOffer = call(peers, address, TABLES_OFFER, &cluster, SNAPSHOT_INSTALL_TIMEOUT).await?;
    if offer.covers < needed {
        return Err(HealError::Behind { address: address.into(), covers: offer.covers, needed });
    }
    let path = folder.join(FILE);
    let (mut file, mut hasher, mut have) = (File::create(&path)?, blake3::Hasher::new(), 0);
    while have < offer.bytes {
        let part = TablesPart { digest: offer.digest, offset: have };
        let bytes: Vec<u8> = call(peers, address, TABLES_PART, &part, CALL_TIMEOUT).await?;
        if bytes.is_empty() {
            return Err(HealError::NotWhole { address: address.into() });
        }
        have += bytes.len() as u64;
        (file, hasher) = blocking(move || {
            file.write_all(&bytes)?;
            hasher.update(&bytes);
            Ok::<_, io::Error>((file, hasher))
        })
        .await?;
    }
    if have != offer.bytes || Digest::from(hasher.finalize()) != offer.digest {
        return Err(HealError::NotWhole { address: address.into() });
    }
    let (folder, snapshot): (PathBuf, PathBuf) = (folder.to_owned(), path.clone());
    blocking(move || Database::heal(&folder, &snapshot)).await?;
    fs::remove_file(&path)?;
    Ok(())
}

async fn call<Q: Serialize, A: serde::de::DeserializeOwned>(
    peers: &PeerClient,
    address: &str,
    path: &str,
    question: &Q,
    within: Duration,
) -> Result<A, CallError> {
    let body = postcard::to_stdvec(question).expect("messages hold nothing postcard refuses");
    let (status, answer) = peers.exchange(address, path, body, within, RAFT_MESSAGE_BYTES_MAX).await?;
    postcard::from_bytes(&answer).map_err(|_| CallError::Strange { address: address.to_owned(), status })
}
