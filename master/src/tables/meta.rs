//! Singleton records: the cluster's identity, the position in the log, counters, the gap, the rebalance.

use openraft::{LogId, StoredMembership};
use serde::{Deserialize, Serialize};
use shared::clock::{Timestamp, millis};
use shared::ids::{BlobId, ClusterId};
use shared::limits::{CLOCK_SKEW_MAX, UPLOAD_TIME_MAX};

use super::peer::{MasterId, Peer};
use super::{Kind, Read, TableError, Tables};

const IDENTITY: &[u8] = b"identity";
const PROGRESS: &[u8] = b"progress";
const APPLIED: &[u8] = b"applied";
const GAP: &[u8] = b"gap";
const REBALANCE: &[u8] = b"rebalance";
const LISTED: &[u8] = b"listed";
const SEQUENCE: &[u8] = b"sequence";
const TIME: &[u8] = b"time";
/// Format version of the metadata directory: tables with a replicated log and a digest of all records.
pub const FORMAT_VERSION: u32 = 3;
/// The previous version, without the digest. Opening such tables upgrades them.
pub const VERSION_WITHOUT_DIGEST: u32 = 2;
/// The oldest version that can be read: the same tables, without a log.
pub const FIRST_VERSION: u32 = 1;

/// Identity of the metadata directory. Written when the cluster is created; only an upgrade changes the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub cluster: ClusterId,
    pub format_version: u32,
}

/// Counters. Written with every batch of commands, in the same atomic write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub applied: u64,
    /// The newest blob that any command named: new ids are greater.
    pub last_blob: Option<BlobId>,
    /// Keys with a value.
    pub objects: u64,
    /// Bytes of their values, each counted once.
    pub bytes: u64,
    pub under_replicated: u64,
    /// Entries of the reclaim list.
    pub reclaim_pending: u64,
}

/// Position of the tables in the replicated log. Written with every batch, in the same atomic write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The last applied entry.
    pub last: Option<LogId<MasterId>>,
    /// The masters of the cluster, as of that entry.
    pub members: StoredMembership<MasterId, Peer>,
}

/// A time span whose commits are unknown, because the tables were restored from an older backup, or rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Commits of blobs up to this one are known; `None`: nothing before the end of the gap is.
    pub after: Option<BlobId>,
    /// When they were restored, plus a margin for clock skew.
    pub until: Timestamp,
}

impl Gap {
    /// Returns the gap of tables that know all commits up to the moment when `last` was their newest blob, and that
    /// are restored `now`. It begins before `last`, since an upload that began earlier may have been committed later.
    pub fn since(last: Option<BlobId>, now: Timestamp) -> Self {
        let began = |last: BlobId| {
            let longest = millis(UPLOAD_TIME_MAX + CLOCK_SKEW_MAX);
            let ms = last.created().unix_ms().saturating_sub(longest);
            BlobId::next(None, Timestamp::from_unix_ms(ms), [0; 10])
        };
        let until = BlobId::next(last, now.after(CLOCK_SKEW_MAX), [0xff; 10]).created();
        Self { after: last.map(began), until }
    }

    /// Returns a gap that spans both: what was unknown after an earlier restore is still unknown.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        // `None` sorts first.
        Self { after: self.after.min(other.after), until: self.until.max(other.until) }
    }

    /// Whether `blob` may have been committed in the gap.
    pub fn covers(&self, blob: BlobId) -> bool {
        self.after.is_none_or(|after| blob > after) && blob <= self.end()
    }

    /// Returns the last blob id of the gap. New ids are greater.
    pub fn end(&self) -> BlobId {
        BlobId::next(None, self.until, [0xff; 10])
    }
}

/// A rebalance in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebalance {
    pub since: Timestamp,
    pub paused: bool,
    /// Bytes to be moved when it began.
    pub planned_bytes: u64,
}

fn read<T: serde::de::DeserializeOwned>(records: &impl Read, name: &[u8]) -> Result<Option<T>, TableError> {
    records.get(Kind::Meta, name)
}

/// Reads the identity; `None` in a new directory.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn identity(records: &impl Read) -> Result<Option<Identity>, TableError> {
    read(records, IDENTITY)
}

/// Returns path and value of the record of the identity.
pub(super) fn identity_record(identity: &Identity) -> (Vec<u8>, Vec<u8>) {
    (super::path(Kind::Meta, IDENTITY), super::encode(Kind::Meta, IDENTITY, identity))
}

/// Writes the identity into a new directory.
///
/// # Errors
/// When sled fails.
pub fn write_identity(tree: &sled::Tree, identity: &Identity) -> Result<(), TableError> {
    let mut tables = Tables::new(tree);
    tables.put_identity(identity);
    tree.apply_batch(tables.into_batch()?)?;
    Ok(())
}

/// Reads the counters.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn counters(records: &impl Read) -> Result<Counters, TableError> {
    Ok(read(records, PROGRESS)?.unwrap_or_default())
}

/// Reads the position in the log; `None` in tables without a log.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn applied(records: &impl Read) -> Result<Option<Applied>, TableError> {
    read(records, APPLIED)
}

/// Reads the gap, if there is one.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn gap(records: &impl Read) -> Result<Option<Gap>, TableError> {
    read(records, GAP)
}

/// Whether the repair queue is complete. Tables of an older version, and rebuilt ones, are scanned once to fill it.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn is_repair_queue_complete(records: &impl Read) -> Result<bool, TableError> {
    Ok(read::<()>(records, LISTED)?.is_some())
}

/// Reads the rebalance, if one is in progress.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn rebalance(records: &impl Read) -> Result<Option<Rebalance>, TableError> {
    read(records, REBALANCE)
}

/// Returns the number of changes of access keys and bucket permissions so far.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn sequence(records: &impl Read) -> Result<u64, TableError> {
    Ok(read(records, SEQUENCE)?.unwrap_or_default())
}

/// Returns the group's time: the latest one that a majority of the masters' clocks had reached when it was needed last.
/// It never runs back. What expires, expires by it.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn time(records: &impl Read) -> Result<Timestamp, TableError> {
    Ok(read(records, TIME)?.unwrap_or(Timestamp::from_unix_ms(0)))
}

impl Tables<'_> {
    /// Advances the group's time.
    ///
    /// # Errors
    /// When sled fails or the record is corrupt.
    pub fn advance_time(&mut self, to: Timestamp) -> Result<(), TableError> {
        if to > time(self)? {
            self.put(Kind::Meta, TIME, &to);
        }
        Ok(())
    }

    pub fn put_sequence(&mut self, sequence: u64) {
        self.put(Kind::Meta, SEQUENCE, &sequence);
    }

    /// Marks the repair queue as complete.
    pub fn put_repair_queue_complete(&mut self) {
        self.put(Kind::Meta, LISTED, &());
    }

    pub fn put_rebalance(&mut self, rebalance: Option<&Rebalance>) {
        match rebalance {
            Some(rebalance) => self.put(Kind::Meta, REBALANCE, rebalance),
            None => self.remove(Kind::Meta, REBALANCE),
        }
    }

    /// Records the gap of a restore `now`, merged with an earlier gap. New blob ids are greater than all that may
    /// have been stored in it.
    ///
    /// # Errors
    /// When sled fails or a record is corrupt.
    pub fn begin_again(&mut self, now: Timestamp) -> Result<(), TableError> {
        let mut progress = counters(self)?;
        let new = Gap::since(progress.last_blob, now);
        let gap = gap(self)?.map_or(new, |earlier| new.with(earlier));
        progress.last_blob = progress.last_blob.max(Some(gap.end()));
        self.put_gap(&gap);
        self.put_counters(&progress);
        self.advance_time(now)
    }

    pub fn put_gap(&mut self, gap: &Gap) {
        self.put(Kind::Meta, GAP, gap);
    }

    /// Removes the position in the log.
    pub fn remove_applied(&mut self) {
        self.remove(Kind::Meta, APPLIED);
    }

    pub fn put_identity(&mut self, identity: &Identity) {
        self.put(Kind::Meta, IDENTITY, identity);
    }

    pub fn put_applied(&mut self, applied: &Applied) {
        self.put(Kind::Meta, APPLIED, applied);
    }

    pub fn put_counters(&mut self, progress: &Counters) {
        self.put(Kind::Meta, PROGRESS, progress);
    }
}
