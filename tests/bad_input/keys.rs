//! Keys as they arrive in a request line.

use shared::wire::error::ErrorCode;
use tests::raw::Raw;

use super::Victim;

#[tokio::test(flavor = "multi_thread")]
async fn refused_keys() {
    let victim = Victim::new().await;
    let long = format!("/{}", "k".repeat(1089));
    let cases: [(&str, &[u8]); 14] = [
        ("too long", long.as_bytes()),
        ("dot dot", b"/a/../b"),
        ("only dot dot", b"/.."),
        ("dot", b"/a/./b"),
        ("encoded dot dot", b"/a/%2e%2e/b"),
        ("half encoded dot dot", b"/a/.%2E"),
        ("dot dot after an encoded slash", b"/a%2F..%2Fb"),
        ("NUL", b"/a%00b"),
        ("not UTF-8", b"/a%ff"),
        ("overlong UTF-8", b"/a%c0%afb"),
        ("escape of letters", b"/a%zz"),
        ("escape cut", b"/a%2"),
        ("reserved", b"/_"),
        ("reserved, encoded", b"/%5F/x"),
    ];
    for (name, path) in cases {
        for method in ["PUT", "POST", "DELETE", "GET"] {
            let mut raw = Raw::connect(victim.cluster.master.address());
            raw.send(format!("{method} "));
            raw.send(path);
            raw.send(" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx");
            let answer = raw.answer();
            let reserved = name == "reserved";
            let code = if reserved { ErrorCode::NoSuchRoute } else { ErrorCode::BadKey };
            assert_eq!(
                answer.code(),
                Some(code),
                "{method}, {name}: {}",
                String::from_utf8_lossy(&answer.body)
            );
            assert_eq!(answer.status, if reserved { 404 } else { 400 }, "{method}, {name}");
        }
        victim.unharmed(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_empty_key_is_refused_and_not_greeted() {
    let victim = Victim::new().await;
    for method in ["PUT", "POST", "DELETE"] {
        let mut raw = Raw::connect(victim.cluster.master.address());
        raw.send(format!("{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"));
        let answer = raw.answer();
        assert_eq!(
            (answer.status, answer.code()),
            (400, Some(ErrorCode::BadKey)),
            "{method} /: a success, although nothing was stored"
        );
    }
    victim.unharmed("the empty key").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_no_request_line_may_have() {
    let victim = Victim::new().await;
    for bytes in [&b"\xff\xfe"[..], b"a b", b"a\tb", b"a\x01b"] {
        let mut raw = Raw::connect(victim.cluster.master.address());
        raw.send([b"PUT /", bytes, b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"].concat());
        let answer = raw.answer();
        assert!(answer.status == 400 || answer.status == 0, "{bytes:?}: {}", answer.status);
        victim.unharmed("bytes that are invalid in a request line").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_keys_are_kept_exactly() {
    let victim = Victim::new().await;
    let client = victim.cluster.client();
    let longest = "k".repeat(1088);
    let keys = [
        longest.as_str(),
        "a//b",
        "a/",
        "//",
        "..a",
        "a..",
        "a%2Fb",
        "a%252Fb",
        "%C3%BC",
        "e%CC%81",
        "%C3%A9",
        "q%3Fx%23y",
        "a+b",
        "a%20b",
        "_x",
        "__/x",
    ];
    for (n, key) in keys.iter().enumerate() {
        let url = format!("{}/{key}", victim.cluster.url());
        let body = format!("value {n}").into_bytes();
        let put = client.once(reqwest::Method::PUT, &url, &[], Some(body)).await.unwrap();
        // Another spelling of a/b: an encoded slash is a slash, too.
        assert_eq!(put.status, 201, "{key}: {}", put.text());
    }
    for (n, key) in keys.iter().enumerate() {
        let got = client.get(&format!("{key}?stream")).await.unwrap();
        // `Client` drops leading slashes, so `//` is requested by hand.
        let got = if key.starts_with('/') {
            client
                .once(reqwest::Method::GET, &format!("{}/{key}?stream", victim.cluster.url()), &[], None)
                .await
                .unwrap()
        } else {
            got
        };
        assert_eq!((got.status, got.text()), (200, format!("value {n}")), "{key}");
    }
    victim.cluster.assert_no_secrets_in_logs();
}
