//! Stored values are read back, at once and after the store was reopened.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shared::limits::WRITE_BUFFERS;
use volume::store::{ReadError, RecordWriter, Store, WriteError};

use super::kit::{Kit, MIB, blob, body, get, put, put_as, record};

/// Timeout for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);
const SIZES: [usize; 13] =
    [0, 1, 4095, 4096, 4097, 65535, 65536, 65537, MIB - 4096, MIB - 1, MIB, MIB + 1, 5 * MIB + 17];

#[tokio::test]
async fn values_of_all_sizes_come_back_whole() {
    let kit = Kit::new();
    let (store, report) = kit.open().await;
    assert_eq!(report, volume::store::OpenReport::default());
    let mut stored = Vec::new();
    for (seed, size) in SIZES.into_iter().enumerate() {
        let value = body(size, seed as u64);
        stored.push((put(&store, &value).await, value));
    }
    for (blob, value) in &stored {
        assert_eq!(&get(&store, *blob).await, value);
    }
    store.close().await;
    drop(store);
    let (store, report) = kit.open().await;
    assert_eq!((report.blobs, report.records_recovered, report.torn_bytes), (SIZES.len(), 0, 0));
    for (blob, value) in &stored {
        assert_eq!(&get(&store, *blob).await, value);
    }
    let reader = store.reader(stored[3].0).await.unwrap();
    assert_eq!(reader.key().as_str(), "bucket/some/key");
    assert_eq!(reader.content_type(), Some("text/plain"));
    assert_eq!(reader.metadata(), [("colour".to_owned(), "blue".to_owned())]);
}

#[tokio::test]
async fn a_length_that_is_not_known_is_no_obstacle() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    for size in SIZES {
        let (id, value) = (blob(), body(size, 3));
        let mut upload = store.begin(record(id, None)).await.unwrap();
        upload.write(&value).await.unwrap();
        upload.finish().await.unwrap();
        assert_eq!(get(&store, id).await, value);
    }
    std::fs::remove_file(kit.idx(0)).unwrap();
    let (_, report) = kit.open().await;
    assert_eq!((report.blobs, report.indexes_rebuilt, report.quarantined), (SIZES.len(), 1, 0));
    assert_eq!(store.status().reserved_bytes, 0);
}

#[tokio::test]
async fn every_range_is_what_it_should_be() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let value = body(5 * 65536 + 100, 1);
    let id = put(&store, &value).await;
    let mut reader = store.reader(id).await.unwrap();
    let points = [0, 1, 65535, 65536, 65537, 2 * 65536, 4 * 65536, 5 * 65536 - 1, 5 * 65536, value.len() - 1];
    for from in points {
        for max in [1, 2, 100, 65536, 65537, 262_144, usize::MAX] {
            let piece = reader.read(from as u64, max).await.unwrap();
            assert!(!piece.is_empty() && piece.len() <= max && piece.len() <= 262_144);
            assert_eq!(piece, value[from..from + piece.len()]);
        }
    }
    assert!(reader.read(value.len() as u64, 10).await.unwrap().is_empty());
    assert!(reader.read(u64::MAX, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_value_longer_than_one_trailer_page_reads_everywhere() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    // 1200 blocks: two trailer pages.
    let value = body(1200 * 65536 + 5, 8);
    let id = put(&store, &value).await;
    assert_eq!(get(&store, id).await, value);
    let mut reader = store.reader(id).await.unwrap();
    for block in [1199, 0, 999, 998, 1200, 3] {
        let from = block * 65536;
        let piece = reader.read(from as u64, 1000).await.unwrap();
        assert_eq!(piece, value[from..from + piece.len()]);
    }
    std::fs::remove_file(kit.idx(0)).unwrap();
    let (store, report) = kit.open().await;
    assert_eq!((report.blobs, report.quarantined), (1, 0));
    assert_eq!(get(&store, id).await, value);
}

#[tokio::test]
async fn a_body_of_the_wrong_length_leaves_nothing() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    put(&store, &body(10_000, 1)).await;
    let before = kit.seg_len(0);
    for (declared, sent) in [(10, 9), (3 * MIB, 3 * MIB - 1), (3 * MIB, 0)] {
        let id = blob();
        let mut upload = store.begin(record(id, Some(declared))).await.unwrap();
        upload.write(&body(sent, 2)).await.unwrap();
        let e = upload.finish().await.unwrap_err();
        assert!(
            matches!(e, WriteError::ShortBody { declared: d, received } if d == declared as u64 && received == sent as u64)
        );
        assert_eq!(kit.seg_len(0), before);
        assert!(!store.has(id));
    }
    let id = blob();
    let mut upload = store.begin(record(id, Some(3 * MIB))).await.unwrap();
    upload.write(&body(3 * MIB, 2)).await.unwrap();
    assert!(matches!(upload.write(b"x").await, Err(WriteError::TooLong { .. })));
    assert!(matches!(upload.finish().await, Err(WriteError::Aborted)));
    assert_eq!(kit.seg_len(0), before);
    let status = store.status();
    assert_eq!((status.lanes_busy, status.uploads, status.reserved_bytes), (0, 0, 0));
}

#[tokio::test]
async fn dropping_an_upload_aborts_it() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    put(&store, &body(10_000, 1)).await;
    for sent in [0, 100, 2 * MIB, 4 * MIB + 3] {
        let before = kit.seg_len(0);
        let id = blob();
        let mut upload = store.begin(record(id, None)).await.unwrap();
        upload.write(&body(sent, 2)).await.unwrap();
        drop(upload);
        store.punched().await;
        assert_eq!(kit.seg_len(0), before);
        let status = store.status();
        assert_eq!((status.lanes_busy, status.uploads, status.reserved_bytes), (0, 0, 0));
        // The id is free again, and the lane works.
        put_as(&store, id, b"small").await.unwrap();
        assert_eq!(get(&store, id).await, b"small");
    }
}

#[tokio::test]
async fn a_blob_is_written_once() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let id = blob();
    let first = store.begin(record(id, Some(3))).await.unwrap();
    assert!(matches!(store.begin(record(id, Some(3))).await, Err(WriteError::Exists { .. })));
    drop(first);
    store.punched().await;
    put_as(&store, id, b"abc").await.unwrap();
    assert!(matches!(store.begin(record(id, Some(3))).await, Err(WriteError::Exists { .. })));
    assert_eq!(get(&store, id).await, b"abc");
    assert!(matches!(store.reader(blob()).await, Err(ReadError::NotFound { .. })));
}

#[tokio::test]
async fn the_digest_can_be_asked_for_before_the_end() {
    use shared::digest::Digest;
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let (id, value) = (blob(), body(3 * MIB + 5, 4));
    let mut upload = store.begin(record(id, None)).await.unwrap();
    for (n, piece) in value.chunks(500_000).enumerate() {
        upload.write(piece).await.unwrap();
        let so_far = (n + 1) * 500_000;
        let expected = Digest::of(&value[..so_far.min(value.len())]);
        assert_eq!(upload.digest_so_far().await.unwrap(), expected);
    }
    assert_eq!(upload.length(), value.len() as u64);
    assert_eq!(upload.finish().await.unwrap().digest, Digest::of(&value));
    assert_eq!(get(&store, id).await, value);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_uploads_at_once_more_than_there_are_buffers() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..80_u64 {
        let store = store.clone();
        tasks.spawn(async move {
            let value = body(usize::try_from(seed).unwrap() * 50_000 + 1, seed);
            let id = blob();
            let mut upload = store.begin(record(id, Some(value.len()))).await.unwrap();
            for piece in value.chunks(100_000) {
                upload.write(piece).await.unwrap();
                // Slow clients hold their buffers.
                if seed % 2 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            upload.finish().await.unwrap();
            (id, value)
        });
    }
    let stored: HashMap<_, _> = tasks.join_all().await.into_iter().collect();
    for (id, value) in &stored {
        assert_eq!(&get(&store, *id).await, value);
    }
    assert_eq!(store.status().lanes_busy, 0);
    store.close().await;
    let (store, report) = kit.open().await;
    assert_eq!((report.blobs, report.records_recovered, report.torn_bytes), (80, 0, 0));
    for (id, value) in &stored {
        assert_eq!(&get(&store, *id).await, value);
    }
}

/// Begins uploads that send a part of a megabyte: together they hold every buffer.
async fn slow_uploads(store: &Store) -> Vec<RecordWriter> {
    let mut slow = Vec::new();
    for n in 0..WRITE_BUFFERS as u64 {
        let mut upload = store.begin(record(blob(), Some(MIB))).await.unwrap();
        upload.write(&body(MIB, n)[..40_000]).await.unwrap();
        slow.push(upload);
    }
    assert_eq!(store.status().write_buffers, WRITE_BUFFERS as u64);
    slow
}

#[tokio::test]
async fn uploads_that_wait_do_not_keep_the_buffers_from_others() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let mut slow = slow_uploads(&store).await;
    // The first one waits for an upload that needs a buffer to finish.
    let id = tokio::time::timeout(PATIENCE, slow[0].meanwhile(put(&store, &body(100_000, 2)))).await;
    assert_eq!(get(&store, id.expect("it got a buffer").unwrap()).await, body(100_000, 2));
    let mut first = slow.remove(0);
    first.write(&body(MIB, 0)[40_000..]).await.unwrap();
    let id = first.finish().await.unwrap().blob;
    assert_eq!(get(&store, id).await, body(MIB, 0));
}

#[tokio::test]
async fn uploads_that_trickle_do_not_keep_the_buffers_from_others() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let mut slow = slow_uploads(&store).await;
    let other = tokio::spawn({
        let store = store.clone();
        async move { put(&store, &body(100_000, 2)).await }
    });
    // A byte per millisecond, without a long pause.
    let until = Instant::now() + PATIENCE;
    while !other.is_finished() {
        assert!(Instant::now() < until, "the buffers were never returned");
        for upload in &mut slow {
            upload.write(b"x").await.unwrap();
        }
        slow[0].meanwhile(tokio::time::sleep(Duration::from_millis(1))).await.unwrap();
    }
    assert_eq!(get(&store, other.await.unwrap()).await, body(100_000, 2));
}

#[tokio::test]
async fn uploads_that_rest_hold_no_buffer() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let mut resting = Vec::new();
    for n in 0..WRITE_BUFFERS as u64 {
        let mut upload = store.begin(record(blob(), Some(50_000))).await.unwrap();
        upload.write(&body(50_000, n)[..40_000]).await.unwrap();
        upload.release_buffer().await.unwrap();
        resting.push(upload);
    }
    assert_eq!(store.status().write_buffers, 0);
    let id = put(&store, &body(100_000, 2)).await;
    assert_eq!(get(&store, id).await, body(100_000, 2));
    for (n, mut upload) in (0..).zip(resting) {
        upload.write(&body(50_000, n)[40_000..]).await.unwrap();
        let id = upload.finish().await.unwrap().blob;
        assert_eq!(get(&store, id).await, body(50_000, n));
    }
}

#[tokio::test]
async fn pieces_that_nobody_takes_do_not_keep_others_from_reading() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let value = body(5 * MIB + 77, 3);
    let id = put(&store, &value).await;
    let mut reader = store.reader(id).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..shared::limits::READ_BUFFERS {
        held.push(reader.read(0, usize::MAX).await.unwrap());
    }
    assert_eq!(get(&store, id).await, value, "with no pooled buffer left");
    let middle = reader.read(70_000, usize::MAX).await.unwrap();
    assert_eq!(middle, value[70_000..70_000 + middle.len()]);
    assert!(held.iter().all(|h| value.starts_with(h)));
}

#[tokio::test]
async fn segments_are_sealed_by_size_and_age_and_read_on() {
    let mut kit = Kit::new();
    kit.options.segment_bytes = 3 * MIB as u64;
    let (store, _) = kit.open().await;
    let mut stored = Vec::new();
    for seed in 0..7 {
        let value = body(MIB, seed);
        stored.push((put(&store, &value).await, value));
        store.punched().await;
    }
    let status = store.status();
    assert_eq!((status.segments_sealed, status.segments_open, status.lanes_busy), (2, 1, 0));
    assert_eq!(store.seal_aged().await.unwrap(), 0);
    kit.options.clock.advance(kit.options.segment_age);
    assert_eq!(store.seal_aged().await.unwrap(), 1);
    assert_eq!(store.seal_aged().await.unwrap(), 0);
    assert_eq!(store.status().segments_sealed, 3);
    // Deletes still work after the seal.
    assert_eq!(store.delete(vec![stored[0].0]).await.unwrap().found, 1);
    let gone = stored.remove(0).0;
    for reopened in [false, true] {
        let store = if reopened { kit.open().await.0 } else { store.clone() };
        assert!(!store.has(gone));
        for (id, value) in &stored {
            assert_eq!(&get(&store, *id).await, value);
        }
        assert_eq!(store.status().segments_sealed, 3);
    }
}

#[tokio::test]
async fn the_inventory_comes_in_pages() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let mut ids = Vec::new();
    for n in 0..25 {
        ids.push((put(&store, &body(n, 0)).await, n as u64));
    }
    let mut seen = Vec::new();
    while let page = store.inventory(seen.last().map(|(id, _)| *id), 10)
        && !page.is_empty()
    {
        assert!(page.len() <= 10);
        assert!(page.iter().all(|e| e.finished == kit.options.clock.now()));
        seen.extend(page.iter().map(|e| (e.blob, e.length)));
    }
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn mapped_bytes_are_the_same_bytes() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    for length in [0, 1, 4095, 4096, 4097, 65_537, 3 * MIB + 17] {
        let body = body(length, 3);
        let blob = put(&store, &body).await;
        let mut reader = store.reader(blob).await.unwrap();
        let mut out = Vec::new();
        loop {
            let piece = reader.read_unverified(out.len() as u64, usize::MAX).await.unwrap();
            out.extend_from_slice(&piece);
            if piece.is_empty() {
                break;
            }
        }
        assert!(out == body, "{length}");
        let middle = length / 2;
        let piece = reader.read_unverified(middle as u64, 10).await.unwrap();
        assert_eq!(piece, body[middle..length.min(middle + 10)]);
        // Returned bytes stay valid after the reader and the blob are gone.
        drop(reader);
        store.delete(vec![blob]).await.unwrap();
    }
}
