//! Values that expire: what one API sets, all see.

use std::time::Duration;

use reqwest::Method;
use tests::client::metric;
use tests::{eventually, value};

use super::site::Site;

/// The header that says when a value expires.
const EXPIRES: &str = "barge-expires";

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_is_the_same_for_every_api() {
    let site = Site::start("resp-expiry").await;
    let (http, mut redis) = (site.http(), site.connect());
    let head = async |key: &str| {
        let answer = http.send(Method::HEAD, key, &[], None).await.unwrap();
        assert_eq!(answer.status, 200, "{key}");
        answer.header(EXPIRES)
    };
    for (key, path) in [("b/streamed", "b/streamed?stream"), ("b/sent", "b/sent?redirect&length=100000")] {
        let headers = [(EXPIRES, "2h")];
        let put = http.send(Method::PUT, path, &headers, Some(value(1, 100_000))).await.unwrap();
        assert_eq!(put.status, 201, "{}", put.text());
        assert!(head(key).await.is_some(), "{key}");
        assert_eq!(redis.say(&format!("TTL {key}")), ":7200", "{key}");
    }
    assert_eq!(redis.say("EXPIREAT b/sent 32503680000"), ":1");
    assert_eq!(head("b/sent").await.as_deref(), Some("Wed, 01 Jan 3000 00:00:00 GMT"));
    let date = [(EXPIRES, "3000-01-01T00:00:00Z")];
    assert!(http.send(Method::PUT, "b/dated", &date, Some(b"x".to_vec())).await.unwrap().is_success());
    assert_eq!(redis.say("EXPIRETIME b/dated"), ":32503680000");
    assert!(redis.say("INFO").contains("keys=3,expires=3,"));
    assert_eq!(redis.say("PERSIST b/sent"), ":1");
    assert_eq!(head("b/sent").await, None);
    // A new value starts fresh.
    assert!(http.put("b/streamed", b"x".to_vec()).await.unwrap().is_success());
    assert_eq!(head("b/streamed").await, None);
    for wrong in ["soon", "0", "-1s", "1960-01-01T00:00:00Z"] {
        let answer =
            http.send(Method::PUT, "b/wrong", &[(EXPIRES, wrong)], Some(b"x".to_vec())).await.unwrap();
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_value_is_gone_for_every_api() {
    let site = Site::start("resp-expired").await;
    let (http, mut redis) = (site.http(), site.connect());
    let large = value(1, 3_000_000);
    for n in 0..200 {
        redis.send(&[b"SET", format!("b/gone/{n:03}").as_bytes(), b"x", b"PX", b"700"]);
    }
    for _ in 0..200 {
        assert_eq!(redis.reply(), "+OK");
    }
    let put = http.send(Method::PUT, "b/large", &[(EXPIRES, "1s")], Some(large.clone())).await.unwrap();
    assert!(put.is_success(), "{}", put.text());
    assert!(http.put("b/stays", b"x".to_vec()).await.unwrap().is_success());
    redis.send(&[b"GET", b"b/large"]);
    assert!(redis.frame().ends_with(&large));
    let gone = async || (http.get("b/large").await.ok()?.status == 404).then_some(());
    eventually(Duration::from_secs(10), "it expires", gone).await;
    assert_eq!(redis.say("EXISTS b/large"), ":0");
    assert_eq!(redis.say("PTTL b/large"), ":-2");
    assert_eq!(http.get_streamed("b/large").await.unwrap().status, 404);
    assert_eq!(http.send(Method::HEAD, "b/large", &[], None).await.unwrap().status, 404);
    assert_eq!(http.delete("b/large").await.unwrap().status, 404);
    let listed = http.get_text("b/?list").await.unwrap();
    assert!(listed.contains("b/stays") && !listed.contains("b/large"), "{listed}");
    let absent = [("if-none-match", "*")];
    let put = http.send(Method::PUT, "b/large", &absent, Some(b"new".to_vec())).await.unwrap();
    assert_eq!(put.status, 201, "{}", put.text());
    // Nobody has asked for the others.
    eventually(Duration::from_secs(10), "they are removed", async || {
        let metrics = http.get_text("/_/metrics").await?;
        let of = |name| metric(&metrics, name);
        let removed = of("barge_expired_objects_total") >= Some(200) && of("barge_objects") == Some(2);
        (removed && of("barge_reclaim_pending") == Some(0)).then_some(())
    })
    .await;
    assert_eq!(redis.say("DBSIZE"), ":2");
    assert_eq!(redis.say("GET b/large"), "$3\r\nnew");
}

/// A command with too many words must not leave its value where the next command is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_command_takes_its_value_along() {
    let site = Site::start("resp-refused").await;
    let mut redis = site.connect();
    assert_eq!(redis.say("SET kept x"), "+OK");
    let value = b"x\r\nDEL kept\r\n*2\r\n$3\r\nDEL\r\n$4\r\nkept\r\n";
    let arity = "-ERR wrong number of arguments for";
    for (words, refusal) in [
        (&[&b"SETNX"[..], b"k", value, b"EX", b"10"][..], arity),
        (&[b"GETSET", b"k", value, b"x"], arity),
        (&[b"SETEX", b"k", b"10", value, b"x"], arity),
        (&[b"SETEX", b"k", b"soon", value], "-ERR value is not an integer"),
        (&[b"PSETEX", b"k", b"-1", value], "-ERR invalid expire time in 'psetex' command"),
        (&[b"SET", b"k", value, b"EX"], "-ERR syntax error"),
        (&[b"SET", b"k", b"", b"what"], "-ERR syntax error"),
        (&[b"SET", b"a//../b", value, b"NX"], "-ERR"),
    ] {
        let reply = redis.ask(words);
        assert!(reply.starts_with(refusal), "{words:?}: {reply}");
        assert_eq!(redis.say("PING again"), "$5\r\nagain", "{words:?}");
    }
    assert_eq!(redis.say("EXISTS kept k"), ":1");
    assert_eq!(redis.say("SET k "), "+OK", "an empty value");
    assert_eq!(redis.say("STRLEN k"), ":0");
}

/// Times that have passed end the value that was meant, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_has_passed_ends_a_value_at_once() {
    let site = Site::start("resp-past").await;
    let (http, mut redis) = (site.http(), site.connect());
    assert_eq!(redis.say("SET k v"), "+OK");
    assert_eq!(redis.say("SET k v NX EXAT 1"), "$-1");
    assert_eq!(redis.say("GET k"), "$1\r\nv", "nothing was stored");
    assert_eq!(redis.say("EXPIRE k -1 XX"), ":0");
    assert_eq!(redis.say("EXPIRE k -1 NX"), ":1");
    assert_eq!(redis.say("GET k"), "$-1");
    for (words, reply) in [("SET k v PXAT 1", "+OK"), ("SET k w", "+OK"), ("GETEX k EXAT 1", "$1\r\nw")] {
        assert_eq!(redis.say(words), reply);
    }
    assert_eq!(redis.say("EXISTS k"), ":0");
    let past = [(EXPIRES, "2020-01-01T00:00:00Z")];
    let put = http.send(Method::PUT, "k", &past, Some(b"x".to_vec())).await.unwrap();
    assert_eq!(put.status, 201, "{}", put.text());
    assert_eq!(http.get("k").await.unwrap().status, 404);
    let twice = [(EXPIRES, "1h"), (EXPIRES, "2h")];
    assert_eq!(http.send(Method::PUT, "k", &twice, Some(b"x".to_vec())).await.unwrap().status, 400);
}
