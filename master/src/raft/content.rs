//! Metadata scrub: verifies that the tables of this master hold what was written, and the same as the other masters.
//!
//! The same commands in the same order give the same tables, so the digests of all masters are equal at one log
//! position. Each master remembers its digest at some positions. Where they differ, the majority is right.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use shared::limits::{
    CALL_TIMEOUT, CONTENT_CHECK_SHARE, CONTENT_COMPARE_EVERY, CONTENT_PLACE_ENTRIES, CONTENT_PLACES,
    CONTENT_PROVE_EVERY,
};
use shared::wire::master::{MasterRole, MasterSummary};
use shared::wire::routes::TABLES_COMPARE;
use shared::work::{TickResult, Worker, blocking};

use super::group::Group;
use super::rpc::Envelope;
use crate::db::walk::TableVerification;
use crate::snapshot::SnapshotError;
use crate::tables::TableError;
use crate::tables::content::Content;

/// Digests of the tables at some log positions: those at which all masters end a batch, and the last one.
#[derive(Debug, Default)]
pub(super) struct DigestHistory {
    common: VecDeque<(u64, Content)>,
    last: Option<(u64, Content)>,
}

impl DigestHistory {
    pub(super) fn note(&mut self, index: u64, content: Content) {
        // Before the first entry, masters may differ in what they were created with.
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

/// The tables of this master, compared with those of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
enum DigestComparison {
    /// No other master has a digest at one of our positions.
    Unknown,
    /// Equal at all common positions.
    Equal,
    /// These tables differ, and no majority shows which master is wrong.
    Differ { kinds: String },
    /// These tables differ from those of a majority.
    Wrong { kinds: String },
}

/// Compares our digests with those of `others`, the other voters that answered; `voters` counts all of them.
fn verdict(
    ours: &BTreeMap<u64, Content>,
    others: &[BTreeMap<u64, Content>],
    voters: usize,
) -> DigestComparison {
    let mut said = DigestComparison::Unknown;
    for (index, ours) in ours {
        let theirs: Vec<&Content> = others.iter().filter_map(|o| o.get(index)).collect();
        for content in &theirs {
            let differing = ours.differing(content);
            let alike = theirs.iter().filter(|other| *other == content).count();
            if !differing.is_empty() && alike > voters / 2 {
                return DigestComparison::Wrong { kinds: differing };
            }
            match said {
                _ if !differing.is_empty() => said = DigestComparison::Differ { kinds: differing },
                DigestComparison::Unknown => said = DigestComparison::Equal,
                _ => {}
            }
        }
    }
    said
}

impl Group {
    /// Returns this master's digests at the positions that another master asks for.
    pub fn contents(&self, places: &[u64]) -> BTreeMap<u64, Content> {
        let mut known = self.machine().places.lock().unwrap_or_else(PoisonError::into_inner).all();
        known.retain(|index, _| places.contains(index));
        known
    }

    /// Compares the tables with those of the other masters. If they are wrong, this master stops and recovers them.
    /// Returns whether they could be compared.
    async fn compare_tables(&self) -> bool {
        let ours = self.machine().places.lock().unwrap_or_else(PoisonError::into_inner).all();
        let places: Vec<u64> = ours.keys().copied().collect();
        let mut others = Vec::new();
        // A learner has the tables of the master that sent it a snapshot: its digests are no independent vote.
        let asked = |m: &MasterSummary| m.master != self.id() && m.role != MasterRole::Learner;
        for master in self.masters().into_iter().filter(asked) {
            let question = Envelope { to: master.master, message: places.clone() };
            // A master that is down or runs another version is compared another time.
            let called = self.peers.call_within(&master.address, TABLES_COMPARE, &question, CALL_TIMEOUT);
            others.extend(called.await.ok());
        }
        let voters = self.metrics().membership_config.membership().voter_ids().count();
        match verdict(&ours, &others, voters) {
            DigestComparison::Unknown => return false,
            DigestComparison::Equal => {}
            DigestComparison::Differ { kinds: tables } => {
                tracing::error!(%tables, "the metadata of this master differs from that of another one");
            }
            DigestComparison::Wrong { kinds: tables } => {
                if let Err(error) = self.machine().database().distrust() {
                    tracing::error!(%error, "the metadata could not be marked as wrong");
                }
                self.machine().fail(TableError::Differs { kinds: tables });
            }
        }
        true
    }
}

/// Compares the tables with those of the other masters every `CONTENT_COMPARE_EVERY`. It retries sooner under load,
/// when two masters rarely have a common position.
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

    async fn tick(&mut self) -> TickResult {
        let due = self.compared.is_none_or(|at| at.elapsed() >= CONTENT_COMPARE_EVERY);
        if due && (self.group.is_alone() || self.group.compare_tables().await) {
            self.compared = Some(Instant::now());
        }
        TickResult::Idle
    }
}

/// Verifies all tables in the background, again and again. This master stops if they are corrupt.
pub struct Proving {
    group: Arc<Group>,
    proof: Option<TableVerification>,
    due: Instant,
}

impl Proving {
    pub fn new(group: Arc<Group>) -> Self {
        Self { group, proof: None, due: Instant::now() }
    }

    /// Verifies the next records. Returns whether there are more.
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

    async fn tick(&mut self) -> TickResult {
        if self.due > Instant::now() {
            return TickResult::Idle;
        }
        let started = Instant::now();
        let again = match self.step().await {
            Ok(true) => {
                // Leaves most of the time to other work.
                tokio::time::sleep(started.elapsed() * CONTENT_CHECK_SHARE).await;
                return TickResult::More;
            }
            Ok(false) => CONTENT_PROVE_EVERY,
            // On a single master, a corrupt record fails only the requests that need it.
            Err(SnapshotError::Tables(error @ TableError::Corrupt { .. })) if self.group.is_alone() => {
                tracing::error!(%error, "a record of the metadata is corrupt");
                CONTENT_PROVE_EVERY
            }
            Err(SnapshotError::Tables(error)) if error.is_corruption() => {
                self.group.machine().fail(error);
                CONTENT_PROVE_EVERY
            }
            // The tables were replaced: verify the new ones soon.
            Err(SnapshotError::Interrupted) => CALL_TIMEOUT,
            Err(error) => {
                tracing::warn!(%error, "the metadata could not be verified; retrying later");
                CONTENT_COMPARE_EVERY
            }
        };
        self.due = Instant::now() + again;
        TickResult::Idle
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
        assert_eq!(verdict(&ours, &[], 3), DigestComparison::Unknown);
        assert_eq!(verdict(&ours, &[ahead.clone(), ahead], 3), DigestComparison::Unknown);
        assert_eq!(verdict(&ours, &[same.clone(), same.clone()], 3), DigestComparison::Equal);
        assert!(
            matches!(verdict(&ours, &[same, other.clone()], 3), DigestComparison::Differ { kinds: _ }),
            "the other is wrong"
        );
        assert!(
            matches!(verdict(&ours, std::slice::from_ref(&other), 3), DigestComparison::Differ { kinds: _ }),
            "one is no majority"
        );
        assert!(matches!(
            verdict(&ours, &[other.clone(), at(&[(1024, b"y")])], 3),
            DigestComparison::Differ { kinds: _ }
        ));
        let two = [other.clone(), other.clone()];
        assert!(
            matches!(verdict(&ours, &two, 4), DigestComparison::Differ { kinds: _ }),
            "two of four are no majority"
        );
        assert!(
            matches!(verdict(&ours, &[other.clone(), other], 3), DigestComparison::Wrong { kinds: t } if t.contains("Object"))
        );
    }

    #[test]
    fn the_last_places_and_the_last_common_ones_are_known() {
        let mut places = DigestHistory::default();
        for index in 1..=CONTENT_PLACE_ENTRIES * (CONTENT_PLACES as u64 + 3) + 5 {
            places.note(index, content(b""));
        }
        let known: Vec<u64> = places.all().into_keys().collect();
        assert_eq!(known.len(), CONTENT_PLACES + 1);
        assert_eq!(known.last(), Some(&(CONTENT_PLACE_ENTRIES * (CONTENT_PLACES as u64 + 3) + 5)));
        assert_eq!(known[0], CONTENT_PLACE_ENTRIES * 4);
    }
}
