//! Reads entries: the newest from memory, older ones from their files. Readers take no part in writing: one that
//! outlives its log still reads the entries that exist.
//!
//! The position, index and checksum of an entry from a file are checked before it is returned.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use openraft::{
    AnyError, DefensiveError, Entry, ErrorSubject, LogId, NodeId, OptionalSend, RaftLogReader,
    RaftTypeConfig, StorageError, StorageIOError, Violation,
};
use shared::work::blocking;

use super::error::Poisoned;
use super::format::{FRAME_HEADER_BYTES, Frame, Kind};
use super::view::{EntryLocation, Source, View};

/// State shared by the log, its readers and its writer thread.
#[derive(Debug)]
pub(super) struct Shared<N: NodeId> {
    view: Mutex<View<N>>,
    read_bytes_max: usize,
}

impl<N: NodeId> Shared<N> {
    pub(super) fn new(view: View<N>, read_bytes_max: usize) -> Self {
        Self { view: Mutex::new(view), read_bytes_max }
    }

    /// The view, even if the log has stopped.
    pub(super) fn any_view(&self) -> MutexGuard<'_, View<N>> {
        self.view.lock().expect("no thread panics while it holds the view")
    }

    /// The view, unless the log has stopped.
    pub(super) fn view(&self) -> Result<MutexGuard<'_, View<N>>, Arc<Poisoned>> {
        let view = self.any_view();
        match &view.poisoned {
            Some(poisoned) => Err(Arc::clone(poisoned)),
            None => Ok(view),
        }
    }
}

/// Reads entries of a log; cheap to clone.
#[derive(Debug)]
pub struct LogReader<C: RaftTypeConfig> {
    shared: Arc<Shared<C::NodeId>>,
}

impl<C: RaftTypeConfig> Clone for LogReader<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// A frame in a file no longer matches its entry.
#[derive(Debug, thiserror::Error)]
#[error(
    "the checksum of the frame at byte {offset} of segment {segment} does not match: the disk has changed it"
)]
struct Changed {
    segment: u64,
    offset: u64,
}

impl<C: RaftTypeConfig<Entry = Entry<C>>> LogReader<C> {
    pub(super) fn new(shared: Arc<Shared<C::NodeId>>) -> Self {
        Self { shared }
    }

    async fn read(
        &self,
        range: Range<u64>,
        bytes_max: Option<usize>,
    ) -> Result<Vec<Entry<C>>, StorageError<C::NodeId>> {
        let sources = {
            let view = self.shared.view().map_err(|e| StorageIOError::read_logs(AnyError::new(&*e)))?;
            view.sources(range, bytes_max)
        };
        if sources.iter().all(|s| matches!(s, Source::Cached(_))) {
            return decode_all(sources);
        }
        blocking(move || decode_all(sources)).await
    }
}

impl<C: RaftTypeConfig<Entry = Entry<C>>> RaftLogReader<C> for LogReader<C> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<C>>, StorageError<C::NodeId>> {
        self.read(half_open(&range), None).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry<C>>, StorageError<C::NodeId>> {
        let entries = self.read(start..end, Some(self.shared.read_bytes_max)).await?;
        let got = entries.first().map(|e| e.log_id.index);
        if start < end && got != Some(start) {
            let violation = Violation::LogIndexNotFound { want: start, got };
            return Err(DefensiveError::new(ErrorSubject::LogIndex(start), violation).into());
        }
        Ok(entries)
    }
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(i) => *i,
        Bound::Excluded(i) => i.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(i) => i.saturating_add(1),
        Bound::Excluded(i) => *i,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

fn decode_all<C: RaftTypeConfig<Entry = Entry<C>>>(
    sources: Vec<Source<C::NodeId>>,
) -> Result<Vec<Entry<C>>, StorageError<C::NodeId>> {
    sources.into_iter().map(decode).collect()
}

fn decode<C: RaftTypeConfig<Entry = Entry<C>>>(
    source: Source<C::NodeId>,
) -> Result<Entry<C>, StorageError<C::NodeId>> {
    let body = match source {
        Source::Cached(body) => body,
        Source::Stored(place, log_id) => read_frame(&place, &log_id)
            .map_err(|e| StorageIOError::read_log_entry(log_id, AnyError::new(&e)))?,
    };
    Ok(postcard::from_bytes(&body).map_err(|e| StorageIOError::read_logs(AnyError::new(&e)))?)
}

fn read_frame<N: NodeId>(place: &EntryLocation, log_id: &LogId<N>) -> io::Result<Bytes> {
    let mut bytes = vec![0; place.frame_bytes()];
    place.segment.file.read_at(&mut bytes, place.offset)?;
    match Frame::decode(&bytes, &place.segment.salt, place.offset) {
        Some((frame, body))
            if frame.kind == Kind::Entry
                && frame.index == log_id.index
                && body.len() + FRAME_HEADER_BYTES == bytes.len() =>
        {
            Ok(Bytes::from(bytes).slice(FRAME_HEADER_BYTES..))
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            Changed { segment: place.segment.first, offset: place.offset },
        )),
    }
}
