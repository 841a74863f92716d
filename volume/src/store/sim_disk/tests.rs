//! The simulated disk follows its fault model: power cuts, failed syncs, full disks, bit rot. It never
//! loses synced bytes.

use super::*;
use shared::clock::Timestamp;

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(seed, Clock::manual(Timestamp::from_unix_ms(0)))
}

fn bytes_of(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    let file = disk.open(name, Access::Cached).ok()?;
    let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    Some(bytes)
}

#[test]
fn what_was_synced_survives_and_the_rest_is_old_or_new_by_sectors() {
    let mut torn = 0;
    for seed in 0..200 {
        let before = disk(seed);
        let file = before.create("a", Access::Cached).unwrap();
        file.write_at(&[1; 8192], 0).unwrap();
        file.sync_data().unwrap();
        before.sync_dir().unwrap();
        file.write_at(&[2; 8192], 0).unwrap();
        let after = bytes_of(&before.power_cut(), "a").unwrap();
        assert_eq!(after.len(), 8192);
        for sector in after.chunks(512) {
            assert!(sector == [1; 512] || sector == [2; 512]);
        }
        torn += usize::from(after.contains(&1) && after.contains(&2));
        assert!(file.length().is_err(), "a file of an earlier life");
    }
    assert!(torn > 50);
}

#[test]
fn names_survive_in_order() {
    let mut seen = [false; 4];
    for seed in 0..100 {
        let before = disk(seed);
        before.create("a", Access::Cached).unwrap();
        before.create("b", Access::Cached).unwrap();
        before.rename("a", "b").unwrap();
        let names = before.power_cut().names().unwrap();
        let which: &[&[&str]] = &[&[], &["a"], &["a", "b"], &["b"]];
        seen[which.iter().position(|w| *w == names).unwrap()] = true;
    }
    assert_eq!(seen, [true; 4]);
}

#[test]
fn a_failed_sync_loses_what_reads_still_show() {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = disk(seed);
        let file = disk.create("a", Access::Cached).unwrap();
        disk.faults(|f| f.sync = Some(0));
        file.write_at(&[3; 4096], 0).unwrap();
        assert!(file.sync_data().is_err());
        assert_eq!(bytes_of(&disk, "a").unwrap(), [3; 4096]);
        file.sync_data().unwrap();
        file.drop_cache();
        lost += usize::from(bytes_of(&disk, "a").unwrap() != [3; 4096]);
    }
    assert!(lost > 50);
}

#[test]
fn it_stops_fills_up_and_turns_bits() {
    let disk = disk(1);
    let file = disk.create("a", Access::Cached).unwrap();
    disk.fill_up(Some(1));
    assert_eq!(disk.free_bytes().unwrap(), 4096);
    file.write_at(&[4; 4096], 0).unwrap();
    let full = file.write_at(&[4; 4096], 4096).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    file.write_at(&[4; 4096], 0).unwrap();
    assert_eq!(file.punch(0, 4096).unwrap(), Punched::Done);
    assert!(!file.holds_data(0, 4096).unwrap());
    file.write_at(&[4; 4096], 0).unwrap();
    file.sync_data().unwrap();
    assert!(disk.flip("a", 7, 0));
    assert_eq!(bytes_of(&disk, "a").unwrap()[7], 5);
    disk.stop_after(Some(1));
    file.truncate(100).unwrap();
    assert!(file.sync_data().is_err() && disk.stopped());
    assert!(disk.names().is_err());
    assert_eq!(disk.restart().names().unwrap(), ["a"]);
}
