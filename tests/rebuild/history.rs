//! Histories with a volume down and a master lost, judged by the oracle.

use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Method;
use shared::limits::DELETE_ACK_TIMEOUT;
use shared::wire::master::{DeletedObject, StoredObject};
use tests::load::{Load, Shape, audit};
use tests::wait::moment;
use tests::{Change, Client, Cluster, Dice, Options, Oracle, Server, amount, eventually, say, value};

use super::{lose_master, metadata, rebuild, recover, three};

const SHAPE: Shape =
    Shape { writers: 6, hot_keys: 2, readers: 2, keys: 12, bytes_min: 1 << 10, bytes_max: 1 << 20 };

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_comes_back() {
    let rounds = amount("BARGE_ROUNDS", 1, 30);
    let mut dice = Dice::of_run();
    let mut cluster = three("rebuild").await;
    let oracle = Oracle::with_journal(&cluster.folder().join("journal"));
    let mut newest = None;
    for round in 0..rounds {
        let load = Load::start(&cluster, &oracle, SHAPE, &mut dice).await;
        let limit = Duration::from_secs(60);
        acknowledged(&load, 40).await;
        let client = cluster.client();
        let doomed: Vec<String> = (0..24).map(|n| format!("doomed{round}/{n}")).collect();
        for key in &doomed {
            put(&client, &oracle, key, &[]).await;
        }
        let victim = dice.index(3);
        cluster.volumes[victim].kill().await;
        cluster.settled_at(2).await;
        for key in &doomed {
            // Refused, then deleted: neither is seen again, although the dead volume has some of them.
            put(&client, &oracle, key, &[("if-none-match", "*")]).await;
            delete(&client, &oracle, key).await;
        }
        acknowledged(&load, 60).await;
        if dice.once_in(2) {
            cluster.volumes[victim].restart().await.unwrap();
        }
        moment(Duration::from_millis(dice.below(400))).await;
        lose_master(&mut cluster).await;
        load.stop();
        let counts = load.end().await;
        if !cluster.volumes[victim].runs() {
            cluster.volumes[victim].restart().await.unwrap();
        }
        // Immediately: commits that a volume still delivers go to the new metadata.
        let report = recover(&mut cluster).await;
        say(format_args!("round {round}: {counts:?}, {report}"));
        let client = cluster.client();
        let keys = audit(&client, &oracle).await.unwrap_or_else(|wrong| panic!("VIOLATIONS\n{wrong}"));
        say(format_args!("all {keys} keys have an allowed value"));
        newest = go_on(&client, &oracle, newest).await;
        // Dead values are reclaimed.
        eventually(limit, "the reclaim list is empty", async || {
            (cluster.status().await?.reclaim_pending == 0).then_some(())
        })
        .await;
    }
    audit(&cluster.client(), &oracle).await.unwrap_or_else(|wrong| panic!("VIOLATIONS\n{wrong}"));
    cluster.assert_no_secrets_in_logs();
}

/// Stores a value that no other task changes; with a failing condition it must be refused.
async fn put(
    client: &Client,
    oracle: &Oracle,
    key: &str,
    condition: &[(&str, &str)],
) -> Option<StoredObject> {
    let bytes = value(shared::clock::Clock::System.now().unix_ms(), 20_000);
    let intent = oracle.intend(key, Change::put(&bytes));
    let answer = client.send(Method::PUT, key, condition, Some(bytes)).await.unwrap();
    if answer.status == 412 {
        intent.refused();
        return None;
    }
    assert!(answer.is_success() && condition.is_empty(), "{}", answer.text());
    intent.ok();
    serde_json::from_slice(&answer.body).ok()
}

async fn delete(client: &Client, oracle: &Oracle, key: &str) -> DeletedObject {
    let intent = oracle.intend(key, Change::Delete);
    let answer = client.delete(key).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    intent.ok();
    serde_json::from_slice(&answer.body).unwrap()
}

/// Waits until this many more changes were acknowledged.
async fn acknowledged(load: &Load, more: u64) {
    let count = || load.counts().acknowledged.load(Ordering::Relaxed);
    let before = count();
    eventually(Duration::from_secs(60), "writes continue", async || {
        (load.failed() || count() >= before + more).then_some(())
    })
    .await;
}

/// Checks that uploads, deletes and listings work, and that generations are newer than all before.
async fn go_on(
    client: &Client,
    oracle: &Oracle,
    before: Option<shared::ids::BlobId>,
) -> Option<shared::ids::BlobId> {
    let listed: shared::wire::master::ListPage = client.json("/?list&limit=10000").await.unwrap();
    let newest = listed.keys.iter().map(|k| k.generation).max().max(before);
    let stored = put(client, oracle, "after", &[]).await.unwrap();
    assert!(Some(stored.generation) > newest, "the generation is not newer");
    assert_eq!(client.get("after").await.unwrap().digest(), stored.blake3);
    Some(delete(client, oracle, "after").await.generation)
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_are_remembered_although_a_volume_was_down_and_the_master_is_lost_at_once() {
    let mut cluster = three("rebuild-deletes").await;
    let client = cluster.client();
    let keys: Vec<String> = (0..48).map(|n| format!("gone/{n}")).collect();
    for (n, key) in (0..).zip(&keys) {
        assert_eq!(client.put(key, value(n, 9_000)).await.unwrap().status, 201);
    }
    assert_eq!(client.put("kept", b"kept".to_vec()).await.unwrap().status, 201);
    cluster.volumes[0].kill().await;
    cluster.settled_at(2).await;
    let deletes = keys.iter().map(|key| client.delete(key));
    for answer in futures_util::future::join_all(deletes).await {
        assert_eq!(answer.unwrap().status, 200);
    }
    // The moment the last answer has arrived.
    lose_master(&mut cluster).await;
    cluster.volumes[0].restart().await.unwrap();
    let report = recover(&mut cluster).await;
    assert_eq!((&report["objects"], &report["refused"]), (&1.into(), &0.into()), "{report}");
    assert!(report["deleted"].as_u64() > Some(0), "the volume that was down still has them: {report}");
    for key in &keys {
        assert_eq!(client.get(key).await.unwrap().status, 404, "{key} is back");
    }
    assert_eq!(client.get("kept").await.unwrap().body, b"kept");
    eventually(Duration::from_secs(20), "their space is free", async || {
        let blobs = cluster.footprint().await.blobs;
        (blobs.iter().sum::<u64>() == 2).then_some(())
    })
    .await;
}

/// No answer before the running volumes know about the delete.
#[tokio::test(flavor = "multi_thread")]
async fn a_delete_waits_until_it_will_be_remembered() {
    let mut cluster = three("rebuild-waits").await;
    let client = cluster.client();
    for n in 0..8 {
        assert_eq!(client.put(&format!("k{n}"), value(n, 9_000)).await.unwrap().status, 201);
    }
    cluster.volumes.iter().for_each(Server::freeze);
    let deletes: Vec<_> = (0..8)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.delete(&format!("k{n}")).await })
        })
        .collect();
    // Far less than its maximum wait, and far more than it takes without one.
    moment(DELETE_ACK_TIMEOUT * 2 / 5).await;
    assert!(!deletes.iter().any(|delete| delete.is_finished()), "answered before any volume knows");
    cluster.volumes.iter().for_each(Server::thaw);
    for delete in deletes {
        assert_eq!(delete.await.unwrap().unwrap().status, 200);
    }
    lose_master(&mut cluster).await;
    assert_eq!(recover(&mut cluster).await["objects"], 0);
}

/// A blob whose commit is refused, newer than all others of its key, on a volume that is down and keeps it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_no_value_afterwards() {
    let mut cluster = three("rebuild-refused").await;
    let client = cluster.client();
    let put = client.put("k", b"first".to_vec()).await.unwrap();
    let etag = put.header("etag").unwrap();
    let condition = [("if-match", etag.as_str())];
    // The condition holds when the ticket is issued; then the key is deleted.
    let bytes = value(1, 200_000);
    let asked = client.url(&format!("k?redirect&length={}", bytes.len()));
    let sent_on = client.once(Method::PUT, &asked, &condition, None).await.unwrap();
    assert_eq!(sent_on.status, 307, "{}", sent_on.text());
    let volume = sent_on.header("location").unwrap();
    assert_eq!(client.delete("k").await.unwrap().status, 200);
    let held = async |wanted: u64| {
        eventually(Duration::from_secs(20), &format!("{wanted} records"), async || {
            let blobs = cluster.footprint().await.blobs;
            (blobs.iter().sum::<u64>() == wanted).then_some(blobs)
        })
        .await
    };
    held(0).await;
    // Nothing is decided while the master is frozen.
    cluster.master.freeze();
    let upload = {
        let (client, volume, etag) = (client.clone(), volume.clone(), etag.clone());
        tokio::spawn(async move {
            client.once(Method::PUT, &volume, &[("if-match", etag.as_str())], Some(bytes)).await
        })
    };
    let blobs = held(2).await;
    let second = (0..3).find(|n| blobs[*n] == 1 && !volume.starts_with(cluster.volumes[*n].url())).unwrap();
    cluster.volumes[second].kill().await;
    cluster.master.thaw();
    assert_eq!(upload.await.unwrap().unwrap().status, 412);
    lose_master(&mut cluster).await;
    cluster.volumes[second].restart().await.unwrap();
    let report = recover(&mut cluster).await;
    assert_eq!((&report["objects"], &report["refused"]), (&0.into(), &1.into()), "{report}");
    assert_eq!(client.get("k").await.unwrap().status, 404);
}

/// The only volume with the value is down when it is deleted, whether or not the master knows: another one remembers.
async fn another_volume_remembers(name: &str, meanwhile: impl AsyncFnOnce(&mut Cluster)) {
    let options = Options { replicas: 1, min_replicas: 1, ..Options::default() };
    let mut cluster = Cluster::start(name, options).await;
    let client = cluster.client();
    assert_eq!(client.put("k", b"value".to_vec()).await.unwrap().status, 201);
    let blobs = cluster.footprint().await.blobs;
    let holder = blobs.iter().position(|n| *n == 1).unwrap();
    cluster.volumes[holder].kill().await;
    meanwhile(&mut cluster).await;
    assert_eq!(client.delete("k").await.unwrap().status, 200);
    lose_master(&mut cluster).await;
    cluster.volumes[holder].restart().await.unwrap();
    let report = recover(&mut cluster).await;
    assert_eq!((&report["objects"], &report["deleted"]), (&0.into(), &1.into()), "{report}");
    assert_eq!(client.get("k").await.unwrap().status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_volume_remembers_when_none_that_has_the_value_is_up() {
    another_volume_remembers("rebuild-alone", async |cluster| cluster.settled_at(2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_volume_remembers_when_the_one_with_the_value_has_just_died() {
    another_volume_remembers("rebuild-died", async |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_volume_remembers_when_the_master_has_just_begun() {
    another_volume_remembers("rebuild-began", async |cluster| {
        cluster.master.kill().await;
        cluster.master.restart().await.unwrap();
    })
    .await;
}

/// A volume that was not asked keeps its replicas, and a deleted value stays deleted when it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_was_not_asked_loses_nothing() {
    let options =
        Options { replicas: 1, min_replicas: 1, orphan_grace: Duration::from_secs(2), ..Options::default() };
    let mut cluster = Cluster::start("rebuild-without", options).await;
    let client = cluster.client();
    for n in 0..30 {
        assert_eq!(client.put(&format!("k{n}"), value(n, 5_000)).await.unwrap().status, 201);
    }
    let before = cluster.footprint().await.blobs;
    lose_master(&mut cluster).await;
    let directory = metadata(&cluster);
    let ran = rebuild(&cluster, &directory, &[1, 2], &["--replicas", "1"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    cluster.master.restart().await.unwrap();
    cluster.settled().await;
    // It is compared for a while: orphans younger than the rebuild are collected, older ones are not.
    let put = client.put("new", value(99, 5_000)).await.unwrap();
    assert_eq!(put.status, 201);
    moment(Duration::from_secs(5)).await;
    let after = cluster.footprint().await.blobs;
    assert_eq!(after.iter().sum::<u64>(), before.iter().sum::<u64>() + 1, "{before:?} {after:?}");
    // With all volumes everything is found.
    lose_master(&mut cluster).await;
    let report = recover(&mut cluster).await;
    assert_eq!(report["objects"], 31, "{report}");
}
