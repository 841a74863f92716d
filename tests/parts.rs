//! Multipart objects: stored through S3, then read through the native API, from a volume, after a rebuild, and by
//! readers while they are replaced. Without access keys S3 on loopback needs no signature, so plain requests work.

use reqwest::Method;
use tests::client::{Answer, Client};
use tests::cluster::add;
use tests::folder::binary;
use tests::place::free_port;
use tests::tool::run;
use tests::wait::eventually;
use tests::{Cluster, Options, value};

const MIB: usize = 1 << 20;

/// A cluster whose master serves S3, and an S3 client.
async fn start(name: &str, options: Options) -> (Cluster, Client) {
    let mut cluster = Cluster::start(name, options).await;
    let s3 = format!("127.0.0.1:{}", free_port());
    add(cluster.master.spec_mut(), "--s3-listen", &s3);
    cluster.master.terminate().await;
    cluster.master.restart().await.expect("a master");
    cluster.settled().await;
    let client = Client::new(&format!("http://{s3}"));
    assert_eq!(ask(&client, Method::PUT, "/bucket", b"").await.status, 200);
    (cluster, client)
}

async fn ask(client: &Client, method: Method, target: &str, body: &[u8]) -> Answer {
    client.send(method, target, &[], Some(body.to_vec())).await.expect("an answer")
}

/// The answer to a GET whose body has not been read yet.
async fn open(client: &Client, key: &str) -> reqwest::Response {
    let answer = client.http().get(client.url(key)).send().await.expect("an answer");
    let Some(next) = answer.headers().get("location") else { return answer };
    let next = next.to_str().expect("a URL").to_owned();
    client.http().get(next).send().await.expect("an answer")
}

/// Returns the text of an XML element.
fn element(answer: &Answer, name: &str) -> String {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let after = text.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name} in {text}")).1;
    after.split('<').next().unwrap_or_default().to_owned()
}

async fn begin(s3: &Client, key: &str) -> String {
    let begun = ask(s3, Method::POST, &format!("/{key}?uploads"), b"").await;
    assert_eq!(begun.status, 200);
    element(&begun, "UploadId")
}

async fn put_part(s3: &Client, key: &str, upload: &str, number: usize, bytes: &[u8]) -> String {
    let target = format!("/{key}?partNumber={number}&uploadId={upload}");
    let put = ask(s3, Method::PUT, &target, bytes).await;
    assert_eq!(put.status, 200, "{}", String::from_utf8_lossy(&put.body));
    put.headers["etag"].to_str().expect("a tag").to_owned()
}

async fn complete(s3: &Client, key: &str, upload: &str, tags: &[String]) -> Answer {
    let part = |(n, tag): (usize, &String)| {
        format!("<Part><PartNumber>{}</PartNumber><ETag>{tag}</ETag></Part>", n + 1)
    };
    let parts: String = tags.iter().enumerate().map(part).collect();
    let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    ask(s3, Method::POST, &format!("/{key}?uploadId={upload}"), document.as_bytes()).await
}

/// Stores `whole` in parts of 5 MiB.
async fn store(s3: &Client, key: &str, whole: &[u8]) -> String {
    let upload = begin(s3, key).await;
    let mut tags = Vec::new();
    for (n, part) in whole.chunks(5 * MIB).enumerate() {
        tags.push(put_part(s3, key, &upload, n + 1, part).await);
    }
    let completed = complete(s3, key, &upload, &tags).await;
    assert_eq!(completed.status, 200, "{}", String::from_utf8_lossy(&completed.body));
    element(&completed, "ETag")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_value_on_both_faces_and_gone_from_both() {
    let (mut cluster, s3) = start("parts-faces", Options::default()).await;
    let before = cluster.footprint().await;
    let whole = value(1, 11 * MIB + 17);
    let tag = store(&s3, "bucket/k", &whole).await;
    let client = cluster.client();
    let got = client.get("bucket/k").await.expect("an answer");
    assert!(got.hops > 0, "a volume that has all parts serves the object");
    assert!(got.status == 200 && got.body == whole);
    assert!(got.headers["etag"].to_str().is_ok_and(|t| t.ends_with("-3\"")));
    for streamed in ["", "?stream"] {
        for (from, to) in [(0, 0), (5 * MIB - 3, 5 * MIB + 3), (2, 11 * MIB), (10 * MIB, 11 * MIB + 16)] {
            let target = format!("/bucket/k{streamed}");
            let wanted = format!("bytes={from}-{to}");
            let range =
                client.send(Method::GET, &target, &[("range", &wanted)], None).await.expect("an answer");
            assert!(range.status == 206 && range.body == whole[from..=to], "{streamed} {from}-{to}");
        }
    }
    assert_eq!(
        s3.get("bucket/k").await.expect("an answer").headers["etag"].to_str().ok(),
        Some(tag.as_str())
    );
    // An overwrite through the native API is visible in both, and the parts are deleted.
    assert_eq!(client.put("bucket/k", value(2, 1000)).await.expect("an answer").status, 200);
    assert_eq!(s3.get("bucket/k").await.expect("an answer").body, value(2, 1000));
    assert_eq!(client.delete("bucket/k").await.expect("an answer").status, 200);
    cluster.back_to(&before, "an upload in parts, its overwrite and a delete").await;
    // An aborted upload is deleted as well, with a part that was uploaded twice.
    let upload = begin(&s3, "bucket/other").await;
    put_part(&s3, "bucket/other", &upload, 1, &whole[..MIB]).await;
    put_part(&s3, "bucket/other", &upload, 1, &whole[..2 * MIB]).await;
    let target = format!("/bucket/other?uploadId={upload}");
    assert_eq!(ask(&s3, Method::DELETE, &target, b"").await.status, 204);
    cluster.back_to(&before, "an aborted upload").await;
    cluster.check_offline().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_on_several_volumes_are_put_together() {
    let (mut cluster, s3) = start("parts-apart", Options { min_replicas: 1, ..Options::default() }).await;
    let whole = value(3, 15 * MIB);
    let upload = begin(&s3, "bucket/k").await;
    let mut tags = Vec::new();
    // Each part while another volume is down: no volume has all of them.
    for (n, part) in whole.chunks(5 * MIB).enumerate() {
        cluster.volumes[n].kill().await;
        cluster.settled_at(2).await;
        tags.push(put_part(&s3, "bucket/k", &upload, n + 1, part).await);
        cluster.volumes[n].restart().await.expect("a volume");
        cluster.settled().await;
    }
    assert_eq!(complete(&s3, "bucket/k", &upload, &tags).await.status, 200);
    for client in [&s3, &cluster.client()] {
        assert!(client.get("bucket/k").await.expect("an answer").body == whole);
    }
    // Also with any one volume down.
    for n in 0..3 {
        cluster.volumes[n].kill().await;
        cluster.settled_at(2).await;
        assert!(s3.get("bucket/k").await.expect("an answer").body == whole, "without volume {n}");
        cluster.volumes[n].restart().await.expect("a volume");
        cluster.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_in_parts_moves_as_a_whole() {
    let (mut cluster, s3) = start("parts-moved", Options { volumes: 6, ..Options::default() }).await;
    let before = cluster.footprint().await;
    let whole = value(9, 23 * MIB + 5);
    store(&s3, "bucket/k", &whole).await;
    let begun = begin(&s3, "bucket/begun").await;
    let tag = put_part(&s3, "bucket/begun", &begun, 1, &whole[..6 * MIB]).await;
    // Everything leaves its volumes, including an upload in progress. A volume that has just deleted a replica gets
    // none of that blob for some minutes, so there are more volumes than strictly needed.
    for n in [0, 1, 2] {
        cluster.drain(n, &["--watch"]).await;
        assert_eq!(cluster.blobs().await[n], 0);
        eventually(
            std::time::Duration::from_secs(30),
            "one volume serves the whole object again",
            async || {
                let got = cluster.client().get("bucket/k").await.expect("an answer");
                assert!(got.status == 200 && got.body == whole);
                (got.hops > 0).then_some(())
            },
        )
        .await;
        cluster.drain(n, &["--cancel"]).await;
    }
    cluster.volumes[3].kill().await;
    cluster.settled_at(5).await;
    assert!(s3.get("bucket/k").await.expect("an answer").body == whole, "each part has another replica");
    cluster.volumes[3].restart().await.expect("a volume");
    cluster.settled().await;
    assert_eq!(complete(&s3, "bucket/begun", &begun, &[tag]).await.status, 200);
    assert!(s3.get("bucket/begun").await.expect("an answer").body == whole[..6 * MIB]);
    let status = cluster.paid(std::time::Duration::from_secs(60)).await;
    assert_eq!((status.objects, cluster.blobs().await.iter().sum::<u64>()), (2, 2 * (6 + 2)));
    for key in ["bucket/k", "bucket/begun"] {
        assert_eq!(cluster.client().delete(key).await.expect("an answer").status, 200);
    }
    cluster.back_to(&before, "moved multipart objects, and their deletes").await;
    cluster.check_offline().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_finds_them_and_nothing_else() {
    let (mut cluster, s3) = start("parts-rebuild", Options::default()).await;
    let (whole, other) = (value(4, 12 * MIB), value(5, 6 * MIB));
    let tag = store(&s3, "bucket/k", &whole).await;
    store(&s3, "bucket/replaced", &other).await;
    store(&s3, "bucket/replaced", &whole).await;
    store(&s3, "bucket/deleted", &other).await;
    assert_eq!(ask(&s3, Method::DELETE, "/bucket/deleted", b"").await.status, 204);
    let before = {
        let client = cluster.client();
        eventually(std::time::Duration::from_secs(20), "the reclaim list is empty", async || {
            let status = cluster.status().await?;
            (status.reclaim_pending == 0).then_some(())
        })
        .await;
        assert_eq!(client.get("bucket/deleted").await.expect("an answer").status, 404);
        cluster.footprint().await
    };
    let left = begin(&s3, "bucket/begun").await;
    put_part(&s3, "bucket/begun", &left, 1, &other).await;
    cluster.master.kill().await;
    let directory = cluster.folder().join("master");
    std::fs::remove_dir_all(&directory).expect("a directory");
    let volumes: Vec<_> = cluster.volumes.iter().map(|v| v.address().to_owned()).collect();
    let secret = cluster.folder().join("secret");
    let [directory, secret] = [&directory, &secret].map(|path| path.to_string_lossy().into_owned());
    let args = ["cluster", "rebuild", &directory, "--volumes", &volumes.join(","), "--secret-file", &secret];
    let ran = run(&binary("barge").to_string_lossy(), args).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    cluster.master.restart().await.expect("a master");
    cluster.settled().await;
    let got = s3.get("bucket/k").await.expect("an answer");
    assert!(got.body == whole && got.headers["etag"].to_str().ok() == Some(tag.as_str()));
    assert!(cluster.client().get("bucket/replaced").await.expect("an answer").body == whole);
    for gone in ["bucket/deleted", "bucket/begun"] {
        assert_eq!(s3.get(gone).await.expect("an answer").status, 404, "{gone}");
    }
    // A part of an incomplete upload is kept: it may be all that is left of a value. It has two replicas.
    let after = cluster.footprint().await;
    let kept: u64 = after.live_bytes.iter().sum::<u64>() - before.live_bytes.iter().sum::<u64>();
    assert!(kept >= 2 * 6 * MIB as u64 && kept < 2 * 7 * MIB as u64, "{kept} bytes more than before");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_reads_one_version() {
    let (cluster, s3) = start("parts-atomic", Options::default()).await;
    let before = cluster.footprint().await;
    let (old, new) = (value(6, 25 * MIB), value(7, 10 * MIB));
    store(&s3, "bucket/k", &old).await;
    let mut readers = Vec::new();
    for client in [s3.clone(), cluster.client()] {
        let mut reader = open(&client, "bucket/k").await;
        let first = reader.chunk().await.expect("bytes").expect("bytes").to_vec();
        readers.push((reader, first));
    }
    store(&s3, "bucket/k", &new).await;
    assert_eq!(ask(&s3, Method::DELETE, "/bucket/k", b"").await.status, 204);
    for (mut reader, mut bytes) in readers {
        while let Some(chunk) = reader.chunk().await.expect("bytes to the end") {
            bytes.extend_from_slice(&chunk);
        }
        assert!(bytes == old, "{} bytes", bytes.len());
    }
    cluster.back_to(&before, "the last reader").await;
}
