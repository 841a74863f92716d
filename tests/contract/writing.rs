//! POST, PUT, DELETE: statuses, conditions, sizes, and the metadata stored with the bytes.

use reqwest::Method;
use shared::digest::Digest;
use shared::limits::{BLOCK_BYTES, PAGE_BYTES};
use shared::wire::error::ErrorCode;
use shared::wire::master::{DeletedObject, StoredObject};
use tests::raw::Raw;
use tests::tool::curl;
use tests::value;

use super::cluster;

#[tokio::test(flavor = "multi_thread")]
async fn kvdbs_contract_with_curl() {
    let cluster = cluster().await;
    let folder = cluster.folder();
    let url = format!("{}/wehave", cluster.url());
    let post = |data: &str| ["-L", "-X", "POST", "-d", data, url.as_str()].map(String::from);
    let first = curl(folder, post("bigswag")).await;
    assert_eq!((first.code, first.status), (0, 201), "{}", first.text());
    let got = curl(folder, ["-L", url.as_str()]).await;
    assert_eq!((got.status, got.text().as_str()), (200, "bigswag"));
    assert_eq!(curl(folder, post("other")).await.status, 409);
    assert_eq!(curl(folder, ["-L", url.as_str()]).await.text(), "bigswag");
    assert_eq!(curl(folder, ["-L", "-X", "DELETE", url.as_str()]).await.status, 200);
    assert_eq!(curl(folder, ["-L", url.as_str()]).await.status, 404);
    assert_eq!(curl(folder, ["-L", "-X", "DELETE", url.as_str()]).await.status, 404);
    assert_eq!(curl(folder, post("again")).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_keys_in_a_row_with_curl() {
    let cluster = cluster().await;
    let folder = cluster.folder();
    let file = |n: u64| folder.file(&format!("in{n}"), &value(n, 2 << 20)).display().to_string();
    let url = |n: u64| format!("{}/row/key{n}", cluster.url());
    for n in 0..10 {
        let put = curl(folder, ["-L", "-T", &file(n), &url(n)]).await;
        assert_eq!((put.code, put.status), (0, 201), "{}", put.text());
        assert_eq!(put.redirects, 1, "above 1 MiB curl waits for 100 Continue, and is redirected");
    }
    for n in 0..10 {
        assert!(curl(folder, ["-L", &url(n)]).await.body == value(n, 2 << 20), "key{n} has the wrong bytes");
    }
    for n in 0..10 {
        assert_eq!(curl(folder, ["-L", "-X", "DELETE", &url(n)]).await.status, 200);
        assert_eq!(curl(folder, ["-L", &url(n)]).await.status, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_and_what_the_answers_say() {
    let cluster = cluster().await;
    let client = cluster.client();
    let created = client.put("a/b", b"one".to_vec()).await.unwrap();
    assert_eq!(created.status, 201);
    let stored: StoredObject = serde_json::from_slice(&created.body).unwrap();
    assert_eq!((stored.size, stored.blake3, stored.replicas, stored.wanted), (3, Digest::of(b"one"), 2, 2));
    assert_eq!(created.header("etag"), Some(Digest::of(b"one").etag()));
    let replaced = client.put("a/b", b"two".to_vec()).await.unwrap();
    assert_eq!(replaced.status, 200);
    let newer: StoredObject = serde_json::from_slice(&replaced.body).unwrap();
    assert!(newer.generation > stored.generation);
    let deleted = client.delete("a/b").await.unwrap();
    assert_eq!(deleted.status, 200);
    let deleted: DeletedObject = serde_json::from_slice(&deleted.body).unwrap();
    assert_eq!((deleted.size, deleted.generation), (3, newer.generation));
    let gone = client.get("a/b").await.unwrap();
    assert_eq!((gone.status, gone.code()), (404, Some(ErrorCode::NotFound)));
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_of_writes() {
    let cluster = cluster().await;
    let client = cluster.client();
    let send = async |method: Method, name: &str, tag: &str, body: &[u8]| {
        client.send(method, "k", &[(name, tag)], Some(body.to_vec())).await.unwrap()
    };
    let (one, two) = (Digest::of(b"one").etag(), Digest::of(b"two").etag());
    assert_eq!(send(Method::PUT, "if-match", &one, b"one").await.status, 412);
    assert_eq!(send(Method::PUT, "if-match", "*", b"one").await.status, 412);
    assert_eq!(send(Method::PUT, "if-none-match", "*", b"one").await.status, 201);
    let exists = send(Method::PUT, "if-none-match", "*", b"two").await;
    assert_eq!((exists.status, exists.code()), (412, Some(ErrorCode::PreconditionFailed)));
    assert_eq!(send(Method::POST, "if-none-match", "*", b"two").await.status, 412);
    assert_eq!(send(Method::PUT, "if-match", &two, b"two").await.status, 412);
    assert_eq!(client.get("k").await.unwrap().body, b"one");
    assert_eq!(send(Method::PUT, "if-match", &one, b"two").await.status, 200);
    assert_eq!(send(Method::POST, "if-match", &two, b"three").await.status, 200);
    assert_eq!(send(Method::DELETE, "if-match", &two, b"").await.status, 412);
    assert_eq!(client.get("k").await.unwrap().body, b"three");
    for (name, tag) in [("if-match", "\"one"), ("if-none-match", "\"x\"")] {
        let refused = send(Method::PUT, name, tag, b"x").await;
        assert_eq!((refused.status, refused.code()), (400, Some(ErrorCode::BadHeader)), "{name}: {tag}");
    }
    assert_eq!(send(Method::DELETE, "if-match", "*", b"").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_decided_once_among_racers() {
    let cluster = cluster().await;
    let racers = (0..8u64).map(|n| {
        let client = cluster.client();
        tokio::spawn(async move {
            let body = value(n, 300_000);
            client.send(Method::PUT, "race", &[("if-none-match", "*")], Some(body)).await.unwrap().status
        })
    });
    let mut statuses = Vec::new();
    for racer in racers.collect::<Vec<_>>() {
        statuses.push(racer.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses[0], 201);
    assert!(statuses[1..].iter().all(|s| *s == 412), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_size_at_an_edge_comes_back_exactly() {
    let cluster = cluster().await;
    let client = cluster.client();
    let mut sizes = vec![0, 1, 2, 3 * BLOCK_BYTES + 7];
    for edge in [PAGE_BYTES, BLOCK_BYTES, 256 * 1024, 1 << 20] {
        sizes.extend([edge - 1, edge, edge + 1]);
    }
    for size in sizes {
        let (key, bytes) = (format!("size/{size}"), value(size as u64, size));
        let put = client.put(&key, bytes.clone()).await.unwrap();
        assert_eq!(put.status, 201, "{size}: {}", put.text());
        let redirected = client.get(&key).await.unwrap();
        assert_eq!((redirected.status, redirected.hops), (200, 1), "{size}");
        assert!(redirected.body == bytes, "{size} bytes came back different");
        let streamed = client.get_streamed(&key).await.unwrap();
        assert_eq!((streamed.status, streamed.hops), (200, 0), "{size}");
        assert!(streamed.body == bytes, "{size} bytes came back different when streamed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_type_and_metadata_come_back() {
    let cluster = cluster().await;
    let client = cluster.client();
    let sent = [
        ("content-type", "video/mp4; codecs=\"avc1\""),
        ("barge-meta-owner", "me"),
        ("x-amz-meta-Colour", "dark  red"),
        ("x-other", "not kept"),
    ];
    client.send(Method::PUT, "m", &sent, Some(b"x".to_vec())).await.unwrap();
    for (method, path) in [(Method::HEAD, "m"), (Method::GET, "m"), (Method::GET, "m?stream")] {
        let answer = client.send(method.clone(), path, &[], None).await.unwrap();
        assert_eq!(answer.header("content-type").as_deref(), Some(sent[0].1), "{method} {path}");
        assert_eq!(answer.header("barge-meta-owner").as_deref(), Some("me"), "{method} {path}");
        assert_eq!(answer.header("x-amz-meta-colour").as_deref(), Some("dark  red"), "{method} {path}");
        assert_eq!(answer.header("x-other"), None);
        assert_eq!(answer.header("x-content-type-options").as_deref(), Some("nosniff"));
        assert_eq!(answer.header("content-security-policy").as_deref(), Some("sandbox"));
    }
    client.put("plain", b"x".to_vec()).await.unwrap();
    let plain = client.get("plain").await.unwrap();
    assert_eq!(plain.header("content-type").as_deref(), Some("application/octet-stream"));
}

#[tokio::test(flavor = "multi_thread")]
async fn redirect_when_asked_and_never_without() {
    let cluster = cluster().await;
    let client = cluster.client();
    let bytes = value(7, 3 << 20);
    let master = client.url("asked?redirect");
    let asked = client.once(Method::PUT, &master, &[], Some(bytes.clone())).await.unwrap();
    assert_eq!(asked.status, 307);
    assert_eq!(client.get("asked").await.unwrap().status, 404, "a redirect stores nothing");
    let stored = client.send(Method::PUT, "asked?redirect", &[], Some(bytes.clone())).await.unwrap();
    assert_eq!((stored.status, stored.hops), (201, 1));
    assert!(client.get("asked").await.unwrap().body == bytes);
    let plain = client.once(Method::PUT, &client.url("plain"), &[], Some(bytes.clone())).await.unwrap();
    assert_eq!(plain.status, 201);
    assert!(client.get_streamed("plain").await.unwrap().body == bytes);
}

/// A client that sends `Expect` and does not wait would follow a redirect with the rest of its body.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_undeclared_length_is_redirected_only_when_that_is_asked_for() {
    let cluster = cluster().await;
    let client = cluster.client();
    let head = |target: &str, framing: &str| {
        format!("PUT {target} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n{framing}\r\n\r\n")
    };
    let chunked = "Transfer-Encoding: chunked";
    let mut raw = Raw::connect(client.address());
    raw.send(head("/unbound", chunked));
    assert_eq!(raw.some(12), b"HTTP/1.1 100", "the master itself requests the body");
    raw.send("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n");
    assert!(raw.rest().0.windows(12).any(|w| w == b"HTTP/1.1 201"));
    assert_eq!(client.get("unbound").await.unwrap().body, b"onetwo");
    let mut hasty = Raw::connect(client.address());
    hasty.send(head("/hasty", chunked) + "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(hasty.answer().status, 201);
    assert_eq!(client.get("hasty").await.unwrap().body, b"onetwo");
    for (target, framing) in [("/asked?redirect", chunked), ("/bound", "Content-Length: 6")] {
        let mut raw = Raw::connect(client.address());
        raw.send(head(target, framing));
        assert_eq!(raw.answer().status, 307, "{target}, {framing}");
    }
    assert_eq!(client.get("asked").await.unwrap().status, 404);
    assert_eq!(client.get("bound").await.unwrap().status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_not_stored_with_its_envelope() {
    let cluster = cluster().await;
    let folder = cluster.folder();
    let file = folder.file("sent", &value(1, 3 << 20)).display().to_string();
    let (field, url) = (format!("file=@{file}"), format!("{}/form", cluster.url()));
    for expect in ["Expect: 100-continue", "Expect:"] {
        let sent = curl(folder, ["-L", "-H", expect, "-F", &field, &url]).await;
        assert_eq!(sent.status, 400, "{}", sent.text());
        assert!(sent.text().contains("curl -L -T FILE"), "{}", sent.text());
        assert_eq!(cluster.client().get("form").await.unwrap().status, 404);
    }
    // A type with the same prefix is a different type, and the default type of -d is no file form.
    for kind in ["multipart/form-data2", "multipart/related", "application/x-www-form-urlencoded"] {
        let kind = [("content-type", kind)];
        let sent = cluster.client().send(Method::POST, kind[0].1, &kind, Some(b"x".to_vec())).await.unwrap();
        assert_eq!(sent.status, 201, "{kind:?}: {}", sent.text());
    }
}
