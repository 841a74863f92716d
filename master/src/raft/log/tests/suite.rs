//! openraft's own test suite on the log, through an adaptor that fills the holes it makes. The state machine is the
//! minimum that the suite needs, in memory.

use std::io::Cursor;
use std::sync::{Arc, Mutex};

use openraft::storage::RaftStateMachine;
use openraft::testing::{StoreBuilder, Suite};
use openraft::{
    Entry, EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError,
    StoredMembership,
};

use super::super::sim_disk::SimDisk;
use super::filled::Filled;
use super::{Failed, Store, Types, open};

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

impl StoreBuilder<Types, Filled<Types>, Machine> for OnTheLyingDisk {
    async fn build(&self) -> Result<((), Filled<Types>, Machine), Failed> {
        Ok(((), Filled(open(&SimDisk::new(1)).unwrap()), Machine::default()))
    }
}

struct OnTheRealDisk;

impl StoreBuilder<Types, Filled<Types>, Machine, tempfile::TempDir> for OnTheRealDisk {
    async fn build(&self) -> Result<(tempfile::TempDir, Filled<Types>, Machine), Failed> {
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
