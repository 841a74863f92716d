//! Servers down: reads and writes go around them; too few left; all down and back.

use std::time::{Duration, Instant};

use shared::wire::error::ErrorCode;
use shared::wire::master::StoredObject;
use tests::tool::curl;
use tests::{Dice, value};

use super::three;

const RETRYING: [&str; 5] = ["--retry", "5", "--retry-connrefused", "--retry-all-errors", "-L"];

#[tokio::test(flavor = "multi_thread")]
async fn one_dead_volume_stops_nobody() {
    let mut cluster = three("one-dead").await;
    let bytes = value(1, 2 << 20);
    let client = cluster.client();
    for n in 0..6 {
        assert_eq!(client.put(&format!("k{n}"), bytes.clone()).await.unwrap().status, 201);
    }
    cluster.volumes[1].kill().await;
    for n in 0..6 {
        let started = Instant::now();
        let streamed = client.get_streamed(&format!("k{n}")).await.unwrap();
        assert!(streamed.status == 200 && streamed.body == bytes, "k{n}: {}", streamed.status);
        assert!(started.elapsed() < Duration::from_secs(3), "streamed reads continue at once");
        let url = format!("{}/k{n}", cluster.url());
        let got = curl(cluster.folder(), RETRYING.iter().copied().chain([url.as_str()])).await;
        assert!(got.code == 0 && got.status == 200 && got.body == bytes, "k{n}: {} {}", got.status, got.err);
    }
    for n in 6..12 {
        let put = client.put(&format!("k{n}"), bytes.clone()).await.unwrap();
        assert_eq!(put.status, 201, "{}", put.text());
        let stored: StoredObject = serde_json::from_slice(&put.body).unwrap();
        assert_eq!((stored.replicas, stored.wanted), (2, 3));
        assert!(client.get(&format!("k{n}")).await.unwrap().body == bytes);
    }
    cluster.settled_at(2).await;
    assert_eq!(cluster.status().await.unwrap().under_replicated, 6);
    cluster.volumes[1].restart().await.unwrap();
    cluster.settled().await;
    for n in 0..12 {
        assert!(client.get(&format!("k{n}")).await.unwrap().body == bytes, "k{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_volumes_are_said_in_time() {
    let mut cluster = three("too-few").await;
    let client = cluster.client();
    client.put("before", b"x".to_vec()).await.unwrap();
    cluster.volumes[0].kill().await;
    cluster.volumes[1].kill().await;
    for (n, path) in ["early?stream", "early?redirect&length=1", "early"].into_iter().enumerate() {
        let started = Instant::now();
        let put = client.send(reqwest::Method::PUT, path, &[], Some(b"x".to_vec())).await;
        assert!(started.elapsed() < super::UPLOAD_ANSWER, "{path}: {:?}", started.elapsed());
        assert!(put.as_ref().map_or(true, |a| a.status == 503), "{n}, {path}: {put:?}");
    }
    cluster.settled_at(1).await;
    let started = Instant::now();
    let put = client.put("late", b"x".to_vec()).await.unwrap();
    assert_eq!((put.status, put.code()), (503, Some(ErrorCode::Unavailable)));
    assert!(put.text().contains("1 of 3 volumes take writes, and 2 are needed"), "{}", put.text());
    assert_eq!(put.header("retry-after").as_deref(), Some("1"));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(client.get("before").await.unwrap().body, b"x", "one replica is enough to read");
    for key in ["early", "late"] {
        assert_eq!(client.get(key).await.unwrap().status, 404, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_stops_and_starts_in_any_order() {
    let mut cluster = three("any-order").await;
    let client = cluster.client();
    let mut dice = Dice::of_run();
    for round in 0..6u64 {
        let (key, bytes) = (format!("k{round}"), value(round, 1_500_000));
        assert_eq!(client.put(&key, bytes).await.unwrap().status, 201);
        let mut order: Vec<usize> = (0..4).collect();
        for gently in [round % 2 == 0, false] {
            for at in (1..order.len()).rev() {
                order.swap(at, dice.index(at + 1));
            }
            for server in &order {
                let server = &mut *cluster.servers_mut().remove(*server);
                if gently {
                    assert!(server.terminate().await.success(), "{} did not exit cleanly", server.name());
                } else {
                    server.kill().await;
                }
            }
            for server in order.iter().rev() {
                cluster.servers_mut().remove(*server).restart().await.unwrap();
            }
        }
        cluster.settled().await;
        for n in 0..=round {
            let got = client.get(&format!("k{n}")).await.unwrap();
            assert!(
                got.status == 200 && got.body == value(n, 1_500_000),
                "round {round}, k{n}: {}",
                got.status
            );
        }
    }
}
