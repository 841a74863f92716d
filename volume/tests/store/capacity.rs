//! A store that may use a part of its disk only: uploads over it are refused before a byte is taken, deletes give it back,
//! and a record that takes another's place is not held up by it.

use shared::digest::Digest;
use volume::store::WriteError;

use crate::kit::{Kit, MIB, blob, body, get, put, put_as, record};

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
    let refused = store.begin(record(blob(), None)).await.unwrap_err();
    assert!(
        matches!(refused, WriteError::NoSpace { .. }),
        "a length that is not known may be any: {refused}"
    );
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
async fn what_uploads_under_way_were_promised_counts_to_their_end() {
    let kit = kit();
    let (store, _) = kit.open().await;
    let value = body(3 * MIB, 5);
    let mut upload = store.begin(record(blob(), Some(value.len()))).await.unwrap();
    let promised = store.available_bytes();
    assert!(promised < MIB as u64);
    upload.write(&value).await.unwrap();
    upload.rest().await.unwrap();
    assert_eq!(store.available_bytes(), promised, "written, and not given to others");
    let refused = put_as(&store, blob(), &body(MIB, 6)).await.unwrap_err();
    assert!(matches!(refused, WriteError::NoSpace { .. }));
    upload.abort().await;
    assert_eq!(store.available_bytes(), CAPACITY);
    put(&store, &value).await;
    assert!(store.available_bytes() >= promised);
}

#[tokio::test]
async fn a_full_volume_heals_all_the_same() {
    let kit = kit();
    let (store, _) = kit.open().await;
    let value = body(3 * MIB, 7);
    let blob = put(&store, &value).await;
    let mut upload = store.begin_again(record(blob, Some(value.len())), Digest::of(&value)).await.unwrap();
    assert_eq!(store.available_bytes(), 0);
    upload.write(&value).await.unwrap();
    upload.finish().await.unwrap();
    store.punched().await;
    assert_eq!(get(&store, blob).await, value);
    assert!(store.available_bytes() > 900 << 10, "{}", store.available_bytes());
}
