//! A volume or a master dies or freezes during an upload: the answer comes in time, and a retried PUT works.

use std::time::{Duration, Instant};

use reqwest::Method;
use shared::ticket::Operation;
use shared::work::blocking;
use tests::forge::Forge;
use tests::raw::{Raw, RawAnswer};
use tests::{Cluster, eventually, say, value};

use super::{UPLOAD_ANSWER, three};

const SIZE: usize = 24 << 20;

/// An upload that has sent its first half.
struct Half {
    raw: Raw,
    rest: Vec<u8>,
}

impl Half {
    async fn begin(address: &str, target: &str, bytes: &[u8]) -> Self {
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        let head =
            format!("PUT {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", bytes.len());
        let (address, first, rest) = (address.to_owned(), first.to_vec(), rest.to_vec());
        blocking(move || {
            let mut raw = Raw::connect(&address);
            raw.patience(UPLOAD_ANSWER);
            raw.send(head);
            raw.send(first);
            Self { raw, rest }
        })
        .await
    }

    async fn end(mut self) -> RawAnswer {
        blocking(move || {
            self.raw.send(&self.rest);
            self.raw.answer()
        })
        .await
    }
}

/// Returns the volumes of the replica chain that an upload of `key` will use, in order.
async fn chain_of(cluster: &Cluster, key: &str) -> Vec<usize> {
    let client = cluster.client();
    let url = client.url(&format!("{key}?redirect&length={SIZE}"));
    let answer = client.once(Method::PUT, &url, &[], Some(Vec::new())).await.expect("an answer");
    let location = answer.header("location").expect("a redirect");
    let ticket = Forge::new(cluster).await.read_ticket(&location, key);
    let Operation::Write(grant) = ticket.operation else { panic!("a write ticket") };
    grant.chain.iter().map(|link| cluster.place_of(link.volume)).collect()
}

/// Waits until the whole chain is writing.
async fn under_way(cluster: &Cluster, uploads: u64) {
    eventually(Duration::from_secs(20), "the upload has reached the whole chain", async || {
        (cluster.footprint().await.uploads == uploads).then_some(())
    })
    .await;
}

async fn fault_in_mid_upload(freeze: bool) {
    let what = if freeze { "frozen" } else { "killed" };
    let mut cluster = three(what).await;
    let before = cluster.footprint().await;
    for place in 0..3 {
        let key = format!("{what}/{place}");
        let bytes = value(place, SIZE);
        let chain = chain_of(&cluster, &key).await;
        let victim = chain[usize::try_from(place).expect("everything but the victim answers")];
        let half = Half::begin(cluster.master.address(), &format!("/{key}"), &bytes).await;
        under_way(&cluster, 3).await;
        if freeze {
            cluster.volumes[victim].freeze();
        } else {
            cluster.volumes[victim].kill().await;
        }
        let started = Instant::now();
        let answer = half.end().await;
        let took = started.elapsed();
        say(format_args!("volume {} of the chain {what}: {} after {took:?}", place + 1, answer.status));
        let said = String::from_utf8_lossy(&answer.body);
        assert!([201, 503].contains(&answer.status), "{what}, place {place}: {} {said}", answer.status);
        assert!(took < UPLOAD_ANSWER, "{what}, place {place}: {took:?}");
        let client = cluster.client();
        eventually(Duration::from_secs(60), "a retried PUT works", async || {
            client.put(&key, bytes.clone()).await.ok().filter(tests::Answer::is_success)
        })
        .await;
        let got = client.get_streamed(&key).await.expect("everything but the victim answers");
        assert!(got.status == 200 && got.body == bytes, "{what}, place {place}: wrong value");
        if freeze {
            cluster.volumes[victim].thaw();
        } else {
            cluster.volumes[victim].restart().await.expect("everything but the victim answers");
        }
        cluster.settled().await;
        let got = client.get(&key).await.expect("everything but the victim answers");
        assert!(got.status == 200 && got.body == bytes, "{what}, place {place}: wrong value");
        assert_eq!(client.delete(&key).await.expect("everything but the victim answers").status, 200);
        eventually(Duration::from_secs(60), "no upload is in progress", async || {
            let now = cluster.footprint().await;
            (now.uploads == 0 && now.lanes_busy == 0 && now.reserved_bytes == before.reserved_bytes)
                .then_some(())
        })
        .await;
    }
    cluster.assert_no_secrets_in_logs();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_killed_in_mid_upload() {
    fault_in_mid_upload(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_frozen_in_mid_upload() {
    fault_in_mid_upload(true).await;
}

/// The master still considers the dead volume up: the chain skips it, and no client notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_killed_just_before_an_upload_costs_nothing() {
    let mut cluster = three("just-killed").await;
    let client = cluster.client();
    for place in 0..3 {
        let key = format!("just-killed/{place}");
        let victim = chain_of(&cluster, &key).await[place];
        let bytes = value(7, SIZE);
        cluster.volumes[victim].kill().await;
        let answer = client.put(&key, bytes.clone()).await.expect("an answer");
        assert_eq!(answer.status, 201, "place {place}: {}", answer.text());
        let told: shared::wire::master::StoredObject =
            serde_json::from_slice(&answer.body).expect("our JSON");
        assert_eq!((told.replicas, told.wanted), (2, 3), "place {place}");
        assert_eq!(client.get_streamed(&key).await.expect("an answer").body, bytes);
        cluster.volumes[victim].restart().await.expect("the volume restarts");
        cluster.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_killed_in_mid_upload_leaves_nothing() {
    let mut cluster = three("master-killed").await;
    let before = cluster.footprint().await;
    let bytes = value(1, SIZE);
    let half = Half::begin(cluster.master.address(), "/k", &bytes).await;
    under_way(&cluster, 3).await;
    cluster.master.kill().await;
    let answer = half.end().await;
    assert_eq!(answer.status, 0, "the client sees a broken connection");
    cluster.back_to(&before, "an upload whose master died").await;
    cluster.master.restart().await.unwrap();
    cluster.settled().await;
    assert_eq!(cluster.client().get("k").await.unwrap().status, 404);
    assert_eq!(cluster.client().put("k", bytes.clone()).await.unwrap().status, 201);
    assert!(cluster.client().get("k").await.unwrap().body == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirected_upload_outlives_its_master() {
    let mut cluster = three("master-back").await;
    let client = cluster.client();
    let bytes = value(1, SIZE);
    let url = client.url(&format!("k?redirect&length={SIZE}"));
    let redirect = client.once(Method::PUT, &url, &[], Some(Vec::new())).await.unwrap();
    let location: reqwest::Url = redirect.header("location").unwrap().parse().unwrap();
    let address = format!("{}:{}", location.host_str().unwrap(), location.port().unwrap());
    let target = format!("{}?{}", location.path(), location.query().unwrap());
    let half = Half::begin(&address, &target, &bytes).await;
    under_way(&cluster, 3).await;
    cluster.master.kill().await;
    let ending = tokio::spawn(half.end());
    eventually(Duration::from_secs(20), "the value is durable on all volumes", async || {
        (cluster.footprint().await.blobs == [1, 1, 1]).then_some(())
    })
    .await;
    cluster.master.restart().await.unwrap();
    let answer = ending.await.unwrap();
    assert_eq!(
        answer.status,
        201,
        "the commit waits for the master: {}",
        String::from_utf8_lossy(&answer.body)
    );
    cluster.settled().await;
    assert!(cluster.client().get("k").await.unwrap().body == bytes);
}
