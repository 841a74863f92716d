//! A replica is complete, correct and durable, or nothing is kept, whatever the sources do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::digest::Digest;
use shared::limits::INCOMING_REPLICAS_MAX;
use shared::wire::error::ErrorCode;
use shared::wire::replicas::AddReplicaRequest;
use shared::wire::routes::ADD_REPLICA;

use super::site::{Gate, Known, MIB, Site, blob, value, within};
use super::source::Source;

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_any_size_arrive_and_an_answer_that_was_lost_is_given_again() {
    let site = Site::new().await;
    let (from, to) = (site.volume().await, site.volume().await);
    let (mut count, mut bytes) = (0, 0);
    for (n, size) in [0, 1, 65_535, 65_536, 65_537, 20 * MIB].into_iter().enumerate() {
        for verify in [false, true] {
            let (blob, value) = (blob(), value(size, n as u64));
            site.put(&from, blob, &value).await;
            site.tell(blob, Known::new(&value, vec![site.source(&from, blob)]));
            for _ in 0..2 {
                let receipt = site.copy(&to, blob, verify).await.unwrap();
                assert_eq!((receipt.length, receipt.digest), (size as u64, Digest::of(&value)));
            }
            assert!(site.get(&to, blob).await == value, "{size} bytes");
            count += 1;
            bytes += size;
        }
    }
    let metrics = site.text(&to, "/_/metrics").await;
    for line in
        [format!("\nbarge_replicas_received {count}\n"), format!("\nbarge_replicas_received_bytes {bytes}\n")]
    {
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_given_again_when_no_source_is_left() {
    let site = Site::new().await;
    let (from, to) = (site.volume().await, site.volume().await);
    let (blob, value) = (blob(), value(MIB, 1));
    site.put(&from, blob, &value).await;
    site.tell(blob, Known::new(&value, vec![site.source(&from, blob)]));
    site.copy(&to, blob, false).await.unwrap();
    site.tell(blob, Known::new(&value, Vec::new()));
    site.copy(&to, blob, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_where_it_stopped_at_the_next_source() {
    let site = Site::new().await;
    let (from, to) = (site.volume().await, site.volume().await);
    let (blob, value) = (blob(), value(5 * MIB, 2));
    site.put(&from, blob, &value).await;
    let (bad, asked, _bad) = Source { cut_after: 2 * MIB + 77, ..Source::of(&value) }.serve().await;
    site.tell(blob, Known::new(&value, vec![bad, site.source(&from, blob)]));
    site.copy(&to, blob, true).await.unwrap();
    assert_eq!(*asked.offsets.lock().unwrap(), [0]);
    assert!(site.get(&to, blob).await == value);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_source_is_asked_again_as_long_as_it_gives_anything() {
    let site = Site::new().await;
    let to = site.volume().await;
    let (first, value) = (blob(), value(5 * MIB, 3));
    let (source, asked, _trigger) = Source { cut_after: MIB, ..Source::of(&value) }.serve().await;
    site.tell(first, Known::new(&value, vec![source]));
    site.copy(&to, first, false).await.unwrap();
    assert_eq!(*asked.offsets.lock().unwrap(), [0, MIB, 2 * MIB, 3 * MIB, 4 * MIB]);
    assert!(site.get(&to, first).await == value);

    let (second, value) = (blob(), value.slice(1..));
    let (source, _, _silent) = Source { cut_after: 0, ..Source::of(&value) }.serve().await;
    site.tell(second, Known::new(&value, vec![source, "http://127.0.0.1:1/x".into()]));
    assert_eq!(site.copy(&to, second, false).await, Err(ErrorCode::Unavailable));
    site.nothing_of(&to, second).await;
    site.tell(second, Known::new(&value, Vec::new()));
    assert_eq!(site.copy(&to, second, false).await, Err(ErrorCode::Unavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_are_refused_and_a_good_source_behind_them_is_found() {
    let site = Site::new().await;
    let to = site.volume().await;
    let (blob, value) = (blob(), value(MIB + 5, 4));
    let other: Bytes = value.iter().map(|b| b ^ 1).collect();
    // It declares another value.
    let (honest, _, _honest) = Source::of(&other).serve().await;
    site.tell(blob, Known::new(&value, vec![honest]));
    assert_eq!(site.copy(&to, blob, false).await, Err(ErrorCode::Unavailable));
    site.nothing_of(&to, blob).await;
    // It declares this value, but has another one.
    let (liar, _, _liar) = Source { digest: Digest::of(&value), ..Source::of(&other) }.serve().await;
    site.tell(blob, Known::new(&value, vec![liar.clone()]));
    assert_eq!(site.copy(&to, blob, true).await, Err(ErrorCode::WrongDigest));
    site.nothing_of(&to, blob).await;
    // It has fewer or more bytes.
    for length in [MIB, MIB + 6] {
        let longer: Bytes = value.iter().copied().chain([1]).take(length).collect();
        let (source, _, _trigger) =
            Source { digest: Digest::of(&value), ..Source::of(&longer) }.serve().await;
        site.tell(blob, Known::new(&value, vec![source]));
        let refused = site.copy(&to, blob, false).await.unwrap_err();
        assert!([ErrorCode::Unavailable, ErrorCode::WrongDigest].contains(&refused), "{refused:?}");
        site.nothing_of(&to, blob).await;
    }
    let (good, _, _good) = Source::of(&value).serve().await;
    site.tell(blob, Known::new(&value, vec![liar, good]));
    site.copy(&to, blob, true).await.unwrap();
    assert!(site.get(&to, blob).await == value);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_copies_than_may_be_are_refused_and_one_blob_comes_once() {
    let site = Arc::new(Site::new().await);
    let to = Arc::new(site.volume().await);
    let gate = Gate::new();
    let (value, mut calls, mut sources) = (value(MIB, 5), Vec::new(), Vec::new());
    let call = |blob| {
        let (site, to) = (Arc::clone(&site), Arc::clone(&to));
        tokio::spawn(async move { site.copy(&to, blob, false).await })
    };
    let blobs: Vec<_> = (0..=INCOMING_REPLICAS_MAX).map(|_| blob()).collect();
    for blob in &blobs {
        let held = Some((500_000, Arc::clone(&gate)));
        let (source, _, trigger) = Source { held, ..Source::of(&value) }.serve().await;
        site.tell(*blob, Known::new(&value, vec![source]));
        sources.push(trigger);
    }
    calls.push(call(blobs[0]));
    gate.reached().await;
    assert_eq!(site.copy(&to, blobs[0], false).await, Err(ErrorCode::TooBusy), "it is under way");
    for blob in &blobs[1..INCOMING_REPLICAS_MAX] {
        calls.push(call(*blob));
        gate.reached().await;
    }
    let one_more = blobs[INCOMING_REPLICAS_MAX];
    assert_eq!(site.copy(&to, one_more, false).await, Err(ErrorCode::TooBusy));
    for _ in &blobs {
        gate.let_go();
    }
    for call in calls {
        within(call).await.unwrap().unwrap();
    }
    site.copy(&to, one_more, false).await.unwrap();
    for blob in blobs {
        assert!(site.get(&to, blob).await == value);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_leaves_nothing_half_done() {
    let site = Site::new().await;
    let to = site.volume().await;
    let (blob, value, gate) = (blob(), value(MIB, 6), Gate::new());
    let (source, _, _trigger) =
        Source { held: Some((500_000, Arc::clone(&gate))), ..Source::of(&value) }.serve().await;
    site.tell(blob, Known::new(&value, vec![source]));
    let called = tokio::time::timeout(Duration::from_millis(300), site.copy(&to, blob, false)).await;
    assert!(called.is_err());
    gate.reached().await;
    for _ in 0..3 {
        gate.let_go();
    }
    // Whether the call was aborted or went on, the same call is answered in the end.
    let done = async { while site.copy(&to, blob, true).await.is_err() {} };
    within(done).await;
    assert!(site.get(&to, blob).await == value);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_is_kept() {
    let site = Site::new().await;
    let (from, to) = (site.volume().await, site.volume().await);
    let value = value(2 * MIB, 7);
    let blobs = [blob(), blob()];
    for blob in blobs {
        site.put(&from, blob, &value).await;
        site.tell(blob, Known::new(&value, vec![site.source(&from, blob)]));
    }
    let began = Instant::now();
    let rate = 8 << 20;
    let both =
        tokio::join!(site.copy_at(&to, blobs[0], false, rate), site.copy_at(&to, blobs[1], false, rate));
    both.0.unwrap();
    both.1.unwrap();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(380), "4 MiB at 8 MiB/s: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_volume_refuses_before_it_asks_for_a_byte() {
    let site = Site::new().await;
    let to = site.volume_with(|config| config.capacity_bytes = Some(MIB as u64)).await;
    let (blob, value) = (blob(), value(MIB, 8));
    let (source, asked, _trigger) = Source::of(&value).serve().await;
    site.tell(blob, Known::new(&value, vec![source]));
    assert_eq!(site.copy(&to, blob, false).await, Err(ErrorCode::NoSpace));
    assert!(asked.offsets.lock().unwrap().is_empty());
    site.nothing_of(&to, blob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_record_gets_no_receipt_until_it_is_healed() {
    let site = Site::new().await;
    let (from, to) = (site.volume().await, site.volume().await);
    let (blob, value) = (blob(), value(MIB, 9));
    for volume in [&from, &to] {
        site.put(volume, blob, &value).await;
    }
    // The third question is the healer's.
    let gate = Gate::new();
    let known = Known::new(&value, vec![site.source(&from, blob)]);
    site.tell(blob, Known { held: Some((2, Arc::clone(&gate))), ..known });
    let place = site.look(&to, &[blob]).await[0].unwrap();
    let file = to.folder.path().join(format!("segments/{:010}.seg", place.segment));
    let file = std::fs::File::options().write(true).open(file).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"rot", place.offset + 4096 + 70_000).unwrap();
    assert!(site.copy(&to, blob, false).await.is_ok(), "only header and trailer were read");
    assert_eq!(site.copy(&to, blob, true).await, Err(ErrorCode::Corrupt));
    assert!(site.look(&to, &[blob]).await[0].unwrap().bad);
    gate.reached().await;
    gate.let_go();
    let healed = async { while site.copy(&to, blob, true).await.is_err() {} };
    within(healed).await;
    assert!(site.get(&to, blob).await == value);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_for_others_does_nothing() {
    let site = Site::new().await;
    let (from, to) = (site.volume().await, site.volume().await);
    let blob = blob();
    let request = AddReplicaRequest {
        cluster: site.cluster,
        volume: from.id,
        blob,
        bytes_per_second: 0,
        verify: false,
    };
    let refused = site.call::<_, serde_json::Value>(&to, ADD_REPLICA, &request).await;
    assert_eq!(refused, Err(ErrorCode::WrongVolume));
    let request = AddReplicaRequest { cluster: shared::ids::ClusterId::random(), volume: to.id, ..request };
    let refused = site.call::<_, serde_json::Value>(&to, ADD_REPLICA, &request).await;
    assert_eq!(refused, Err(ErrorCode::WrongCluster));
    assert_eq!(site.copy(&to, blob, false).await, Err(ErrorCode::NotFound), "no master knows of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_lost_is_healed_by_a_stream_too() {
    let site = Site::new().await;
    let to = site.volume().await;
    let (first, value) = (blob(), value(3 * MIB, 10));
    let (source, asked, _trigger) = Source { cut_after: 2 * MIB, ..Source::of(&value) }.serve().await;
    site.tell(first, Known::new(&value, vec![source]));
    // A reader finds that it is missing here, and is served from the source, until that breaks off.
    let url = site.source(&to, first);
    drop(site.peers.http().get(&url, Duration::from_secs(60)).await.unwrap());
    let healed = async { while site.look(&to, &[first]).await[0].is_none() {} };
    within(healed).await;
    assert!(site.get(&to, first).await == value);
    // The dropped reader may ask in between.
    let resumed = asked.offsets.lock().unwrap().windows(2).any(|pair| pair == [0, 2 * MIB]);
    assert!(resumed, "{:?}", asked.offsets);
}
