//! Inventories: the blobs of a range, and the location of each.

use std::time::Duration;

use shared::inventory::digests;
use volume::store::{Corruption, ReadError, Throttle};

use super::kit::{Kit, blob, body, put, put_as};

#[tokio::test]
async fn blobs_of_a_range_come_in_order_whatever_the_pages() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let mut all = Vec::new();
    for n in 0..40 {
        all.push(put(&store, &body(n, 1)).await);
    }
    assert_eq!(store.blobs(None, None).collect::<Vec<_>>(), all);
    assert_eq!(store.blobs(Some(all[3]), Some(all[9])).collect::<Vec<_>>(), all[3..9]);
    assert_eq!(store.blobs(Some(all[9]), Some(all[9])).count(), 0);
    assert_eq!(store.blobs(Some(all[9]), Some(all[3])).count(), 0);
    let listed = |after, until| {
        let page = store.inventory_before(after, until, 10).into_iter();
        page.map(|e| e.blob).collect::<Vec<_>>()
    };
    assert_eq!(listed(Some(all[0]), Some(all[4])), all[1..4]);
    assert_eq!(listed(None, Some(all[20])), all[..10]);
    assert!(listed(Some(all[4]), Some(all[4])).is_empty() && listed(Some(all[5]), Some(all[4])).is_empty());
    let bounds = [all[10], all[30]];
    let ranges = digests(store.blobs(None, None), &bounds);
    assert_eq!(ranges.iter().map(|r| r.count).collect::<Vec<_>>(), [10, 20, 10]);
    assert_eq!(ranges[1], digests(store.blobs(Some(all[10]), Some(all[30])), &[])[0]);
}

#[tokio::test]
async fn a_place_says_where_a_record_is_and_when_it_was_whole() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let (first, second, absent) = (put(&store, &body(70_000, 2)).await, blob(), blob());
    kit.options.clock.advance(Duration::from_secs(60));
    let written = kit.options.clock.now();
    put_as(&store, second, &body(10, 3)).await.unwrap();
    let places = store.locations(&[second, absent, first]);
    let [Some(late), None, Some(early)] = places[..] else { panic!("{places:?}") };
    assert_eq!((early.segment.get(), early.offset, early.length), (0, 4096, 70_000));
    assert_eq!((late.length, late.verified), (10, written));
    assert!(late.offset > early.offset && written.since(early.verified) == Duration::from_secs(60));

    kit.options.clock.advance(Duration::from_secs(60));
    let began = kit.options.clock.now();
    while store.scrub(Duration::from_secs(1), &Throttle::new(0)).await.is_some() {}
    assert!(store.locations(&[first, second]).iter().all(|p| p.is_some_and(|p| p.verified == began)));
}

#[tokio::test]
async fn a_record_is_verified_from_the_disk_itself() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let value = body(9 << 20, 4);
    let blob = blob();
    let stored = put_as(&store, blob, &value).await.unwrap();
    let free = Throttle::new(0);
    assert_eq!(store.verify(blob, &free).await.unwrap(), stored);
    super::spoil::flip(&kit.seg(0), 4096 + 4096 + 5 * 65536);
    let bad = store.verify(blob, &free).await.unwrap_err();
    assert!(matches!(bad, ReadError::Corrupt { what: Corruption::Block(5), .. }), "{bad}");
    store.delete(vec![blob]).await.unwrap();
    assert!(matches!(store.verify(blob, &free).await, Err(ReadError::NotFound { .. })));
}
