//! GET and HEAD: ranges and conditions, the same by redirect and streamed.

use reqwest::Method;
use shared::wire::error::ErrorCode;
use tests::{Answer, Client, value};

use super::cluster;

const SIZE: usize = 300_000;

/// Both ways to read a value.
const WAYS: [&str; 2] = ["v", "v?stream"];

async fn get(client: &Client, way: &str, headers: &[(&str, &str)]) -> Answer {
    client.send(Method::GET, way, headers, None).await.expect("a complete response")
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_answered_from_metadata() {
    let cluster = cluster().await;
    let client = cluster.client();
    let put = client.put("v", value(1, SIZE)).await.unwrap();
    let head = client.once(Method::HEAD, &client.url("v"), &[], None).await.unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(SIZE.to_string()));
    assert_eq!(head.header("etag"), put.header("etag"));
    assert_eq!(head.header("accept-ranges").as_deref(), Some("bytes"));
    assert!(head.header("last-modified").is_some_and(|d| d.ends_with(" GMT")));
    let none = client.once(Method::HEAD, &client.url("none"), &[], None).await.unwrap();
    assert_eq!(none.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn single_ranges() {
    let cluster = cluster().await;
    let client = cluster.client();
    let bytes = value(1, SIZE);
    client.put("v", bytes.clone()).await.unwrap();
    let last = SIZE - 1;
    let cases = [
        ("bytes=0-0".to_owned(), 0..1),
        ("bytes=65535-65536".to_owned(), 65535..65537),
        ("bytes=100-".to_owned(), 100..SIZE),
        ("bytes=-1".to_owned(), last..SIZE),
        ("bytes=-999999999".to_owned(), 0..SIZE),
        (format!("bytes={last}-{last}"), last..SIZE),
        ("bytes=131072-999999999".to_owned(), 131_072..SIZE),
    ];
    for way in WAYS {
        for (range, wanted) in &cases {
            let part = get(&client, way, &[("range", range)]).await;
            assert_eq!(part.status, 206, "{way} {range}");
            assert!(part.body == bytes[wanted.clone()], "{way} {range}: other bytes");
            let told = format!("bytes {}-{}/{SIZE}", wanted.start, wanted.end - 1);
            assert_eq!(part.header("content-range"), Some(told), "{way} {range}");
        }
        for outside in [format!("bytes={SIZE}-"), "bytes=-0".to_owned()] {
            let refused = get(&client, way, &[("range", &outside)]).await;
            assert_eq!(
                (refused.status, refused.code()),
                (416, Some(ErrorCode::RangeNotSatisfiable)),
                "{way} {outside}"
            );
            assert_eq!(refused.header("content-range"), Some(format!("bytes */{SIZE}")));
        }
        for ignored in ["bytes=5-2", "bytes=x-y", "lines=1-2"] {
            let whole = get(&client, way, &[("range", ignored)]).await;
            assert_eq!((whole.status, whole.body.len()), (200, SIZE), "{way} {ignored}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_ranges_come_as_parts() {
    let cluster = cluster().await;
    let client = cluster.client();
    let bytes = value(1, SIZE);
    client.put("v", bytes.clone()).await.unwrap();
    for way in WAYS {
        let answer = get(&client, way, &[("range", "bytes=0-9,70000-140000,-5")]).await;
        assert_eq!(answer.status, 206, "{way}");
        let kind = answer.header("content-type").unwrap();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap().trim_matches('"');
        let parts = parts(&answer.body, boundary);
        let wanted = [0..10, 70_000..140_001, SIZE - 5..SIZE];
        assert_eq!(parts.len(), wanted.len(), "{way}");
        for ((head, body), range) in parts.iter().zip(wanted) {
            let told = format!("content-range: bytes {}-{}/{SIZE}", range.start, range.end - 1);
            assert!(head.to_ascii_lowercase().contains(&told), "{way}: {head}");
            assert!(*body == bytes[range], "{way}: other bytes in {head}");
        }
    }
}

/// Head and body of each part.
fn parts(body: &[u8], boundary: &str) -> Vec<(String, Vec<u8>)> {
    let find = |hay: &[u8], needle: &[u8]| hay.windows(needle.len()).position(|w| w == needle);
    let mark = format!("--{boundary}");
    let mut rest = body;
    let mut parts = Vec::new();
    while let Some(at) = find(rest, mark.as_bytes()) {
        rest = &rest[at + mark.len()..];
        if rest.starts_with(b"--") {
            return parts;
        }
        let head = find(rest, b"\r\n\r\n").expect("a part has a head");
        let end = find(rest, format!("\r\n{mark}").as_bytes()).expect("a part ends");
        parts.push((String::from_utf8_lossy(&rest[..head]).into_owned(), rest[head + 4..end].to_vec()));
        rest = &rest[end..];
    }
    panic!("the multipart body has no end");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_of_reads() {
    let cluster = cluster().await;
    let client = cluster.client();
    let put = client.put("v", value(1, SIZE)).await.unwrap();
    let etag = put.header("etag").unwrap();
    let head = client.send(Method::HEAD, "v", &[], None).await.unwrap();
    let date = head.header("last-modified").unwrap();
    for way in WAYS {
        for same in [("if-none-match", etag.as_str()), ("if-none-match", "*"), ("if-modified-since", &date)] {
            let answer = get(&client, way, &[same]).await;
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{way} {same:?}");
            assert_eq!(answer.header("etag").as_deref(), Some(etag.as_str()));
        }
        assert_eq!(get(&client, way, &[("if-none-match", "\"other\"")]).await.status, 200);
        let refused = get(&client, way, &[("if-match", "\"other\"")]).await;
        assert_eq!((refused.status, refused.code()), (412, Some(ErrorCode::PreconditionFailed)), "{way}");
        assert_eq!(get(&client, way, &[("if-match", &etag)]).await.status, 200);
        for (condition, status) in [(etag.as_str(), 206), (date.as_str(), 206), ("\"other\"", 200)] {
            let answer = get(&client, way, &[("range", "bytes=0-9"), ("if-range", condition)]).await;
            assert_eq!(answer.status, status, "{way} If-Range: {condition}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_value_is_a_value() {
    let cluster = cluster().await;
    let client = cluster.client();
    assert_eq!(client.put("v", Vec::new()).await.unwrap().status, 201);
    for way in WAYS {
        let answer = get(&client, way, &[]).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{way}");
        assert_eq!(answer.header("content-length").as_deref(), Some("0"), "{way}");
        assert_eq!(get(&client, way, &[("range", "bytes=0-0")]).await.status, 416, "{way}");
    }
}
