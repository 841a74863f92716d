//! Whether the tables of this master hold what was written to them, and the same as those of the other masters.
//!
//! The same commands in the same order give the same tables, so at one place of the log the digests of all masters are
//! equal. Each remembers its digest at some places; where they differ, those of the majority are right.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use shared::limits::{
    CALL_TIMEOUT, CONTENT_CHECK_SHARE, CONTENT_COMPARE_EVERY, CONTENT_PLACE_ENTRIES, CONTENT_PLACES,
    CONTENT_PROVE_EVERY,
};
use shared::wire::master::{MasterRole, MasterSummary};
use shared::wire::routes::TABLES_COMPARE;
use shared::work::{Progress, Worker, blocking};

use super::group::Group;
use super::rpc::Envelope;
use crate::db::walk::Proof;
use crate::snapshot::SnapshotError;
use crate::tables::TableError;
use crate::tables::content::Content;

/// What the tables held at some places of the log: those at which all masters end a batch, and the last one.
#[derive(Debug, Default)]
pub(super) struct Places {
    common: VecDeque<(u64, Content)>,
    last: Option<(u64, Content)>,
}

impl Places {
    pub(super) fn note(&mut self, index: u64, content: Content) {
        // Before the first entry each has what it was made with.
        if index == 0 {
            return;
        }
        if index.is_multiple_of(CONTENT_PLACE_ENTRIES) {
            self.common.push_back((index, content.clone()));
            if self.common.len() > CONTENT_PLACES {
                self.common.pop_front();
            }
        }
        self.last = Some((index, content));
    }

    fn all(&self) -> BTreeMap<u64, Content> {
        self.common.iter().chain(&self.last).cloned().collect()
    }
}

/// How the tables of this master stand to those of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// No other master knows one of our places.
    Unknown,
    /// Where they can be compared they are equal.
    Equal,
    /// Somebody's are wrong, and nobody can say whose: in which tables.
    Differ(String),
    /// A majority has others than we: in which tables.
    Wrong(String),
}

/// `others`: what the other voters hold, of so many `voters` in all.
fn verdict(ours: &BTreeMap<u64, Content>, others: &[BTreeMap<u64, Content>], voters: usize) -> Verdict {
    let mut said = Verdict::Unknown;
    for (index, ours) in ours {
        let theirs: Vec<&Content> = others.iter().filter_map(|o| o.get(index)).collect();
        for content in &theirs {
            let differing = ours.differing(content);
            let alike = theirs.iter().filter(|other| *other == content).count();
            if !differing.is_empty() && alike > voters / 2 {
                return Verdict::Wrong(differing);
            }
            match said {
                _ if !differing.is_empty() => said = Verdict::Differ(differing),
                Verdict::Unknown => said = Verdict::Equal,
                _ => {}
            }
        }
    }
    said
}

impl Group {
    /// What this master's tables held at the places that another one asks for.
    pub fn contents(&self, places: &[u64]) -> BTreeMap<u64, Content> {
        let mut known = self.machine().places.lock().unwrap_or_else(PoisonError::into_inner).all();
        known.retain(|index, _| places.contains(index));
        known
    }

    /// Compares the tables with those of the other masters. When they are found to be wrong, this master stops, and gets
    /// others. Returns whether they could be compared.
    async fn compare_tables(&self) -> bool {
        let ours = self.machine().places.lock().unwrap_or_else(PoisonError::into_inner).all();
        let places: Vec<u64> = ours.keys().copied().collect();
        let mut others = Vec::new();
        // A learner has the tables of the master that sent it a snapshot: it says nothing of its own.
        let asked = |m: &MasterSummary| m.master != self.id() && m.role != MasterRole::Learner;
        for master in self.masters().into_iter().filter(asked) {
            let question = Envelope { to: master.master, message: places.clone() };
            // One that is away, or of another version, is compared another time.
            let called = self.peers.call_within(&master.address, TABLES_COMPARE, &question, CALL_TIMEOUT);
            others.extend(called.await.ok());
        }
        let voters = self.metrics().membership_config.membership().voter_ids().count();
        match verdict(&ours, &others, voters) {
            Verdict::Unknown => return false,
            Verdict::Equal => {}
            Verdict::Differ(tables) => {
                tracing::error!(%tables, "the metadata of this master and of another one differ");
            }
            Verdict::Wrong(tables) => {
                if let Err(error) = self.machine().database().distrust() {
                    tracing::error!(%error, "that the metadata is wrong cannot be noted");
                }
                self.machine().fail(TableError::Differs(tables));
            }
        }
        true
    }
}

/// Compares the tables with those of the other masters, every `CONTENT_COMPARE_EVERY`. Under load two masters are seldom at one
/// place: then sooner.
pub struct Comparing {
    group: Arc<Group>,
    compared: Option<Instant>,
}

impl Comparing {
    pub fn new(group: Arc<Group>) -> Self {
        Self { group, compared: None }
    }
}

impl Worker for Comparing {
    const NAME: &'static str = "compare tables";

    async fn tick(&mut self) -> Progress {
        let due = self.compared.is_none_or(|at| at.elapsed() >= CONTENT_COMPARE_EVERY);
        if due && (self.group.is_alone() || self.group.compare_tables().await) {
            self.compared = Some(Instant::now());
        }
        Progress::Idle
    }
}

/// Reads all tables in the background, again and again, and sees whether they hold what was written. When they do not, this
/// master stops.
pub struct Proving {
    group: Arc<Group>,
    proof: Option<Proof>,
    due: Instant,
}

impl Proving {
    /// Of this master, from now on.
    pub fn new(group: Arc<Group>) -> Self {
        Self { group, proof: None, due: Instant::now() }
    }

    /// Reads the next records; whether there are more.
    async fn step(&mut self) -> Result<bool, SnapshotError> {
        let proof = self.proof.take().unwrap_or_else(|| self.group.machine().database().begin_proof());
        let (proof, more) = blocking(move || {
            let more = proof.step();
            (proof, more)
        })
        .await;
        if more? {
            self.proof = Some(proof);
            return Ok(true);
        }
        Ok(false)
    }
}

impl Worker for Proving {
    const NAME: &'static str = "prove tables";

    async fn tick(&mut self) -> Progress {
        if self.due > Instant::now() {
            return Progress::Idle;
        }
        let started = Instant::now();
        let again = match self.step().await {
            Ok(true) => {
                // The rest of the time belongs to others.
                tokio::time::sleep(started.elapsed() * CONTENT_CHECK_SHARE).await;
                return Progress::More;
            }
            Ok(false) => CONTENT_PROVE_EVERY,
            // A record that cannot be read is an error to those who ask for it, and to nobody else.
            Err(SnapshotError::Tables(error @ TableError::Damaged { .. })) if self.group.is_alone() => {
                tracing::error!(%error, "a record of the metadata is damaged");
                CONTENT_PROVE_EVERY
            }
            Err(SnapshotError::Tables(error)) if error.is_damage() => {
                self.group.machine().fail(error);
                CONTENT_PROVE_EVERY
            }
            // The tables were replaced: these have not been read yet.
            Err(SnapshotError::Interrupted) => CALL_TIMEOUT,
            Err(error) => {
                tracing::warn!(%error, "the metadata could not be read through; it is tried again");
                CONTENT_COMPARE_EVERY
            }
        };
        self.due = Instant::now() + again;
        Progress::Idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(of: &[u8]) -> Content {
        let mut content = Content::default();
        content.add(b"okey", of);
        content
    }

    fn at(places: &[(u64, &[u8])]) -> BTreeMap<u64, Content> {
        places.iter().map(|(index, of)| (*index, content(of))).collect()
    }

    #[test]
    fn a_majority_at_one_place_is_right() {
        let ours = at(&[(1024, b"a"), (1030, b"b")]);
        let same = at(&[(1024, b"a")]);
        let other = at(&[(1024, b"x")]);
        let ahead = at(&[(1031, b"c")]);
        assert_eq!(verdict(&ours, &[], 3), Verdict::Unknown);
        assert_eq!(verdict(&ours, &[ahead.clone(), ahead], 3), Verdict::Unknown);
        assert_eq!(verdict(&ours, &[same.clone(), same.clone()], 3), Verdict::Equal);
        assert!(
            matches!(verdict(&ours, &[same, other.clone()], 3), Verdict::Differ(_)),
            "the other is wrong"
        );
        assert!(
            matches!(verdict(&ours, std::slice::from_ref(&other), 3), Verdict::Differ(_)),
            "one is no majority"
        );
        assert!(matches!(verdict(&ours, &[other.clone(), at(&[(1024, b"y")])], 3), Verdict::Differ(_)));
        let two = [other.clone(), other.clone()];
        assert!(matches!(verdict(&ours, &two, 4), Verdict::Differ(_)), "two of four are no majority");
        assert!(
            matches!(verdict(&ours, &[other.clone(), other], 3), Verdict::Wrong(t) if t.contains("Object"))
        );
    }

    #[test]
    fn the_last_places_and_the_last_common_ones_are_known() {
        let mut places = Places::default();
        for index in 1..=CONTENT_PLACE_ENTRIES * (CONTENT_PLACES as u64 + 3) + 5 {
            places.note(index, content(b""));
        }
        let known: Vec<u64> = places.all().into_keys().collect();
        assert_eq!(known.len(), CONTENT_PLACES + 1);
        assert_eq!(known.last(), Some(&(CONTENT_PLACE_ENTRIES * (CONTENT_PLACES as u64 + 3) + 5)));
        assert_eq!(known[0], CONTENT_PLACE_ENTRIES * 4);
    }
}
