//! Compaction: live records move, dead ones are removed with their file, and readers and writers are not affected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shared::ids::BlobId;
use volume::store::{Disk, ReadError, RealDisk, Store, Throttle};

use super::kit::*;

fn unpunched(kit: &Kit) -> Arc<dyn Disk> {
    Arc::new(RealDisk::open(kit.dir.path()).unwrap().without_punching())
}

async fn compact_all(store: &Store) -> u64 {
    let mut bytes = 0;
    while let Some(moved) = store.compact(&Throttle::new(0)).await.unwrap() {
        bytes += moved.bytes;
        store.punched().await;
    }
    bytes
}

/// Stores values of 700 KB in segments of 4 MiB, and deletes every second one.
async fn half_deleted(store: &Store) -> BTreeMap<BlobId, Vec<u8>> {
    let mut kept = BTreeMap::new();
    let mut gone = Vec::new();
    for n in 0..40 {
        let body = body(700_000, n);
        let blob = put(store, &body).await;
        if n % 2 == 0 {
            kept.insert(blob, body);
        } else {
            gone.push(blob);
        }
    }
    store.delete(gone).await.unwrap();
    store.punched().await;
    kept
}

#[tokio::test]
async fn where_holes_cannot_be_punched_the_space_comes_back_by_compaction() {
    let mut kit = Kit::new();
    kit.options.segment_bytes = 4 << 20;
    let (store, _) = kit.open_on(unpunched(&kit)).await;
    let kept = half_deleted(&store).await;
    let before = kit.allocated();
    assert!(store.status().dead_bytes > 13_000_000, "nothing was punched");
    let live: u64 = kept.values().map(|v| v.len() as u64).sum();
    let copied = compact_all(&store).await;
    assert!(copied <= live + live / 2, "few records move twice: {copied} of {live}");
    let after = kit.allocated();
    assert!(before - after > 12_000_000, "{before} {after}");
    assert!(after < live + live / 10 + (4 << 20), "{after} for {live}");
    assert_eq!(store.status().moved_bytes, copied);
    for (blob, body) in &kept {
        assert_eq!(&get(&store, *blob).await, body);
    }
    assert_eq!(compact_all(&store).await, 0, "it comes to an end");
    drop(store);
    let (store, report) = kit.open_on(unpunched(&kit)).await;
    assert_eq!((report.blobs, report.duplicates), (kept.len(), 0));
    for (blob, body) in &kept {
        assert_eq!(&get(&store, *blob).await, body);
    }
}

#[tokio::test]
async fn where_holes_can_be_punched_a_half_deleted_segment_is_left_alone() {
    let mut kit = Kit::new();
    kit.options.segment_bytes = 4 << 20;
    let (store, _) = kit.open().await;
    let kept = half_deleted(&store).await;
    assert_eq!(compact_all(&store).await, 0, "punching freed everything");
    assert_eq!(store.status().dead_bytes, 0);
    assert_eq!(store.status().blobs, kept.len() as u64);
}

#[tokio::test]
async fn a_segment_that_is_mostly_the_headers_of_dead_records_is_compacted() {
    let mut kit = Kit::new();
    kit.options.segment_bytes = 1 << 20;
    let (store, _) = kit.open().await;
    let kept = put(&store, b"the one that lives").await;
    let mut gone = Vec::new();
    for n in 0..100 {
        gone.push(put(&store, &body(10_000, n)).await);
    }
    store.delete(gone).await.unwrap();
    store.punched().await;
    assert!(kit.seg(0).exists());
    assert!((18..=36).contains(&compact_all(&store).await), "and perhaps out of a second one like it");
    assert!(!kit.seg(0).exists());
    assert_eq!(get(&store, kept).await, b"the one that lives");
}

#[tokio::test]
async fn a_reader_keeps_the_old_file_until_it_ends() {
    let mut kit = Kit::new();
    kit.options.segment_bytes = 4 << 20;
    let (store, _) = kit.open_on(unpunched(&kit)).await;
    let kept = half_deleted(&store).await;
    let (blob, body) = kept.first_key_value().unwrap();
    let mut reader = store.reader(*blob).await.unwrap();
    assert!(compact_all(&store).await > 0);
    assert!(kit.seg(0).exists(), "a reader pins it");
    assert_eq!(reader.read(650_000, usize::MAX).await.unwrap(), body[650_000..]);
    drop(reader);
    store.punched().await;
    assert!(!kit.seg(0).exists());
}

#[tokio::test]
async fn a_corrupt_record_stops_the_compaction_of_its_segment_and_nothing_else() {
    let mut kit = Kit::new();
    kit.options.segment_bytes = 4 << 20;
    let (store, _) = kit.open_on(unpunched(&kit)).await;
    let kept = half_deleted(&store).await;
    let (corrupt, _) = kept.first_key_value().unwrap();
    flip(&kit.seg(0), 4096 + 300_000);
    let mut failures = 0;
    loop {
        match store.compact(&Throttle::new(0)).await {
            Ok(Some(_)) => store.punched().await,
            Ok(None) => break,
            Err(_) => failures += 1,
        }
    }
    assert_eq!(failures, 1, "tried once");
    assert!(kit.seg(0).exists());
    assert!(!kit.seg(1).exists());
    for (blob, body) in kept.iter().filter(|(blob, _)| *blob != corrupt) {
        assert_eq!(&get(&store, *blob).await, body);
    }
}

fn flip(path: &std::path::Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn puts_gets_and_deletes_go_on_meanwhile() {
    let mut kit = Kit::new();
    kit.options.segment_bytes = 2 << 20;
    let (store, _) = kit.open_on(unpunched(&kit)).await;
    let done = Arc::new(AtomicBool::new(false));
    let compacting = tokio::spawn({
        let (store, done) = (store.clone(), Arc::clone(&done));
        async move {
            let mut moved = 0;
            while !done.load(Ordering::Relaxed) {
                moved += u64::from(store.compact(&Throttle::new(0)).await.unwrap().is_some());
                tokio::task::yield_now().await;
            }
            moved
        }
    });
    let clients: Vec<_> = (0..3).map(|n| tokio::spawn(churn(store.clone(), n))).collect();
    let mut kept = BTreeMap::new();
    for client in clients {
        kept.extend(client.await.unwrap());
    }
    done.store(true, Ordering::Relaxed);
    let moved = compacting.await.unwrap();
    compact_all(&store).await;
    assert!(store.status().moved >= moved && store.status().moved > 0);
    store.punched().await;
    assert_eq!(store.status().blobs, kept.len() as u64);
    drop(store);
    let (store, report) = kit.open_on(unpunched(&kit)).await;
    assert_eq!((report.blobs, report.quarantined), (kept.len(), 0));
    for (blob, seed) in &kept {
        assert_eq!(get(&store, *blob).await, body(length(*seed), *seed));
    }
}

fn length(seed: u64) -> usize {
    usize::try_from(seed * 7919 % 200_000).unwrap()
}

/// Puts values, reads some and deletes two of three; returns the remaining ones.
async fn churn(store: Store, client: u64) -> BTreeMap<BlobId, u64> {
    let mut kept = BTreeMap::new();
    for n in 0..150 {
        let seed = client * 1000 + n;
        kept.insert(put(&store, &body(length(seed), seed)).await, seed);
        let (blob, seed) =
            kept.iter().nth(usize::try_from(n).unwrap() % kept.len()).map(|(b, s)| (*b, *s)).unwrap();
        assert_eq!(get(&store, blob).await, body(length(seed), seed));
        if n % 3 != 0 {
            kept.remove(&blob);
            assert_eq!(store.delete(vec![blob]).await.unwrap().found, 1);
            assert!(matches!(store.reader(blob).await, Err(ReadError::NotFound { .. })));
        }
    }
    kept
}
