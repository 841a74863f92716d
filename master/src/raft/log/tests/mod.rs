//! Tests of the log: openraft's own suite, faults, and corruption. They share a type configuration, and a log on a
//! simulated disk with sizes so small that every boundary is crossed.

mod corruption;
mod faults;
pub(crate) mod filled;
mod model;
mod ordinary;
mod suite;

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log_id;
use openraft::{Entry, EntryPayload, LogId, RaftLogReader, StorageError, Vote};
use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::sim_disk::SimDisk;
use super::{LogStore, OpenError, Tuning};

/// A command for the tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Data(Vec<u8>);

openraft::declare_raft_types!(
    /// The types of the tests.
    pub(super) Types:
        D = Data,
        R = (),
        NodeId = u64,
        Node = (),
        Entry = openraft::Entry<Types>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

type Store = LogStore<Types>;
type Failed = StorageError<u64>;

fn tiny() -> Tuning {
    Tuning { segment_bytes_max: 300, cache_bytes_max: 60, read_bytes_max: 40, batch_bytes_max: 200 }
}

fn open(disk: &SimDisk) -> Result<Store, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Store::open_on(&disk, Path::new("/log"), &tiny())
}

/// An entry whose content follows from its term and index.
fn entry(term: u64, index: u64) -> Entry<Types> {
    let length = usize::try_from(index % 7).unwrap();
    let data = [&term.to_le_bytes()[..], &index.to_le_bytes(), &vec![7; length]].concat();
    Entry { log_id: log_id(term, 0, index), payload: EntryPayload::Normal(Data(data)) }
}

fn id(term: u64, index: u64) -> LogId<u64> {
    log_id(term, 0, index)
}

/// Appends entries of this term with these indices.
async fn append(store: &mut Store, term: u64, range: std::ops::Range<u64>) -> Result<(), Failed> {
    store.blocking_append(range.map(|i| entry(term, i)).collect::<Vec<_>>()).await
}

/// The contents of a log, with every entry checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    vote: Option<Vote<u64>>,
    purged: Option<LogId<u64>>,
    /// Terms and indices.
    entries: Vec<(u64, u64)>,
}

async fn seen(store: &mut Store) -> Result<Seen, Failed> {
    let read = store.try_get_log_entries(..).await?;
    for e in &read {
        assert_eq!(*e, entry(e.log_id.leader_id.term, e.log_id.index), "a wrong entry");
    }
    let state = store.get_log_state().await?;
    let last = read.last().map(|e| e.log_id).or(state.last_purged_log_id);
    assert_eq!(state.last_log_id, last);
    Ok(Seen {
        vote: store.read_vote().await?,
        purged: state.last_purged_log_id,
        entries: read.iter().map(|e| (e.log_id.leader_id.term, e.log_id.index)).collect(),
    })
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let _inline = shared::work::Inline::enter();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
