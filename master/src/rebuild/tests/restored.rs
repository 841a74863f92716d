//! Restored backups, once and twice, and metadata rebuilt without one of the volumes: unknown records are no orphans
//! and are kept.

use std::path::Path;
use std::time::Duration;

use shared::limits::{CLOCK_SKEW_MAX, UPLOAD_TIME_MAX};
use shared::wire::volume::InventoryEntry;

use super::*;
use crate::cluster::VolumeAddress;
use crate::cluster::topology::Topology;
use crate::plan::{orphans, reclaim as plan};
use crate::tables::meta::Gap;
use crate::tables::{meta, object};

const START: u64 = 1 << 41;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_unix_ms(START).after(Duration::from_secs(secs))
}

fn given_out_at(secs: u64) -> BlobId {
    BlobId::next(None, at(secs), [7; 10])
}

/// A cluster whose newest commit was at `secs`, with the gap of an earlier restore.
fn known(folder: &Path, secs: u64, gap: Option<Gap>) -> Database {
    let db = Database::open(folder).unwrap();
    let tree = db.tree();
    let mut tables = Tables::new(&tree);
    let last_blob = Some(given_out_at(secs));
    tables.put_counters(&meta::Counters { applied: 1, last_blob, ..meta::Counters::default() });
    gap.iter().for_each(|gap| tables.put_gap(gap));
    db.commit(tables).unwrap();
    db
}

/// Restores a backup after all masters were lost.
fn restored(from: &Database, folder: &Path, name: &str, secs: u64) -> Database {
    let file = folder.join(format!("{name}.snapshot"));
    from.write_snapshot(&file).unwrap();
    let db = Database::open(&folder.join(name)).unwrap();
    db.restore(&file, at(secs)).unwrap();
    db
}

/// Returns the blobs, by the second of their creation, that orphan collection deletes long afterwards.
fn collected(db: &Database, secs: &[u64]) -> Vec<u64> {
    let age_ms = 1 << 40;
    let entry = |secs: &u64| InventoryEntry { blob: given_out_at(*secs), length: 1, age_ms };
    let page: Vec<_> = secs.iter().map(entry).collect();
    let now = at(1 << 30);
    let chosen = orphans::classify_unreferenced(
        &db.tree(),
        volume(1),
        &Topology::default(),
        &page,
        (Duration::from_secs(600), now),
    )
    .unwrap();
    secs.iter().copied().filter(|s| chosen.orphans.iter().any(|e| e.blob == given_out_at(*s))).collect()
}

const DAY: u64 = UPLOAD_TIME_MAX.as_secs() + CLOCK_SKEW_MAX.as_secs();

#[test]
fn what_came_after_a_backup_is_not_collected_nor_what_was_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let (backup, lost, late) = (10 * DAY, 10 * DAY + 500, 11 * DAY);
    let first = known(&dir.path().join("first"), backup, None);
    let db = restored(&first, dir.path(), "restored", lost);
    // An upload that began before the backup may have been committed after it.
    let secs = [DAY, backup - DAY - 1, backup - DAY + 1, backup, backup + 1, lost, lost + 59, late];
    assert_eq!(collected(&db, &secs), [DAY, backup - DAY - 1, late]);
}

#[test]
fn a_second_restoration_does_not_know_what_the_first_did_not() {
    let dir = tempfile::tempdir().unwrap();
    let first = known(&dir.path().join("first"), 10 * DAY, None);
    let second = restored(&first, dir.path(), "second", 20 * DAY);
    let tree = second.tree();
    let mut tables = Tables::new(&tree);
    let progress = meta::counters(&tables).unwrap();
    tables.put_counters(&meta::Counters { last_blob: Some(given_out_at(30 * DAY)), ..progress });
    second.commit(tables).unwrap();
    let third = restored(&second, dir.path(), "third", 40 * DAY);
    let secs: Vec<_> = [5, 15, 25, 35, 45].iter().map(|n| n * DAY).collect();
    assert_eq!(collected(&third, &secs), [5 * DAY, 45 * DAY]);
}

#[test]
fn a_backup_of_rebuilt_metadata_does_not_know_more_than_it() {
    let dir = tempfile::tempdir().unwrap();
    let gap = Gap { after: None, until: at(20 * DAY) };
    let rebuilt = known(&dir.path().join("rebuilt"), 30 * DAY, Some(gap));
    assert_eq!(collected(&rebuilt, &[0, DAY, 25 * DAY]), [25 * DAY]);
    let db = restored(&rebuilt, dir.path(), "restored", 40 * DAY);
    // A volume that was not asked may hold the only replica.
    assert_eq!(collected(&db, &[0, DAY, 25 * DAY, 35 * DAY, 45 * DAY]), [45 * DAY]);
}

/// A change by a client; `place` selects the volumes.
#[derive(Clone, Debug)]
enum Change {
    Put {
        key: u8,
        place: u8,
    },
    Delete {
        key: u8,
    },
    /// Collects and deletes orphans, and removes expired tombstones.
    Tidy,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0u8..3, 0u8..6).prop_map(|(key, place)| Change::Put { key, place }),
        3 => (0u8..3).prop_map(|key| Change::Delete { key }),
        1 => Just(Change::Tidy),
    ]
}

/// A cluster, and what was acknowledged since the last restore.
struct Site {
    world: World,
    down: Option<u8>,
    acknowledged: BTreeMap<Key, Option<BlobId>>,
}

impl Site {
    fn change(&mut self, change: &Change, now: Timestamp) {
        match change {
            Change::Put { key: k, place } => self.put(&key(*k), *place, now),
            Change::Delete { key: k } => {
                let mut tables = Tables::new(&self.world.db);
                let delete = Command::Delete { key: key(*k), condition: WriteCondition::None };
                let outcome = apply(&mut tables, &delete).unwrap();
                self.world.db.apply_batch(tables.into_batch().unwrap()).unwrap();
                self.world.tell_all_but(self.down);
                if matches!(outcome, crate::state::command::Outcome::Deleted(_)) {
                    self.acknowledged.insert(key(*k), None);
                }
            }
            Change::Tidy => self.tidy(),
        }
    }

    fn up(&self) -> Vec<VolumeId> {
        (0..VOLUMES).filter(|v| Some(*v) != self.down).map(volume).collect()
    }

    fn put(&mut self, key: &Key, place: u8, now: Timestamp) {
        let last = meta::counters(&self.world.db).unwrap().last_blob;
        let blob = BlobId::next(last, now, [place; 10]);
        let up = self.up();
        let first = usize::from(place) % up.len();
        let replicas = vec![up[first], up[(first + 1) % up.len()]];
        let blake3 = Digest::of(blob.as_bytes());
        let value = RecordedValue { key: key.clone(), blake3, content_type: None, metadata: vec![] };
        for replica in &replicas {
            let entry = RecordEntry { blob, length: 1, value: Some(value.clone()) };
            self.world.disks.get_mut(replica).unwrap().records.insert(blob, entry);
        }
        self.world.run(&Command::Commit(Commit {
            key: key.clone(),
            blob,
            size: 1,
            digest: blake3,
            content_type: None,
            metadata: vec![],
            replicas,
            wanted: 2,
            min_replicas: 1,
            condition: WriteCondition::None,
        }));
        self.acknowledged.insert(key.clone(), Some(blob));
    }

    fn tidy(&mut self) {
        let now = at(1 << 30);
        for v in self.up() {
            let records = &self.world.disks[&v].records;
            let page: Vec<_> = records
                .values()
                .map(|r| InventoryEntry { blob: r.blob, length: r.length, age_ms: 1 << 40 })
                .collect();
            let unreferenced = orphans::classify_unreferenced(
                &self.world.db,
                v,
                &Topology::default(),
                &page,
                (Duration::ZERO, now),
            )
            .unwrap();
            self.world.run(&Command::ReclaimOrphans {
                volume: v,
                blobs: unreferenced.orphans.iter().map(|e| (e.blob, e.length)).collect(),
            });
        }
        for v in self.up() {
            let all = BlobId::next(None, now, [0xff; 10]);
            let gap = meta::gap(&self.world.db).unwrap();
            let horizon = plan::horizon(all, gap).filter(|_| self.down.is_none());
            let reach = VolumeAddress { volume: v, address: String::new(), public_url: String::new() };
            let none = |_| std::collections::HashSet::new();
            let calls =
                plan::next_deletes(&self.world.db, vec![reach], 1000, horizon, |_| vec![], none).unwrap();
            for call in calls {
                let disk = self.world.disks.get_mut(&v).unwrap();
                disk.tombstones.extend(call.tombstones);
                call.blobs.iter().for_each(|b| drop(disk.records.remove(b)));
                disk.tombstones.retain(|t| call.reclaimed_before.is_none_or(|before| t.newest() >= before));
                self.world.run(&Command::Reclaimed { volume: v, blobs: call.blobs, at: now });
            }
        }
    }

    /// Loses all masters and restores a backup of their tables.
    fn begin_again(&mut self, backup: &[(sled::IVec, sled::IVec)], now: Timestamp) {
        self.world.db = sled::Config::new().temporary(true).open().unwrap();
        for (k, v) in backup {
            self.world.db.insert(k, v).unwrap();
        }
        let mut tables = Tables::new(&self.world.db);
        tables.begin_again(now).unwrap();
        self.world.db.apply_batch(tables.into_batch().unwrap()).unwrap();
        self.acknowledged.clear();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn what_is_deleted_or_put_after_a_restoration_stays_so(
        before in prop::collection::vec(change(), 0..12),
        lost in prop::collection::vec(change(), 0..12),
        after in prop::collection::vec(change(), 1..16),
        down in prop::option::of(0..VOLUMES),
    ) {
        let mut site = Site { world: World::new(), down: None, acknowledged: BTreeMap::new() };
        before.iter().for_each(|c| site.change(c, at(10)));
        let backup: Vec<_> = site.world.db.iter().map(Result::unwrap).collect();
        // By the clock of a leader that is ahead.
        lost.iter().for_each(|c| site.change(c, at(60)));
        site.begin_again(&backup, at(30));
        site.down = down;
        after.iter().for_each(|c| site.change(c, at(31)));
        let dir = tempfile::tempdir().unwrap();
        let (new, _) = site.world.rebuild(dir.path());
        for (key, generation) in &site.acknowledged {
            let object = object::read(&new.tree(), key).unwrap();
            prop_assert_eq!(&object.map(|o| o.generation), generation, "{}", key);
        }
    }
}
