//! Crash recovery: opening reads the files, decides whether a crash can have left them so, and only then repairs them.
//!
//! A refusal changes nothing. The torn tail of the last batch is truncated, and that is logged. Any other difference
//! from what was written is refused, because a master with a hole in its log must never vote.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::{LogId, NodeId, Vote};
use serde::de::DeserializeOwned;

use super::Tuning;
use super::disk::{Disk, DiskFile};
use super::error::{Corruption, OpenError};
use super::files::{Files, finish_beginning, is_temporary, parse_segment_name, purgeable, segment_name};
use super::format::{FileError, SegmentHeader, StateFile};
use super::replay::{Replay, Wrong};
use super::scan::{Scanned, Tail, scan};
use super::view::{Segment, View};

/// Reads a log and repairs what a crash left.
pub(super) fn open<N: NodeId>(
    disk: &Arc<dyn Disk>,
    path: &Path,
    tuning: &Tuning,
) -> Result<(Files<N>, View<N>), OpenError> {
    let opening = Opening { disk: &**disk, path };
    let names = opening.names()?;
    // What is read here must survive a power cut: the last process may have ended before it synced the directory.
    opening.at("", disk.sync_dir())?;
    let begin: Option<(LogId<N>, Vote<N>)> = opening.state(&names, StateFile::Begin)?;
    let (purged, vote) = match begin.clone() {
        Some((log_id, vote)) => (Some(log_id), Some(vote)),
        None => (opening.state(&names, StateFile::Purged)?, opening.state(&names, StateFile::Vote)?),
    };
    if begin.is_some() && !names.segments.is_empty() {
        return Err(opening.rotten(StateFile::Begin.name(), 0, Corruption::Beside));
    }
    if vote.is_none() && (purged.is_some() || !names.segments.is_empty()) {
        return Err(OpenError::VoteMissing { path: path.to_owned() });
    }
    let mut replay = Replay::new(purged.clone());
    let mut last = None;
    for first in &names.segments {
        let is_last = Some(first) == names.segments.last();
        last = Some(opening.segment(*first, is_last, &mut replay)?);
    }
    let log = replay.finish().map_err(|(first, wrong)| opening.wrong(first, wrong))?;
    let mut files = Files {
        disk: Arc::clone(disk),
        segments: log.segments,
        end: last.as_ref().map_or(0, |l| l.end),
        next_batch: log.next_batch,
        last: log.entries.last().map(|(log_id, _)| log_id.clone()).or_else(|| purged.clone()),
        has_vote: vote.is_some(),
        segment_bytes_max: tuning.segment_bytes_max,
        bytes: Arc::new(AtomicU64::new(0)),
    };
    let torn = last.filter(|l| l.tail == Tail::Torn).map(|l| l.end);
    opening.at("", make_consistent(&mut files, torn, &names, log.restart, purged.as_ref()))?;
    if let Some((log_id, vote)) = begin {
        opening.at("", finish_beginning(&**disk, &log_id, &vote))?;
    }
    let view = View::new(vote, purged, log.first, log.entries, tuning.cache_bytes_max);
    Ok((files, view))
}

/// The file names in the directory, classified.
#[derive(Debug, Default)]
struct Names {
    segments: BTreeSet<u64>,
    states: BTreeSet<&'static str>,
    temporary: Vec<String>,
    foreign: Vec<String>,
}

/// Makes all file changes of an opening, once the log is known to be good.
fn make_consistent<N: NodeId>(
    files: &mut Files<N>,
    torn: Option<u64>,
    names: &Names,
    restart: bool,
    purged: Option<&LogId<N>>,
) -> io::Result<()> {
    if let (Some(end), Some(last)) = (torn, files.segments.last()) {
        let bytes = last.file.length()?.saturating_sub(end);
        tracing::warn!(
            file = segment_name(last.first),
            offset = end,
            bytes,
            "the raft log ends with an unfinished write, which was never acknowledged: truncating it"
        );
        last.file.truncate(end)?;
        last.file.sync()?;
    }
    for name in &names.temporary {
        files.disk.remove(name)?;
    }
    let mut bytes = 0;
    for segment in &files.segments {
        bytes += segment.file.length()?;
    }
    files.bytes.store(bytes, Ordering::Relaxed);
    match purged {
        _ if restart => files.remove_all()?,
        Some(purged) => files.remove_segments(purgeable(&files.segments, purged.index))?,
        None => {}
    }
    files.disk.sync_dir()
}

struct Opening<'a> {
    disk: &'a dyn Disk,
    path: &'a Path,
}

/// The end of a segment.
struct Ending {
    end: u64,
    tail: Tail,
}

impl Opening<'_> {
    fn names(&self) -> Result<Names, OpenError> {
        let mut names = Names::default();
        for name in self.at("", self.disk.list())? {
            let state =
                [StateFile::Vote, StateFile::Purged, StateFile::Begin].into_iter().find(|s| s.name() == name);
            if let Some(first) = parse_segment_name(&name) {
                names.segments.insert(first);
            } else if let Some(state) = state {
                names.states.insert(state.name());
            } else if is_temporary(&name) {
                names.temporary.push(name);
            } else {
                names.foreign.push(name);
            }
        }
        if !names.foreign.is_empty() {
            tracing::warn!(
                directory = %self.path.display(),
                files = ?names.foreign,
                "ignoring files in the directory of the raft log that do not belong to it"
            );
        }
        Ok(names)
    }

    fn state<T: DeserializeOwned>(&self, names: &Names, state: StateFile) -> Result<Option<T>, OpenError> {
        if !names.states.contains(state.name()) {
            return Ok(None);
        }
        let bytes = self.at(state.name(), self.read(state.name(), false).map(|(_, bytes)| bytes))?;
        state.decode(&bytes).map(Some).map_err(|e| self.bad(state.name(), e))
    }

    fn segment<N: NodeId>(
        &self,
        first: u64,
        is_last: bool,
        replay: &mut Replay<N>,
    ) -> Result<Ending, OpenError> {
        let name = segment_name(first);
        let (file, bytes) = self.at(&name, self.read(&name, is_last))?;
        let (header, start) = SegmentHeader::<N>::decode(&bytes).map_err(|e| self.bad(&name, e))?;
        if header.first != first {
            return Err(self.rotten(&name, 32, Corruption::Order));
        }
        let Scanned { frames, end, tail } = scan(&bytes, start, &header.salt);
        if tail == Tail::Rotten || (tail == Tail::Torn && !is_last) {
            return Err(self.rotten(&name, end, Corruption::Frame));
        }
        let segment = Arc::new(Segment { first, salt: header.salt, file });
        replay
            .segment(&segment, &header)
            .and_then(|()| frames.iter().try_for_each(|f| replay.frame(&segment, f, &bytes[f.body.clone()])))
            .map_err(|wrong| self.wrong(first, wrong))?;
        Ok(Ending { end, tail })
    }

    /// Reads a whole file. `settle`: from the disk, after a sync; a sync that failed in the last process may have
    /// left bytes in the page cache that the disk does not have.
    fn read(&self, name: &str, settle: bool) -> io::Result<(Arc<dyn DiskFile>, Vec<u8>)> {
        let file = self.disk.open(name)?;
        if settle {
            file.sync()?;
            file.drop_cache();
        }
        let mut bytes = vec![0; usize::try_from(file.length()?).map_err(io::Error::other)?];
        file.read_at(&mut bytes, 0)?;
        Ok((file, bytes))
    }

    fn at<T>(&self, name: &str, result: io::Result<T>) -> Result<T, OpenError> {
        result.map_err(|source| OpenError::Io { path: self.path.join(name), source })
    }

    fn bad(&self, name: &str, error: FileError) -> OpenError {
        match error {
            FileError::Corrupt(offset, corruption) => self.rotten(name, offset, corruption),
            FileError::OtherVersion(found) => OpenError::OtherVersion { path: self.path.join(name), found },
        }
    }

    fn wrong(&self, first: u64, wrong: Wrong) -> OpenError {
        let name = segment_name(first);
        match wrong {
            Wrong::Corrupt(offset, corruption) => self.rotten(&name, offset, corruption),
            Wrong::Hole { expected } => {
                OpenError::Hole { path: self.path.join(name), expected, found: first }
            }
        }
    }

    fn rotten(&self, name: &str, offset: u64, corruption: Corruption) -> OpenError {
        OpenError::Rotten { path: self.path.join(name), offset, corruption }
    }
}
