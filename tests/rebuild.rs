//! A lost metadata directory costs time, not data: what was acknowledged is there after a rebuild from the volumes, and
//! what was deleted or refused does not come back, whichever volume was down meanwhile.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

mod comparing;
mod history;
mod refusing;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tests::folder::binary;
use tests::tool::{Ran, run};
use tests::{Cluster, Options};

/// Three volumes; two copies of everything, and both are needed.
async fn three(name: &str) -> Cluster {
    Cluster::start(name, Options::default()).await
}

/// Where the cluster's master has its metadata.
fn metadata(cluster: &Cluster) -> PathBuf {
    cluster.folder().join("master")
}

/// `kill -9`, and its directory is gone.
async fn lose_master(cluster: &mut Cluster) {
    cluster.master.kill().await;
    fs::remove_dir_all(metadata(cluster)).unwrap();
}

/// `barge cluster rebuild` from the volumes at `places`.
async fn rebuild(cluster: &Cluster, directory: &std::path::Path, places: &[usize], more: &[&str]) -> Ran {
    let volumes: Vec<_> = places.iter().map(|n| cluster.volumes[*n].address().to_owned()).collect();
    let (secret, volumes) = (cluster.folder().join("secret"), volumes.join(","));
    let (secret, directory) = (secret.to_string_lossy(), directory.to_string_lossy());
    let mut args = vec!["--json", "--url", cluster.url(), "cluster", "rebuild", &directory];
    args.extend(["--volumes", &volumes, "--secret-file", &secret]);
    args.extend(more);
    run(&binary("barge").to_string_lossy(), args).await
}

/// Makes the metadata anew from all volumes, and starts the master on it.
async fn recover(cluster: &mut Cluster) -> Value {
    let all: Vec<_> = (0..cluster.volumes.len()).collect();
    let ran = rebuild(cluster, &metadata(cluster), &all, &[]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    cluster.master.restart().await.unwrap();
    cluster.settled().await;
    serde_json::from_slice(&ran.out).unwrap()
}
