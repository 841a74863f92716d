//! Masters of which one has a static list: what it learns from the volumes, it tells the others.

use std::path::Path;

use shared::wire::master::{ClusterStatus, VolumeState};
use tests::cluster::{SETTLED, add};
use tests::place::Place;
use tests::{Client, Folder, Server, Spec, eventually, value};

/// Health questions to wait for: one each second, as often as a heartbeat.
const CALLS: u64 = 4;

async fn start(folder: &Folder, secret: &Path, mut spec: Spec) -> Server {
    add(&mut spec, "--secret-file", secret);
    Place::default().start(&spec, folder.path()).await
}

async fn up(master: &Client, wanted: usize) -> ClusterStatus {
    eventually(SETTLED, "all volumes are up", async || {
        let status: ClusterStatus = master.json("/_/status").await?;
        let up = status.volumes.iter().filter(|v| v.state == VolumeState::Up).count();
        (up == wanted).then_some(status)
    })
    .await
}

async fn calls_of(volume: &Client) -> Option<u64> {
    let text = volume.get_text("/_/metrics").await?;
    let lines = text.lines().filter(|l| l.starts_with("barge_http_requests_total{") && l.contains("POST"));
    Some(lines.filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_that_join_one_with_a_list_serve_its_volumes() {
    let folder = Folder::new("masters-static-list");
    let secret = folder.join("secret");
    let mut volumes = Vec::new();
    for n in 1..=2 {
        let mut spec = Spec::new(&format!("volume{n}"), "volume", [folder.join(format!("volume{n}"))]);
        add(&mut spec, "--reserve", (16 << 20).to_string());
        volumes.push(start(&folder, &secret, spec).await);
    }
    // In another spelling than the volumes' own.
    let list: Vec<String> = volumes.iter().map(|v| v.address().replace("127.0.0.1", "localhost")).collect();
    let mut spec = Spec::new("master1", "master", [list.join(",").into(), folder.join("master1")]);
    add(&mut spec, "--replicas", "2");
    let first = start(&folder, &secret, spec).await;
    up(&Client::new(first.url()), 2).await;
    let mut spec = Spec::new("master2", "master", [folder.join("master2")]);
    add(&mut spec, "--replicas", "2");
    add(&mut spec, "--join", first.url());
    let second = start(&folder, &secret, spec).await;
    let client = Client::new(second.url());
    let status = up(&client, 2).await;
    assert!(status.volumes.iter().all(|v| v.address.starts_with("http://localhost:")), "{status:?}");
    let put = client.put("key", value(1, 70_000)).await.expect("an answer");
    assert_eq!(put.status, 201, "{}", put.text());
    assert_eq!(client.get("key").await.expect("an answer").body, value(1, 70_000));

    // The list and the heartbeats agree on each volume's address: nothing is written while nothing changes.
    let before = up(&client, 2).await;
    let volume = Client::new(volumes[0].url());
    let calls = calls_of(&volume).await.expect("its metrics");
    eventually(SETTLED, "the volume was asked several times", async || {
        (calls_of(&volume).await? >= calls + CALLS).then_some(())
    })
    .await;
    let after = up(&client, 2).await;
    assert_eq!(before.applied, after.applied, "the registry is written again and again");
}
