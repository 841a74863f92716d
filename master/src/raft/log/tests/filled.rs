//! An adaptor for openraft's test suite, which sometimes appends with holes, and once below the purged entries; a
//! real log does neither. Holes are filled with blank entries, and the purged ones are skipped.

use std::fmt::Debug;
use std::ops::RangeBounds;

use openraft::storage::{LogFlushed, RaftLogStorage, RaftLogStorageExt};
use openraft::testing::blank_ent;
use openraft::{Entry, LogId, LogState, OptionalSend, RaftLogReader, RaftTypeConfig, StorageError, Vote};

use super::super::{LogReader, LogStore};

/// A log that fills holes.
pub(crate) struct Filled<C: RaftTypeConfig>(pub(crate) LogStore<C>);

impl<C> RaftLogReader<C> for Filled<C>
where
    C: RaftTypeConfig<NodeId = u64, Entry = Entry<C>>,
    LogStore<C>: RaftLogStorage<C, LogReader = LogReader<C>>,
    LogReader<C>: RaftLogReader<C>,
{
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<C>>, StorageError<u64>> {
        self.0.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry<C>>, StorageError<u64>> {
        self.0.limited_get_log_entries(start, end).await
    }
}

impl<C> RaftLogStorage<C> for Filled<C>
where
    C: RaftTypeConfig<NodeId = u64, Entry = Entry<C>>,
    LogStore<C>: RaftLogStorage<C, LogReader = LogReader<C>>,
    LogReader<C>: RaftLogReader<C>,
{
    type LogReader = LogReader<C>;

    async fn get_log_state(&mut self) -> Result<LogState<C>, StorageError<u64>> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.0.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        self.0.save_vote(vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        self.0.read_vote().await
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<C>) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<C>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let state = self.0.get_log_state().await?;
        let next = state.last_log_id.map_or(0, |l| l.index + 1);
        let visible = state.last_purged_log_id.map_or(0, |p| p.index + 1);
        let entries: Vec<_> = entries.into_iter().filter(|e| e.log_id.index >= visible).collect();
        if let Some(first) = entries.first().map(|e| e.log_id) {
            let fill = (next..first.index).map(|i| blank_ent::<C>(0, 0, i)).collect::<Vec<_>>();
            self.0.blocking_append(fill).await?;
        }
        self.0.append(entries, callback).await
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.0.truncate(log_id).await
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.0.purge(log_id).await
    }
}
