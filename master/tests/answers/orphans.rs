//! An orphan is deleted after it was seen unreferenced at two times, and only if it is old by both clocks.

use std::time::Duration;

use shared::clock::{Clock, Timestamp};

use super::site::{Asked, Site, blob};

/// Inventories are compared four times per grace period, so an orphan seen once waits for about two seconds.
const GRACE: Duration = Duration::from_secs(8);
const HOUR_MS: u64 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_is_seen_twice_before_it_goes() {
    let mut site = Site::new(1, |config| config.orphan_grace = GRACE).await;
    let first = site.volume(&[]).await;
    // After its first comparison as a new volume and one with all volumes, the next of all volumes is some time away.
    for _ in 0..2 {
        while site.next().await != (first.id, Asked::Digests) {}
    }
    let now = Clock::System.now().unix_ms();
    let (past, future) = (Timestamp::from_unix_ms(now - HOUR_MS), Timestamp::from_unix_ms(now + HOUR_MS));
    let (old, young, strange) = (blob(past, 1), blob(past, 2), blob(future, 3));
    let volume = site.volume(&[(old, HOUR_MS), (young, 1), (strange, HOUR_MS)]).await;
    let mut seen = 0;
    let deleted = loop {
        match site.next().await {
            (id, Asked::List) if id == volume.id => seen += 1,
            (id, Asked::Delete(blobs)) if id == volume.id && !blobs.is_empty() => break blobs,
            _ => {}
        }
    };
    assert!(seen >= 2, "it was deleted after being seen {seen} times");
    assert_eq!(deleted, [old], "the others are too young by one of the clocks");
}
