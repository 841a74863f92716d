//! All records read in key order, some at a time, beside commits: for a snapshot, and for the proof that the tables hold what
//! was written.
//!
//! What is committed meanwhile is followed: the walk ends with the state of the moment in which it ends, and with the
//! digest of the records that it has seen, which must be the one that the tables hold.

use std::ops::{Bound, Deref};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use shared::limits::SNAPSHOT_STEP;

use super::Database;
use crate::snapshot::{self, SnapshotError, Summary};
use crate::tables::content::{self, Found};
use crate::tables::meta::{self, Applied};
use crate::tables::{TableError, Written, caught};

/// Walks under way: one of each kind.
#[derive(Debug, Default)]
pub(super) struct Walks {
    snapshot: Option<Walk>,
    proof: Option<Walk>,
}

/// One of them.
type Which = fn(&mut Walks) -> &mut Option<Walk>;

impl Walks {
    /// Tells both what is being committed.
    pub(super) fn follow(&mut self, changes: &[Written]) {
        for slot in [&mut self.snapshot, &mut self.proof] {
            if let Some(walk) = slot
                && let Err(error) = walk.follow(changes)
            {
                tracing::warn!(%error, "the snapshot under way cannot be written");
                *slot = None;
            }
        }
    }

    /// The tables are replaced: each would be a mixture of both.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    #[cfg(test)]
    pub(super) fn none(&self) -> bool {
        self.snapshot.is_none() && self.proof.is_none()
    }
}

/// How far it is.
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

    /// Reads the next records; whether there are more.
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

/// One that is under way. It ends with this, however that comes: nothing is written behind it.
struct Underway<D: Deref<Target = Database>> {
    database: D,
    tree: sled::Tree,
    which: Which,
    owner: Arc<()>,
}

impl<D: Deref<Target = Database>> Underway<D> {
    fn begin(database: D, walk: Walk, which: Which) -> Self {
        // Tables that are replaced end this: the tree must be the one that commits go to from now on.
        let mut walks = database.walks.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = Arc::clone(&walk.owner);
        *which(&mut walks) = Some(walk);
        let tree = database.tree();
        drop(walks);
        Self { database, tree, which, owner }
    }

    /// Reads the next records. At the end: all that was read, which is what the tables hold at this moment.
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
        // Nothing is committed as long as the lock is held: both are of one moment.
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

/// A proof that is under way: `Database::begin_proof`.
pub struct Proof(Underway<Arc<Database>>);

impl Proof {
    /// Reads the next records; whether there are more. Commits wait as long.
    ///
    /// # Errors
    /// `TableError::Differs` at the end; when the tables cannot be read; `Interrupted` when they were replaced.
    pub fn step(&self) -> Result<bool, SnapshotError> {
        Ok(self.0.step()?.is_none())
    }
}

impl Database {
    /// Writes all records into the file `to`: a consistent picture of the moment in which this returns.
    ///
    /// Records are read in key order, some at a time; what is committed meanwhile is appended as it comes, so that reading
    /// the file from front to end gives the state at its end.
    ///
    /// # Errors
    /// When tables or file fail, and when the tables are damaged: the tables are not affected.
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

    /// Begins to read all records, to compare them with the digest of what was written. One that is under way ends.
    pub fn begin_proof(self: &Arc<Self>) -> Proof {
        Proof(Underway::begin(Arc::clone(self), Walk::default(), |walks| &mut walks.proof))
    }
}
