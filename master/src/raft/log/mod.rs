//! The Raft log (WAL) and the vote on disk: the promises of this master to the others.
//!
//! `vote` and `purged` are small files that are replaced whole; entries are appended to segments (`format` defines
//! the bytes, `files` the order of steps, `recovery` the opening). One thread owns the files. Nothing is acknowledged
//! before it is synced, and nothing at all after a failed write or sync. Readers use the log in memory (`view`).
//!
//! The caller holds the lock of the directory. The log never overwrites a byte of a segment, never continues with a
//! hole, and never treats a lost vote as no vote.

mod disk;
mod error;
mod files;
mod format;
mod reader;
mod recovery;
mod replay;
mod scan;
#[cfg(test)]
mod sim_disk;
mod view;
mod writer;

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{
    AnyError, DefensiveError, Entry, ErrorSubject, LogId, LogState, OptionalSend, RaftLogReader,
    RaftTypeConfig, StorageError, StorageIOError, Violation, Vote,
};
use shared::durable::create_dir_all;
use shared::limits::{
    RAFT_LOG_BATCH_BYTES, RAFT_LOG_CACHE_BYTES, RAFT_LOG_ENTRY_BYTES_MAX, RAFT_LOG_QUEUE,
    RAFT_LOG_READ_BYTES, RAFT_LOG_SEGMENT_BYTES,
};
use tokio::sync::oneshot;

use self::disk::{Disk, RealDisk};
use self::error::{Misuse, Poisoned, WriterGone};
use self::reader::Shared;
use self::view::View;
use self::writer::{Append, Change, Job, WriterHandle};

pub use self::error::OpenError;
pub use self::reader::LogReader;

type Failure<C> = StorageError<<C as RaftTypeConfig>::NodeId>;
type IoFailure<C> = StorageIOError<<C as RaftTypeConfig>::NodeId>;
type Index<C> = LogId<<C as RaftTypeConfig>::NodeId>;

/// Sizes that tests make small.
#[derive(Debug, Clone)]
struct Tuning {
    segment_bytes_max: u64,
    cache_bytes_max: usize,
    read_bytes_max: usize,
    batch_bytes_max: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            segment_bytes_max: RAFT_LOG_SEGMENT_BYTES,
            cache_bytes_max: RAFT_LOG_CACHE_BYTES,
            read_bytes_max: RAFT_LOG_READ_BYTES,
            batch_bytes_max: RAFT_LOG_BATCH_BYTES,
        }
    }
}

/// The log of one master; cheap to clone. Dropping the last clone finishes the queued jobs and closes the files,
/// which may take as long as a sync.
#[derive(Debug)]
pub struct LogStore<C: RaftTypeConfig> {
    shared: Arc<Shared<C::NodeId>>,
    writer: Arc<WriterHandle<C>>,
    reader: LogReader<C>,
    bytes: Arc<AtomicU64>,
}

impl<C: RaftTypeConfig> Clone for LogStore<C> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            writer: Arc::clone(&self.writer),
            reader: self.reader.clone(),
            bytes: Arc::clone(&self.bytes),
        }
    }
}

impl<C: RaftTypeConfig<Entry = Entry<C>>> LogStore<C> {
    /// Opens or creates the log in the directory `path`, which the caller has locked. It blocks: every
    /// segment is read.
    ///
    /// # Errors
    /// When the disk fails, or the log is corrupt: then nothing is changed.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        create_dir_all(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(path));
        Self::open_on(&disk, path, &Tuning::default())
    }

    fn open_on(disk: &Arc<dyn Disk>, path: &Path, tuning: &Tuning) -> Result<Self, OpenError> {
        let (files, view) = recovery::open(disk, path, tuning)?;
        let bytes = Arc::clone(&files.bytes);
        let shared = Arc::new(Shared::new(view, tuning.read_bytes_max));
        let writer = WriterHandle::start(files, Arc::clone(&shared), RAFT_LOG_QUEUE, tuning.batch_bytes_max)
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let reader = LogReader::new(Arc::clone(&shared));
        Ok(Self { shared, writer: Arc::new(writer), reader, bytes })
    }

    /// Whether the log was never used: no vote, no entry, nothing purged.
    #[must_use]
    pub fn is_new(&self) -> bool {
        is_new(&self.shared.any_view())
    }

    /// The bytes of all segments on disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The bytes of the entries after `index`.
    #[must_use]
    pub fn bytes_after(&self, index: u64) -> u64 {
        self.shared.any_view().bytes_after(index)
    }

    /// The newest entry to purge, so that the entries after it have at most `bytes` bytes.
    #[must_use]
    pub fn last_beyond(&self, bytes: u64) -> Option<u64> {
        self.shared.any_view().last_beyond(bytes)
    }

    /// How long the disk has been busy with the current job.
    #[must_use]
    pub fn busy_for(&self) -> Duration {
        self.writer.busy_for()
    }

    /// Begins a new log after `log_id`, as if all entries up to it had been purged, with this vote: for a master that
    /// already has tables (an upgrade, a restore). A crash leaves either a new log or the finished one.
    ///
    /// # Errors
    /// When the log is not new, or the disk fails.
    pub async fn begin_at(
        &mut self,
        log_id: LogId<C::NodeId>,
        vote: Vote<C::NodeId>,
    ) -> Result<(), StorageError<C::NodeId>> {
        let failed = |e: AnyError| IoFailure::<C>::write_logs(e);
        self.change(failed, |view| {
            if !is_new(view) {
                return Err(failed(AnyError::new(&Misuse::NotNew)).into());
            }
            view.purge(log_id.clone());
            Ok(Some(Change::Begin { log_id, vote }))
        })
        .await
    }

    /// Changes the view and queues the same change for the files, in the same order as all other changes.
    async fn change(
        &self,
        failed: impl Fn(AnyError) -> IoFailure<C>,
        decide: impl FnOnce(&mut View<C::NodeId>) -> Result<Option<Change<C::NodeId>>, Failure<C>>,
    ) -> Result<(), Failure<C>> {
        let place = self.writer.reserve().await.map_err(|e| failed(AnyError::new(&e)))?;
        let durable = {
            let mut view = self.shared.view().map_err(|e| failed(AnyError::new(&*e)))?;
            let Some(change) = decide(&mut view)? else {
                return Ok(());
            };
            let (done, durable) = oneshot::channel();
            place.send(Job::Change(change, done));
            durable
        };
        match durable.await {
            Ok(result) => Ok(result.map_err(|e| failed(AnyError::new(&*e)))?),
            Err(_) => Err(failed(AnyError::new(&WriterGone)).into()),
        }
    }

    fn poisoned_read(e: &Arc<Poisoned>) -> Failure<C> {
        IoFailure::<C>::read_logs(AnyError::new(&**e)).into()
    }
}

fn is_new<N: openraft::NodeId>(view: &View<N>) -> bool {
    // openraft's implicit vote may have been written for a first entry that never came.
    let undecided = view.vote.as_ref().is_none_or(|v| *v == Vote::default());
    undecided && view.purged.is_none() && view.is_empty()
}

/// Encodes entries for the disk, each with its id.
fn encode<C: RaftTypeConfig<Entry = Entry<C>>>(
    entries: impl IntoIterator<Item = Entry<C>>,
) -> Result<Vec<(Index<C>, Bytes)>, Failure<C>> {
    let encode_one = |entry: Entry<C>| {
        let failed = |e| IoFailure::<C>::write_log_entry(entry.log_id.clone(), e);
        let body = postcard::to_stdvec(&entry).map_err(|e| failed(AnyError::new(&e)))?;
        if body.len() > RAFT_LOG_ENTRY_BYTES_MAX {
            return Err(failed(AnyError::new(&Misuse::EntryTooLarge { bytes: body.len() })).into());
        }
        Ok((entry.log_id, Bytes::from(body)))
    };
    entries.into_iter().map(encode_one).collect()
}

/// Checks that entries continue the log without a gap.
fn check_order<C: RaftTypeConfig>(
    view: &View<C::NodeId>,
    entries: &[(Index<C>, Bytes)],
) -> Result<(), Failure<C>> {
    let mut prev = view.last_log_id();
    for (expected, (next, _)) in (view.next_index()..).zip(entries) {
        if next.index != expected {
            let violation = Violation::LogsNonConsecutive { prev: prev.cloned(), next: next.clone() };
            return Err(DefensiveError::new(ErrorSubject::Log(next.clone()), violation).into());
        }
        prev = Some(next);
    }
    Ok(())
}

impl<C: RaftTypeConfig<Entry = Entry<C>>> RaftLogReader<C> for LogStore<C> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<C>>, StorageError<C::NodeId>> {
        self.reader.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry<C>>, StorageError<C::NodeId>> {
        self.reader.limited_get_log_entries(start, end).await
    }
}

impl<C: RaftTypeConfig<Entry = Entry<C>>> RaftLogStorage<C> for LogStore<C> {
    type LogReader = LogReader<C>;

    async fn get_log_state(&mut self) -> Result<LogState<C>, StorageError<C::NodeId>> {
        let view = self.shared.view().map_err(|e| Self::poisoned_read(&e))?;
        Ok(LogState { last_purged_log_id: view.purged.clone(), last_log_id: view.last_log_id().cloned() })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<C::NodeId>) -> Result<(), StorageError<C::NodeId>> {
        let vote = vote.clone();
        self.change(IoFailure::<C>::write_vote, |_| Ok(Some(Change::Vote(vote)))).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<C::NodeId>>, StorageError<C::NodeId>> {
        let view = self.shared.view().map_err(|e| IoFailure::<C>::read_vote(AnyError::new(&*e)))?;
        Ok(view.vote.clone())
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<C>) -> Result<(), StorageError<C::NodeId>>
    where
        I: IntoIterator<Item = Entry<C>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = encode::<C>(entries)?;
        let failed = |e: AnyError| IoFailure::<C>::write_logs(e);
        let place = self.writer.reserve().await.map_err(|e| failed(AnyError::new(&e)))?;
        let mut view = self.shared.view().map_err(|e| failed(AnyError::new(&*e)))?;
        check_order::<C>(&view, &entries)?;
        let number = view.append(&entries);
        place.send(Job::Append(Append { number, entries, callback }));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<C::NodeId>) -> Result<(), StorageError<C::NodeId>> {
        let index = log_id.index;
        self.change(IoFailure::<C>::write_logs, |view| {
            if index >= view.next_index() {
                return Ok(None);
            }
            if let Some(purged) = view.purged.as_ref().map(|p| p.index).filter(|p| index <= *p) {
                let misuse = Misuse::TruncatePurged { index, purged };
                return Err(IoFailure::<C>::write_log_entry(log_id, AnyError::new(&misuse)).into());
            }
            let previous = index.checked_sub(1).and_then(|i| view.log_id_at(i)).cloned();
            view.truncate(index);
            Ok(Some(Change::Truncate { index, previous }))
        })
        .await
    }

    async fn purge(&mut self, upto: LogId<C::NodeId>) -> Result<(), StorageError<C::NodeId>> {
        self.change(IoFailure::<C>::write_logs, |view| {
            if upto.index < view.first_index() && view.purged.is_some() {
                return Ok(None);
            }
            // A snapshot may cover another entry at this index than the log. Then all entries after it are void as
            // well, and are truncated durably before the purge, or a crash would bring some of them back.
            let conflict = view.log_id_at(upto.index).is_some_and(|ours| *ours != upto);
            if conflict {
                view.truncate(upto.index);
            }
            let restart = upto.index >= view.next_index();
            view.purge(upto.clone());
            Ok(Some(Change::Purge { upto, restart, conflict }))
        })
        .await
    }
}

#[cfg(test)]
pub(crate) mod tests;
