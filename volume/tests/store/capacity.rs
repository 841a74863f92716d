//! A store with a capacity: uploads beyond it are refused before a byte is accepted, deletes free it, and a rewrite
//! may exceed it.

use shared::digest::Digest;
use shared::limits::RESERVE_FIRST_BYTES;
use volume::store::WriteError;

use super::kit::{Kit, MIB, blob, body, get, put, put_as, record};

const CAPACITY: u64 = 4 << 20;

fn kit() -> Kit {
    let mut kit = Kit::new();
    kit.options.capacity_bytes = Some(CAPACITY);
    kit
}

#[tokio::test]
async fn uploads_are_refused_over_the_capacity_and_deletes_give_it_back() {
    let kit = kit();
    let (store, _) = kit.open().await;
    assert_eq!(store.available_bytes(), CAPACITY);
    let all: Vec<_> = [put(&store, &body(MIB, 1)).await, put(&store, &body(2 * MIB, 2)).await].into();
    let left = store.available_bytes();
    assert!(left < MIB as u64 && left > 900 << 10, "{left}");
    let refused = store.begin(record(blob(), Some(MIB))).await.unwrap_err();
    assert!(
        matches!(refused, WriteError::NoSpace { needed, available } if needed > MIB as u64 && available == left),
        "{refused}"
    );
    let mut growing = store.begin(record(blob(), None)).await.unwrap();
    let refused = growing.write(&body(2 * MIB, 3)).await.unwrap_err();
    assert!(
        matches!(refused, WriteError::NoSpace { .. }),
        "a length that is not known may be any: {refused}"
    );
    growing.abort().await;
    assert_eq!(store.available_bytes(), left);
    put(&store, &body(MIB / 2, 3)).await;

    store.delete(all).await.unwrap();
    store.punched().await;
    put(&store, &body(3 * MIB, 4)).await;
    let before = store.available_bytes();
    drop(store);
    let (store, _) = kit.open().await;
    store.punched().await;
    assert_eq!(store.available_bytes(), before, "what is there counts after a restart");
}

#[tokio::test]
async fn what_uploads_under_way_have_written_counts_to_their_end() {
    let kit = kit();
    let (store, _) = kit.open().await;
    let value = body(3 * MIB, 5);
    let mut upload = store.begin(record(blob(), Some(value.len()))).await.unwrap();
    upload.write(&value).await.unwrap();
    upload.release_buffer().await.unwrap();
    let left = store.available_bytes();
    assert!(left < MIB as u64, "written, and not given to others: {left}");
    let refused = put_as(&store, blob(), &body(MIB, 6)).await.unwrap_err();
    assert!(matches!(refused, WriteError::NoSpace { .. }));
    upload.abort().await;
    assert_eq!(store.available_bytes(), CAPACITY);
    put(&store, &value).await;
    assert!(store.available_bytes() >= left);
}

#[tokio::test]
async fn an_upload_that_announces_much_and_sends_nothing_takes_it_from_nobody() {
    let kit = kit();
    let (store, _) = kit.open().await;
    let mut announced = Vec::new();
    for _ in 0..4 {
        announced.push(store.begin(record(blob(), Some(3 * MIB))).await.unwrap());
    }
    let held = CAPACITY - store.available_bytes();
    assert_eq!(held, 4 * RESERVE_FIRST_BYTES);
    let value = body(3 * MIB, 8);
    let kept = put(&store, &value).await;
    // Now they send, and find the disk full: only they are refused, in the middle.
    for mut upload in announced {
        let refused = upload.write(&body(3 * MIB, 9)).await.unwrap_err();
        assert!(matches!(refused, WriteError::NoSpace { .. }), "{refused}");
        upload.abort().await;
    }
    assert_eq!(get(&store, kept).await, value);
    let (status, left) = (store.status(), store.available_bytes());
    assert_eq!((status.lanes_busy, status.reserved_bytes), (0, 0));
    store.delete(vec![kept]).await.unwrap();
    store.punched().await;
    assert!(store.available_bytes() > left + 3 * MIB as u64 - 1);
    put(&store, &body(3 * MIB, 10)).await;
}

#[tokio::test]
async fn a_full_volume_heals_all_the_same() {
    let kit = kit();
    let (store, _) = kit.open().await;
    let value = body(3 * MIB, 7);
    let blob = put(&store, &value).await;
    let mut upload = store.begin_rewrite(record(blob, Some(value.len())), Digest::of(&value)).await.unwrap();
    assert_eq!(store.available_bytes(), 0);
    upload.write(&value).await.unwrap();
    upload.finish().await.unwrap();
    store.punched().await;
    assert_eq!(get(&store, blob).await, value);
    assert!(store.available_bytes() > 900 << 10, "{}", store.available_bytes());
}
