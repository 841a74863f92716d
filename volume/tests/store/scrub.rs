//! The scrub: what it finds, in which order, and where it continues.

use std::time::Duration;

use shared::ids::BlobId;
use volume::store::{Corruption, ReadError, Store, Throttle};

use super::kit::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn pass(store: &Store) -> Vec<(BlobId, Option<ReadError>)> {
    let mut seen = Vec::new();
    while let Some(checked) = store.scrub(DAY, &Throttle::new(0)).await {
        seen.push((checked.blob, checked.bad));
    }
    seen
}

#[tokio::test]
async fn everything_is_verified_once_and_then_rests() {
    let mut kit = Kit::new();
    kit.options.segment_bytes = 1 << 20;
    let (store, _) = kit.open().await;
    let mut blobs = Vec::new();
    for n in 0..20 {
        blobs.push(put(&store, &body(200_000 * usize::try_from(n % 3).unwrap(), n)).await);
    }
    assert!(pass(&store).await.is_empty(), "it was written a moment ago");
    kit.options.clock.advance(DAY);
    assert_eq!(store.status().unverified_for, DAY);
    let seen = pass(&store).await;
    assert!(seen.iter().all(|(_, bad)| bad.is_none()));
    assert_eq!(
        seen.iter().map(|(blob, _)| *blob).collect::<Vec<_>>(),
        blobs,
        "in the order in which they were written"
    );
    assert_eq!(store.status().verified_bytes, (0..20).map(|n| 200_000 * (n % 3)).sum::<u64>());
    assert_eq!(store.status().unverified_for, Duration::ZERO);
    assert!(pass(&store).await.is_empty());
    drop(store);
    let (store, report) = kit.open().await;
    assert!(report.foreign.is_empty());
    assert!(pass(&store).await.is_empty(), "it remembers");
}

#[tokio::test]
async fn it_goes_on_where_it_was_after_a_restart() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let mut blobs = Vec::new();
    for n in 0..10 {
        blobs.push(put(&store, &body(100_000, n)).await);
    }
    kit.options.clock.advance(DAY);
    for blob in &blobs[..6] {
        assert_eq!(store.scrub(DAY, &Throttle::new(0)).await.unwrap().blob, *blob);
        kit.options.clock.advance(Duration::from_secs(60));
    }
    drop(store);
    let (store, _) = kit.open().await;
    let seen: Vec<_> = pass(&store).await.into_iter().map(|(blob, _)| blob).collect();
    // The record that was being verified when the state was written is verified again.
    assert_eq!(seen, blobs[5..]);
    std::fs::write(kit.path("scrub.state"), b"rubbish").unwrap();
    drop(store);
    let (store, _) = kit.open().await;
    assert_eq!(pass(&store).await.len(), 10, "from the beginning, when that cannot be read");
}

#[tokio::test]
async fn every_flipped_bit_is_found() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let mut blobs = Vec::new();
    let mut begins = Vec::new();
    for n in 0..4 {
        begins.push(kit_end(&kit));
        blobs.push(put(&store, &body(150_000, n)).await);
    }
    flip(&kit, begins[0] + 100);
    flip(&kit, begins[1] + PAGE + 70_000);
    flip(&kit, begins[2] + PAGE + 151_552 + 33);
    kit.options.clock.advance(DAY);
    let seen = pass(&store).await;
    let whats: Vec<_> = seen
        .into_iter()
        .map(|(_, bad)| match bad {
            Some(ReadError::Corrupt { what, .. }) => Some(what),
            None => None,
            Some(e) => panic!("{e}"),
        })
        .collect();
    assert!(matches!(whats[0], Some(Corruption::Header(_))), "{whats:?}");
    assert_eq!(whats[1], Some(Corruption::Block(1)));
    assert!(matches!(whats[2], Some(Corruption::Trailer(_))), "{whats:?}");
    assert_eq!(whats[3], None);
    assert_eq!(store.status().corrupt_blocks, 3);
}

#[tokio::test]
async fn a_bad_first_page_is_written_anew() {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let blob = put(&store, b"value").await;
    flip(&kit, 60);
    kit.options.clock.advance(DAY);
    assert_eq!(pass(&store).await.len(), 1);
    drop(store);
    let (store, report) = kit.open().await;
    assert!(report.refused.is_empty(), "{report:?}");
    assert_eq!(get(&store, blob).await, b"value");
}

fn kit_end(kit: &Kit) -> u64 {
    std::fs::metadata(kit.seg(0)).map_or(PAGE, |m| m.len())
}

fn flip(kit: &Kit, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().read(true).write(true).open(kit.seg(0)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
    file.sync_all().unwrap();
}
