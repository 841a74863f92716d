//! `--dry-run`: nothing is written, and every difference is reported.

use std::fs;

use serde_json::Value;
use tests::{Client, value};

use super::{metadata, rebuild, three};

async fn put(client: &Client, n: u64, version: u64) {
    let put = client.put(&format!("k{n:04}"), value(version * 100_000 + n, 3_000)).await.unwrap();
    assert!(put.is_success(), "{}", put.text());
}

fn counts(json: &Value) -> [u64; 4] {
    let diff = &json["diff"];
    let count = |kind: &str| diff[kind]["count"].as_u64().unwrap();
    [diff["same"].as_u64().unwrap(), count("missing"), count("extra"), count("different")]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_running_cluster() {
    let cluster = three("dry-running").await;
    let client = cluster.client();
    // More than one page of a listing.
    for chunk in (0..1100).collect::<Vec<u64>>().chunks(50) {
        futures_util::future::join_all(chunk.iter().map(|n| put(&client, *n, 1))).await;
    }
    for n in 0..5 {
        put(&client, n, 2).await;
        assert_eq!(client.delete(&format!("k{:04}", n + 10)).await.unwrap().status, 200);
    }
    let directory = metadata(&cluster);
    let before = fs::read_dir(cluster.folder().path()).unwrap().count();
    let ran = rebuild(&cluster, &directory, &[0, 1, 2], &["--dry-run"]).await;
    let json: Value = serde_json::from_slice(&ran.out).unwrap();
    assert_eq!((ran.code, counts(&json)), (0, [1095, 0, 0, 0]), "{json}{}", ran.err);
    assert_eq!((&json["objects"], &json["volumes"]), (&1095.into(), &3.into()));
    assert_eq!(fs::read_dir(cluster.folder().path()).unwrap().count(), before, "a dry run leaves nothing");
    // A volume that is not asked: its replica of a value is missing, and the other one is there.
    let ran = rebuild(&cluster, &directory, &[1], &["--dry-run"]).await;
    let json: Value = serde_json::from_slice(&ran.out).unwrap();
    let [same, missing, extra, different] = counts(&json);
    assert_eq!((ran.code, missing, different, same + extra), (1, 0, 0, 1095), "{json}");
    let shown = json["diff"]["extra"]["first"].as_array().unwrap();
    assert!(extra > 20 && shown.len() == 20 && shown[0].as_str().unwrap().starts_with('k'), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_directory() {
    let mut cluster = three("dry-older").await;
    let client = cluster.client();
    for n in 0..40 {
        put(&client, n, 1).await;
    }
    // Terminated, not killed: entries applied since the last checkpoint would be in the log only.
    assert!(cluster.master.terminate().await.success());
    let older = cluster.folder().join("older");
    fs::create_dir_all(older.join("sled/blobs")).unwrap();
    for entry in fs::read_dir(metadata(&cluster).join("sled")).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), older.join("sled").join(entry.file_name())).unwrap();
        }
    }
    cluster.master.restart().await.unwrap();
    cluster.settled().await;
    for n in 40..43 {
        put(&client, n, 1).await;
    }
    for n in 0..5 {
        put(&client, n, 2).await;
    }
    for n in 10..17 {
        assert_eq!(client.delete(&format!("k{n:04}")).await.unwrap().status, 200);
    }
    let ran = rebuild(&cluster, &older, &[0, 1, 2], &["--dry-run"]).await;
    let json: Value = serde_json::from_slice(&ran.out).unwrap();
    assert_eq!((ran.code, counts(&json)), (1, [28, 3, 7, 5]), "{json}{}", ran.err);
    assert!(json["diff"]["against"].as_str().unwrap().contains("older"));
    // The text output says the same.
    let (secret, volumes) = (cluster.folder().join("secret"), cluster.volumes.iter().map(|v| v.address()));
    let volumes = volumes.collect::<Vec<_>>().join(",");
    let barge = tests::folder::binary("barge");
    let (older, secret) = (older.to_string_lossy(), secret.to_string_lossy());
    let args = ["cluster", "rebuild", &older, "--volumes", &volumes, "--dry-run", "--secret-file", &secret];
    let ran = tests::tool::run(&barge.to_string_lossy(), args).await;
    let text = String::from_utf8_lossy(&ran.out).into_owned();
    assert!(text.contains("\n7: extra there\n  k0010  ") && text.contains("28 keys are the same"), "{text}");
    // With nothing to compare with, it must not report that nothing differs.
    let broken = cluster.folder().join("broken");
    fs::create_dir_all(broken.join("sled")).unwrap();
    fs::write(broken.join("sled/db"), b"not a database").unwrap();
    fs::write(broken.join("sled/conf"), b"nor a configuration").unwrap();
    let ran = rebuild(&cluster, &broken, &[0, 1, 2], &["--dry-run"]).await;
    let json: Value = serde_json::from_slice(&ran.out).unwrap();
    assert_eq!((ran.code, json.get("diff")), (5, Some(&Value::Null)), "{json}{}", ran.err);
    assert!(json["not_compared"].as_str().unwrap().contains("cannot be opened"), "{json}");
    // The real directory is not touched by all that and still matches the volumes.
    assert!(cluster.master.terminate().await.success());
    let ran = rebuild(&cluster, &metadata(&cluster), &[0, 1, 2], &["--dry-run"]).await;
    let json: Value = serde_json::from_slice(&ran.out).unwrap();
    assert_eq!((ran.code, counts(&json)), (0, [36, 0, 0, 0]), "{json}{}", ran.err);
}
