//! What a rebuild refuses to do, and what a master says about metadata that it cannot use.

use std::fs;

use tests::{Cluster, Options, value};

use super::{lose_master, metadata, rebuild, recover, three};

#[tokio::test(flavor = "multi_thread")]
async fn directories_in_the_way_and_volumes_that_do_not_answer() {
    let mut cluster = three("rebuild-refusing").await;
    let client = cluster.client();
    assert_eq!(client.put("k", value(1, 50_000)).await.unwrap().status, 201);
    let directory = metadata(&cluster);
    let ran = rebuild(&cluster, &directory, &[0, 1, 2], &[]).await;
    assert!(ran.code == 4 && ran.err.contains("move that directory away"), "{}: {}", ran.code, ran.err);
    lose_master(&mut cluster).await;
    // One volume named twice; one that is down; one of another cluster.
    let ran = rebuild(&cluster, &directory, &[0, 1, 1], &[]).await;
    assert!(ran.code == 2 && ran.err.contains("are the same volume"), "{}: {}", ran.code, ran.err);
    let strangers = Options { volumes: 1, replicas: 1, min_replicas: 1, ..Options::default() };
    let strangers = Cluster::start("rebuild-strangers", strangers).await;
    let ran = rebuild(&strangers, &directory, &[0], &["--volumes", cluster.volumes[0].address()]).await;
    assert!(ran.code != 0 && ran.err.contains("secret"), "{}: {}", ran.code, ran.err);
    cluster.volumes[2].kill().await;
    let ran = rebuild(&cluster, &directory, &[0, 1, 2], &[]).await;
    assert!(ran.code == 5 && ran.err.contains("leave it out"), "{}: {}", ran.code, ran.err);
    assert!(!directory.exists(), "a refused rebuild leaves nothing behind");
    cluster.volumes[2].restart().await.unwrap();
    // The remains of an interrupted rebuild are not used as metadata; the next rebuild removes them.
    fs::create_dir_all(directory.join("rebuilding/new/sled")).unwrap();
    let (status, said) = cluster.master.spec_mut().clone().run_to_end(cluster.folder().path()).await;
    assert!(!status.success() && said.contains("is not finished: run `barge cluster rebuild"), "{said}");
    let report = recover(&mut cluster).await;
    assert_eq!(report["objects"], 1);
    assert_eq!(client.get("k").await.unwrap().body, value(1, 50_000));
}

/// Stores 30 values, kills the master and corrupts the middle of sled's file: it then opens without everything after.
async fn corrupt(name: &str, log_entries_kept: Option<u64>) -> Cluster {
    let mut cluster = Cluster::start(name, Options { log_entries_kept, ..Options::default() }).await;
    let client = cluster.client();
    for n in 0..30 {
        assert_eq!(client.put(&format!("k{n}"), value(n, 2_000)).await.unwrap().status, 201);
    }
    // Terminated properly, so that everything is on disk.
    assert!(cluster.master.terminate().await.success());
    let log = metadata(&cluster).join("sled/db");
    let mut bytes = fs::read(&log).unwrap();
    let at = bytes.iter().rposition(|b| *b != 0).unwrap() / 2;
    bytes[at] ^= 1;
    fs::write(&log, &bytes).unwrap();
    cluster
}

async fn all_there(cluster: &Cluster) {
    for n in 0..30 {
        assert_eq!(cluster.client().get(&format!("k{n}")).await.unwrap().body, value(n, 2_000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_does_not_start_on_metadata_of_which_a_part_is_gone() {
    let mut cluster = corrupt("rebuild-corruption", Some(4)).await;
    let (status, said) = cluster.master.spec_mut().clone().run_to_end(cluster.folder().path()).await;
    assert!(!status.success() && said.contains("barge cluster rebuild"), "{said}");
    fs::rename(metadata(&cluster), cluster.folder().join("kept")).unwrap();
    let report = recover(&mut cluster).await;
    assert_eq!((&report["objects"], &report["under_replicated"]), (&30.into(), &0.into()));
    all_there(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_tables_have_lost_the_log_makes_up_for() {
    let mut cluster = corrupt("rebuild-replayed", None).await;
    cluster.master.restart().await.unwrap();
    cluster.settled().await;
    all_there(&cluster).await;
}
