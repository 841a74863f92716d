//! openraft's own suite on the log. It appends with holes here and there, which a log never does, and once below
//! what it has purged: an adaptor fills the former with blank entries and leaves the latter out. The state machine is the least that the suite asks for, in memory.

use std::fmt::Debug;
use std::io::Cursor;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex};

use openraft::storage::{LogFlushed, RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite, blank_ent};
use openraft::{
    Entry, EntryPayload, LogId, LogState, OptionalSend, RaftLogReader, RaftSnapshotBuilder, Snapshot,
    SnapshotMeta, StorageError, StoredMembership, Vote,
};

use super::super::LogReader;
use super::super::sim_disk::SimDisk;
use super::{Failed, Store, Types, open};

/// A log in which no hole can be.
struct Filled(Store);

impl RaftLogReader<Types> for Filled {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<Types>>, Failed> {
        self.0.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry<Types>>, Failed> {
        self.0.limited_get_log_entries(start, end).await
    }
}

impl RaftLogStorage<Types> for Filled {
    type LogReader = LogReader<Types>;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, Failed> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.0.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), Failed> {
        self.0.save_vote(vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, Failed> {
        self.0.read_vote().await
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), Failed>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let state = self.0.get_log_state().await?;
        let next = state.last_log_id.map_or(0, |l| l.index + 1);
        let visible = state.last_purged_log_id.map_or(0, |p| p.index + 1);
        let entries: Vec<_> = entries.into_iter().filter(|e| e.log_id.index >= visible).collect();
        if let Some(first) = entries.first().map(|e| e.log_id) {
            let fill = (next..first.index).map(|i| blank_ent::<Types>(0, 0, i)).collect::<Vec<_>>();
            self.0.blocking_append(fill).await?;
        }
        self.0.append(entries, callback).await
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), Failed> {
        self.0.truncate(log_id).await
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), Failed> {
        self.0.purge(log_id).await
    }
}

#[derive(Debug, Clone, Default)]
struct Machine {
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, ()>,
    snapshot: Arc<Mutex<Option<SnapshotMeta<u64, ()>>>>,
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, Failed> {
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: format!("{:?}", self.applied),
        };
        *self.snapshot.lock().unwrap() = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: Box::default() })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, ()>), StorageError<u64>> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, Failed>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut replies = Vec::new();
        for entry in entries {
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            replies.push(());
        }
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, Failed> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, ()>,
        _: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), Failed> {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        *self.snapshot.lock().unwrap() = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, Failed> {
        let meta = self.snapshot.lock().unwrap().clone();
        Ok(meta.map(|meta| Snapshot { meta, snapshot: Box::default() }))
    }
}

struct OnTheLyingDisk;

impl StoreBuilder<Types, Filled, Machine> for OnTheLyingDisk {
    async fn build(&self) -> Result<((), Filled, Machine), Failed> {
        Ok(((), Filled(open(&SimDisk::new(1)).unwrap()), Machine::default()))
    }
}

struct OnTheRealDisk;

impl StoreBuilder<Types, Filled, Machine, tempfile::TempDir> for OnTheRealDisk {
    async fn build(&self) -> Result<(tempfile::TempDir, Filled, Machine), Failed> {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        Ok((folder, Filled(store), Machine::default()))
    }
}

#[test]
fn openrafts_suite_passes_on_the_lying_disk() {
    Suite::test_all(OnTheLyingDisk).unwrap();
}

#[test]
fn openrafts_suite_passes_on_the_real_disk() {
    Suite::test_all(OnTheRealDisk).unwrap();
}
