//! What there is once: the cluster's identity, the applied index, the last generation, counters.

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
/// Version of the metadata directory: tables with a replicated log beside them, and the digest of all their records.
pub const FORMAT_VERSION: u32 = 3;
/// The version before: without the digest. Opened, they become tables of this version.
pub const VERSION_WITHOUT_DIGEST: u32 = 2;
/// The oldest version that is read: the same tables, without a log.
pub const FIRST_VERSION: u32 = 1;

/// Written when the directory is made, never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub cluster: ClusterId,
    /// In which format.
    pub format_version: u32,
}

/// Written with every batch of commands, in the same atomic write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub applied: u64,
    /// The newest blob any command named: new ids come after it.
    pub last_blob: Option<BlobId>,
    /// Keys with a value.
    pub objects: u64,
    /// Bytes of their values, each counted once.
    pub bytes: u64,
    /// Objects with fewer copies than wanted.
    pub degraded: u64,
    /// Entries of the reclaim list.
    pub reclaim_pending: u64,
}

/// How far the tables have come in the replicated log. Written with every batch, in the same atomic write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The last entry that was applied.
    pub last: Option<LogId<MasterId>>,
    /// The masters of the cluster, as of that entry.
    pub members: StoredMembership<MasterId, Peer>,
}

/// A time of which nothing is known here: the tables were restored from a back-up that is older, or rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// All that was committed of blobs up to this one is known; none: of no time.
    pub after: Option<BlobId>,
    /// When they were restored, and a little later: clocks differ.
    pub until: Timestamp,
}

impl Gap {
    /// Of tables that know of all commits up to some moment, in which `last` was their newest blob, and that begin again
    /// `now`. An upload that began before that moment may have come to its commit after it.
    pub fn since(last: Option<BlobId>, now: Timestamp) -> Self {
        let began = |last: BlobId| {
            let longest = millis(UPLOAD_TIME_MAX + CLOCK_SKEW_MAX);
            let ms = last.created().unix_ms().saturating_sub(longest);
            BlobId::next(None, Timestamp::from_unix_ms(ms), [0; 10])
        };
        let until = BlobId::next(last, now.after(CLOCK_SKEW_MAX), [0xff; 10]).created();
        Self { after: last.map(began), until }
    }

    /// What is known of neither time, and all between them: what one of two restorations did not know, the other
    /// does not know either.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        // None comes first.
        Self { after: self.after.min(other.after), until: self.until.max(other.until) }
    }

    /// Whether `blob` may have been committed in that time.
    pub fn covers(&self, blob: BlobId) -> bool {
        self.after.is_none_or(|after| blob > after) && blob <= self.end()
    }

    /// The last id of that time. New ones come after it.
    pub fn end(&self) -> BlobId {
        BlobId::next(None, self.until, [0xff; 10])
    }
}

/// Values are being moved so that all volumes are about equally full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebalance {
    pub since: Timestamp,
    /// Whether it rests.
    pub paused: bool,
    /// Bytes that were to be moved when it began.
    pub planned_bytes: u64,
}

fn read<T: serde::de::DeserializeOwned>(records: &impl Read, name: &[u8]) -> Result<Option<T>, TableError> {
    records.get(Kind::Meta, name)
}

/// The identity; none in a new directory.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn identity(records: &impl Read) -> Result<Option<Identity>, TableError> {
    read(records, IDENTITY)
}

/// The record of the identity: path and value.
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

/// How far the commands have come.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn progress(records: &impl Read) -> Result<Progress, TableError> {
    Ok(read(records, PROGRESS)?.unwrap_or_default())
}

/// How far the tables have come in the log; none in tables without a log.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn applied(records: &impl Read) -> Result<Option<Applied>, TableError> {
    read(records, APPLIED)
}

/// The time of which nothing is known, where there is one.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn gap(records: &impl Read) -> Result<Option<Gap>, TableError> {
    read(records, GAP)
}

/// Whether all blobs with too few or too many copies are listed: tables of an older version, and rebuilt ones, are looked through once.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn is_listed(records: &impl Read) -> Result<bool, TableError> {
    Ok(read::<()>(records, LISTED)?.is_some())
}

/// The moving of values between volumes, where it is under way.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn rebalance(records: &impl Read) -> Result<Option<Rebalance>, TableError> {
    read(records, REBALANCE)
}

/// Changes of access keys and of what buckets permit so far.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn sequence(records: &impl Read) -> Result<u64, TableError> {
    Ok(read(records, SEQUENCE)?.unwrap_or_default())
}

impl Tables<'_> {
    /// Counts a change.
    pub fn put_sequence(&mut self, sequence: u64) {
        self.put(Kind::Meta, SEQUENCE, &sequence);
    }

    /// All blobs with too few or too many copies are listed.
    pub fn put_listed(&mut self) {
        self.put(Kind::Meta, LISTED, &());
    }

    /// Writes how values are being moved between volumes.
    pub fn put_rebalance(&mut self, rebalance: Option<&Rebalance>) {
        match rebalance {
            Some(rebalance) => self.put(Kind::Meta, REBALANCE, rebalance),
            None => self.remove(Kind::Meta, REBALANCE),
        }
    }

    /// Notes that nothing is known of what came after the newest blob they know of, up to `now`; of a time that was
    /// unknown before nothing is known still. New blobs are newer than all that may have been stored meanwhile.
    ///
    /// # Errors
    /// When sled fails or a record is damaged.
    pub fn begin_again(&mut self, now: Timestamp) -> Result<(), TableError> {
        let mut progress = progress(self)?;
        let new = Gap::since(progress.last_blob, now);
        let gap = gap(self)?.map_or(new, |earlier| new.with(earlier));
        progress.last_blob = progress.last_blob.max(Some(gap.end()));
        self.put_gap(&gap);
        self.put_progress(&progress);
        Ok(())
    }

    /// Writes of which time nothing is known.
    pub fn put_gap(&mut self, gap: &Gap) {
        self.put(Kind::Meta, GAP, gap);
    }

    /// They have no place in any log.
    pub fn remove_applied(&mut self) {
        self.remove(Kind::Meta, APPLIED);
    }

    /// Writes whose they are.
    pub fn put_identity(&mut self, identity: &Identity) {
        self.put(Kind::Meta, IDENTITY, identity);
    }

    /// Writes how far they have come in the log.
    pub fn put_applied(&mut self, applied: &Applied) {
        self.put(Kind::Meta, APPLIED, applied);
    }

    /// Writes how far they have come.
    pub fn put_progress(&mut self, progress: &Progress) {
        self.put(Kind::Meta, PROGRESS, progress);
    }
}
