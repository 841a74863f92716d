//! Bootstrap of a metadata directory: the id of its master, and a log for tables that have none (a directory of
//! format version 1, a restored backup, a rebuild).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use openraft::storage::RaftLogStorage;
use openraft::{CommittedLeaderId, Membership, StoredMembership, Vote};
use serde::{Deserialize, Serialize};

use super::log::{LogStore, OpenError};
use super::{LogId, MasterId, Peer, StorageError, TypeConfig};
use crate::db::Database;
use crate::tables::meta::{self, Applied, FORMAT_VERSION, Identity};
use crate::tables::{TableError, Tables};

const FILE: &str = "master.json";
/// The log of a directory without one begins after this entry.
const FIRST_INDEX: u64 = 1;
const FIRST_TERM: u64 = 1;

/// A master that cannot start: mostly, log and tables of its directory do not match.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `master.json`, or the folder of snapshots.
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{0} cannot be parsed: restore it from a backup, or empty the directory and start this master with --join"
    )]
    Unreadable(PathBuf),
    #[error(transparent)]
    Log(#[from] OpenError),
    #[error(transparent)]
    Tables(#[from] TableError),
    /// Log or tables, when openraft used them.
    #[error(transparent)]
    Storage(#[from] Box<StorageError>),
    /// The tables lack entries that the log has purged.
    #[error(
        "the metadata in {path} ends at log entry {tables}, but the log begins after entry {log}: the entries in \
         between are lost. Do not start a master on it. Remove the directory and start the master with --join to get \
         the metadata from the others; with a single master, `barge cluster rebuild` re-creates it from the volumes, \
         and no value is lost"
    )]
    Gap {
        path: PathBuf,
        /// Last applied entry.
        tables: u64,
        /// Last purged entry.
        log: u64,
    },
    /// The log belongs to other tables.
    #[error(
        "the raft log in {0} does not belong to the tables beside it: restore or rebuild into an empty directory"
    )]
    Strange(PathBuf),
    /// Staged tables that another master sent.
    #[error("the last received snapshot cannot be used: {0}")]
    Staged(#[from] crate::snapshot::SnapshotError),
    /// Tables with a log position, but no log.
    #[error(
        "{path} has metadata but no log and no vote: {path}/raft was removed or not copied. A master without its \
         vote could elect a second leader. Restore {path}/raft; or remove the directory and start the master with \
         --join; with a single master, remove {path}/master.json as well to begin a new log"
    )]
    NoLog { path: PathBuf },
    #[error("raft does not start: {reason}")]
    Consensus { reason: String },
}

#[derive(Serialize, Deserialize)]
struct Description {
    master: MasterId,
}

/// Reads the id of the master from its directory, or creates one. The second part: whether it is new.
pub(super) fn master_id(folder: &Path) -> Result<(MasterId, bool), StartError> {
    let path = folder.join(FILE);
    let io = |source| StartError::Io { path: path.clone(), source };
    match fs::read(&path) {
        Ok(text) => {
            let found: Description =
                serde_json::from_slice(&text).map_err(|_| StartError::Unreadable(path.clone()))?;
            return Ok((found.master, false));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(io(e)),
    }
    let random = uuid::Uuid::new_v4().as_u64_pair().0;
    // 53 bits, which every JSON parser represents exactly; never 0, which means no master to openraft.
    let description = Description { master: (random >> 11).max(1) };
    let text = serde_json::to_vec(&description).expect("a number is JSON");
    let draft = folder.join(format!("{FILE}.new"));
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(io)?;
    Ok((description.master, true))
}

/// Makes sure that log and tables match, and gives tables without a log the log of a group of one.
pub(super) async fn match_up(
    database: &Database,
    log: &mut LogStore<TypeConfig>,
    id: MasterId,
    new: bool,
    me: &Peer,
) -> Result<(), StartError> {
    let path = database.path().to_owned();
    let state = log.get_log_state().await.map_err(Box::new)?;
    let dropped = state.last_purged_log_id.map_or(0, |l| l.index);
    // An earlier start may have been interrupted.
    let empty = state.last_log_id == state.last_purged_log_id;
    let applied = meta::applied(&database.tree())?;
    let tables = applied.as_ref().and_then(|a| a.last).map_or(0, |l| l.index);
    let begun = state
        .last_purged_log_id
        .is_some_and(|p| *p.committed_leader_id() == CommittedLeaderId::new(p.leader_id.term, id));
    let begun = empty && begun && dropped == if applied.is_some() { tables + 1 } else { FIRST_INDEX };
    let matched = match (database.identity()?, applied) {
        (Some(identity), _) if begun => begin(database, log, id, me, identity).await,
        (Some(identity), None) if log.is_new() => begin(database, log, id, me, identity).await,
        (Some(_), None) => Err(StartError::Strange(path)),
        // The description was removed on purpose: a new master on the tables of an old one.
        (Some(identity), Some(_)) if log.is_new() && new => begin(database, log, id, me, identity).await,
        (Some(_), Some(_)) if log.is_new() => Err(StartError::NoLog { path }),
        _ if tables >= dropped => Ok(()),
        // This master crashed after the log was purged for staged tables that another master had sent.
        _ if database.staged()?.and_then(|a| a.last).is_some_and(|l| l.index >= dropped) => {
            tracing::info!("continuing with the last received snapshot");
            Ok(database.use_staged()?)
        }
        _ => Err(StartError::Gap { path, tables, log: dropped }),
    };
    matched?;
    stand_down(log, id).await?;
    database.drop_staged().map_err(|source| StartError::Io { path: database.path().to_owned(), source })
}

/// Makes a master that was leader when it ended win an election again. openraft would let it lead at once and answer
/// reads from its last checkpoint, which is older than what was acknowledged. Only the first committed entry of a new
/// term shows what is committed (Raft, section 8).
async fn stand_down(log: &mut LogStore<TypeConfig>, id: MasterId) -> Result<(), StartError> {
    let vote = log.read_vote().await.map_err(Box::new)?;
    if let Some(vote) = vote.filter(|v| v.committed && v.leader_id.voted_for() == Some(id)) {
        // The vote itself stays: no older term is followed.
        log.save_vote(&Vote::new(vote.leader_id.term, id)).await.map_err(Box::new)?;
    }
    Ok(())
}

/// Begins a group of one on existing tables. Its log begins after them, so a master that joins gets a snapshot.
async fn begin(
    database: &Database,
    log: &mut LogStore<TypeConfig>,
    id: MasterId,
    me: &Peer,
    identity: Identity,
) -> Result<(), StartError> {
    let index = meta::applied(&database.tree())?.and_then(|a| a.last).map_or(FIRST_INDEX, |l| l.index + 1);
    let term =
        meta::applied(&database.tree())?.and_then(|a| a.last).map_or(FIRST_TERM, |l| l.leader_id.term + 1);
    let first = LogId::new(CommittedLeaderId::new(term, id), index);
    if log.is_new() {
        log.begin_at(first, Vote::new(term, id)).await.map_err(Box::new)?;
    }
    let members = Membership::new(
        vec![[id].into()],
        [(id, me.clone())].into_iter().collect::<std::collections::BTreeMap<_, _>>(),
    );
    let applied = Applied { last: Some(first), members: StoredMembership::new(Some(first), members) };
    let tree = database.tree();
    let mut tables = Tables::new(&tree);
    tables.put_identity(&Identity { format_version: FORMAT_VERSION, ..identity });
    tables.put_applied(&applied);
    database.commit(tables)?;
    database.checkpoint()?;
    tracing::info!(master = id, "started a new raft log for the metadata");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::storage::RaftLogStorage;

    fn tables_at(folder: &Path, index: u64) -> Database {
        let database = Database::open(folder).unwrap();
        let last = Some(LogId::new(CommittedLeaderId::new(2, 7), index));
        let tree = database.tree();
        let mut tables = Tables::new(&tree);
        tables.put_identity(&Identity { cluster: shared::ids::ClusterId::random(), format_version: 2 });
        tables.put_applied(&Applied { last, ..Applied::default() });
        database.commit(tables).unwrap();
        database.checkpoint().unwrap();
        database
    }

    async fn log_cut_at(folder: &Path, index: u64) -> LogStore<TypeConfig> {
        let mut log = LogStore::open(&folder.join("raft")).unwrap();
        log.save_vote(&Vote::new(2, 7)).await.unwrap();
        log.purge(LogId::new(CommittedLeaderId::new(2, 7), index)).await.unwrap();
        log
    }

    #[tokio::test]
    async fn a_log_that_was_cut_for_staged_tables_finds_them() {
        let dir = tempfile::tempdir().unwrap();
        let (other, ours) = (dir.path().join("other"), dir.path().join("ours"));
        let snapshot = dir.path().join("snapshot");
        tables_at(&other, 50).write_snapshot(&snapshot).unwrap();
        let database = tables_at(&ours, 9);
        let mut log = log_cut_at(&ours, 50).await;
        let me = Peer::default();
        let lost = match_up(&database, &mut log, 8, false, &me).await;
        assert!(matches!(lost, Err(StartError::Gap { tables: 9, log: 50, .. })), "{lost:?}");
        database.stage(&snapshot).unwrap();
        match_up(&database, &mut log, 8, false, &me).await.unwrap();
        assert_eq!(meta::applied(&database.tree()).unwrap().unwrap().last.unwrap().index, 50);
        // Staged tables that are not needed are removed.
        database.stage(&snapshot).unwrap();
        match_up(&database, &mut log, 8, false, &me).await.unwrap();
        assert_eq!(database.staged().unwrap(), None);
    }

    #[tokio::test]
    async fn a_log_of_other_tables_is_not_applied() {
        let dir = tempfile::tempdir().unwrap();
        let database = tables_at(dir.path(), 9);
        let tree = database.tree();
        let mut tables = Tables::new(&tree);
        tables.remove_applied();
        database.commit(tables).unwrap();
        let mut log = log_cut_at(dir.path(), 3).await;
        let strange = match_up(&database, &mut log, 8, false, &Peer::default()).await;
        assert!(matches!(strange, Err(StartError::Strange(_))), "{strange:?}");
    }

    #[tokio::test]
    async fn who_led_before_does_not_lead_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let database = tables_at(dir.path(), 9);
        let mut log = log_cut_at(dir.path(), 3).await;
        for (leader, kept) in [(7, true), (8, false)] {
            log.save_vote(&Vote::new_committed(5, leader)).await.unwrap();
            match_up(&database, &mut log, 8, false, &Peer::default()).await.unwrap();
            let vote = log.read_vote().await.unwrap().unwrap();
            assert_eq!((vote.leader_id.term, vote.leader_id.voted_for()), (5, Some(leader)));
            assert_eq!(vote.committed, kept);
        }
    }

    #[tokio::test]
    async fn a_beginning_that_was_interrupted_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let database = tables_at(dir.path(), 9);
        let mut log = LogStore::open(&dir.path().join("raft")).unwrap();
        let first = LogId::new(CommittedLeaderId::new(3, 8), 10);
        log.begin_at(first, Vote::new(3, 8)).await.unwrap();
        match_up(&database, &mut log, 8, false, &Peer::default()).await.unwrap();
        assert_eq!(meta::applied(&database.tree()).unwrap().unwrap().last, Some(first));
    }
}
