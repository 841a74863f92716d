//! A rebuild knows when values expire.

use reqwest::Method;
use tests::value;

use super::{lose_master, recover, three};

const EXPIRES: &str = "barge-expires";

#[tokio::test(flavor = "multi_thread")]
async fn values_expire_after_a_rebuild_as_before() {
    let mut cluster = three("rebuild-expiry").await;
    let client = cluster.client();
    let put = async |key: &str, expires: &str| {
        let headers: &[_] = if expires.is_empty() { &[] } else { &[(EXPIRES, expires)] };
        let put = client.send(Method::PUT, key, headers, Some(value(1, 5_000))).await.unwrap();
        assert!(put.is_success(), "{}", put.text());
    };
    put("dated", "2999-12-31T23:00:00Z").await;
    put("stays", "").await;
    put("replaced", "1h").await;
    put("replaced", "").await;
    put("later", "2h").await;
    put("soon", "5s").await;
    put("gone", "1s").await;
    let gone = async || (client.get("gone").await.ok()?.status == 404).then_some(());
    tests::eventually(std::time::Duration::from_secs(10), "it expires", gone).await;
    let expiry = async |key: &str| {
        let answer = client.send(Method::HEAD, key, &[], None).await.unwrap();
        (answer.status, answer.header(EXPIRES))
    };
    let mut before = Vec::new();
    for key in ["dated", "stays", "replaced", "later", "gone"] {
        before.push((key, expiry(key).await));
    }
    assert_eq!(before[0].1, (200, Some("Tue, 31 Dec 2999 23:00:00 GMT".into())));
    lose_master(&mut cluster).await;
    recover(&mut cluster).await;
    let client = cluster.client();
    for (key, stated) in before {
        let answer = client.send(Method::HEAD, key, &[], None).await.unwrap();
        assert_eq!((answer.status, answer.header(EXPIRES)), stated, "{key}");
    }
    let gone = async || (client.get("soon").await.ok()?.status == 404).then_some(());
    tests::eventually(std::time::Duration::from_secs(20), "it expires", gone).await;
}
