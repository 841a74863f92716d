//! Deletes: durable when they return, space freed at once, readers not interrupted.

use volume::store::ReadError;

use super::kit::{Kit, MIB, blob, body, get, put};

#[tokio::test]
async fn a_delete_gives_the_space_back_and_stays_done() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let keep = put(&store, &body(MIB, 1)).await;
    let before = kit.allocated();
    let id = put(&store, &body(8 * MIB, 2)).await;
    let empty = put(&store, b"").await;
    assert!(kit.allocated() >= before + 8 * MIB as u64);
    let deleted = store.delete(vec![id, empty, blob(), id]).await.unwrap();
    assert_eq!((deleted.found, deleted.missing), (2, 1));
    assert!(deleted.bytes >= 8 * MIB as u64);
    store.punched().await;
    // Two header pages remain, and what the file system needs for the holes.
    assert!(kit.allocated() <= before + 32 * 1024, "{} of {before}", kit.allocated());
    let status = store.status();
    assert_eq!((status.dead_bytes, status.blobs), (0, 1));
    assert!(status.punched_bytes >= 8 * MIB as u64);
    assert_eq!(store.delete(vec![id]).await.unwrap().missing, 1);
    for _ in 0..2 {
        let (store, report) = kit.open().await;
        assert_eq!((report.blobs, report.quarantined, report.torn_bytes), (1, 0, 0));
        assert!(!store.has(id) && !store.has(empty));
        assert_eq!(get(&store, keep).await, body(MIB, 1));
        store.punched().await;
        assert_eq!(store.status().dead_bytes, 0);
    }
}

#[tokio::test]
async fn deleted_records_are_no_rot_to_a_scan() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let mut ids = Vec::new();
    for n in 0..12 {
        ids.push(put(&store, &body(n * 10_000, 1)).await);
    }
    let gone: Vec<_> = ids.iter().copied().step_by(2).collect();
    store.delete(gone.clone()).await.unwrap();
    store.close().await;
    std::fs::remove_file(kit.idx(0)).unwrap();
    let (store, report) = kit.open().await;
    assert_eq!((report.blobs, report.quarantined, report.indexes_rebuilt), (6, 0, 1));
    assert!(gone.iter().all(|id| !store.has(*id)));
    drop(store);
    let (_, report) = kit.open().await;
    assert_eq!((report.blobs, report.quarantined, report.indexes_rebuilt), (6, 0, 0));
}

#[tokio::test]
async fn deleted_records_of_unknown_length_are_no_rot_either() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let mut ids = Vec::new();
    for n in 0..6 {
        let id = blob();
        let mut upload = store.begin(super::kit::record(id, None)).await.unwrap();
        upload.write(&body(n * 30_000, 1)).await.unwrap();
        upload.finish().await.unwrap();
        ids.push(id);
    }
    store.delete(vec![ids[0], ids[3], ids[5]]).await.unwrap();
    store.close().await;
    std::fs::remove_file(kit.idx(0)).unwrap();
    let (store, report) = kit.open().await;
    assert_eq!((report.blobs, report.quarantined), (3, 0));
    for n in [1, 2, 4] {
        assert_eq!(get(&store, ids[n]).await, body(n * 30_000, 1));
    }
}

#[tokio::test]
async fn a_reader_keeps_its_bytes_to_the_end() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let value = body(4 * MIB, 1);
    let id = put(&store, &value).await;
    let mut reader = store.reader(id).await.unwrap();
    let mut other = store.reader(id).await.unwrap();
    let first = reader.read(0, usize::MAX).await.unwrap();
    store.delete(vec![id]).await.unwrap();
    store.punched().await;
    assert!(matches!(store.reader(id).await, Err(ReadError::NotFound { .. })));
    assert!(store.status().dead_bytes >= 4 * MIB as u64);
    let mut out = first.to_vec();
    while out.len() < value.len() {
        out.extend_from_slice(&reader.read(out.len() as u64, usize::MAX).await.unwrap());
    }
    assert_eq!(out, value);
    drop(reader);
    store.punched().await;
    assert_eq!(other.read(0, 5).await.unwrap(), value[..5]);
    drop(other);
    store.punched().await;
    assert_eq!(store.status().dead_bytes, 0);
    assert!(kit.allocated() < MIB as u64);
}

#[tokio::test]
async fn what_a_crash_left_unpunched_is_punched_when_opened() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let id = put(&store, &body(4 * MIB, 1)).await;
    let keep = put(&store, b"keep").await;
    // The reader pins it; then the process ends, as far as the files show.
    let reader = store.reader(id).await.unwrap();
    store.delete(vec![id]).await.unwrap();
    std::mem::forget(reader);
    assert!(kit.allocated() > 4 * MIB as u64);
    let (store, report) = kit.open().await;
    assert_eq!(report.blobs, 1);
    store.punched().await;
    assert!(kit.allocated() < MIB as u64);
    assert_eq!(store.status().dead_bytes, 0);
    assert_eq!(get(&store, keep).await, b"keep");
}

#[tokio::test]
async fn a_sealed_segment_with_nothing_alive_is_removed() {
    let mut kit = Kit::new();
    kit.options.segment_bytes = 2 * MIB as u64;
    let (store, _) = kit.open().await;
    let mut ids = Vec::new();
    for seed in 0..5 {
        ids.push(put(&store, &body(MIB, seed)).await);
        store.punched().await;
    }
    assert!(kit.seg(0).exists() && kit.seg(1).exists() && kit.seg(2).exists());
    let mut reader = store.reader(ids[2]).await.unwrap();
    store.delete(ids[..4].to_vec()).await.unwrap();
    store.punched().await;
    assert!(!kit.seg(0).exists() && !kit.idx(0).exists());
    assert!(kit.seg(1).exists(), "a reader pins a record in it");
    assert_eq!(reader.read(0, 9).await.unwrap(), body(MIB, 2)[..9]);
    drop(reader);
    store.punched().await;
    assert!(!kit.seg(1).exists() && !kit.idx(1).exists());
    // The newest segment stays, so that its number is not reused.
    store.delete(ids[4..].to_vec()).await.unwrap();
    kit.options.clock.advance(kit.options.segment_age);
    store.seal_aged().await.unwrap();
    store.punched().await;
    assert!(kit.seg(2).exists());
    let (store, report) = kit.open().await;
    assert_eq!((report.segments, report.blobs), (1, 0));
    put(&store, b"x").await;
    assert!(kit.seg(3).exists());
    let (store, report) = kit.open().await;
    assert_eq!((report.segments, report.blobs), (1, 1));
    store.punched().await;
    assert!(!kit.seg(2).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deletes_uploads_and_reads_at_once() {
    let mut kit = Kit::new();
    kit.options.segment_bytes = 4 * MIB as u64;
    let (store, _) = kit.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..8_u64 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut kept = Vec::new();
            for n in 0..30 {
                let value =
                    body(usize::try_from((worker * 37 + n * 101) % 700).unwrap() * 1000, worker * 100 + n);
                let id = put(&store, &value).await;
                let mut reader = store.reader(id).await.unwrap();
                if n % 3 == 0 {
                    kept.push((id, value));
                } else {
                    assert_eq!(store.delete(vec![id]).await.unwrap().found, 1);
                    if !value.is_empty() {
                        let from = value.len() - 1;
                        assert_eq!(reader.read(from as u64, 10).await.unwrap(), value[from..]);
                    }
                }
            }
            kept
        });
    }
    let kept: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    store.close().await;
    let status = store.status();
    assert_eq!((status.blobs, status.dead_bytes, status.lanes_busy), (80, 0, 0));
    let live = status.live_bytes;
    drop(store);
    let (store, report) = kit.open().await;
    assert_eq!((report.blobs, report.bytes, report.records_recovered), (80, live, 0));
    for (id, value) in &kept {
        assert_eq!(&get(&store, *id).await, value);
    }
}
