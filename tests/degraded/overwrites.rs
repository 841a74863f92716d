//! Readers beside writers: never a 404 for a key that always exists, always one complete version.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use shared::work::blocking;
use tests::raw::Raw;
use tests::{Change, Client, Oracle, say, value};

use super::three;

const VERSIONS: u64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn eight_readers_of_a_key_that_is_overwritten() {
    let cluster = three("overwrites").await;
    let client = cluster.client();
    let oracle = Oracle::default();
    let (done, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let write = async |n: u64| {
        // Different sizes, so that a mixture of two versions has no correct length either.
        let bytes = value(n, 200_000 + usize::try_from(n * 37_123 % 900_000).unwrap());
        let intent = oracle.intend("k", Change::put(&bytes));
        let put = client.put("k", bytes).await.unwrap();
        assert!(put.is_success(), "{}", put.text());
        intent.ok();
    };
    write(0).await;
    let readers: Vec<_> = (0..8)
        .map(|n| {
            let (client, oracle) = (Client::new(cluster.url()), oracle.clone());
            let (done, reads) = (Arc::clone(&done), Arc::clone(&reads));
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let since = oracle.moment();
                    let got = if n % 2 == 0 { client.get("k").await } else { client.get_streamed("k").await };
                    let got = got.unwrap_or_else(|e| panic!("reader {n}: {e}"));
                    assert_eq!(got.status, 200, "reader {n}: {}", got.text());
                    oracle
                        .check("k", since, &Change::put(&got.body))
                        .unwrap_or_else(|e| panic!("reader {n}: {e}"));
                    let etag = shared::digest::Digest::of(&got.body).etag();
                    assert_eq!(got.header("etag"), Some(etag), "head and body belong to different versions");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for n in 1..=VERSIONS {
        write(n).await;
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    say(format_args!("{} reads beside {VERSIONS} overwrites", reads.load(Ordering::Relaxed)));
    assert!(reads.load(Ordering::Relaxed) > VERSIONS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_started_keeps_its_bytes() {
    let cluster = three("started").await;
    let client = cluster.client();
    let before = cluster.footprint().await;
    let bytes = value(1, 64 << 20);
    for (way, overwrite) in [("/k?stream", false), ("", false), ("", true)] {
        assert!(client.put("k", bytes.clone()).await.unwrap().is_success());
        let (address, target) = if way.is_empty() {
            let redirect = client.once(reqwest::Method::GET, &client.url("k"), &[], None).await.unwrap();
            let url: reqwest::Url = redirect.header("location").unwrap().parse().unwrap();
            let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
            (address, format!("{}?{}", url.path(), url.query().unwrap()))
        } else {
            (cluster.master.address().to_owned(), way.to_owned())
        };
        let (mut raw, first) = blocking(move || {
            let mut raw = Raw::connect(&address);
            raw.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
            let first = raw.some(100_000);
            (raw, first)
        })
        .await;
        if overwrite {
            assert_eq!(client.put("k", b"new".to_vec()).await.unwrap().status, 200);
            assert_eq!(client.get("k").await.unwrap().body, b"new");
        }
        assert_eq!(client.delete("k").await.unwrap().status, 200);
        assert_eq!(client.get("k").await.unwrap().status, 404);
        // New values must not reuse space that is still being read.
        for n in 0..4 {
            client.put(&format!("other{n}"), value(n + 9, 8 << 20)).await.unwrap();
        }
        let (rest, clean) = blocking(move || raw.rest()).await;
        let got = [first, rest].concat();
        let end = got.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        assert!(clean && got[end..] == bytes, "{way} overwritten {overwrite}: {} bytes", got.len() - end);
        for n in 0..4 {
            assert!(client.get(&format!("other{n}")).await.unwrap().body == value(n + 9, 8 << 20));
            client.delete(&format!("other{n}")).await.unwrap();
        }
        cluster.back_to(&before, "a reader beside a delete").await;
    }
}
