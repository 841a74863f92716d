//! A master whose tables are damaged gets those of another one, before it takes part again. Its log and its vote stay: what it
//! promised to the others holds, and what the tables of the other one lack is in the log.

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
use shared::wire::master::MasterSelf;
use shared::wire::routes::{MASTER_SELF, TABLES_OFFER, TABLES_PART};
use shared::work::blocking;

use super::TypeConfig;
use super::error::AnswerError;
use super::group::Group;
use super::log::LogStore;
use crate::db::other_masters::OtherMasters;
use crate::db::{Database, LOG};
use crate::snapshot::SnapshotError;

/// The file that the tables come in.
const FILE: &str = "tables.snapshot";
/// Without an answer the other masters are asked again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// And that is said no more often than this.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// "These are my tables."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablesOffer {
    /// Length of the snapshot in bytes.
    pub bytes: u64,
    /// BLAKE3 of it.
    pub digest: Digest,
    /// The last entry of the log that it covers.
    pub covers: u64,
}

/// "Which bytes are there from this place on?"
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TablesPart {
    pub digest: Digest,
    /// From where on.
    pub offset: u64,
}

impl Group {
    /// Writes a snapshot of this master's tables for one that has lost its own.
    ///
    /// # Errors
    /// When this master is of another cluster, or its tables are damaged, too.
    pub async fn tables_offer(&self, cluster: ClusterId) -> Result<TablesOffer, AnswerError> {
        let ours = self.machine().database().identity().map_err(SnapshotError::from)?.map(|i| i.cluster);
        if ours != Some(cluster) {
            return Err(AnswerError::Stopped("this master is of another cluster".into()));
        }
        let prepared = self.machine().prepare(None).await?;
        tracing::info!(
            bytes = prepared.summary.bytes,
            "another master asks for the metadata: its own is damaged"
        );
        let covers = prepared.applied.last.map_or(0, |l| l.index);
        Ok(TablesOffer { bytes: prepared.summary.bytes, digest: prepared.summary.digest, covers })
    }

    /// Bytes of it.
    ///
    /// # Errors
    /// When it has gone meanwhile.
    pub async fn tables_part(&self, part: &TablesPart) -> Result<Vec<u8>, AnswerError> {
        let prepared = self.machine().prepared.lock().await.as_ref().map(Arc::clone);
        let prepared = prepared.filter(|p| p.summary.digest == part.digest).ok_or(AnswerError::NotWhole)?;
        Ok(prepared.part(part.offset).await?)
    }
}

/// The tables did not come.
#[derive(Debug, thiserror::Error)]
enum HealError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("the tables that are being fetched: {0}")]
    Io(#[from] io::Error),
    #[error("what came from {0} is not what it offered")]
    NotWhole(String),
    #[error("the metadata of {address} ends at entry {covers}, and the log here begins after {needed}")]
    Behind { address: String, covers: u64, needed: u64 },
}

/// Puts the tables of another master in the place of those in `folder`. Returns when that is done: as long as no other master
/// has whole tables, it waits.
pub(crate) async fn heal(folder: &Path, others: &OtherMasters, peers: &PeerClient) {
    let mut said: Option<Instant> = None;
    let needed = dropped(folder).await;
    loop {
        for master in &others.masters {
            match from(folder, others.cluster, &master.address, needed, peers).await {
                Ok(()) => {
                    tracing::warn!(
                        master = master.address,
                        "the damaged metadata was replaced by that of another master"
                    );
                    return;
                }
                Err(error) if said.is_none_or(|at| at.elapsed() > SAY_EVERY) => {
                    tracing::error!(
                        %error, master = master.address,
                        "the metadata is damaged, and another master does not send its own; it is asked again. If no \
                         master has whole metadata, stop them all and use `barge cluster rebuild`"
                    );
                    said = Some(Instant::now());
                }
                Err(error) => tracing::debug!(%error, master = master.address, "no metadata yet"),
            }
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Up to which entry the log beside the tables has been cut: what is before it must be in the tables.
async fn dropped(folder: &Path) -> u64 {
    let log = folder.join(LOG);
    let opened = blocking(move || LogStore::<TypeConfig>::open(&log)).await;
    // One that cannot be read is said when the group starts.
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
    // One that is being healed itself has a socket and does not answer: that is known soon.
    let _: MasterSelf = peers.call(address, MASTER_SELF, &()).await?;
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
            return Err(HealError::NotWhole(address.into()));
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
        return Err(HealError::NotWhole(address.into()));
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
