//! CORS on the native face: the rules of a bucket, set by S3, hold for native requests about its keys.

use tests::raw::RawAnswer;

use super::{Site, ask, text};

const APP: &str = "Origin: http://app.example";
const OTHER: &str = "Origin: http://other.example";
const RULES: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>http://app.example</AllowedOrigin>\
    <AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod><AllowedHeader>authorization</AllowedHeader>\
    <ExposeHeader>etag</ExposeHeader></CORSRule></CORSConfiguration>";

/// Whether caches hear that it depends on who asks.
fn varies(answer: &RawAnswer) -> bool {
    answer.header("vary").is_some_and(|names| names.split(", ").any(|name| name == "Origin"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_a_bucket_hold_for_native_requests() {
    let site = Site::start("native-cors", "127.0.0.1", &[]).await;
    let (native, s3) = (site.server.address().to_owned(), site.s3.clone());
    let (here, at_s3) = (format!("Host: {native}"), format!("Host: {s3}"));
    assert_eq!(ask(&native, "PUT /box/k", &[&here], "value").status, 201);
    assert_eq!(ask(&native, "PUT /plain/k", &[&here], "value").status, 201);
    assert_eq!(ask(&s3, "PUT /box?cors", &[&at_s3], RULES).status, 200);

    // A question: answered without a key, and by what the rules say of origin, method and headers.
    let wants = |method: &str| format!("Access-Control-Request-Method: {method}");
    let (put, delete) = (wants("PUT"), wants("DELETE"));
    let header = "Access-Control-Request-Headers: Authorization";
    let other_header = "Access-Control-Request-Headers: x-other";
    let asked = ask(&native, "OPTIONS /box/k", &[&here, APP, &put, header], "");
    assert_eq!(asked.status, 204, "{}", text(&asked));
    assert_eq!(asked.header("access-control-allow-origin"), Some("http://app.example"));
    assert_eq!(asked.header("access-control-allow-methods"), Some("GET, PUT"));
    assert_eq!(asked.header("access-control-allow-headers"), Some("authorization"));
    for fields in
        [[&here, OTHER, &put, header], [&here, APP, &delete, header], [&here, APP, &put, other_header]]
    {
        let refused = ask(&native, "OPTIONS /box/k", &fields, "");
        assert_eq!(refused.status, 403, "{fields:?}");
        assert_eq!(refused.header("access-control-allow-origin"), None, "{fields:?}");
        assert!(varies(&refused), "{fields:?}");
    }
    let elsewhere = ask(&native, "OPTIONS /box/k", &["Host: evil.example", APP, &put, header], "");
    assert_eq!(elsewhere.status, 403, "a name that is made to lead here");
    assert_eq!(ask(&native, "OPTIONS /plain/k", &[&here, APP, &put], "").status, 405, "it has no rules");

    // The page that is let in is answered by the master: it may not see what a volume says behind a redirect.
    let got = ask(&native, "GET /box/k", &[&here, APP], "");
    assert_eq!((got.status, got.body.as_slice()), (200, &b"value"[..]));
    assert_eq!(got.header("access-control-allow-origin"), Some("http://app.example"));
    assert_eq!(got.header("access-control-expose-headers"), Some("etag"));
    let sent = ask(&native, "PUT /box/new", &[&here, APP, "Expect: 100-continue"], "sent");
    assert_eq!(sent.status, 201, "{}", text(&sent));
    assert_eq!(sent.header("access-control-allow-origin"), Some("http://app.example"));
    let missing = ask(&native, "GET /box/no", &[&here, APP], "");
    assert_eq!(
        (missing.status, missing.header("access-control-allow-origin")),
        (404, Some("http://app.example"))
    );
    let listed = ask(&native, "GET /box/?list", &[&here, APP], "");
    assert_eq!(
        (listed.status, listed.header("access-control-allow-origin")),
        (200, Some("http://app.example"))
    );

    // All others go on as before; caches hear that it depends on who asks.
    for fields in [&[&here[..], OTHER][..], &[&here]] {
        let got = ask(&native, "GET /box/k", fields, "");
        assert!(got.status == 307 && varies(&got), "{fields:?}");
        assert_eq!(got.header("access-control-allow-origin"), None, "{fields:?}");
    }
    let got = ask(&native, "GET /plain/k", &[&here, APP], "");
    assert_eq!((got.status, got.header("vary")), (307, None));

    let question = [&here[..], APP, &put, header];
    with_keys(&site, &question).await;
}

/// With keys the question needs none, and a refusal can be read by the page.
async fn with_keys(site: &Site, question: &[&str]) {
    let native = site.server.address().to_owned();
    let here = format!("Host: {native}");
    site.signed(&["key", "create", "--id", "BKONE", "--secret", "0123456789abcdef"]).await;
    assert_eq!(ask(&native, "OPTIONS /box/k", question, "").status, 204);
    let stranger = ask(&native, "GET /box/k", &[&here, APP], "");
    assert_eq!(
        (stranger.status, stranger.header("access-control-allow-origin")),
        (401, Some("http://app.example"))
    );
    let bearer = "Authorization: Bearer BKONE:0123456789abcdef";
    let got = ask(&native, "GET /box/k", &[&here, APP, bearer], "");
    assert_eq!((got.body.as_slice(), got.header("access-control-allow-credentials")), (&b"value"[..], None));
    // The key that a browser remembers of its visitor is for no page, even where it says nothing of sites: over plain HTTP.
    let basic = "Authorization: Basic QktPTkU6MDEyMzQ1Njc4OWFiY2RlZg==";
    for line in ["GET /box/k", "GET /box/?list", "HEAD /box/k"] {
        assert_eq!(ask(&native, line, &[&here, APP, basic], "").status, 403, "{line}");
    }
    assert_eq!(ask(&native, "GET /box/k?stream", &[&here, basic], "").body, b"value");
}
