//! Volumes are drained, decommissioned, added and rebalanced, and all of it is canceled, paused and interrupted.

use std::time::Duration;

use shared::wire::cluster::DrainStatus;
use shared::wire::master::VolumeState;
use tests::{Cluster, eventually};

use super::{PAID, bytes, put, settled, store, whole, zones};

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_drained_called_back_and_retired() {
    let mut cluster = Cluster::start("drained", zones(4, 2)).await;
    store(&cluster, 40).await;
    cluster.drain(0, &["--watch"]).await;
    cluster.state_is(0, &[VolumeState::Drained]).await;
    assert_eq!(cluster.blobs().await[0], 0);
    eventually(PAID, "removed replicas are counted", async || {
        let metrics = cluster.client().get_text("/_/metrics").await?;
        let count = metrics.lines().find_map(|line| line.strip_prefix("barge_replicas_removed_total "))?;
        (count != "0").then_some(())
    })
    .await;
    whole(&cluster, 40).await;
    // A draining volume takes no writes; back in service, it does.
    for n in 0..20 {
        put(&cluster.client(), n, bytes(n)).await;
    }
    assert_eq!(cluster.blobs().await[0], 0);
    cluster.drain(0, &["--cancel"]).await;
    cluster.state_is(0, &[VolumeState::Up]).await;
    for n in 0..40 {
        put(&cluster.client(), n, bytes(n)).await;
    }
    assert!(cluster.blobs().await[0] > 0);
    let id = cluster.ids[0].to_string();
    let decommissioned: DrainStatus = cluster.told(&["cluster", "decommission", &id, "--watch"]).await;
    assert_eq!((decommissioned.state, decommissioned.blobs), (VolumeState::Decommissioned, 0));
    whole(&cluster, 40).await;
    // It is not admitted again, and nothing waits for it.
    cluster.volumes[0].kill().await;
    cluster.volumes[0].begin();
    eventually(PAID, "it is refused", async || {
        cluster.volumes[0].log().contains("is decommissioned: it has left the cluster for good").then_some(())
    })
    .await;
    cluster.volumes[0].kill().await;
    let gone = cluster.volumes.remove(0);
    drop(gone);
    cluster.ids.remove(0);
    cluster.forget_folder(0);
    settled(cluster, 40, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_copy_of_anything_keeps_its_volume() {
    let mut cluster = Cluster::start("last-copy", zones(2, 1)).await;
    store(&cluster, 12).await;
    let blobs = cluster.blobs().await;
    let victim = usize::from(blobs[1] > blobs[0]);
    let id = cluster.ids[victim].to_string();
    let refused = cluster.barge(&["cluster", "decommission", &id]).await;
    assert_eq!(refused.code, 4, "{}", refused.err);
    assert!(refused.err.contains("holds the last replica of"), "{}", refused.err);
    cluster.volumes[victim].kill().await;
    cluster.state_is(victim, &[VolumeState::Down]).await;
    assert_eq!(
        cluster.barge(&["cluster", "decommission", &id]).await.code,
        4,
        "a dead volume's replicas are still listed"
    );
    cluster.volumes[victim].restart().await.unwrap();
    cluster.state_is(victim, &[VolumeState::Up]).await;
    cluster.drain(victim, &["--watch"]).await;
    let decommissioned: DrainStatus = cluster.told(&["cluster", "decommission", &id, "--watch"]).await;
    assert_eq!(decommissioned.state, VolumeState::Decommissioned);
    whole(&cluster, 12).await;
}

/// Three masters; the leader dies during a rebalance, which is paused, resumed, canceled and started again.
#[tokio::test(flavor = "multi_thread")]
async fn values_are_moved_whoever_leads() {
    let options = tests::Options { masters: 3, ..zones(3, 2) };
    let slow = ["--repair-after", "60s", "--repair-rate", "6000000"].map(String::from).to_vec();
    let mut cluster = Cluster::start("moved", tests::Options { master_args: slow, ..options }).await;
    store(&cluster, 60).await;
    for _ in 0..3 {
        cluster.add_volume().await;
    }
    let planned = eventually(PAID, "a rebalance to the new volumes is planned", async || {
        let plan = cluster.rebalance("plan").await;
        // The last reports of stored bytes may be outstanding.
        let known = plan.bytes > 15_000_000;
        (known && plan.volumes.iter().filter(|v| v.under_bytes > 0).count() == 3).then_some(plan)
    })
    .await;
    assert!(!planned.running, "{planned:?}");
    cluster.rebalance("start").await;
    let filled = async |cluster: &Cluster| cluster.blobs().await[3..].iter().sum::<u64>();
    eventually(PAID, "values are being moved", async || (filled(&cluster).await > 3).then_some(())).await;
    cluster.rebalance("pause").await;
    let leader = cluster.leader().await.expect("a leader");
    cluster.master_mut(leader).kill().await;
    cluster.settled_leader().await;
    let status = cluster.rebalance("start").await;
    assert!(
        status.running && status.planned_bytes > 0,
        "the next leader continues the rebalance: {status:?}"
    );
    eventually(PAID, "values are moved again", async || (filled(&cluster).await > 12).then_some(())).await;
    // Canceled: moves in progress are finished, and nothing is left over.
    let status = cluster.rebalance("cancel").await;
    assert!(!status.running, "{status:?}");
    cluster.paid(PAID).await;
    eventually(PAID, "each value has exactly two replicas", async || {
        (cluster.blobs().await.iter().sum::<u64>() == 60 * 2).then_some(())
    })
    .await;
    let moved = filled(&cluster).await;
    let left = cluster.rebalance("start").await.planned_bytes;
    eventually(PAID, "values are moved again", async || {
        (left < 2_500_000 || filled(&cluster).await > moved).then_some(())
    })
    .await;
    let leader = cluster.leader().await.expect("a leader");
    // In the middle of it, with the first leader back.
    cluster.restart_masters().await;
    cluster.master_mut(leader).kill().await;
    cluster.settled_leader().await;
    cluster.restart_masters().await;
    eventually(Duration::from_secs(120), "all volumes are equally full", async || {
        let plan = cluster.rebalance("plan").await;
        let status = cluster.status().await?;
        assert_eq!(status.under_replicated, 0, "a value is under-replicated");
        (!plan.running && plan.bytes < 2_500_000).then_some(())
    })
    .await;
    let full = cluster.rebalance("plan").await;
    let most = full.volumes.iter().map(|v| v.fullness).fold(0.0, f64::max);
    let least = full.volumes.iter().map(|v| v.fullness).fold(1.0, f64::min);
    assert!(least > most * 0.85, "{full:?}");
    settled(cluster, 60, 2).await;
}
