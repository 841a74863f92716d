//! Files truncated, overwritten, swapped and lost between two openings.

use proptest::prelude::*;
use volume::store::{FormatError, ReadError, Refusal};

use super::kit::{MIB, PAGE, body, get, put};
use super::spoil::{all_there, cut, filled, flip, overwrite};

#[tokio::test]
async fn an_index_that_is_lost_torn_stale_or_another_s_is_made_anew() {
    let f = filled(&[10, 100_000, 0, 70_000]).await;
    let (kit, idx) = (&f.kit, f.kit.idx(0));
    let whole = std::fs::read(&idx).unwrap();
    let other = filled(&[10, 100_000, 0, 70_000]).await;
    let foreign = std::fs::read(other.kit.idx(0)).unwrap();
    let mut bad_header = whole.clone();
    bad_header[20] ^= 1;
    // Lost, empty, torn or corrupt header, of another volume: rebuilt.
    for bytes in [None, Some(vec![]), Some(whole[..40].to_vec()), Some(bad_header), Some(foreign)] {
        match &bytes {
            Some(bytes) => std::fs::write(&idx, bytes).unwrap(),
            None => std::fs::remove_file(&idx).unwrap(),
        }
        let (store, report) = kit.open().await;
        assert_eq!((report.blobs, report.indexes_rebuilt, report.quarantined), (4, 1, 0));
        all_there(&store, &f.blobs).await;
        let (_, report) = kit.open().await;
        assert_eq!((report.blobs, report.indexes_rebuilt, report.records_recovered), (4, 0, 0));
    }
    // Truncated anywhere after the header: the rest is found by scanning.
    for length in 64..whole.len() {
        if length % 64 > 1 && length % 64 < 63 {
            continue;
        }
        std::fs::write(&idx, &whole[..length]).unwrap();
        let (store, report) = kit.open().await;
        assert_eq!((report.blobs, report.indexes_rebuilt), (4, 0), "{length}");
        assert_eq!(report.records_recovered, 4 - (length - 64) / 64);
        all_there(&store, &f.blobs).await;
    }
}

#[tokio::test]
async fn a_rotten_entry_in_the_middle_of_an_index_loses_no_delete() {
    let f = filled(&[10, 100_000, 20, 70_000]).await;
    let (store, _) = f.kit.open().await;
    store.delete(vec![f.blobs[2].0]).await.unwrap();
    store.close().await;
    drop(store);
    flip(&f.kit.idx(0), 64 + 64 + 20);
    let (store, report) = f.kit.open().await;
    assert_eq!((report.blobs, report.indexes_rebuilt, report.quarantined), (3, 1, 0));
    assert!(!store.has(f.blobs[2].0));
    all_there(&store, &[f.blobs[0].clone(), f.blobs[1].clone(), f.blobs[3].clone()]).await;
}

#[tokio::test]
async fn an_index_older_than_its_deletes_brings_nothing_back() {
    for sealed in [false, true] {
        let f = filled(&[10, MIB, MIB, 70_000]).await;
        let (store, _) = f.kit.open().await;
        if sealed {
            f.kit.options.clock.advance(f.kit.options.segment_age);
            assert_eq!(store.seal_aged().await.unwrap(), 1);
        }
        let old = std::fs::read(f.kit.idx(0)).unwrap();
        store.delete(vec![f.blobs[1].0, f.blobs[2].0]).await.unwrap();
        store.close().await;
        drop(store);
        std::fs::write(f.kit.idx(0), old).unwrap();
        let (store, report) = f.kit.open().await;
        assert_eq!((report.blobs, report.quarantined), (2, 0), "sealed: {sealed}");
        assert!(!store.has(f.blobs[1].0) && !store.has(f.blobs[2].0));
        all_there(&store, &[f.blobs[0].clone(), f.blobs[3].clone()]).await;
    }
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_what_came_before_is_whole() {
    let f = filled(&[10, 100_000, 5000, 300_000]).await;
    let (kit, seg, idx) = (&f.kit, f.kit.seg(0), f.kit.idx(0));
    let (bytes, index) = (std::fs::read(&seg).unwrap(), std::fs::read(&idx).unwrap());
    let last = f.ends[3];
    let points =
        [1, 511, 512, 4095, 4096, 4097, 8192, 65536, 200_000, f.ends[4] - last - 4096, f.ends[4] - last - 1];
    for point in points {
        let length = last + point;
        std::fs::write(&seg, &bytes[..usize::try_from(length).unwrap()]).unwrap();
        // With and without its entry: an entry for missing bytes does not count.
        for entries in [4, 3] {
            std::fs::write(&idx, &index[..64 + 64 * entries]).unwrap();
            std::fs::write(&seg, &bytes[..usize::try_from(length).unwrap()]).unwrap();
            let (store, report) = kit.open().await;
            assert_eq!((report.blobs, report.torn_bytes, report.quarantined), (3, point, 0), "{point}");
            assert_eq!(kit.seg_len(0), last);
            all_there(&store, &f.blobs[..3]).await;
            // New records are appended there.
            let id = put(&store, b"more").await;
            let (store, report) = kit.open().await;
            assert_eq!((report.blobs, report.torn_bytes), (4, 0));
            assert_eq!(get(&store, id).await, b"more");
        }
    }
}

#[tokio::test]
async fn missing_sectors_of_the_last_record_are_a_torn_tail() {
    let f = filled(&[10, 100_000, 90_000]).await;
    let (kit, seg, idx) = (&f.kit, f.kit.seg(0), f.kit.idx(0));
    let (bytes, index) = (std::fs::read(&seg).unwrap(), std::fs::read(&idx).unwrap());
    let (from, to) = (f.ends[2], f.ends[3]);
    for sector in (from..to).step_by(512 * 7) {
        // The tombstone's sector is zeros anyway, and so is the padding of a page.
        let range = usize::try_from(sector).unwrap()..usize::try_from(sector).unwrap() + 512;
        if bytes[range].iter().all(|b| *b == 0) {
            continue;
        }
        std::fs::write(&seg, &bytes).unwrap();
        std::fs::write(&idx, &index[..64 + 64 * 2]).unwrap();
        overwrite(&seg, sector, &[0; 512]);
        let (store, report) = kit.open().await;
        assert_eq!((report.blobs, report.quarantined, kit.seg_len(0)), (2, 0, from), "{sector}");
        all_there(&store, &f.blobs[..2]).await;
    }
}

#[tokio::test]
async fn garbage_behind_the_last_record_is_cut() {
    let f = filled(&[10, 100_000]).await;
    for garbage in [body(1, 1), body(4096, 2), body(100_000, 3), vec![0; 70_000]] {
        overwrite(&f.kit.seg(0), f.ends[2], &garbage);
        let (store, report) = f.kit.open().await;
        assert_eq!((report.blobs, report.torn_bytes, report.quarantined), (2, garbage.len() as u64, 0));
        all_there(&store, &f.blobs).await;
        assert_eq!(f.kit.seg_len(0), f.ends[2]);
    }
}

#[tokio::test]
async fn rot_is_met_by_readers_and_never_served() {
    let f = filled(&[10, 300_000, 20]).await;
    let seg = f.kit.seg(0);
    let body_at = f.ends[1] + PAGE;
    flip(&seg, body_at + 65536 + 7);
    let (store, report) = f.kit.open().await;
    assert_eq!((report.blobs, report.quarantined), (3, 0));
    let mut reader = store.reader(f.blobs[1].0).await.unwrap();
    // Its neighbors are good: the blocks before it are served.
    assert_eq!(reader.read(0, usize::MAX).await.unwrap(), f.blobs[1].1[..65536]);
    assert!(matches!(
        reader.read(65536, usize::MAX).await,
        Err(ReadError::Corrupt { what: volume::store::Corruption::Block(1), .. })
    ));
    assert!(!reader.read(2 * 65536, 10).await.unwrap().is_empty());
    drop(reader);
    assert_eq!(store.status().corrupt_blocks, 1);
    for at in [f.ends[1] + 100, f.ends[2] - 100] {
        flip(&seg, at);
        assert!(matches!(store.reader(f.blobs[1].0).await, Err(ReadError::Corrupt { .. })));
        flip(&seg, at);
        assert!(store.reader(f.blobs[1].0).await.is_ok());
    }
    // A bad record can be deleted.
    assert_eq!(store.delete(vec![f.blobs[1].0]).await.unwrap().found, 1);
}

#[tokio::test]
async fn rot_in_the_middle_is_set_aside_and_nothing_is_cut() {
    for at in [0, 20, 4096 + 17, 4096 + 65536, 102_400 + 30] {
        let f = filled(&[10, 100_000, 5000, 20]).await;
        flip(&f.kit.seg(0), f.ends[1] + at);
        std::fs::remove_file(f.kit.idx(0)).unwrap();
        for rebuilt in [1, 0] {
            let (store, report) = f.kit.open().await;
            assert_eq!((report.blobs, report.quarantined, report.indexes_rebuilt), (3, 1, rebuilt), "{at}");
            assert_eq!((report.torn_bytes, f.kit.seg_len(0)), (0, f.ends[4]));
            assert!(!store.has(f.blobs[1].0));
            all_there(&store, &f.blobs[2..]).await;
            assert_eq!(store.status().quarantined, 1);
        }
    }
}

#[tokio::test]
async fn a_last_record_that_rotted_is_not_cut_when_no_index_says_that_it_is_torn() {
    let f = filled(&[10, 100_000]).await;
    flip(&f.kit.seg(0), f.ends[1] + PAGE + 9);
    std::fs::remove_file(f.kit.idx(0)).unwrap();
    let (_, report) = f.kit.open().await;
    assert_eq!((report.blobs, report.quarantined, report.torn_bytes), (1, 1, 0));
    assert_eq!(f.kit.seg_len(0), f.ends[2]);
}

#[tokio::test]
async fn a_bad_first_page_is_a_crash_if_nothing_follows_and_rot_if_something_does() {
    let f = filled(&[9000]).await;
    flip(&f.kit.seg(0), 50);
    let before = std::fs::read(f.kit.seg(0)).unwrap();
    let (_, report) = f.kit.open().await;
    assert_eq!(report.refused[0].why, Refusal::Header(FormatError::Checksum));
    assert_eq!(std::fs::read(f.kit.seg(0)).unwrap(), before);
    for length in [0, 100, 4096] {
        cut(&f.kit.seg(0), length);
        let (_, report) = f.kit.open().await;
        assert_eq!((report.uninitialized, report.refused.len()), (1, 0));
        assert!(!f.kit.seg(0).exists() && !f.kit.idx(0).exists());
        std::fs::write(f.kit.seg(0), &before).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to a segment, opening it returns only values that were stored, and opening it
    /// again changes nothing.
    #[test]
    fn no_corruption_makes_a_wrong_value(
        writes in prop::collection::vec((0.0f64..1.0, prop::collection::vec(any::<u8>(), 1..3000)), 0..4),
        keep in 0.0f64..1.2,
        lose_index: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let f = filled(&[10, 9000, 70_000, 100]).await;
            let length = f.ends[4];
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a small file")]
            let place = |part: f64| PAGE + ((length - PAGE) as f64 * part) as u64;
            for (at, bytes) in &writes {
                overwrite(&f.kit.seg(0), place(*at), bytes);
            }
            if keep < 1.0 {
                cut(&f.kit.seg(0), place(keep));
            }
            if lose_index {
                std::fs::remove_file(f.kit.idx(0)).unwrap();
            }
            let mut seen = None;
            for _ in 0..2 {
                let (store, report) = f.kit.open().await;
                for (id, value) in &f.blobs {
                    let Ok(mut reader) = store.reader(*id).await else { continue };
                    let mut at = 0;
                    while let Ok(piece) = reader.read(at, usize::MAX).await && !piece.is_empty() {
                        let from = usize::try_from(at).unwrap();
                        assert_eq!(piece, value[from..from + piece.len()]);
                        at += piece.len() as u64;
                    }
                }
                let now = (report.blobs, f.kit.seg_len(0));
                assert_eq!(*seen.get_or_insert(now), now);
            }
        });
    }
}
