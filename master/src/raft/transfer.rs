//! Transfers snapshots between masters, in parts, each a signed call. The receiver appends them to a file that
//! survives a broken connection, so that the next attempt resumes where this one stopped.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use openraft::raft::SnapshotResponse;
use openraft::{Snapshot, Vote};
use serde::{Deserialize, Serialize};
use shared::digest::Digest;
use shared::durable::create_dir_all;
use shared::limits::{SNAPSHOT_KEPT, SNAPSHOT_PART_BYTES};
use shared::work::blocking;

use super::error::AnswerError;
use super::machine::{Machine, snapshot_meta};
use super::{LogId, MasterId, Raft, SnapshotData};
use crate::snapshot::{SnapshotError, Summary};
use crate::tables::meta::Applied;

const WRITING: &str = "writing";
const RECEIVED: &str = "received";

/// A snapshot of this master's tables, ready to be sent. Its file is removed on drop.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    /// The time of the last read.
    used: Mutex<Instant>,
    pub applied: Applied,
    /// Length and digest of the file.
    pub summary: Summary,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Prepared {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps it, and the log entries after it, for another `SNAPSHOT_KEPT`.
    pub fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Reads at most `SNAPSHOT_PART_BYTES` of it from `offset` on.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn part(&self, offset: u64) -> io::Result<Vec<u8>> {
        let path = self.path.clone();
        self.touch();
        blocking(move || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut part = Vec::with_capacity(SNAPSHOT_PART_BYTES);
            file.take(SNAPSHOT_PART_BYTES as u64).read_to_end(&mut part)?;
            Ok(part)
        })
        .await
    }
}

impl Machine {
    /// Returns a snapshot that covers at least `wanted`: the last one, or a new one, which replaces it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn prepare(&self, wanted: Option<LogId>) -> Result<Arc<Prepared>, SnapshotError> {
        let mut prepared = self.prepared.lock().await;
        if let (Some(last), Some(wanted)) = (prepared.as_ref(), wanted)
            && last.applied.last >= Some(wanted)
        {
            return Ok(Arc::clone(last));
        }
        *prepared = None;
        let (database, folder) = (Arc::clone(self.database()), self.snapshots());
        let new = blocking(move || {
            let io = SnapshotError::io(&folder);
            create_dir_all(&folder).map_err(&io)?;
            let writing = folder.join(format!("{WRITING}-{}", uuid::Uuid::new_v4().simple()));
            let made = database.write_snapshot(&writing).and_then(|(summary, applied)| {
                let path = writing.with_file_name(format!("{}.snapshot", summary.digest));
                fs::rename(&writing, &path).map_err(&io)?;
                Ok(Prepared { path, used: Mutex::new(Instant::now()), applied, summary })
            });
            if made.is_err() {
                let _ = fs::remove_file(&writing);
            }
            made
        });
        let new = Arc::new(new.await?);
        *prepared = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Drops a snapshot that nobody has read for `SNAPSHOT_KEPT`.
    pub fn drop_unused(&self) {
        let Ok(mut prepared) = self.prepared.try_lock() else { return };
        let unused = |p: &Arc<Prepared>| {
            let last = *p.used.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::strong_count(p) == 1 && last.elapsed() > SNAPSHOT_KEPT
        };
        if prepared.as_ref().is_some_and(unused) {
            *prepared = None;
        }
    }
}

/// A complete snapshot from another master. Its file is removed on drop.
#[derive(Debug)]
pub struct Received {
    path: PathBuf,
}

impl Received {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The offer of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its length in bytes.
    pub bytes: u64,
    /// Its BLAKE3, which also identifies it.
    pub digest: Digest,
}

/// A part of a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    pub digest: Digest,
    /// The position of `bytes` in the snapshot.
    pub offset: u64,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Install {
    /// The vote of the leader that sent it.
    pub vote: Vote<MasterId>,
    pub offer: Offer,
    pub applied: Applied,
}

/// Receives snapshots, at most one at a time.
#[derive(Debug)]
pub struct Receiver {
    folder: PathBuf,
    /// Serializes calls: a part that arrives twice must not be written twice.
    turn: Mutex<()>,
}

impl Receiver {
    /// Receives into `folder`. Files of earlier processes are removed, except for received snapshots, which
    /// can be resumed.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(RECEIVED) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { folder, turn: Mutex::new(()) })
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{RECEIVED}-{digest}"))
    }

    /// Returns how many bytes of a snapshot are already here. Parts of other snapshots are removed.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn offered(&self, offer: &Offer) -> io::Result<u64> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(offer.digest);
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.path() != path && entry.file_name().to_string_lossy().starts_with(RECEIVED) {
                fs::remove_file(entry.path())?;
            }
        }
        let file = File::options().create(true).append(true).open(&path)?;
        Ok(file.metadata()?.len().min(offer.bytes))
    }

    /// Appends a part if it is the next one. Returns how many bytes are here now, which is where the
    /// next part begins.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn part(&self, part: &Part) -> io::Result<u64> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = File::options().append(true).open(self.path(part.digest))?;
        let have = file.metadata()?.len();
        if have != part.offset {
            return Ok(have);
        }
        file.write_all(&part.bytes)?;
        Ok(have + part.bytes.len() as u64)
    }

    /// Returns the complete snapshot; none if it does not match its offer, and then it is removed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn whole(&self, offer: &Offer) -> io::Result<Option<Received>> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(offer.digest);
        let mut hasher = blake3::Hasher::new();
        let length = io::copy(&mut File::open(&path)?, &mut hasher)?;
        let received = Received { path };
        let right = length == offer.bytes && Digest::from(hasher.finalize()) == offer.digest;
        Ok(right.then_some(received))
    }
}

/// Installs received snapshots, one after the other.
#[derive(Clone)]
pub(super) struct Installer {
    pub(super) raft: Raft,
    pub(super) machine: Arc<Machine>,
    pub(super) receiver: Arc<Receiver>,
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

impl Installer {
    /// Replaces the tables with a received snapshot.
    ///
    /// openraft purges the log as soon as it has the snapshot. By then the new tables must be durable, or a crash in
    /// between would leave neither. An earlier error is returned, and nothing has changed.
    ///
    /// # Errors
    /// When the snapshot is incomplete, the disk returns an error, or Raft has stopped.
    pub(super) async fn install(self, message: Install) -> Result<SnapshotResponse<MasterId>, AnswerError> {
        // In its own task: the caller may give up half way, and the next attempt must not overlap with this one.
        let installing = tokio::spawn(async move {
            let _turn = Arc::clone(&self.turn).lock_owned().await;
            self.install_alone(message).await
        });
        installing.await.unwrap_or_else(|e| Err(AnswerError::Stopped { reason: e.to_string() }))
    }

    async fn install_alone(&self, message: Install) -> Result<SnapshotResponse<MasterId>, AnswerError> {
        let (receiver, offer) = (Arc::clone(&self.receiver), message.offer.clone());
        let received = blocking(move || receiver.whole(&offer)).await?.ok_or(AnswerError::NotWhole)?;
        tracing::info!(bytes = message.offer.bytes, "installing a snapshot");
        let database = Arc::clone(self.machine.database());
        blocking(move || database.stage(received.path())).await?;
        let snapshot =
            Snapshot { meta: snapshot_meta(message.applied), snapshot: Box::new(SnapshotData::Staged) };
        let installed = self.raft.install_full_snapshot(message.vote, snapshot).await;
        // openraft ignores a snapshot that is older than the tables; its staged tables are removed.
        let database = Arc::clone(self.machine.database());
        if installed.is_ok()
            && let Err(error) = blocking(move || database.drop_staged()).await
        {
            tracing::warn!(%error, "staged tables that are not needed could not be removed");
        }
        installed.map_err(|e| AnswerError::Stopped { reason: e.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_may_come_twice_or_be_lost() {
        let dir = tempfile::tempdir().unwrap();
        let value: Vec<u8> = (0..100u8).collect();
        let offer = Offer { bytes: 100, digest: Digest::of(&value) };
        let part = |offset: usize, to: usize| Part {
            digest: offer.digest,
            offset: offset as u64,
            bytes: value[offset..to].to_vec(),
        };
        let receiver = Receiver::new(dir.path().join("s")).unwrap();
        assert_eq!(receiver.offered(&offer).unwrap(), 0);
        assert_eq!(receiver.part(&part(0, 40)).unwrap(), 40);
        assert_eq!(receiver.part(&part(0, 40)).unwrap(), 40);
        assert_eq!(receiver.part(&part(60, 100)).unwrap(), 40);
        drop(receiver);
        let receiver = Receiver::new(dir.path().join("s")).unwrap();
        assert_eq!(receiver.offered(&offer).unwrap(), 40, "it goes on where it stopped");
        assert_eq!(receiver.part(&part(40, 100)).unwrap(), 100);
        let whole = receiver.whole(&offer).unwrap().unwrap();
        assert_eq!(fs::read(whole.path()).unwrap(), value);
        drop(whole);
        assert_eq!(receiver.offered(&offer).unwrap(), 0);
        receiver.part(&Part { bytes: vec![0; 100], ..part(0, 0) }).unwrap();
        assert!(receiver.whole(&offer).unwrap().is_none(), "other bytes");
        let other = Offer { digest: Digest::of(b"other"), ..offer.clone() };
        receiver.offered(&other).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("s")).unwrap().count(), 1, "old ones are removed");
    }
}
