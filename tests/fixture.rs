//! Directories written by released versions must open in every later one: one master and one volume
//! each, packed when the version was released (`fixtures/`: a sealed segment; a replaced, a deleted and an
//! empty value). From version 2 on the master has a log; from version 3 on its tables have a digest. A
//! later addition to a version has a directory of its own.

use std::process::Command;

use reqwest::Method;
use shared::digest::Digest;
use tests::cluster::{add, free_port};
use tests::{Client, Folder, Server, Spec, eventually};

/// Key, length and BLAKE3 of the fixture's values.
const VALUES: [(&str, u64, &str); 3] = [
    ("fixture/big", 200_000, "5df421bf2d8943df8626963d25a4bfa7555aa4c0b801928ab6d4bdb9143e59bd"),
    ("fixture/empty", 0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
    ("fixture/replaced", 70_000, "4d9c75f6d4eeb8246cfadfc45a423dbe3c98ef4d78787ab6aea522440374867f"),
];

async fn start(folder: &Folder, program: &'static str, more: &[&str]) -> Server {
    let mut spec = Spec::new(program, program, [folder.join(program)]);
    add(&mut spec, "--secret-file", folder.join("secret"));
    add(&mut spec, "--listen", format!("127.0.0.1:{}", free_port()));
    for pair in more.chunks(2) {
        add(&mut spec, pair[0], pair[1]);
    }
    Server::start(spec, folder.path()).await.unwrap_or_else(|why| panic!("{why}"))
}

#[tokio::test]
async fn version_1_opens() {
    opens("1").await;
}

#[tokio::test]
async fn version_2_opens() {
    opens("2").await;
}

#[tokio::test]
async fn version_3_opens() {
    opens("3").await;
}

/// With one value that expires in the year 3000, and one that has expired.
#[tokio::test]
async fn version_3_with_expiry_opens() {
    let (client, _servers, _folder) = opens("3-expiry").await;
    let answer = client.send(Method::HEAD, "fixture/expires", &[], None).await.expect("an answer");
    assert_eq!(answer.header("barge-expires").as_deref(), Some("Wed, 01 Jan 3000 00:00:00 GMT"));
    assert_eq!(client.get("fixture/expired").await.expect("an answer").status, 404);
}

async fn opens(version: &str) -> (Client, [Server; 2], Folder) {
    let folder = Folder::new(&format!("fixture-v{version}"));
    let archive = format!("{}/fixtures/v{version}.tar.gz", env!("CARGO_MANIFEST_DIR"));
    let unpacked = Command::new("tar").args(["xzf", &archive, "-C"]).arg(folder.path()).status();
    assert!(unpacked.is_ok_and(|s| s.success()), "{archive} cannot be unpacked");
    let master = start(&folder, "master", &["--replicas", "1"]).await;
    let volume = start(&folder, "volume", &["--master", master.url(), "--reserve", "1000000"]).await;
    let client = Client::new(master.url());
    eventually(tests::cluster::SETTLED, "the volume is up", async || {
        let answer = client.http().get(client.url("/_/health")).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    for (key, length, digest) in VALUES {
        let answer = client.get(key).await.unwrap_or_else(|e| panic!("{key}: {e:?}"));
        assert_eq!((answer.status, answer.body.len() as u64), (200, length), "{key}");
        assert_eq!(Digest::of(&answer.body).to_string(), digest, "{key}");
    }
    let gone = client.get("fixture/gone").await.expect("an answer");
    assert_eq!(gone.status, 404, "a deleted value stays deleted");
    (client, [master, volume], folder)
}
