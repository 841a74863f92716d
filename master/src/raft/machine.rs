//! The state machine: applies log entries to the tables, batch by batch.
//!
//! Applied entries are already durable in the log. A checkpoint makes the tables durable, and only entries
//! covered by a checkpoint may be purged. A snapshot is the tables themselves, so it costs nothing until another
//! master needs one.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use openraft::storage::RaftStateMachine;
use openraft::{
    EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta,
    StorageIOError, StoredMembership,
};
use shared::limits::{
    COMMIT_BATCH, CONTENT_PLACE_ENTRIES, METADATA_APPLY_STUCK, METADATA_STUCK, RAFT_CHECKPOINT_ENTRIES,
    SNAPSHOT_INSTALL_TIMEOUT,
};
use shared::work::blocking;
use tokio::sync::watch;

use super::content::DigestHistory;
use super::transfer::Prepared;
use super::{LogId, MasterId, Outcomes, Peer, SnapshotData, StorageError, TypeConfig};
use crate::db::Database;
use crate::state::apply::apply;
use crate::state::command::{Command, Outcome};
use crate::tables::meta::{self, Applied};
use crate::tables::{TableError, Tables, caught, content};

/// Called after each batch with its number of commands and its duration in seconds.
pub type Observe = Box<dyn Fn(usize, f64) + Send + Sync>;

/// The tables as openraft sees them.
pub struct Machine {
    database: Arc<Database>,
    applied: watch::Sender<Applied>,
    /// The position that the last checkpoint covers.
    checkpoint: Mutex<Option<Applied>>,
    /// The checkpoint reported to openraft, which may purge the log up to it.
    reported: Mutex<Option<Applied>>,
    /// The log is too long to be kept any longer for a master that is receiving a snapshot.
    pub(super) too_long: AtomicBool,
    /// The log has grown by `RAFT_CHECKPOINT_BYTES` since the last checkpoint.
    pub(super) due: AtomicBool,
    failure: watch::Sender<Option<Arc<TableError>>>,
    observe: Observe,
    /// Digests of the tables at some log positions.
    pub(super) places: Mutex<DigestHistory>,
    /// The newest snapshot on disk.
    pub(super) prepared: tokio::sync::Mutex<Option<Arc<Prepared>>>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("applied", &self.applied.borrow().last).finish_non_exhaustive()
    }
}

impl Machine {
    /// Serves the tables of `database`, which were made durable when it was opened.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn new(database: Arc<Database>, observe: Observe) -> Result<Self, TableError> {
        let applied = meta::applied(&database.tree())?;
        let mut places = DigestHistory::default();
        if let Some(content) = content::read(&database.tree())? {
            places.note(applied.as_ref().and_then(|a| a.last).map_or(0, |l| l.index), content);
        }
        Ok(Self {
            places: Mutex::new(places),
            applied: watch::channel(applied.clone().unwrap_or_default()).0,
            checkpoint: Mutex::new(applied.clone()),
            reported: Mutex::new(applied),
            too_long: AtomicBool::new(false),
            due: AtomicBool::new(false),
            failure: watch::channel(None).0,
            prepared: tokio::sync::Mutex::default(),
            database,
            observe,
        })
    }

    pub fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// Watches the position up to which the tables are applied.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }

    /// Pretends that the tables are applied up to a position. Returns the real one.
    #[cfg(test)]
    pub(super) fn pretend_applied(&self, applied: Applied) -> Applied {
        self.applied.send_replace(applied)
    }

    /// Watches for a failure of the tables.
    pub fn failure(&self) -> watch::Receiver<Option<Arc<TableError>>> {
        self.failure.subscribe()
    }

    /// The folder of snapshots.
    pub(super) fn snapshots(&self) -> PathBuf {
        self.database.path().join("snapshots")
    }

    /// Makes the applied entries durable in the tables.
    ///
    /// # Errors
    /// When that fails, or hangs: after some disk errors sled's flush waits for a write that never happens.
    pub async fn checkpoint(&self) -> Result<Option<Applied>, TableError> {
        let database = Arc::clone(&self.database);
        let run = blocking(move || {
            caught(|| {
                let covered = meta::applied(&database.tree())?;
                database.checkpoint()?;
                Ok(covered)
            })
        });
        let covered = in_time(METADATA_STUCK, run).await.map_err(|e| self.fail(e))?;
        raise(&self.checkpoint, &covered);
        Ok(covered)
    }

    /// The index of the last entry that a checkpoint covers.
    pub(super) fn covered(&self) -> u64 {
        let checkpoint = self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
        checkpoint.as_ref().and_then(|a| a.last).map_or(0, |l| l.index)
    }

    /// Whether entries after the last reported checkpoint are kept for a master that is receiving a snapshot and
    /// needs them next. Otherwise, under load, they would be purged by then, and it would need one snapshot
    /// after another forever.
    fn holds(&self) -> bool {
        let prepared = self.prepared.try_lock();
        prepared.map_or(true, |prepared| prepared.is_some()) && !self.too_long.load(Ordering::Relaxed)
    }

    fn reported(&self) -> Option<Applied> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records a failure, which stops this master. Returns an error for openraft.
    pub(super) fn fail(&self, error: TableError) -> TableError {
        tracing::error!(%error, "the metadata store failed; this master stops");
        // A running walk would keep the directory locked after this master has ended.
        self.database.end_walks();
        let said = error.to_string();
        self.failure.send_replace(Some(Arc::new(error)));
        TableError::Failed { reason: said }
    }

    fn snapshot(self: &Arc<Self>, covered: Applied) -> Snapshot<TypeConfig> {
        Snapshot { meta: snapshot_meta(covered), snapshot: Box::new(SnapshotData::Tables(Arc::clone(self))) }
    }
}

fn raise(place: &Mutex<Option<Applied>>, covered: &Option<Applied>) {
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    if covered.as_ref().map(|a| a.last) > place.as_ref().map(|a| a.last) {
        place.clone_from(covered);
    }
}

/// Limits the time of a disk call: a master whose disk hangs must not stay leader.
async fn in_time<T>(
    within: std::time::Duration,
    work: impl Future<Output = Result<T, TableError>>,
) -> Result<T, TableError> {
    tokio::time::timeout(within, work).await.unwrap_or(Err(TableError::Stuck))
}

/// Returns the metadata of a snapshot of tables at this position.
pub(super) fn snapshot_meta(covered: Applied) -> SnapshotMeta<MasterId, Peer> {
    let snapshot_id =
        covered.last.map_or_else(|| "0-0".into(), |l| format!("{}-{}", l.leader_id.term, l.index));
    SnapshotMeta { last_log_id: covered.last, last_membership: covered.members, snapshot_id }
}

fn storage(verb: ErrorVerb, error: &(impl std::error::Error + 'static)) -> StorageError {
    StorageIOError::new(ErrorSubject::StateMachine, verb, error).into()
}

/// Applies entries in order, many in one batch of the tables.
fn apply_all(
    machine: &Machine,
    entries: Vec<openraft::Entry<TypeConfig>>,
) -> Result<(Vec<Outcomes>, Applied), TableError> {
    let started = Instant::now();
    let tree = machine.database.tree();
    let mut tables = Tables::new(&tree);
    let mut applied = machine.applied.borrow().clone();
    let (mut outcomes, mut pending, mut commands) = (Vec::with_capacity(entries.len()), 0, 0);
    for entry in entries {
        applied.last = Some(entry.log_id);
        let batch = match entry.payload {
            EntryPayload::Blank => Vec::new(),
            EntryPayload::Normal(batch) => batch.0,
            EntryPayload::Membership(members) => {
                applied.members = StoredMembership::new(Some(entry.log_id), members);
                Vec::new()
            }
        };
        let alone = applied.members.membership().nodes().count() < 2;
        let done = batch.iter().map(|command| apply_one(&mut tables, command, alone));
        outcomes.push(Outcomes(done.collect::<Result<_, _>>()?));
        pending += batch.len();
        commands += batch.len();
        // All masters end a batch at these positions, so that their tables can be compared.
        if pending >= COMMIT_BATCH || entry.log_id.index.is_multiple_of(CONTENT_PLACE_ENTRIES) {
            commit(machine, std::mem::replace(&mut tables, Tables::new(&tree)), &applied)?;
            pending = 0;
        }
    }
    commit(machine, tables, &applied)?;
    (machine.observe)(commands, started.elapsed().as_secs_f64());
    Ok((outcomes, applied))
}

fn commit(machine: &Machine, mut tables: Tables<'_>, applied: &Applied) -> Result<(), TableError> {
    tables.put_applied(applied);
    let content = machine.database.commit(tables)?;
    if let (Some(content), Some(last)) = (content, applied.last) {
        machine.places.lock().unwrap_or_else(PoisonError::into_inner).note(last.index, content);
    }
    Ok(())
}

/// Applies one command. On a single master, a corrupt record fails only the command that needs it, which is rolled
/// back. In a group it is an error: the other masters can read theirs, and this one must not diverge.
fn apply_one(tables: &mut Tables<'_>, command: &Command, alone: bool) -> Result<Outcome, TableError> {
    tables.mark();
    match apply(tables, command) {
        Err(error @ TableError::Corrupt { .. }) if alone => {
            tracing::error!(%error, "a command failed because of a corrupt metadata record");
            tables.roll_back();
            Ok(Outcome::Corrupt)
        }
        other => other,
    }
}

impl RaftStateMachine<TypeConfig> for Arc<Machine> {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId>, StoredMembership<MasterId, Peer>), StorageError> {
        let applied = self.applied.borrow().clone();
        Ok((applied.last, applied.members))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcomes>, StorageError>
    where
        I: IntoIterator<Item = openraft::Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        let machine = Arc::clone(self);
        let work = blocking(move || caught(|| apply_all(&machine, entries)));
        let done = in_time(METADATA_APPLY_STUCK, work).await;
        let (outcomes, applied) = done.map_err(|e| storage(ErrorVerb::Write, &self.fail(e)))?;
        self.applied.send_replace(applied);
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        Arc::clone(self)
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotData>, StorageError> {
        // Snapshots arrive through `transfer`, which creates its own files.
        Ok(Box::new(SnapshotData::Tables(Arc::clone(self))))
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta<MasterId, Peer>,
        snapshot: Box<SnapshotData>,
    ) -> Result<(), StorageError> {
        let wrong =
            |e: &dyn fmt::Display| storage(ErrorVerb::Write, &TableError::Failed { reason: e.to_string() });
        if let SnapshotData::Tables(other) = *snapshot {
            let prepared = other.prepare(None).await.map_err(|e| wrong(&e))?;
            self.database.stage(prepared.path()).map_err(|e| wrong(&e))?;
        }
        let database = Arc::clone(&self.database);
        let replaced = blocking(move || {
            caught(|| {
                database.use_staged().map_err(|e| TableError::Failed { reason: e.to_string() })?;
                meta::applied(&database.tree())
            })
        });
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = DigestHistory::default();
        let replaced = in_time(SNAPSHOT_INSTALL_TIMEOUT, replaced).await;
        let applied = replaced.map_err(|e| storage(ErrorVerb::Write, &self.fail(e)))?;
        for place in [&self.checkpoint, &self.reported] {
            place.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&applied);
        }
        self.applied.send_replace(applied.unwrap_or_default());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        Ok(self.reported().filter(|a| a.last.is_some()).map(|a| self.snapshot(a)))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Arc<Machine> {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let behind = self.applied.borrow().last.map_or(0, |l| l.index).saturating_sub(self.covered());
        // openraft asks repeatedly until the reported position advances, so not every call makes a checkpoint.
        let due = self.due.swap(false, Ordering::Relaxed) || behind >= RAFT_CHECKPOINT_ENTRIES;
        if !self.holds() || self.reported().is_none() || due {
            let covered = self.checkpoint().await.map_err(|e| storage(ErrorVerb::Write, &e))?;
            if !self.holds() || self.reported().is_none() {
                raise(&self.reported, &covered);
            }
        }
        Ok(self.snapshot(self.reported().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::log::LogStore;
    use crate::raft::log::tests::filled::Filled;
    use openraft::testing::{StoreBuilder, Suite};

    struct OnTheRealDisk;

    impl StoreBuilder<TypeConfig, Filled<TypeConfig>, Arc<Machine>, tempfile::TempDir> for OnTheRealDisk {
        async fn build(&self) -> Result<(tempfile::TempDir, Filled<TypeConfig>, Arc<Machine>), StorageError> {
            let folder = tempfile::tempdir().unwrap();
            let database = Arc::new(Database::open(&folder.path().join("meta")).unwrap());
            let log = LogStore::open(&folder.path().join("log")).unwrap();
            let machine = Machine::new(database, Box::new(|_, _| {})).unwrap();
            Ok((folder, Filled(log), Arc::new(machine)))
        }
    }

    #[test]
    fn openrafts_suite_passes_on_log_and_tables() {
        Suite::test_all(OnTheRealDisk).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_come_back_is_an_error_in_time() {
        for limit in [METADATA_STUCK, METADATA_APPLY_STUCK, SNAPSHOT_INSTALL_TIMEOUT] {
            let began = tokio::time::Instant::now();
            let never = in_time(limit, std::future::pending::<Result<(), TableError>>()).await;
            assert!(matches!(never, Err(TableError::Stuck)) && began.elapsed() == limit, "{never:?}");
            let late = async {
                tokio::time::sleep(limit - std::time::Duration::from_millis(1)).await;
                Ok(1)
            };
            assert!(matches!(in_time(limit, late).await, Ok(1)));
        }
    }
}
