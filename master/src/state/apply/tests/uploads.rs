//! Checks the invariants of multipart uploads for random steps: a part belongs to exactly one upload or object, and
//! is referenced until it is removed with it.

use std::collections::BTreeSet;

use shared::manifest::{Manifest, Part};

use super::*;
use crate::state::command::S3Commit;
use crate::tables::bucket::Bucket;
use crate::tables::upload::{self, PartRecord, UploadRecord};

fn key(n: u8) -> Key {
    format!("b/k{n}").parse().unwrap()
}

/// A step of a client or a worker.
#[derive(Clone, Debug)]
enum Step {
    Begin(u8),
    /// Upload, part number, volumes.
    Part(u8, u16, Vec<u8>),
    /// Completes with the existing parts except some; `stale`: with a manifest of replaced parts.
    Complete {
        upload: u8,
        without: u16,
        stale: bool,
        condition: WriteCondition,
    },
    Abort(u8),
    Delete(u8),
    Scrap,
}

fn step() -> impl Strategy<Value = Step> {
    let replicas = prop::collection::btree_set(0u8..3, 1..=3).prop_map(Vec::from_iter);
    let complete = (0u8..4, 0u16..6, any::<bool>(), condition())
        .prop_map(|(upload, without, stale, condition)| Step::Complete { upload, without, stale, condition });
    prop_oneof![
        2 => (0u8..4).prop_map(Step::Begin),
        6 => (0u8..4, 1u16..5, replicas).prop_map(|(u, n, r)| Step::Part(u, n, r)),
        3 => complete,
        1 => (0u8..4).prop_map(Step::Abort),
        1 => (0u8..2).prop_map(Step::Delete),
        2 => Just(Step::Scrap),
    ]
}

fn part(number: u16, blob: BlobId, replicas: &[u8]) -> PartRecord {
    let digest = Digest::of(blob.as_bytes());
    let part = Part { number, blob, length: 10, digest, etag: None, checksum: None };
    PartRecord { part, replicas: replicas.iter().map(|v| volume(*v)).collect() }
}

/// The tables, and a clock that allocates ids.
struct World {
    db: sled::Db,
    next: u64,
    uploads: [BlobId; 4],
}

impl World {
    fn new() -> Self {
        let mut world = Self { db: database(), next: 1 << 40, uploads: [blob(0); 4] };
        let bucket = Bucket::new(Timestamp::from_unix_ms(1));
        run(&world.db, &Command::CreateBucket { name: "b".into(), bucket });
        for n in 0..4 {
            world.uploads[n] = world.id();
        }
        world
    }

    fn id(&mut self) -> BlobId {
        self.next += 1;
        BlobId::next(None, Timestamp::from_unix_ms(self.next), [0; 10])
    }

    fn parts(&self, id: BlobId) -> Vec<PartRecord> {
        upload::parts(&self.db, id, 0).map(Result::unwrap).collect()
    }

    /// The last allocated id.
    fn last(&self) -> BlobId {
        BlobId::next(None, Timestamp::from_unix_ms(self.next), [0; 10])
    }

    /// Whether a blob has a tombstone of a refusal.
    fn is_refused(&self, blob: BlobId) -> bool {
        tombstones(&self.db).contains(&Tombstone::Refused { blob })
    }

    fn put(&self, n: u8, part: PartRecord, min_replicas: u8) -> Outcome {
        let upload = self.uploads[usize::from(n)];
        run(&self.db, &Command::PutPart { key: key(n % 2), upload, part, min_replicas })
    }

    fn completion(&mut self, n: u8, without: u16, stale: bool, condition: WriteCondition) -> Command {
        let (upload, blob) = (self.uploads[usize::from(n)], self.id());
        let mut parts: Vec<Part> = self.parts(upload).into_iter().map(|r| r.part).collect();
        parts.retain(|p| p.number != without);
        let numbers: Vec<_> = parts.iter().map(|p| p.number).collect();
        if let Some(first) = parts.first_mut().filter(|_| stale) {
            first.length += 1;
        }
        let attributes = Attributes::default();
        let bytes = Manifest { upload, attributes: attributes.clone(), parts }.encode();
        let commit = Commit {
            key: key(n % 2),
            blob,
            size: bytes.len() as u64,
            digest: Digest::of(&bytes),
            content_type: None,
            metadata: vec![],
            replicas: vec![volume(0), volume(1)],
            wanted: 2,
            min_replicas: 1,
            condition,
        };
        let store = Box::new(S3Commit { commit, attributes });
        Command::CompleteMultipartUpload { upload, numbers, store }
    }

    fn carry_out(&mut self, step: &Step) {
        match step {
            Step::Begin(n) => {
                let begun = UploadRecord {
                    content_type: None,
                    metadata: vec![],
                    tags: vec![],
                    checksum: None,
                    volumes: vec![],
                    wanted: 2,
                };
                // There is at most one part with a number at a time.
                let id = self.id();
                if upload::read(&self.db, &key(n % 2), self.uploads[usize::from(*n)]).unwrap().is_none() {
                    self.uploads[usize::from(*n)] = id;
                    run(&self.db, &Command::CreateMultipartUpload { key: key(n % 2), id, upload: begun });
                }
            }
            Step::Part(n, number, replicas) => {
                let blob = self.id();
                let outcome = self.put(*n, part(*number, blob, replicas), 1);
                assert_eq!(self.is_refused(blob), outcome != Outcome::Done, "{outcome:?}");
            }
            Step::Complete { upload, without, stale, condition } => {
                let (id, k) = (self.uploads[usize::from(*upload)], key(upload % 2));
                let open = upload::read(&self.db, &k, id).unwrap().is_some();
                let some = self.parts(id).iter().any(|r| r.part.number != *without);
                let completion = self.completion(*upload, *without, *stale, condition.clone());
                let outcome = run(&self.db, &completion);
                let made =
                    matches!(outcome, Outcome::Commit(CommitOutcome::Created | CommitOutcome::Replaced, _));
                assert_eq!(self.is_refused(self.last()), !made, "{outcome:?}");
                if open && some && *stale {
                    assert_eq!(outcome, Outcome::PartsChanged);
                }
                if !open {
                    assert!(
                        matches!(outcome, Outcome::NoUpload | Outcome::CompletedBefore(_)),
                        "{outcome:?}"
                    );
                }
            }
            Step::Abort(n) => {
                let upload = self.uploads[usize::from(*n)];
                run(&self.db, &Command::AbortMultipartUpload { key: key(n % 2), upload });
            }
            Step::Delete(k) => {
                let condition = WriteCondition::None;
                run(&self.db, &Command::Delete { key: key(*k), condition });
            }
            Step::Scrap => {
                let uploads = upload::unreferenced_parts(&self.db, 10).unwrap();
                run(&self.db, &Command::RemoveUnreferencedParts { uploads });
                assert!(upload::unreferenced_parts(&self.db, 10).unwrap().is_empty());
            }
        }
    }

    /// Checks everything that must hold after any step.
    fn validate(&self) {
        let db = &self.db;
        let objects: Vec<Object> = scan(db, Kind::Object, b"", None).map(|r| r.unwrap().1).collect();
        let of_objects: BTreeSet<BlobId> =
            objects.iter().filter_map(|o| o.parts.as_ref()).map(|p| p.upload).collect();
        let begun: BTreeSet<BlobId> = upload::after(db, "", None).map(|u| u.unwrap().1).collect();
        let condemned: BTreeSet<BlobId> = upload::unreferenced_parts(db, 100).unwrap().into_iter().collect();
        assert!(of_objects.is_disjoint(&begun) && of_objects.is_disjoint(&condemned));
        assert!(begun.is_disjoint(&condemned));
        let mut expected = BTreeSet::new();
        for object in &objects {
            let blob = &object.blobs[0];
            expected.extend(blob.replicas.iter().map(|v| (*v, blob.id)));
            let parts = object.parts.as_ref().unwrap();
            let records = self.parts(parts.upload);
            assert_eq!(
                records.len(),
                usize::from(parts.count),
                "an object has all parts it was completed with"
            );
            assert_eq!(records.iter().map(|r| r.part.length).sum::<u64>(), object.size);
            let all = |v: &VolumeId| records.iter().all(|r| r.replicas.contains(v));
            assert!(parts.full_replicas.iter().all(all), "a listed full replica holds all parts");
        }
        let mut owned = 0;
        for upload in of_objects.iter().chain(&begun).chain(&condemned) {
            for record in self.parts(*upload) {
                owned += 1;
                expected.extend(record.replicas.iter().map(|v| (*v, record.part.blob)));
            }
        }
        assert_eq!(owned, db.scan_prefix([Kind::Part as u8]).count(), "every part has an owner");
        let places = |kind| -> BTreeSet<Vec<u8>> {
            db.scan_prefix([kind as u8]).map(|r| r.unwrap().0[1..].to_vec()).collect()
        };
        let expected: BTreeSet<Vec<u8>> =
            expected.iter().map(|(v, b)| [&v.as_bytes()[..], &b.as_bytes()[..]].concat()).collect();
        assert_eq!(places(Kind::Replica), expected);
        assert!(expected.is_disjoint(&places(Kind::Reclaim)), "nothing referenced is ever reclaimed");
        let progress = meta::counters(db).unwrap();
        assert_eq!(progress.objects, objects.len() as u64);
        assert_eq!(progress.bytes, objects.iter().map(|o| o.size).sum::<u64>());
        assert_eq!(
            progress.under_replicated,
            objects.iter().filter(|o| o.is_under_replicated()).count() as u64
        );
        assert_eq!(progress.reclaim_pending, places(Kind::Reclaim).len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]
    #[test]
    fn parts_are_somebodys_until_they_are_scrapped(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.carry_out(step);
            world.validate();
        }
    }
}

#[test]
fn a_bucket_with_values_stays() {
    let world = World::new();
    let remove = Command::DeleteBucket { name: "b".into() };
    let mut stored = commit(1, 9, &[0, 1], WriteCondition::None);
    if let Command::Commit(commit) = &mut stored {
        commit.key = key(1);
    }
    run(&world.db, &stored);
    assert_eq!(run(&world.db, &remove), Outcome::BucketNotEmpty);
    run(&world.db, &Command::Delete { key: key(1), condition: WriteCondition::None });
    assert_eq!(run(&world.db, &remove), Outcome::Done);
    assert_eq!(run(&world.db, &remove), Outcome::NoBucket);
    // A commit of an S3 client in progress is refused and reclaimed.
    let Command::Commit(late) = commit(1, 11, &[0], WriteCondition::None) else { unreachable!() };
    let store = S3Commit { commit: Commit { key: key(1), ..late }, attributes: Attributes::default() };
    assert_eq!(run(&world.db, &Command::CommitS3(Box::new(store))), Outcome::NoBucket);
    assert_eq!(meta::counters(&world.db).unwrap().objects, 0);
    // Within one batch, too: earlier deletes of the batch count.
    let mut tables = Tables::new(&world.db);
    let bucket = Bucket::new(Timestamp::from_unix_ms(1));
    apply(&mut tables, &Command::CreateBucket { name: "b".into(), bucket }).unwrap();
    let Command::Commit(newer) = commit(1, 20, &[0, 1], WriteCondition::None) else { unreachable!() };
    apply(&mut tables, &Command::Commit(Commit { key: key(1), ..newer })).unwrap();
    assert_eq!(apply(&mut tables, &remove).unwrap(), Outcome::BucketNotEmpty);
}

/// Asserts that the last blob was refused, with tombstones for both of its volumes; then marks it as reclaimed.
fn assert_refused(world: &World, why: &str) {
    let blob = world.last();
    assert_eq!(tombstones(&world.db), vec![Tombstone::Refused { blob }; 2], "{why}");
    for n in 0..2 {
        let at = Timestamp::from_unix_ms(7);
        run(&world.db, &Command::Reclaimed { volume: volume(n), blobs: vec![blob], at });
    }
    assert_eq!(tombstones(&world.db), vec![], "{why}");
    world.validate();
}

#[test]
fn a_refused_commit_of_an_s3_client_leaves_tombstones() {
    let mut world = World::new();
    let Command::Commit(native) = commit(1, 1, &[0, 1], WriteCondition::None) else { unreachable!() };
    let commit = Commit { key: "none/k".parse().unwrap(), blob: world.id(), ..native };
    let store = Box::new(S3Commit { commit, attributes: Attributes::default() });
    assert_eq!(run(&world.db, &Command::CommitS3(store)), Outcome::NoBucket);
    assert_refused(&world, "the bucket does not exist");
}

#[test]
fn a_refused_completion_leaves_tombstones() {
    let mut world = World::new();
    world.carry_out(&Step::Begin(0));
    world.carry_out(&Step::Part(0, 1, vec![0, 1]));
    let completion = |world: &mut World, n| world.completion(n, 0, false, WriteCondition::None);
    let stale = world.completion(0, 0, true, WriteCondition::None);
    assert_eq!(run(&world.db, &stale), Outcome::PartsChanged);
    assert_refused(&world, "a part was replaced");
    let mut more = completion(&mut world, 0);
    if let Command::CompleteMultipartUpload { numbers, .. } = &mut more {
        numbers.push(9);
    }
    assert_eq!(run(&world.db, &more), Outcome::PartsChanged);
    assert_refused(&world, "a part does not exist");
    let conditional = world.completion(0, 0, false, WriteCondition::AnyPresent);
    let failed = Outcome::Commit(CommitOutcome::ConditionFailed, 2);
    assert_eq!(run(&world.db, &conditional), failed);
    assert_refused(&world, "the condition does not hold");
    run(&world.db, &Command::DeleteBucket { name: "b".into() });
    let homeless = completion(&mut world, 0);
    assert_eq!(run(&world.db, &homeless), Outcome::NoBucket);
    assert_refused(&world, "its bucket was deleted");
    let bucket = Bucket::new(Timestamp::from_unix_ms(1));
    run(&world.db, &Command::CreateBucket { name: "b".into(), bucket });
    let good = completion(&mut world, 0);
    assert_eq!(run(&world.db, &good), Outcome::Commit(CommitOutcome::Created, 2));
    assert!(matches!(run(&world.db, &good), Outcome::CompletedBefore(_)), "the first answer was lost");
    assert_eq!(tombstones(&world.db), vec![], "it is the value of its key");
    let late = completion(&mut world, 0);
    assert!(matches!(run(&world.db, &late), Outcome::CompletedBefore(_)));
    assert_refused(&world, "another completion came first");
    world.carry_out(&Step::Begin(1));
    world.carry_out(&Step::Abort(1));
    let aborted = completion(&mut world, 1);
    assert_eq!(run(&world.db, &aborted), Outcome::NoUpload);
    assert_refused(&world, "the upload was aborted");
}

#[test]
fn a_refused_part_leaves_tombstones_and_the_one_before_it() {
    let mut world = World::new();
    world.carry_out(&Step::Begin(0));
    let (kept, leaving, alone) = (world.id(), world.id(), world.id());
    assert_eq!(world.put(0, part(1, kept, &[0, 1]), 2), Outcome::Done);
    run(&world.db, &Command::ReclaimOrphans { volume: volume(0), blobs: vec![(leaving, 10)] });
    let put = |world: &World| world.put(0, part(1, leaving, &[0, 1]), 1);
    assert_eq!(put(&world), Outcome::NotEnoughReceipts, "one of its replicas is on the reclaim list");
    assert_eq!(tombstones(&world.db), vec![Tombstone::Refused { blob: leaving }], "for the other one");
    let at = Timestamp::from_unix_ms(7);
    run(&world.db, &Command::Reclaimed { volume: volume(0), blobs: vec![leaving], at });
    assert_eq!(put(&world), Outcome::NotEnoughReceipts, "one of its replicas was reclaimed");
    run(&world.db, &Command::Reclaimed { volume: volume(1), blobs: vec![leaving], at });
    assert_eq!(world.put(0, part(1, alone, &[2]), 2), Outcome::NotEnoughReceipts, "it has too few replicas");
    assert_eq!(tombstones(&world.db), vec![Tombstone::Refused { blob: alone }]);
    assert_eq!(world.parts(world.uploads[0]), vec![part(1, kept, &[0, 1])]);
    world.validate();
    world.carry_out(&Step::Abort(0));
    world.carry_out(&Step::Part(0, 2, vec![0, 1]));
    assert!(world.is_refused(world.last()), "the upload is gone");
}

#[test]
fn only_what_is_condemned_is_scrapped() {
    let mut world = World::new();
    world.carry_out(&Step::Begin(0));
    world.carry_out(&Step::Part(0, 1, vec![0, 1]));
    let upload = world.uploads[0];
    let scrap = |world: &World| {
        run(&world.db, &Command::RemoveUnreferencedParts { uploads: vec![upload] });
        world.validate();
        world.parts(upload).len()
    };
    assert_eq!(scrap(&world), 1, "the upload is in progress");
    let completion = world.completion(0, 0, false, WriteCondition::None);
    assert_eq!(run(&world.db, &completion), Outcome::Commit(CommitOutcome::Created, 2));
    assert_eq!(scrap(&world), 1, "its parts belong to an object");
    world.carry_out(&Step::Delete(0));
    assert_eq!(scrap(&world), 0);
}

#[test]
fn parts_of_a_completion_that_comes_behind_a_newer_one_go() {
    let mut world = World::new();
    for n in [0, 2] {
        world.carry_out(&Step::Begin(n));
        world.carry_out(&Step::Part(n, 1, vec![0, 1]));
    }
    let [late, newer] = [0, 2].map(|n| world.completion(n, 0, false, WriteCondition::None));
    assert_eq!(run(&world.db, &newer), Outcome::Commit(CommitOutcome::Created, 2));
    assert_eq!(run(&world.db, &late), Outcome::Commit(CommitOutcome::Replaced, 2));
    world.validate();
    world.carry_out(&Step::Scrap);
    assert!(world.parts(world.uploads[0]).is_empty());
    assert_eq!(world.parts(world.uploads[2]).len(), 1);
}
