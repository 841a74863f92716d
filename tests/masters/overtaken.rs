//! A write that is overtaken by a conditional one, step by step: the shortest history that was not linearizable.

use reqwest::Method;
use tests::{Cluster, Options};

#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_never_acknowledge_what_a_condition_overtook() {
    let cluster = Cluster::start("masters_overtaken", Options { volumes: 2, ..Options::default() }).await;
    let client = cluster.client();
    let first = client.put("key", b"first".to_vec()).await.expect("an answer");
    let etag = first.header("etag").expect("an ETag");
    // It starts and gets its place in the order ...
    let begun = client.once(Method::PUT, &client.url("key?redirect&length=4"), &[], Some(vec![])).await;
    let location = begun.expect("an answer").header("location").expect("a redirect");
    // ... another one replaces the first value, on the condition that it is still current ...
    let swap = client.send(Method::PUT, "key", &[("if-match", &etag)], Some(b"swapped".to_vec())).await;
    assert_eq!(swap.expect("an answer").status, 200);
    // ... and then it ends. Ordered before the other, it would break the condition; after it, it must be visible.
    let late = client.once(Method::PUT, &location, &[], Some(b"late".to_vec())).await.expect("an answer");
    let seen = client.get("key").await.expect("an answer").body;
    assert!(
        late.status == 503 && seen == b"swapped" || late.is_success() && seen == b"late",
        "answered with {} {}, and then the value is {:?}",
        late.status,
        late.text(),
        String::from_utf8_lossy(&seen)
    );
    let again = client.put("key", b"late".to_vec()).await.expect("an answer");
    assert!(again.is_success() && client.get("key").await.expect("an answer").body == b"late");
}
