//! A lost metadata directory costs time, not data: everything acknowledged is there after a rebuild from the volumes,
//! and nothing deleted or refused comes back, whichever volume was down meanwhile.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

mod comparing;
mod expiry;
mod history;
mod refusing;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tests::folder::binary;
use tests::tool::{Ran, run};
use tests::{Cluster, Options};

/// Three volumes; two replicas of everything, and both are required.
async fn three(name: &str) -> Cluster {
    Cluster::start(name, Options::default()).await
}

/// Returns the metadata directory of the cluster's master.
fn metadata(cluster: &Cluster) -> PathBuf {
    cluster.folder().join("master")
}

/// Kills the master and removes its directory.
async fn lose_master(cluster: &mut Cluster) {
    cluster.master.kill().await;
    fs::remove_dir_all(metadata(cluster)).unwrap();
}

/// Runs `barge cluster rebuild` from the volumes at `places`.
async fn rebuild(cluster: &Cluster, directory: &std::path::Path, places: &[usize], more: &[&str]) -> Ran {
    let volumes: Vec<_> = places.iter().map(|n| cluster.volumes[*n].address().to_owned()).collect();
    let (secret, volumes) = (cluster.folder().join("secret"), volumes.join(","));
    let (secret, directory) = (secret.to_string_lossy(), directory.to_string_lossy());
    let mut args = vec!["--json", "--url", cluster.url(), "cluster", "rebuild", &directory];
    args.extend(["--volumes", &volumes, "--secret-file", &secret]);
    args.extend(more);
    run(&binary("barge").to_string_lossy(), args).await
}

/// Rebuilds the metadata from all volumes and starts the master on it.
async fn recover(cluster: &mut Cluster) -> Value {
    let all: Vec<_> = (0..cluster.volumes.len()).collect();
    let ran = rebuild(cluster, &metadata(cluster), &all, &[]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    cluster.master.restart().await.unwrap();
    cluster.settled().await;
    serde_json::from_slice(&ran.out).unwrap()
}
