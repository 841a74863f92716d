//! Misplaced data: records and segments of others, unknown files, duplicate records. None of it is served, and
//! none is lost.

use volume::store::{FormatError, ReadError, Refusal};

use super::kit::{Kit, PAGE, blob, body, get, put, put_as};
use super::spoil::{all_there, filled, flip, overwrite};

#[tokio::test]
async fn a_record_copied_elsewhere_is_refused() {
    // Two records of the same shape in two segments of one volume.
    let mut kit = Kit::new();
    kit.options.segment_bytes = 1;
    let (store, _) = kit.open().await;
    let (a, b) = (put(&store, &body(9000, 1)).await, put(&store, &body(9000, 2)).await);
    store.close().await;
    drop(store);
    let first = std::fs::read(kit.seg(0)).unwrap();
    let second = std::fs::read(kit.seg(1)).unwrap();
    assert_eq!(first.len(), second.len());
    // One segment's record in the other's place.
    overwrite(&kit.seg(1), PAGE, &first[4096..]);
    let (store, _) = kit.open().await;
    assert!(matches!(store.reader(b).await, Err(ReadError::Corrupt { .. })));
    assert_eq!(get(&store, a).await, body(9000, 1));
    drop(store);
    // Only its body: header and trailer are valid, the block is not.
    std::fs::write(kit.seg(1), &second).unwrap();
    overwrite(&kit.seg(1), 2 * PAGE, &first[8192..first.len() - 4096]);
    let (store, _) = kit.open().await;
    let mut reader = store.reader(b).await.unwrap();
    assert!(matches!(reader.read(0, 10).await, Err(ReadError::Corrupt { .. })));
    drop((reader, store));
    // A whole segment under the other's name, and both swapped with their indexes.
    std::fs::write(kit.seg(1), &first).unwrap();
    let (_, report) = kit.open().await;
    assert_eq!(report.refused.len(), 1);
    assert_eq!(report.refused[0].why, Refusal::Header(FormatError::Number));
    assert_eq!(std::fs::read(kit.seg(1)).unwrap(), first);
}

#[tokio::test]
async fn a_record_copied_within_its_segment_is_refused() {
    let f = filled(&[9000, 9000, 9000]).await;
    let bytes = std::fs::read(f.kit.seg(0)).unwrap();
    let [one, two, three] = [f.ends[0], f.ends[1], f.ends[2]].map(|n| usize::try_from(n).unwrap());
    overwrite(&f.kit.seg(0), f.ends[1], &bytes[one..two]);
    let (store, _) = f.kit.open().await;
    assert!(matches!(store.reader(f.blobs[1].0).await, Err(ReadError::Corrupt { .. })));
    drop(store);
    // A copy after the last record is garbage to a scan.
    std::fs::write(f.kit.seg(0), &bytes).unwrap();
    overwrite(&f.kit.seg(0), f.ends[3], &bytes[two..three]);
    let (store, report) = f.kit.open().await;
    assert_eq!((report.blobs, report.torn_bytes), (3, (three - two) as u64));
    all_there(&store, &f.blobs).await;
}

#[tokio::test]
async fn a_segment_of_another_volume_is_refused_and_left_alone() {
    let mut f = filled(&[9000]).await;
    let before = std::fs::read(f.kit.seg(0)).unwrap();
    f.kit.options.volume = shared::ids::VolumeId::random();
    let (store, report) = f.kit.open().await;
    assert_eq!(report.refused[0].why, Refusal::Header(FormatError::Volume));
    put(&store, b"x").await;
    assert_eq!(std::fs::read(f.kit.seg(0)).unwrap(), before);
    assert!(f.kit.seg(1).exists());
}

#[tokio::test]
async fn foreign_files_are_left_alone_and_left_overs_removed() {
    let f = filled(&[9000]).await;
    for name in ["notes.txt", "0000000000.seg~", "12.seg", "0000000007.idx", "0000000000.idx.tmp"] {
        std::fs::write(f.kit.path(name), b"?").unwrap();
    }
    std::fs::create_dir(f.kit.path("lost+found")).unwrap();
    let (store, report) = f.kit.open().await;
    assert_eq!(report.foreign, ["0000000000.seg~", "12.seg", "lost+found", "notes.txt"]);
    all_there(&store, &f.blobs).await;
    assert!(f.kit.path("notes.txt").exists());
    assert!(!f.kit.idx(7).exists() && !f.kit.path("0000000000.idx.tmp").exists());
}

#[tokio::test]
async fn a_value_made_of_records_does_not_pass_for_records() {
    // A whole segment as a client's value, at the same offsets as on the disk.
    let f = filled(&[5000, 70_000]).await;
    let stolen = std::fs::read(f.kit.seg(0)).unwrap();
    let other = Kit::new();
    let (store, _) = other.open().await;
    let id = put(&store, &stolen[4096..]).await;
    let after = put(&store, b"after").await;
    store.close().await;
    drop(store);
    // Even in the same volume and segment, where some markers would be valid.
    let (again, _) = f.kit.open().await;
    let inside = put(&again, &stolen[4096..]).await;
    again.close().await;
    drop(again);
    for (kit, blobs) in [(&other, 2), (&f.kit, 3)] {
        std::fs::remove_file(kit.idx(0)).unwrap();
        let (_, report) = kit.open().await;
        assert_eq!((report.blobs, report.quarantined, report.torn_bytes), (blobs, 0, 0));
    }
    // The record that contains it is corrupt: nothing inside it counts.
    flip(&other.seg(0), PAGE + 40);
    std::fs::remove_file(other.idx(0)).unwrap();
    let (store, report) = other.open().await;
    assert_eq!((report.blobs, report.quarantined), (1, 1));
    assert!(!store.has(id) && store.has(after));
    let (store, _) = f.kit.open().await;
    assert_eq!(get(&store, inside).await, stolen[4096..]);
}

#[tokio::test]
async fn a_blob_found_twice_is_kept_once() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let id = blob();
    put_as(&store, id, &body(9000, 1)).await.unwrap();
    let index = std::fs::read(kit.idx(0)).unwrap();
    // Deleted while a reader pins it; stored again; then the delete is lost.
    let reader = store.reader(id).await.unwrap();
    store.delete(vec![id]).await.unwrap();
    put_as(&store, id, &body(9000, 1)).await.unwrap();
    std::mem::forget(reader);
    std::fs::write(kit.idx(0), index).unwrap();
    drop(store);
    let (store, report) = kit.open().await;
    assert_eq!((report.blobs, report.duplicates), (1, 1));
    store.close().await;
    drop(store);
    let (store, report) = kit.open().await;
    assert_eq!((report.blobs, report.duplicates), (1, 0));
    assert_eq!(get(&store, id).await, body(9000, 1));
    store.delete(vec![id]).await.unwrap();
    assert_eq!(kit.open().await.1.blobs, 0);
}
