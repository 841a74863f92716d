//! Space that is reserved but not used: heads that announce more than their clients send.

use std::time::Duration;

use shared::limits::RESERVE_FIRST_BYTES;
use shared::wire::error::ErrorCode;
use tests::forge::Forge;
use tests::raw::Raw;
use tests::{Cluster, Options, eventually, value};

const MIB: usize = 1 << 20;
const CAPACITY: usize = 8 * MIB;
const HEADS: usize = 4;

/// Begins a PUT of this many bytes through the master and sends one of them.
fn begun(cluster: &Cluster, key: &str, length: usize) -> Raw {
    let host = cluster.master.address();
    let mut raw = Raw::connect(host);
    raw.send(format!("PUT /{key} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n"));
    raw.send([7]);
    raw
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_announce_much_take_no_space_from_others() {
    let options = Options {
        volumes: 1,
        replicas: 1,
        min_replicas: 1,
        volume_args: vec![vec!["--capacity".into(), CAPACITY.to_string()]],
        ..Options::default()
    };
    let cluster = Cluster::start("announced", options).await;
    let client = cluster.client();
    let mut held: Vec<_> = (0..HEADS).map(|n| begun(&cluster, &format!("held{n}"), 6 * MIB)).collect();
    let busy = eventually(Duration::from_secs(20), "all of them are in progress", async || {
        Some(cluster.footprint().await).filter(|f| f.uploads == HEADS as u64)
    })
    .await;
    assert!(busy.reserved_bytes <= HEADS as u64 * RESERVE_FIRST_BYTES, "{busy:?}");

    let stored = client.put("k", value(1, 4 * MIB)).await.expect("an answer");
    assert_eq!(stored.status, 201, "{}", stored.text());

    // What certainly does not fit is refused before its body is requested.
    let mut raw = Raw::connect(cluster.volumes[0].address());
    let mut forge = Forge::new(&cluster).await;
    let ticket = forge.write(&[0], Some((6 * MIB) as u64));
    let target = forge.target(&ticket, "large");
    raw.send(format!(
        "PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        6 * MIB
    ));
    let first = raw.some(12);
    assert_eq!(first, b"HTTP/1.1 507", "{}", String::from_utf8_lossy(&first));

    // One of them continues until the volume is full: it alone is refused in the middle.
    let mut late = held.remove(0);
    late.send(vec![7; 4 * MIB]);
    let answer = late.answer();
    assert_eq!((answer.status, answer.code()), (507, Some(ErrorCode::NoSpace)), "{answer:?}");
    drop((late, held));
    eventually(Duration::from_secs(20), "all reserved space is released", async || {
        let now = cluster.footprint().await;
        (now.blobs == [1] && (now.uploads, now.lanes_busy, now.reserved_bytes) == (0, 0, 0)).then_some(())
    })
    .await;
    assert!(client.get("k").await.expect("an answer").body == value(1, 4 * MIB));
    eventually(Duration::from_secs(20), "the master knows the free space", async || {
        client.put("again", value(2, 2 * MIB)).await.ok().filter(tests::Answer::is_success)
    })
    .await;
}
