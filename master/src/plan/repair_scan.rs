//! Plans the repairs of the whole cluster: scans the repair queue, pending replicas and lost volumes, and decides
//! the next step of each blob. The fewer replicas, the higher the priority; work that exceeds one plan is counted
//! and found again.
//!
//! It never scans all objects: under- and over-replicated blobs and pending replicas are in tables of their own, and
//! the blobs on lost or draining volumes are indexed by volume.

use crate::plan::blob_locator::{BlobLocator, excluded_volumes, read_replicas};
use std::collections::{BTreeMap, HashMap, HashSet};

use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::limits::REPAIR_PLAN;

use super::repair::{BlobReplicas, Blocked, RepairStep, next_step};
use crate::cluster::topology::{Availability, Topology};
use crate::tables::repair_queue::{self, BlobRef};
use crate::tables::replication_mode::{self, ReplicationMode};
use crate::tables::{TableError, bucket, replica};

/// One planned step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairTask {
    /// What references the blob.
    pub blob_ref: BlobRef,
    pub replicas: BlobReplicas,
    pub step: RepairStep,
}

/// Results of one scan.
#[derive(Clone, Debug, Default)]
pub struct RepairScan {
    /// Planned steps by priority: at most `REPAIR_PLAN` additions, and as many others.
    pub actions: Vec<RepairTask>,
    /// Blobs that need repair, blocked ones included.
    pub queued_blobs: u64,
    /// Bytes of replicas to be added.
    pub queued_bytes: u64,
    /// Under-replicated blobs, by the number of replicas that count.
    pub by_live_replicas: Vec<u64>,
    /// Blocked blobs, by reason.
    pub blocked: BTreeMap<Blocked, u64>,
    /// Whether there is more work than fits.
    pub more: bool,
}

/// What a scan needs besides the tables.
#[derive(Clone, Debug)]
pub struct ScanInput {
    pub topology: Topology,
    /// Replication mode of buckets without a mode of their own.
    pub mode: ReplicationMode,
    /// Whether the missing replicas of `async` uploads are due.
    pub async_due: bool,
}

/// Like `next_step`, but skips destinations that must not get the blob now; adds them to `excluded`.
///
/// # Errors
/// When the tables cannot be read.
pub fn next_step_now(
    tree: &sled::Tree,
    key: &Key,
    held: &mut BlobReplicas,
    topology: &Topology,
) -> Result<RepairStep, TableError> {
    loop {
        let verdict = next_step(key, held, topology);
        match &verdict {
            RepairStep::AddReplica { to, .. } if !held.pending.contains(to) => {
                let barred = excluded_volumes(tree, held.blob, [*to])?;
                if barred.is_empty() {
                    return Ok(verdict);
                }
                held.excluded.extend(barred);
            }
            _ => return Ok(verdict),
        }
    }
}

/// Turns a corrupt record into `None`, so that it does not block the others.
fn readable<T>(item: Result<T, TableError>) -> Result<Option<T>, TableError> {
    match item {
        Err(error @ TableError::Corrupt { .. }) => {
            tracing::error!(%error, "a record cannot be read; its blob is not repaired");
            Ok(None)
        }
        item => item.map(Some),
    }
}

struct Scanner<'q> {
    tree: &'q sled::Tree,
    question: &'q ScanInput,
    busy: &'q HashSet<BlobId>,
    resting: &'q HashSet<BlobId>,
    modes: HashMap<String, ReplicationMode>,
    /// Additions, by replicas that count, then by blob.
    copies: BTreeMap<(usize, BlobId), RepairTask>,
    rest: Vec<RepairTask>,
    found: RepairScan,
}

/// Scans everything that may need repair, except blobs that a worker is `busy` with. Blobs that back off after a
/// failure (`resting`) are counted but not planned.
///
/// # Errors
/// When the tables cannot be read.
pub fn scan_repairs(
    tree: &sled::Tree,
    question: &ScanInput,
    busy: &HashSet<BlobId>,
    resting: &HashSet<BlobId>,
) -> Result<RepairScan, TableError> {
    let (modes, copies) = (HashMap::new(), BTreeMap::new());
    let mut scanner = Scanner {
        tree,
        question,
        busy,
        resting,
        modes,
        copies,
        rest: Vec::new(),
        found: RepairScan::default(),
    };
    for item in repair_queue::after(tree, None) {
        let Some((blob, blob_ref)) = readable(item)? else { continue };
        scanner.visit(blob, &blob_ref)?;
    }
    let mut last = None;
    for item in repair_queue::pending_replicas(tree) {
        let Some((blob, _, blob_ref)) = readable(item)? else { continue };
        if last.replace(blob) != Some(blob) && repair_queue::read(tree, blob)?.is_none() {
            scanner.visit(blob, &blob_ref)?;
        }
    }
    scanner.scan_lost_volumes()?;
    scanner.scan_corrupt_replicas()?;
    Ok(scanner.end())
}

impl Scanner<'_> {
    /// Scans the blobs on volumes whose replicas no longer count.
    fn scan_lost_volumes(&mut self) -> Result<(), TableError> {
        let topology = &self.question.topology;
        let gone = |c: Availability| matches!(c, Availability::Lost | Availability::Draining { .. });
        let volumes: Vec<VolumeId> =
            topology.volumes().filter(|(_, s)| gone(s.availability)).map(|(id, _)| id).collect();
        let mut finder = BlobLocator::default();
        for volume in &volumes {
            for item in replica::after(self.tree, *volume, None) {
                let Some((blob, key)) = readable(item)? else { continue };
                let listed = readable(repair_queue::read(self.tree, blob))?.flatten().is_some();
                if listed || !repair_queue::pending_volumes(self.tree, blob)?.is_empty() {
                    continue;
                }
                let Some(Some(blob_ref)) = readable(finder.locate(self.tree, &key, blob))? else { continue };
                let Some(Some(held)) = readable(read_replicas(self.tree, blob, &blob_ref))? else { continue };
                // If it is on several such volumes, count it once, at the first.
                if held.replicas.iter().find(|v| volumes.contains(v)) == Some(volume) {
                    self.classify(&blob_ref, held)?;
                }
            }
        }
        Ok(())
    }

    /// Scans the corrupt replicas that volumes cannot heal.
    fn scan_corrupt_replicas(&mut self) -> Result<(), TableError> {
        let topology = &self.question.topology;
        let gone = |v| matches!(topology.availability(v), Availability::Lost | Availability::Draining { .. });
        let (mut finder, mut seen) = (BlobLocator::default(), HashSet::new());
        for (volume, blob) in topology.bad() {
            let Some(Some(key)) = readable(replica::read(self.tree, volume, blob))? else { continue };
            let listed = readable(repair_queue::read(self.tree, blob))?.flatten().is_some();
            if !seen.insert(blob) || listed || !repair_queue::pending_volumes(self.tree, blob)?.is_empty() {
                continue;
            }
            let Some(Some(blob_ref)) = readable(finder.locate(self.tree, &key, blob))? else { continue };
            let Some(Some(held)) = readable(read_replicas(self.tree, blob, &blob_ref))? else { continue };
            // Blobs on lost or draining volumes were scanned before.
            if !held.replicas.iter().any(|v| gone(*v)) {
                self.classify(&blob_ref, held)?;
            }
        }
        Ok(())
    }

    fn visit(&mut self, blob: BlobId, blob_ref: &BlobRef) -> Result<(), TableError> {
        match readable(read_replicas(self.tree, blob, blob_ref))? {
            Some(Some(held)) => self.classify(blob_ref, held),
            _ => Ok(()),
        }
    }

    fn classify(&mut self, blob_ref: &BlobRef, mut held: BlobReplicas) -> Result<(), TableError> {
        if self.busy.contains(&held.blob) {
            return Ok(());
        }
        let counts = |v: &&VolumeId| self.question.topology.counts_for(**v, held.blob);
        let live = held.replicas.iter().filter(counts).count();
        // Choosing the destination is the most expensive step; skip it for blobs that do not fit into the plan.
        let last = self.copies.last_key_value().filter(|_| self.copies.len() >= REPAIR_PLAN);
        if live < held.wanted && last.is_some_and(|(last, _)| *last < (live, held.blob)) {
            self.count(&held, live);
            self.found.more = true;
            return Ok(());
        }
        let verdict = next_step_now(self.tree, &blob_ref.key, &mut held, &self.question.topology)?;
        if verdict == RepairStep::Healthy {
            return Ok(());
        }
        if matches!(verdict, RepairStep::AddReplica { .. } | RepairStep::Blocked(_)) {
            self.count(&held, live);
        } else {
            self.found.queued_blobs += 1;
        }
        if self.resting.contains(&held.blob) {
            return Ok(());
        }
        match verdict {
            RepairStep::Blocked(why) => *self.found.blocked.entry(why).or_default() += 1,
            RepairStep::AddReplica { .. } => {
                if live > 0 && !self.question.async_due && self.mode(&blob_ref.key)? == ReplicationMode::Async
                {
                    return Ok(());
                }
                self.copies.insert(
                    (live, held.blob),
                    RepairTask { blob_ref: blob_ref.clone(), replicas: held, step: verdict },
                );
                if self.copies.len() > REPAIR_PLAN {
                    self.copies.pop_last();
                    self.found.more = true;
                }
            }
            _ if self.rest.len() < REPAIR_PLAN => {
                self.rest.push(RepairTask { blob_ref: blob_ref.clone(), replicas: held, step: verdict });
            }
            _ => self.found.more = true,
        }
        Ok(())
    }

    /// Counts an under-replicated blob.
    fn count(&mut self, held: &BlobReplicas, live: usize) {
        let places = self.found.by_live_replicas.len().max(live + 1);
        self.found.by_live_replicas.resize(places, 0);
        self.found.by_live_replicas[live] += 1;
        self.found.queued_blobs += 1;
        self.found.queued_bytes += held.length * held.wanted.saturating_sub(live) as u64;
    }

    fn mode(&mut self, key: &Key) -> Result<ReplicationMode, TableError> {
        let Some(name) = bucket::of(key) else { return Ok(self.question.mode) };
        if let Some(mode) = self.modes.get(name) {
            return Ok(*mode);
        }
        let mode = replication_mode::read(self.tree, name)?.unwrap_or(self.question.mode);
        self.modes.insert(name.to_owned(), mode);
        Ok(mode)
    }

    fn end(self) -> RepairScan {
        let mut found = self.found;
        found.actions = self.copies.into_values().chain(self.rest).collect();
        found
    }
}

#[cfg(test)]
mod tests;
