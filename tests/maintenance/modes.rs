//! Replication modes: under-replicated blobs of `quorum` and `async` uploads are counted and repaired.

use shared::wire::cluster::ReplicationModes;
use shared::wire::master::StoredObject;
use tests::{Client, Cluster, value};

use super::{PAID, zones};

async fn stored(client: &Client, key: &str, seed: u64) -> StoredObject {
    let put = client.put(key, value(seed, 300_000)).await.expect("an answer");
    assert!(put.is_success(), "{}", put.text());
    serde_json::from_slice(&put.body).expect("the stored object")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_owed_is_paid_in_all_modes() {
    let mut options = zones(3, 3);
    options.master_args.extend(["--async-every", "2s"].map(String::from));
    let cluster = Cluster::start("modes", options).await;
    let client = cluster.client();
    let set = async |bucket: &str, mode: &str| -> ReplicationModes {
        cluster.told(&["cluster", "replication", bucket, mode]).await
    };
    set("half", "quorum").await;
    let modes = set("later", "async").await;
    assert_eq!(modes.everywhere, "sync");
    assert_eq!(modes.buckets, [("half", "quorum"), ("later", "async")].map(|(b, m)| (b.into(), m.into())));
    for (n, (key, copies)) in [("all/k", 3), ("half/k", 2), ("later/k", 1)].into_iter().enumerate() {
        let stored = stored(&client, key, n as u64).await;
        assert_eq!((stored.replicas, stored.wanted), (copies, 3), "{key}");
        assert!(client.get(key).await.unwrap().body == value(n as u64, 300_000), "{key} at once");
    }
    cluster.paid(PAID).await;
    assert_eq!(cluster.blobs().await, [3, 3, 3]);
    let modes = set("later", "default").await;
    assert_eq!(modes.buckets.len(), 1);
    assert_eq!(stored(&client, "later/k", 9).await.replicas, 3);
    assert_ne!(cluster.barge(&["cluster", "replication", "half", "sometimes"]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_cluster_may_be_asynchronous() {
    let mut options = zones(3, 3);
    options.master_args.extend(["--replication", "async", "--async-every", "1s"].map(String::from));
    let mut cluster = Cluster::start("async", options).await;
    let client = cluster.client();
    for n in 0..20 {
        assert_eq!(stored(&client, &format!("k{n}"), n).await.replicas, 1);
    }
    cluster.paid(PAID).await;
    // Overwritten and deleted before anything was repaired.
    for n in 0..20 {
        stored(&client, &format!("k{n}"), n + 100).await;
        if n % 2 == 0 {
            assert!(client.delete(&format!("k{n}")).await.unwrap().is_success());
        }
    }
    cluster.paid(PAID).await;
    assert_eq!(cluster.blobs().await, [10, 10, 10]);
    cluster.volumes[0].kill().await;
    for n in (1..20).step_by(2) {
        assert!(client.get_streamed(&format!("k{n}")).await.unwrap().body == value(n + 100, 300_000));
    }
}
