//! Back-ups that are restored, once and again, and metadata rebuilt with a volume left out: what is not known stays.

use std::path::Path;
use std::time::Duration;

use shared::limits::{CLOCK_SKEW_MAX, UPLOAD_TIME_MAX};
use shared::wire::volume::InventoryEntry;

use super::*;
use crate::plan::orphans;
use crate::tables::meta::Gap;

const START: u64 = 1 << 41;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_unix_ms(START).after(Duration::from_secs(secs))
}

fn given_out_at(secs: u64) -> BlobId {
    BlobId::next(None, at(secs), [7; 10])
}

/// A cluster whose newest commit was at `secs`, and what it knew of time before.
fn known(folder: &Path, secs: u64, gap: Option<Gap>) -> Database {
    let db = Database::open(folder).unwrap();
    let tree = db.tree();
    let mut tables = Tables::new(&tree);
    let last_blob = Some(given_out_at(secs));
    tables.put_progress(&meta::Progress { applied: 1, last_blob, ..meta::Progress::default() });
    gap.iter().for_each(|gap| tables.put_gap(gap));
    db.commit(tables).unwrap();
    db
}

/// All masters are lost, and one begins again with a back-up.
fn restored(from: &Database, folder: &Path, name: &str, secs: u64) -> Database {
    let file = folder.join(format!("{name}.snapshot"));
    from.write_snapshot(&file).unwrap();
    let db = Database::open(&folder.join(name)).unwrap();
    db.restore(&file, at(secs)).unwrap();
    db
}

/// Which of the blobs given out at these seconds the collector takes, long after all that.
fn collected(db: &Database, secs: &[u64]) -> Vec<u64> {
    let age_ms = 1 << 40;
    let entry = |secs: &u64| InventoryEntry { blob: given_out_at(*secs), length: 1, age_ms };
    let page: Vec<_> = secs.iter().map(entry).collect();
    let now = at(1 << 30);
    let chosen = orphans::choose(&db.tree(), volume(1), &page, Duration::from_secs(600), now).unwrap();
    secs.iter().copied().filter(|s| chosen.iter().any(|(blob, _)| *blob == given_out_at(*s))).collect()
}

const DAY: u64 = UPLOAD_TIME_MAX.as_secs() + CLOCK_SKEW_MAX.as_secs();

#[test]
fn what_came_after_a_backup_is_not_collected_nor_what_was_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let (backup, lost, late) = (10 * DAY, 10 * DAY + 500, 11 * DAY);
    let first = known(&dir.path().join("first"), backup, None);
    let db = restored(&first, dir.path(), "restored", lost);
    // An upload that began before the back-up may have been committed after it.
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
    let progress = tables.progress().unwrap();
    tables.put_progress(&meta::Progress { last_blob: Some(given_out_at(30 * DAY)), ..progress });
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
    // What a volume that was not asked holds is the only copy of it, perhaps.
    assert_eq!(collected(&db, &[0, DAY, 25 * DAY, 35 * DAY, 45 * DAY]), [45 * DAY]);
}
