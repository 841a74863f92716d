//! Repair, drain, rebalance and reconciliation: lost replicas are re-created, excess ones removed, volumes drained,
//! filled and decommissioned, orphans found; and meanwhile no value is lost, stale or under-replicated.

mod chaos;
mod modes;
mod moving;
mod orphans;
mod repair;

use std::time::Duration;

use tests::{Client, Cluster, Options, value};

/// The repair queue is empty within this time, in tests with little data.
const PAID: Duration = Duration::from_secs(60);

/// Volumes in three zones; their replicas are re-created soon after they fall silent.
fn zones(volumes: usize, replicas: usize) -> Options {
    let zone = |n: usize| vec!["--zone".to_owned(), format!("z{}", n % 3)];
    Options {
        volumes,
        replicas,
        min_replicas: replicas.min(2),
        orphan_grace: Duration::from_secs(4),
        down_after: Duration::from_secs(3),
        master_args: ["--repair-after", "4s"].map(String::from).to_vec(),
        volume_args: (0..volumes + 4).map(zone).collect(),
        ..Options::default()
    }
}

/// The bytes of the `n`th value.
fn bytes(n: u64) -> Vec<u8> {
    value(n, 100_000 + usize::try_from(n * 7919 % 900_000).expect("small"))
}

async fn put(client: &Client, n: u64, bytes: Vec<u8>) {
    let put = client.put(&format!("data/{n}"), bytes).await.expect("an answer");
    assert!(put.is_success(), "{}", put.text());
}

async fn store(cluster: &Cluster, count: u64) {
    for n in 0..count {
        put(&cluster.client(), n, bytes(n)).await;
    }
}

/// Checks that all values are as stored, whichever volumes serve them.
async fn whole(cluster: &Cluster, count: u64) {
    for n in 0..count {
        let got = cluster.client().get(&format!("data/{n}")).await.expect("an answer");
        assert!(got.status == 200 && got.body == bytes(n), "data/{n}: {}", got.status);
    }
}

/// Checks that each value has exactly its replicas, that no volume holds anything else, and that every byte is valid.
async fn settled(mut cluster: Cluster, count: u64, copies: u64) {
    cluster.paid(PAID).await;
    whole(&cluster, count).await;
    assert_eq!(cluster.blobs().await.iter().sum::<u64>(), count * copies);
    let report = cluster.orphans().await;
    assert_eq!((report.orphans, report.missing), (0, 0), "{report:?}");
    cluster.assert_no_secrets_in_logs();
    cluster.check_offline().await;
}
