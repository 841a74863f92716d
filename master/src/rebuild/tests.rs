//! Property tests of rebuild: after any history, with any volume down in it, the metadata rebuilt from the volumes
//! equals that of the master.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use shared::clock::Timestamp;
use shared::condition::WriteCondition;
use shared::digest::Digest;
use shared::ids::{BlobId, ClusterId, VolumeId};
use shared::key::Key;
use shared::manifest::{Manifest, Part};
use shared::tombstone::Tombstone;
use shared::wire::volume::{RecordEntry, RecordedValue, VolumeReport};

use super::ask::Volumes;
use super::collect::Collected;
use super::parts::{self, PartsFound};
use super::write::write;
use super::{RebuildProgress, Report};
use crate::db::Database;
use crate::state::apply::apply;
use crate::state::command::{Command, Commit};
use crate::tables::object::Object;
use crate::tables::{Kind, Tables, meta, object, reclaim, replica, scan, tombstone};

mod asked;
mod restored;

const VOLUMES: u8 = 3;

fn volume(n: u8) -> VolumeId {
    VolumeId::from_bytes([n; 16])
}

fn blob(n: u8) -> BlobId {
    BlobId::next(None, Timestamp::from_unix_ms((1 << 40) + u64::from(n)), [0; 10])
}

fn key(n: u8) -> Key {
    format!("k{n}").parse().unwrap()
}

/// A volume, as a rebuild sees it.
#[derive(Clone, Debug, Default)]
struct Disk {
    records: BTreeMap<BlobId, RecordEntry>,
    tombstones: Vec<Tombstone>,
}

/// A master and its volumes.
struct World {
    db: sled::Db,
    disks: BTreeMap<VolumeId, Disk>,
    /// Blobs that were uploaded: each happens once.
    uploaded: BTreeSet<u8>,
}

#[derive(Clone, Debug)]
enum Step {
    /// Commits a blob, which determines its key and volumes. It may be repeated, as after a lost answer.
    Commit(u8, WriteCondition),
    Delete(u8),
    /// Sends a volume this many entries of its reclaim list; `cut`: it crashes once its tombstones are durable.
    Reclaim {
        volume: u8,
        entries: usize,
        cut: bool,
    },
}

fn value(n: u8) -> RecordedValue {
    let metadata = vec![("barge-meta-n".to_owned(), n.to_string())];
    RecordedValue { key: key(n % 4), blake3: Digest::of(&[n]), content_type: Some("a/b".into()), metadata }
}

impl World {
    fn new() -> Self {
        let db = sled::Config::new().temporary(true).open().unwrap();
        Self {
            db,
            disks: (0..VOLUMES).map(|v| (volume(v), Disk::default())).collect(),
            uploaded: BTreeSet::new(),
        }
    }

    fn run(&self, command: &Command) {
        let mut tables = Tables::new(&self.db);
        apply(&mut tables, command).unwrap();
        self.db.apply_batch(tables.into_batch().unwrap()).unwrap();
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit(n, condition) => {
                // Two replicas each, in every combination.
                let replicas = vec![volume(n % 3), volume((n + 1 + n / 3 % 2) % 3)];
                let (value, length) = (value(*n), u64::from(*n) + 1);
                if self.uploaded.insert(*n) {
                    for replica in &replicas {
                        let entry = RecordEntry { blob: blob(*n), length, value: Some(value.clone()) };
                        self.disks.get_mut(replica).unwrap().records.insert(blob(*n), entry);
                    }
                }
                self.run(&Command::Commit(Commit {
                    key: value.key,
                    blob: blob(*n),
                    size: length,
                    digest: value.blake3,
                    content_type: value.content_type,
                    metadata: value.metadata,
                    replicas,
                    wanted: 2,
                    min_replicas: 1,
                    condition: condition.clone(),
                }));
            }
            Step::Delete(k) => self.run(&Command::Delete { key: key(*k), condition: WriteCondition::None }),
            Step::Reclaim { volume: v, entries, cut } => {
                let blobs = reclaim::page(&self.db, volume(*v), *entries).unwrap();
                let disk = self.disks.get_mut(&volume(*v)).unwrap();
                disk.tombstones.extend(tombstone::to_send(&self.db, volume(*v), &blobs).unwrap());
                if !cut {
                    blobs.iter().for_each(|b| drop(disk.records.remove(b)));
                    self.run(&Command::Reclaimed {
                        volume: volume(*v),
                        blobs,
                        at: Timestamp::from_unix_ms(9),
                    });
                }
            }
        }
    }

    /// Delivers all tombstones and deletes that a client waits for, except to the volume that is down.
    fn tell_all_but(&mut self, down: Option<u8>) {
        for v in (0..VOLUMES).filter(|v| Some(*v) != down) {
            self.step(&Step::Reclaim { volume: v, entries: usize::MAX >> 1, cut: true });
        }
    }

    fn rebuild(&self, folder: &std::path::Path) -> (Database, Report) {
        let collected = Collected::open(&folder.join("collected")).unwrap();
        for (id, disk) in &self.disks {
            for page in disk.records.values().cloned().collect::<Vec<_>>().chunks(3) {
                collected.add_records(*id, page.to_vec()).unwrap();
            }
            collected.add_tombstones(*id, &disk.tombstones).unwrap();
        }
        let volumes = Volumes {
            cluster: ClusterId::from_bytes([5; 16]),
            all: self.disks.keys().map(|id| ("http://x".to_owned(), report(*id))).collect(),
        };
        let now = Timestamp::from_unix_ms(1 << 41);
        let path = folder.join("new");
        let report = write(&path, &volumes, &collected, 2, now, &RebuildProgress::default()).unwrap();
        (Database::open(&path).unwrap(), report)
    }
}

fn report(volume: VolumeId) -> VolumeReport {
    VolumeReport {
        volume,
        cluster: None,
        address: "http://x".into(),
        public_url: "http://x".into(),
        zone: None,
        capacity_bytes: 1,
        available_bytes: 1,
        blobs: 0,
        live_bytes: 0,
        uploads: 0,
        read_only: None,
        corrupt: vec![],
        unhealed: vec![],
        segments_refused: 0,
        ranges_quarantined: 0,
        format_version: 1,
        incarnation: 1,
    }
}

fn objects(tree: &sled::Tree) -> BTreeMap<Vec<u8>, Object> {
    let sorted = |mut object: Object| {
        object.blobs.iter_mut().for_each(|b| b.replicas.sort_unstable());
        object
    };
    scan(tree, Kind::Object, b"", None).map(|r| r.map(|(key, o)| (key, sorted(o))).unwrap()).collect()
}

fn places(tree: &sled::Tree, kind: Kind) -> BTreeSet<Vec<u8>> {
    tree.scan_prefix([kind as u8]).map(|r| r.unwrap().0[1..].to_vec()).collect()
}

fn step() -> impl Strategy<Value = Step> {
    let condition = prop_oneof![3 => Just(WriteCondition::None), 1 => Just(WriteCondition::Absent), 1 => Just(WriteCondition::AnyPresent)];
    prop_oneof![
        4 => (0u8..60, condition).prop_map(|(n, c)| Step::Commit(n, c)),
        2 => (0u8..4).prop_map(Step::Delete),
        2 => (0..VOLUMES, 1usize..6, any::<bool>()).prop_map(|(volume, entries, cut)| Step::Reclaim { volume, entries, cut }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn what_is_rebuilt_is_what_there_was(steps in prop::collection::vec(step(), 1..80), down in prop::option::of(0..VOLUMES)) {
        let mut world = World::new();
        for step in &steps {
            // A volume that is down receives nothing.
            if !matches!(step, Step::Reclaim { volume, .. } if Some(*volume) == down) {
                world.step(step);
            }
        }
        world.tell_all_but(down);
        let dir = tempfile::tempdir().unwrap();
        let (new, report) = world.rebuild(dir.path());
        let (then, now) = (objects(&world.db), objects(&new.tree()));
        // If only the volume that is down holds a refused or deleted blob, the master stores the tombstone on another
        // volume. That case does not occur here: every blob is on two volumes.
        prop_assert_eq!(&now, &then);
        let (before, after) = (meta::counters(&world.db).unwrap(), meta::counters(&new.tree()).unwrap());
        prop_assert_eq!((after.objects, after.bytes, after.under_replicated), (before.objects, before.bytes, before.under_replicated));
        prop_assert_eq!((report.objects, report.conflicts, report.corrupt), (before.objects, 0, 0));
        prop_assert_eq!(places(&new.tree(), Kind::Replica), places(&world.db, Kind::Replica));
        // Every record on a volume is either referenced or on the reclaim list.
        let held: BTreeSet<_> = world.disks.iter().flat_map(|(v, d)| d.records.keys().map(|b| [&v.as_bytes()[..], &b.as_bytes()[..]].concat())).collect();
        let known: BTreeSet<_> = places(&new.tree(), Kind::Replica).union(&places(&new.tree(), Kind::Reclaim)).cloned().collect();
        prop_assert_eq!(known, held);
        prop_assert_eq!(after.reclaim_pending, places(&new.tree(), Kind::Reclaim).len() as u64);
        // Late steps change nothing.
        let mut late = World { db: sled::Config::new().temporary(true).open().unwrap(), disks: world.disks.clone(), uploaded: (0..60).collect() };
        for item in new.tree().iter() {
            let (k, v) = item.unwrap();
            late.db.insert(k, v).unwrap();
        }
        let uploaded: Vec<_> = world.uploaded.iter().copied().collect();
        for n in uploaded {
            late.step(&Step::Commit(n, WriteCondition::None));
        }
        prop_assert_eq!(objects(&late.db), now);
    }
}

#[test]
fn a_volume_that_does_not_serve_all_is_named() {
    let volumes = |reports: Vec<VolumeReport>| Volumes {
        cluster: ClusterId::from_bytes([5; 16]),
        all: reports.into_iter().map(|r| (format!("http://{}", r.volume), r)).collect(),
    };
    let whole = || report(volume(1));
    assert!(volumes(vec![whole()]).all_served().is_ok());
    for bad in [
        VolumeReport { segments_refused: 1, ..report(volume(2)) },
        VolumeReport { ranges_quarantined: 3, ..report(volume(2)) },
    ] {
        let said = volumes(vec![whole(), bad]).all_served().unwrap_err().to_string();
        assert!(
            said.contains(&format!("http://{}", volume(2))) && said.contains("--without-corrupt"),
            "{said}"
        );
    }
}

#[test]
fn corruption_and_differences_are_told() {
    let mut world = World::new();
    for n in [1, 3, 5] {
        world.step(&Step::Commit(n, WriteCondition::None));
    }
    let holders = |w: &World, n| {
        w.disks.iter().filter(|(_, d)| d.records.contains_key(&blob(n))).map(|(v, _)| *v).collect::<Vec<_>>()
    };
    let (of_one, of_three) = (holders(&world, 1), holders(&world, 3));
    // One replica of key 1's older version is unreadable, one of key 3 is wrong, and of blob 59 only a corrupt one
    // exists.
    world.disks.get_mut(&of_one[0]).unwrap().records.get_mut(&blob(1)).unwrap().value = None;
    let liar = world.disks.get_mut(&of_three[1]).unwrap().records.get_mut(&blob(3)).unwrap();
    liar.value.as_mut().unwrap().blake3 = Digest::of(b"else");
    let disk = world.disks.get_mut(&volume(0)).unwrap();
    disk.records.insert(blob(59), RecordEntry { blob: blob(59), length: 1, value: None });
    // Key 1 has blobs 1 and 5: with one replica of the newer one corrupt too, blob 5 stays current.
    let of_five = holders(&world, 5);
    world.disks.get_mut(&of_five[0]).unwrap().records.get_mut(&blob(5)).unwrap().value = None;
    let dir = tempfile::tempdir().unwrap();
    let (new, report) = world.rebuild(dir.path());
    assert_eq!(
        (report.objects, report.superseded, report.conflicts, report.corrupt, report.lost),
        (2, 1, 1, 3, 1)
    );
    let one = object::read(&new.tree(), &key(1)).unwrap().unwrap();
    let mut replicas = one.blobs[0].replicas.clone();
    replicas.sort_unstable();
    assert_eq!(
        (one.generation, replicas),
        (blob(5), of_five),
        "the corrupt replica counts: it will be healed"
    );
    assert!(of_one.iter().all(|v| reclaim::page(&new.tree(), *v, 9).unwrap().contains(&blob(1))));
    let three = object::read(&new.tree(), &key(3)).unwrap().unwrap();
    assert_eq!(three.blobs[0].replicas, vec![of_three[0]]);
    assert!(!replica::is_referenced(&new.tree(), volume(0), blob(59)).unwrap());
    let gap = meta::gap(&new.tree()).unwrap().unwrap();
    assert!(gap.covers(blob(59)));
    assert_eq!(meta::counters(&new.tree()).unwrap().last_blob, Some(gap.end()));
    assert_eq!(new.identity().unwrap().unwrap().cluster, ClusterId::from_bytes([5; 16]));
}

#[test]
fn a_corrupt_record_is_a_copy_of_a_part_of_its_length_alone() {
    let dir = tempfile::tempdir().unwrap();
    let collected = Collected::open(dir.path()).unwrap();
    let corrupt = |n, length| RecordEntry { blob: blob(n), length, value: None };
    let part = |n: u8| Part {
        number: n.into(),
        blob: blob(n),
        length: 7,
        digest: Digest::of(&[n]),
        etag: None,
        checksum: None,
    };
    let manifest = |n| Manifest { upload: blob(99), attributes: Default::default(), parts: vec![part(n)] };
    for (at, n, length) in [(0, 1, 7), (1, 1, 6), (2, 1, 8), (0, 2, 6), (1, 2, 8), (2, 2, 0)] {
        collected.add_records(volume(at), vec![corrupt(n, length)]).unwrap();
    }
    for (whole, n) in [(50, 1), (51, 2)] {
        collected.add_manifest(blob(whole), &manifest(n).encode()).unwrap();
    }
    let found = parts::find(&collected, &key(1), blob(50), true).unwrap();
    let PartsFound::Parts(_, records) = found else { panic!("one replica is to be healed") };
    assert_eq!(records[0].replicas, [volume(0)]);
    let found = parts::find(&collected, &key(1), blob(51), true).unwrap();
    assert!(matches!(found, PartsFound::Lost), "no replica can be healed from records of another length");
}
