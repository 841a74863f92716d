//! The log without faults: its contents, what survives reopening, and the space it frees.

use futures_util::FutureExt;
use futures_util::future::join_all;

use super::*;

#[test]
fn everything_is_there_after_a_reopening() {
    run(async {
        let disk = SimDisk::new(1);
        let mut store = open(&disk).unwrap();
        assert!(store.is_new());
        store.save_vote(&Vote::new(3, 1)).await.unwrap();
        assert!(!store.is_new());
        for batch in 0..20 {
            append(&mut store, 3, batch * 3..batch * 3 + 3).await.unwrap();
        }
        let before = seen(&mut store).await.unwrap();
        assert_eq!(before.entries.len(), 60);
        let (bytes, reader) = (store.disk_bytes(), store.get_log_reader().await);
        drop(store);
        let mut store = open(&disk.restart()).unwrap();
        assert_eq!(seen(&mut store).await.unwrap(), before);
        assert_eq!(store.disk_bytes(), bytes);
        let files = disk.files();
        assert!(files.len() > 5, "several segments");
        let segments = files.iter().filter(|(name, _)| name.as_str() != "vote");
        assert_eq!(segments.map(|(_, b)| b.len() as u64).sum::<u64>(), bytes);
        drop(reader);
        append(&mut store, 4, 60..61).await.unwrap();
        assert_eq!(store.get_log_state().await.unwrap().last_log_id, Some(id(4, 60)));
    });
}

#[test]
fn a_purge_gives_segments_back_and_stays() {
    run(async {
        let disk = SimDisk::new(1);
        let mut store = open(&disk).unwrap();
        for batch in 0..20 {
            append(&mut store, 1, batch * 3..batch * 3 + 3).await.unwrap();
        }
        let bytes = store.disk_bytes();
        store.purge(id(1, 40)).await.unwrap();
        assert!(store.disk_bytes() < bytes / 2);
        store.purge(id(1, 30)).await.unwrap();
        for _ in 0..2 {
            let now = seen(&mut store).await.unwrap();
            assert_eq!((now.purged, now.entries[0], now.entries.len()), (Some(id(1, 40)), (1, 41), 19));
            drop(store);
            store = open(&disk.restart()).unwrap();
        }
    });
}

#[test]
fn a_snapshot_beyond_the_log_or_against_it_starts_it_anew() {
    for (purged, conflict) in [(id(5, 20), false), (id(5, 4), true), (id(5, 9), true)] {
        run(async {
            let disk = SimDisk::new(1);
            let mut store = open(&disk).unwrap();
            append(&mut store, 1, 0..10).await.unwrap();
            store.purge(purged).await.unwrap();
            let next = purged.index + 1;
            for turn in 0..2 {
                let state = store.get_log_state().await.unwrap();
                assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(purged), Some(purged)));
                assert!(store.try_get_log_entries(..).await.unwrap().is_empty(), "{conflict} {turn}");
                drop(store);
                store = open(&disk.restart()).unwrap();
            }
            append(&mut store, 5, next..next + 3).await.unwrap();
            drop(store);
            let mut store = open(&disk.restart()).unwrap();
            assert_eq!(seen(&mut store).await.unwrap().entries, [(5, next), (5, next + 1), (5, next + 2)]);
        });
    }
}

#[test]
fn a_truncation_below_the_present_segment_holds_and_names_rise() {
    run(async {
        let disk = SimDisk::new(1);
        let mut store = open(&disk).unwrap();
        for batch in 0..20 {
            append(&mut store, 1, batch * 3..batch * 3 + 3).await.unwrap();
        }
        store.truncate(id(1, 10)).await.unwrap();
        store.truncate(id(1, 30)).await.unwrap();
        for batch in 0..40 {
            append(&mut store, 2, 10 + batch * 3..13 + batch * 3).await.unwrap();
        }
        let expected: Vec<_> = (0..10).map(|i| (1, i)).chain((10..130).map(|i| (2, i))).collect();
        for _ in 0..2 {
            assert_eq!(seen(&mut store).await.unwrap().entries, expected);
            drop(store);
            store = open(&disk.restart()).unwrap();
        }
        store.purge(id(2, 60)).await.unwrap();
        assert!(store.truncate(id(2, 60)).await.is_err(), "that entry is purged");
        drop(store);
        let mut store = open(&disk.restart()).unwrap();
        assert_eq!(seen(&mut store).await.unwrap().entries, expected[61..]);
    });
}

#[test]
fn a_limited_read_is_limited_and_never_empty() {
    run(async {
        let mut store = open(&SimDisk::new(1)).unwrap();
        append(&mut store, 1, 0..30).await.unwrap();
        let read = store.limited_get_log_entries(3, 30).await.unwrap();
        assert!(read.len() < 4 && read[0].log_id.index == 3, "{}", read.len());
        assert!(store.limited_get_log_entries(3, 3).await.unwrap().is_empty());
        store.purge(id(1, 3)).await.unwrap();
        assert!(store.limited_get_log_entries(3, 30).await.is_err());
        assert!(store.limited_get_log_entries(30, 31).await.is_err());
    });
}

#[test]
fn what_would_leave_a_hole_is_refused_and_nothing_else_happens() {
    run(async {
        let mut store = open(&SimDisk::new(1)).unwrap();
        append(&mut store, 1, 0..3).await.unwrap();
        assert!(append(&mut store, 1, 4..5).await.is_err());
        assert!(append(&mut store, 1, 2..3).await.is_err());
        append(&mut store, 1, 3..5).await.unwrap();
        assert_eq!(seen(&mut store).await.unwrap().entries.len(), 5);
    });
}

#[test]
fn a_log_begins_elsewhere_only_while_it_is_new() {
    run(async {
        let disk = SimDisk::new(1);
        let mut store = open(&disk).unwrap();
        append(&mut store, 1, 0..2).await.unwrap();
        assert!(store.begin_at(id(3, 70), Vote::new_committed(3, 1)).await.is_err());
        store.truncate(id(1, 0)).await.unwrap();
        store.begin_at(id(3, 70), Vote::new_committed(3, 1)).await.unwrap();
        append(&mut store, 4, 71..73).await.unwrap();
        for _ in 0..2 {
            let expected = Seen {
                vote: Some(Vote::new_committed(3, 1)),
                purged: Some(id(3, 70)),
                entries: vec![(4, 71), (4, 72)],
            };
            assert_eq!(seen(&mut store).await.unwrap(), expected);
            drop(store);
            store = open(&disk.restart()).unwrap();
        }
        assert!(!disk.files().contains_key("begin"));
    });
}

#[test]
fn appends_that_come_during_a_sync_share_the_next_one() {
    run(async {
        let disk = SimDisk::new(1);
        let as_disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut store = Store::open_on(&as_disk, Path::new("/log"), &Tuning::default()).unwrap();
        append(&mut store, 1, 0..1).await.unwrap();
        let before = disk.counts();
        let mut all = Box::pin(join_all((1..51).map(|i| {
            let mut store = store.clone();
            async move { append(&mut store, 1, i..i + 1).await }
        })));
        disk.held(|| {
            assert!((&mut all).now_or_never().is_none(), "nothing is acknowledged yet");
            let readable = store.try_get_log_entries(..).now_or_never().unwrap().unwrap();
            assert_eq!(readable.len(), 51, "but everything is readable");
        });
        all.await.into_iter().for_each(Result::unwrap);
        let after = disk.counts();
        assert!(after.0 - before.0 <= 2, "50 appends, {} syncs", after.0 - before.0);
        assert!(after.1 - before.1 <= 2, "50 appends, {} writes", after.1 - before.1);
        drop(store);
        let mut store =
            Store::open_on(&(Arc::new(disk.power_cut()) as _), Path::new("/log"), &Tuning::default())
                .unwrap();
        assert_eq!(seen(&mut store).await.unwrap().entries.len(), 51);
    });
}

#[test]
fn foreign_files_are_left_alone_and_leftovers_are_not() {
    run(async {
        let disk = SimDisk::new(1);
        let mut store = open(&disk).unwrap();
        append(&mut store, 1, 0..4).await.unwrap();
        drop(store);
        let mut files = disk.files();
        files.insert("5.log".to_owned(), vec![1]);
        files.insert("notes".to_owned(), vec![2]);
        files.insert("vote.tmp".to_owned(), vec![3]);
        files.insert("segment.tmp".to_owned(), vec![4]);
        let disk = SimDisk::with_files(&files);
        let mut store = open(&disk).unwrap();
        assert_eq!(seen(&mut store).await.unwrap().entries.len(), 4);
        let left = disk.files();
        assert!(left.contains_key("5.log") && left.contains_key("notes"));
        assert!(!left.contains_key("vote.tmp") && !left.contains_key("segment.tmp"));
    });
}
