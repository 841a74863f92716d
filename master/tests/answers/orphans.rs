//! A record that nothing refers to goes when it was seen so at two times, and is old by both clocks.

use std::time::Duration;

use shared::clock::{Clock, Timestamp};

use super::site::{Asked, Site, blob};

/// All inventories are compared four times as often: what is seen once waits for about two seconds.
const GRACE: Duration = Duration::from_secs(8);
const HOUR_MS: u64 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_is_seen_twice_before_it_goes() {
    let mut site = Site::new(1, |config| config.orphan_grace = GRACE).await;
    let first = site.volume(&[]).await;
    // When it was compared with all others, beside being new, the next comparison of all is some time away.
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
    assert!(seen >= 2, "it was deleted when it was seen {seen} times");
    assert_eq!(deleted, [old], "the others are young by one clock");
}
