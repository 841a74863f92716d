//! Reads all records in key order, a few at a time, concurrently with commits: for a snapshot, and for the proof that
//! the tables hold what was written.
//!
//! Concurrent commits are passed to the walk. So it yields the state at its end, and the digest of the records it has
//! seen, which must equal the digest kept in the tables.

use std::ops::{Bound, Deref};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use shared::limits::SNAPSHOT_STEP;

use super::Database;
use crate::snapshot::{self, SnapshotError, Summary};
use crate::tables::content::{self, Found};
use crate::tables::meta::{self, Applied};
use crate::tables::{TableError, Written, caught};

/// Walks in progress: at most one of each kind.
#[derive(Debug, Default)]
pub(super) struct Walks {
    snapshot: Option<Walk>,
    proof: Option<Walk>,
}

/// Selects one of them.
type Which = fn(&mut Walks) -> &mut Option<Walk>;

impl Walks {
    /// Passes the changes of a commit to both.
    pub(super) fn follow(&mut self, changes: &[Written]) {
        for slot in [&mut self.snapshot, &mut self.proof] {
            if let Some(walk) = slot
                && let Err(error) = walk.follow(changes)
            {
                tracing::warn!(%error, "a write to the snapshot failed; the snapshot is aborted");
                *slot = None;
            }
        }
    }

    /// Aborts both, because the tables are replaced: each would mix old and new ones.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    #[cfg(test)]
    pub(super) fn none(&self) -> bool {
        self.snapshot.is_none() && self.proof.is_none()
    }
}

/// State of a walk.
#[derive(Debug, Default)]
struct Walk {
    owner: Arc<()>,
    /// The last path that was read.
    after: Option<Vec<u8>>,
    /// The records up to there.
    found: Found,
    writer: Option<snapshot::Writer>,
}

impl Walk {
    fn follow(&mut self, changes: &[Written]) -> Result<(), SnapshotError> {
        let passed = |change: &&Written| self.after.as_ref().is_some_and(|after| change.path <= *after);
        for change in changes.iter().filter(passed) {
            self.found.follow(change);
        }
        if let Some(writer) = &mut self.writer {
            writer.changes(changes.iter().map(|c| (c.path.as_slice(), c.after.as_deref())))?;
        }
        Ok(())
    }

    /// Reads the next records; returns whether there are more.
    fn step(&mut self, tree: &sled::Tree) -> Result<bool, SnapshotError> {
        let records = match &self.after {
            None => tree.iter(),
            Some(last) => tree.range::<&[u8], _>((Bound::Excluded(last.as_slice()), Bound::Unbounded)),
        };
        let step: Vec<_> = records.take(SNAPSHOT_STEP).collect::<Result<_, _>>().map_err(TableError::from)?;
        for (path, value) in &step {
            self.found.add(path, value);
        }
        if let Some(writer) = &mut self.writer {
            writer.changes(step.iter().map(|(path, value)| (&path[..], Some(&value[..]))))?;
        }
        let Some((last, _)) = step.last() else { return Ok(false) };
        self.after = Some(last.to_vec());
        Ok(step.len() == SNAPSHOT_STEP)
    }
}

/// A walk in progress. Dropping this ends it, so that commits stop writing to it.
struct Underway<D: Deref<Target = Database>> {
    database: D,
    tree: sled::Tree,
    which: Which,
    owner: Arc<()>,
}

impl<D: Deref<Target = Database>> Underway<D> {
    fn begin(database: D, walk: Walk, which: Which) -> Self {
        // Take the tree under the lock: it must be the one that commits write to from now on.
        let mut walks = database.walks.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = Arc::clone(&walk.owner);
        *which(&mut walks) = Some(walk);
        let tree = database.tree();
        drop(walks);
        Self { database, tree, which, owner }
    }

    /// Reads the next records. At the end, returns the walk, which matches the tables at this moment.
    fn step(&self) -> Result<Option<(Walk, Applied)>, SnapshotError> {
        caught(|| self.step_on())
    }

    fn step_on(&self) -> Result<Option<(Walk, Applied)>, SnapshotError> {
        let mut walks = self.database.walks.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = (self.which)(&mut walks);
        let ours = slot.as_mut().filter(|walk| Arc::ptr_eq(&walk.owner, &self.owner));
        let walk = ours.ok_or(SnapshotError::Interrupted)?;
        if walk.step(&self.tree)? {
            return Ok(None);
        }
        // No commit happens while the lock is held, so both digests are of the same moment.
        let expected = content::read(&self.tree)?.unwrap_or_default();
        std::mem::take(&mut walk.found).expect(expected)?;
        let applied = meta::applied(&self.tree)?.unwrap_or_default();
        Ok(slot.take().map(|walk| (walk, applied)))
    }
}

impl<D: Deref<Target = Database>> Drop for Underway<D> {
    fn drop(&mut self) {
        let mut walks = self.database.walks.lock().unwrap_or_else(PoisonError::into_inner);
        (self.which)(&mut walks).take_if(|walk| Arc::ptr_eq(&walk.owner, &self.owner));
    }
}

/// A proof in progress, from `Database::begin_proof`.
pub struct TableVerification(Underway<Arc<Database>>);

impl TableVerification {
    /// Reads the next records; returns whether there are more. Commits wait meanwhile.
    ///
    /// # Errors
    /// `TableError::Differs` at the end; `Interrupted` if the tables were replaced; if they cannot be read.
    pub fn step(&self) -> Result<bool, SnapshotError> {
        Ok(self.0.step()?.is_none())
    }
}

impl Database {
    /// Writes a consistent snapshot of all records, as of the moment in which this returns, to the file `to`.
    ///
    /// Records are read in key order, a few at a time. Concurrent commits are appended, so that reading the file in
    /// order gives the state at its end.
    ///
    /// # Errors
    /// When the tables cannot be read or are corrupt, or the file cannot be written.
    pub fn write_snapshot(&self, to: &Path) -> Result<(Summary, Applied), SnapshotError> {
        let _alone = self.snapshotting.lock().unwrap_or_else(PoisonError::into_inner);
        let walk = Walk { writer: Some(snapshot::Writer::create(to)?), ..Walk::default() };
        let underway = Underway::begin(self, walk, |walks| &mut walks.snapshot);
        loop {
            if let Some((walk, applied)) = underway.step()? {
                let writer = walk.writer.ok_or(SnapshotError::Interrupted)?;
                return Ok((writer.finish()?, applied));
            }
        }
    }

    /// Begins to read all records and compare them with the stored digest. Ends a proof in progress.
    pub fn begin_proof(self: &Arc<Self>) -> TableVerification {
        TableVerification(Underway::begin(Arc::clone(self), Walk::default(), |walks| &mut walks.proof))
    }
}
