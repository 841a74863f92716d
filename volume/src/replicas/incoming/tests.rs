//! Deletes that race with a pending replica: whichever is first, nothing is left, and no receipt is issued.

use shared::clock::Timestamp;
use shared::digest::Digest;
use shared::key::Key;
use shared::wire::master::ReplicaSourcesResponse;
use shared::work::Inline;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::replicas::incoming::*;
use crate::server::test_volume::volume;
use crate::store::NewRecord;

pub(crate) fn blob(n: u64) -> BlobId {
    BlobId::next(None, Timestamp::from_unix_ms(n), [7; 10])
}

pub(crate) async fn upload(volume: &Volume, blob: BlobId, value: &[u8]) -> RecordWriter {
    let record = NewRecord {
        blob,
        key: Key::new("a/key").unwrap(),
        content_type: None,
        metadata: Vec::new(),
        length: Some(value.len() as u64),
    };
    let mut upload = volume.store.begin(record).await.unwrap();
    upload.write(value).await.unwrap();
    upload
}

#[test]
fn a_blob_arrives_once_at_a_time_and_a_delete_dooms_only_what_is_under_way() {
    let incoming = Arc::new(IncomingReplicas::default());
    incoming.mark_deleted(&[blob(1)]);
    let first = incoming.register(blob(1), None).unwrap();
    first.check().unwrap();
    assert!(matches!(incoming.register(blob(1), None), Err(AddReplicaError::UnderWay { .. })));
    let second = incoming.register(blob(2), None).unwrap();
    incoming.mark_deleted(&[blob(2), blob(3)]);
    first.check().unwrap();
    assert!(matches!(second.check(), Err(AddReplicaError::Gone { blob: b }) if b == blob(2)));
    drop(second);
    incoming.register(blob(2), None).unwrap().check().unwrap();
    first.check().unwrap();
}

#[test]
fn places_come_back_with_what_held_them() {
    let incoming = Arc::new(IncomingReplicas::default());
    let enter = |n| incoming.try_slot().and_then(|place| incoming.register(blob(n), Some(place)));
    let held: Vec<_> = (0..INCOMING_REPLICAS_MAX as u64).map(|n| enter(n).unwrap()).collect();
    assert!(matches!(enter(100), Err(AddReplicaError::TooMany)));
    drop(held);
    assert!(matches!(enter(100).and_then(|_held| enter(100)), Err(AddReplicaError::UnderWay { .. })));
    for n in 0..2 * INCOMING_REPLICAS_MAX as u64 {
        enter(n).unwrap();
    }
}

/// The delete finds nothing in the store; the record becomes visible afterwards.
#[tokio::test]
async fn a_record_that_becomes_visible_behind_its_delete_is_taken_back() {
    for verify in [false, true] {
        let (_folder, volume) = volume();
        let incoming = volume.incoming_replicas.register(blob(1), None).unwrap();
        let upload = upload(&volume, blob(1), b"a value").await;
        incoming.check().unwrap();
        volume.incoming_replicas.mark_deleted(&[blob(1)]);
        assert_eq!(volume.store.delete(vec![blob(1)]).await.unwrap().found, 0);
        let stored = upload.finish().await.unwrap();
        assert!(volume.store.has(blob(1)));
        let settled = keep_or_delete(&volume, &incoming, stored, verify).await;
        assert!(matches!(settled, Err(AddReplicaError::Gone { .. })), "{settled:?}");
        assert!(!volume.store.has(blob(1)));
    }
}

/// The delete comes while the visible record is being verified.
#[tokio::test]
async fn a_delete_between_visible_and_settled_leaves_nothing() {
    for verify in [false, true] {
        let (_folder, volume) = volume();
        let incoming = volume.incoming_replicas.register(blob(1), None).unwrap();
        let stored = upload(&volume, blob(1), b"a value").await.finish().await.unwrap();
        volume.incoming_replicas.mark_deleted(&[blob(1)]);
        assert_eq!(volume.store.delete(vec![blob(1)]).await.unwrap().found, 1);
        let settled = keep_or_delete(&volume, &incoming, stored, verify).await;
        assert!(matches!(settled, Err(AddReplicaError::Gone { .. })), "{settled:?}");
        assert!(!volume.store.has(blob(1)));
    }
}

#[tokio::test]
async fn what_nobody_deletes_stays_and_what_does_not_come_back_from_the_disk_does_not() {
    let (folder, volume) = volume();
    for verify in [false, true] {
        let id = blob(u64::from(verify));
        let incoming = volume.incoming_replicas.register(id, None).unwrap();
        let stored = upload(&volume, id, b"a value").await.finish().await.unwrap();
        assert_eq!(
            keep_or_delete(&volume, &incoming, stored, verify).await.unwrap().digest,
            Digest::of(b"a value")
        );
    }
    let incoming = volume.incoming_replicas.register(blob(2), None).unwrap();
    let stored = upload(&volume, blob(2), b"a value").await.finish().await.unwrap();
    let place = volume.store.locations(&[blob(2)])[0].unwrap();
    let path = folder.path().join(format!("segments/{}.seg", place.segment));
    let file = std::fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"another", place.offset + 4096).unwrap();
    let settled = keep_or_delete(&volume, &incoming, stored, true).await;
    assert!(matches!(settled, Err(AddReplicaError::Read(ReadError::Corrupt { .. }))), "{settled:?}");
    assert!(!volume.store.has(blob(2)) && volume.store.has(blob(1)));
}

/// A source that sends this value in pieces, one per `gap`.
async fn trickling(value: Vec<u8>, piece: usize, gap: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") && socket.read_buf(&mut request).await.unwrap() > 0 {}
        let (length, etag) = (value.len(), Digest::of(&value).etag());
        let head = format!("HTTP/1.1 200 OK\r\netag: {etag}\r\ncontent-length: {length}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        for piece in value.chunks(piece) {
            if socket.write_all(piece).await.is_err() {
                break;
            }
            tokio::time::sleep(gap).await;
        }
    });
    url
}

/// The clock is paused and advances only when all tasks are idle.
#[tokio::test(start_paused = true)]
async fn a_source_that_stalls_or_is_too_slow_is_given_up_and_no_other() {
    let _inline = Inline::enter();
    let second = Duration::from_secs(1);
    let (often, seldom) = (CHAIN_STALL_TIMEOUT - second, CHAIN_STALL_TIMEOUT + second);
    let enough = usize::try_from(8 * BODY_RATE_MIN * often.as_secs()).unwrap();
    for (number, piece, gap, ends) in [
        (1, 1, seldom, Some(CHAIN_STALL_TIMEOUT)),
        (2, 1, often, Some(BODY_RATE_GRACE)),
        (3, enough, often, None),
    ] {
        let (_folder, volume) = volume();
        let value = vec![b'x'; 40 * enough];
        let known = ReplicaSourcesResponse {
            key: Key::new("a/key").unwrap(),
            length: value.len() as u64,
            blake3: Digest::of(&value),
            content_type: None,
            metadata: Vec::new(),
            sources: vec![trickling(value, piece, gap).await],
        };
        let sources = ReplicaSources::of(&volume, blob(number), known);
        let mut upload = volume.store.begin(sources.record()).await.unwrap();
        let began = Instant::now();
        let pace = Throttle::new(0);
        let poured = fetch_from(&sources, 0, &mut upload, &pace);
        let poured = tokio::time::timeout(Duration::from_secs(24 * 3600), poured).await;
        let (broke, took) = (poured.expect("it is never given up").unwrap(), began.elapsed());
        match ends {
            Some(limit) => {
                assert!(matches!(broke, Some(SourceError::Stalled)), "{number}: {broke:?}");
                assert!(took >= limit && took <= limit + 2 * often, "{number}: {took:?}");
            }
            None => {
                assert!(broke.is_none(), "{number}: {broke:?}");
                assert!(took > BODY_RATE_GRACE, "{number}: {took:?}");
            }
        }
        upload.abort().await;
    }
}
