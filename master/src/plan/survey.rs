//! What is to be done in the whole cluster: looks through all that may be owed, and judges each blob. The fewer copies, the sooner;
//! what does not fit into one plan is counted, and found again by the next.
//!
//! It never looks at all objects: what has too few or too many copies is listed, so are copies on their way, and what lies on a
//! volume that is lost or leaving is listed by volume.

use std::collections::{BTreeMap, HashMap, HashSet};

use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::limits::REPAIR_PLAN;

use super::repair::{Held, Stuck, Verdict, judge};
use crate::cluster::topology::{Condition, Topology};
use crate::tables::listed::Listed;
use crate::tables::mode::{self, Mode};
use crate::tables::object;
use crate::tables::unsettled::{self, Spot};
use crate::tables::upload::{self, PartRecord};
use crate::tables::{TableError, bucket, listed, reclaim, replica};

/// One thing to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Where the blob is named.
    pub spot: Spot,
    pub held: Held,
    pub verdict: Verdict,
}

/// What one look through has found.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// What is to be done, in order, at most `REPAIR_PLAN`.
    pub actions: Vec<Action>,
    /// Blobs that something is to be done about, or that are stuck.
    pub owed_blobs: u64,
    /// Bytes of copies that are to be made.
    pub owed_bytes: u64,
    /// Blobs that lack copies, by how many count.
    pub by_copies: Vec<u64>,
    /// Blobs that are stuck, by why.
    pub stuck: BTreeMap<Stuck, u64>,
    /// Whether more is to be done than fits.
    pub more: bool,
}

/// What a survey needs to know besides the tables.
#[derive(Clone, Debug)]
pub struct Question {
    pub topology: Topology,
    /// When uploads are acknowledged where their bucket does not say it.
    pub mode: Mode,
    /// Whether what is owed of asynchronous uploads is due.
    pub async_due: bool,
}

/// A blob that is named somewhere, as the tables have it now; none when it is not.
///
/// # Errors
/// When the tables cannot be read.
pub fn held(tree: &sled::Tree, blob: BlobId, spot: &Spot) -> Result<Option<Held>, TableError> {
    let Some(Listed { length, replicas, wanted }) = listed::read(tree, blob, spot)? else { return Ok(None) };
    let arriving = unsettled::arrivals(tree, blob)?;
    let (wanted, barred) = (usize::from(wanted), Vec::new());
    Ok(Some(Held { blob, length, wanted, replicas, arriving, barred }))
}

/// Those of `volumes` that must not get a copy of a blob now: what they had of it is being deleted, or was a moment ago.
///
/// # Errors
/// When the tables cannot be read.
pub fn barred(
    tree: &sled::Tree,
    blob: BlobId,
    volumes: impl IntoIterator<Item = VolumeId>,
) -> Result<Vec<VolumeId>, TableError> {
    let mut barred = Vec::new();
    for volume in volumes {
        if reclaim::contains(tree, volume, blob)? || reclaim::was_reclaimed(tree, volume, blob)? {
            barred.push(volume);
        }
    }
    Ok(barred)
}

/// What a blob of `key` lacks, on volumes that may have it: others are put down as barred.
///
/// # Errors
/// When the tables cannot be read.
pub fn judge_now(
    tree: &sled::Tree,
    key: &Key,
    held: &mut Held,
    topology: &Topology,
) -> Result<Verdict, TableError> {
    loop {
        let verdict = judge(key, held, topology);
        match &verdict {
            Verdict::Copy { to, .. } if !held.arriving.contains(to) => {
                let barred = barred(tree, held.blob, [*to])?;
                if barred.is_empty() {
                    return Ok(verdict);
                }
                held.barred.extend(barred);
            }
            _ => return Ok(verdict),
        }
    }
}

/// Finds where blobs are named whose keys are known. Remembers the parts of the keys it met last: they come one after the other,
/// and those of several uploads mixed.
#[derive(Debug, Default)]
pub struct Finder {
    keys: HashMap<Key, HashMap<BlobId, Spot>>,
    /// Parts that it remembers.
    parts: usize,
}

/// Parts that a `Finder` remembers: some ten values with as many as there can be.
const PARTS_REMEMBERED: usize = 100_000;

impl Finder {
    /// Where a blob of `key` is named; none when it is not any more.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn spot(&mut self, tree: &sled::Tree, key: &Key, blob: BlobId) -> Result<Option<Spot>, TableError> {
        let object = object::read(tree, key)?;
        if object.as_ref().is_some_and(|o| o.blobs.iter().any(|b| b.id == blob)) {
            return Ok(Some(Spot::object(key)));
        }
        if !self.keys.contains_key(key) {
            if self.parts > PARTS_REMEMBERED {
                *self = Self::default();
            }
            let parts = parts_of(tree, key, object.and_then(|o| o.parts).map(|parts| parts.upload))?;
            // A key without parts counts, too.
            self.parts += parts.len() + 1;
            self.keys.insert(key.clone(), parts);
        }
        Ok(self.keys.get(key).and_then(|parts| parts.get(&blob)).cloned())
    }
}

/// All parts of a key: those of its value, and of uploads that are under way.
fn parts_of(
    tree: &sled::Tree,
    key: &Key,
    completed: Option<BlobId>,
) -> Result<HashMap<BlobId, Spot>, TableError> {
    let mut parts = HashMap::new();
    for upload in completed.map(Ok).into_iter().chain(upload::of_key(tree, key)) {
        let upload = upload?;
        for record in upload::parts(tree, upload, 0) {
            let PartRecord { part, .. } = record?;
            parts.insert(part.blob, Spot::part(key, upload, part.number));
        }
    }
    Ok(parts)
}

/// What can be read of items; one that is damaged stands in nobody else's way.
fn readable<T>(item: Result<T, TableError>) -> Result<Option<T>, TableError> {
    match item {
        Err(error @ TableError::Damaged { .. }) => {
            tracing::error!(%error, "a record cannot be read; what it owes is not paid");
            Ok(None)
        }
        item => item.map(Some),
    }
}

struct Surveyor<'q> {
    tree: &'q sled::Tree,
    question: &'q Question,
    busy: &'q HashSet<BlobId>,
    resting: &'q HashSet<BlobId>,
    modes: HashMap<String, Mode>,
    /// By copies that count, then by blob.
    copies: BTreeMap<(usize, BlobId), Action>,
    rest: Vec<Action>,
    found: Survey,
}

/// Looks through all that may be owed, but for what somebody is `busy` with. What is `resting`, because it failed a moment ago, is
/// counted and not planned.
///
/// # Errors
/// When the tables cannot be read.
pub fn survey(
    tree: &sled::Tree,
    question: &Question,
    busy: &HashSet<BlobId>,
    resting: &HashSet<BlobId>,
) -> Result<Survey, TableError> {
    let (modes, copies) = (HashMap::new(), BTreeMap::new());
    let mut surveyor =
        Surveyor { tree, question, busy, resting, modes, copies, rest: Vec::new(), found: Survey::default() };
    for item in unsettled::after(tree, None) {
        let Some((blob, spot)) = readable(item)? else { continue };
        surveyor.look(blob, &spot)?;
    }
    let mut last = None;
    for item in unsettled::arriving(tree) {
        let Some((blob, _, spot)) = readable(item)? else { continue };
        if last.replace(blob) != Some(blob) && unsettled::read(tree, blob)?.is_none() {
            surveyor.look(blob, &spot)?;
        }
    }
    surveyor.forsaken()?;
    surveyor.bad()?;
    Ok(surveyor.end())
}

impl Surveyor<'_> {
    /// What lies on volumes whose copies count no more.
    fn forsaken(&mut self) -> Result<(), TableError> {
        let topology = &self.question.topology;
        let gone = |c: Condition| matches!(c, Condition::Lost | Condition::Leaving { .. });
        let volumes: Vec<VolumeId> =
            topology.seats().filter(|(_, s)| gone(s.condition)).map(|(id, _)| id).collect();
        let mut finder = Finder::default();
        for volume in &volumes {
            for item in replica::after(self.tree, *volume, None) {
                let Some((blob, key)) = readable(item)? else { continue };
                let listed = readable(unsettled::read(self.tree, blob))?.flatten().is_some();
                if listed || !unsettled::arrivals(self.tree, blob)?.is_empty() {
                    continue;
                }
                let Some(Some(spot)) = readable(finder.spot(self.tree, &key, blob))? else { continue };
                let Some(Some(held)) = readable(held(self.tree, blob, &spot))? else { continue };
                // Of several such volumes the first one looks after it.
                if held.replicas.iter().find(|v| volumes.contains(v)) == Some(volume) {
                    self.weigh(&spot, held)?;
                }
            }
        }
        Ok(())
    }

    /// Copies that are bad where they are.
    fn bad(&mut self) -> Result<(), TableError> {
        let topology = &self.question.topology;
        let gone = |v| matches!(topology.condition(v), Condition::Lost | Condition::Leaving { .. });
        let (mut finder, mut seen) = (Finder::default(), HashSet::new());
        for (volume, blob) in topology.bad() {
            let Some(Some(key)) = readable(replica::read(self.tree, volume, blob))? else { continue };
            let listed = readable(unsettled::read(self.tree, blob))?.flatten().is_some();
            if !seen.insert(blob) || listed || !unsettled::arrivals(self.tree, blob)?.is_empty() {
                continue;
            }
            let Some(Some(spot)) = readable(finder.spot(self.tree, &key, blob))? else { continue };
            let Some(Some(held)) = readable(held(self.tree, blob, &spot))? else { continue };
            // What is on a volume that is lost or leaving, too, was looked at.
            if !held.replicas.iter().any(|v| gone(*v)) {
                self.weigh(&spot, held)?;
            }
        }
        Ok(())
    }

    fn look(&mut self, blob: BlobId, spot: &Spot) -> Result<(), TableError> {
        match readable(held(self.tree, blob, spot))? {
            Some(Some(held)) => self.weigh(spot, held),
            _ => Ok(()),
        }
    }

    fn weigh(&mut self, spot: &Spot, mut held: Held) -> Result<(), TableError> {
        if self.busy.contains(&held.blob) {
            return Ok(());
        }
        let counts = |v: &&VolumeId| self.question.topology.counts_for(**v, held.blob);
        let live = held.replicas.iter().filter(counts).count();
        // Where a copy is to go costs most of a look, and matters of what is planned only.
        let last = self.copies.last_key_value().filter(|_| self.copies.len() >= REPAIR_PLAN);
        if live < held.wanted && last.is_some_and(|(last, _)| *last < (live, held.blob)) {
            self.count(&held, live);
            self.found.more = true;
            return Ok(());
        }
        let verdict = judge_now(self.tree, &spot.key, &mut held, &self.question.topology)?;
        if verdict == Verdict::Settled {
            return Ok(());
        }
        if matches!(verdict, Verdict::Copy { .. } | Verdict::Stuck(_)) {
            self.count(&held, live);
        } else {
            self.found.owed_blobs += 1;
        }
        if self.resting.contains(&held.blob) {
            return Ok(());
        }
        match verdict {
            Verdict::Stuck(why) => *self.found.stuck.entry(why).or_default() += 1,
            Verdict::Copy { .. } => {
                if live > 0 && !self.question.async_due && self.mode(&spot.key)? == Mode::Async {
                    return Ok(());
                }
                self.copies.insert((live, held.blob), Action { spot: spot.clone(), held, verdict });
                if self.copies.len() > REPAIR_PLAN {
                    self.copies.pop_last();
                    self.found.more = true;
                }
            }
            _ if self.rest.len() < REPAIR_PLAN => {
                self.rest.push(Action { spot: spot.clone(), held, verdict });
            }
            _ => self.found.more = true,
        }
        Ok(())
    }

    /// A blob lacks copies.
    fn count(&mut self, held: &Held, live: usize) {
        let places = self.found.by_copies.len().max(live + 1);
        self.found.by_copies.resize(places, 0);
        self.found.by_copies[live] += 1;
        self.found.owed_blobs += 1;
        self.found.owed_bytes += held.length * held.wanted.saturating_sub(live) as u64;
    }

    fn mode(&mut self, key: &Key) -> Result<Mode, TableError> {
        let Some(name) = bucket::of(key) else { return Ok(self.question.mode) };
        if let Some(mode) = self.modes.get(name) {
            return Ok(*mode);
        }
        let mode = mode::read(self.tree, name)?.unwrap_or(self.question.mode);
        self.modes.insert(name.to_owned(), mode);
        Ok(mode)
    }

    fn end(self) -> Survey {
        let mut found = self.found;
        found.actions = self.copies.into_values().chain(self.rest).collect();
        found
    }
}

#[cfg(test)]
mod tests;
