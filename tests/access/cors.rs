//! CORS on the native API: a bucket's rules, set through S3, apply to native requests for its keys.

use tests::raw::RawAnswer;

use super::{Site, ask, text};

const APP: &str = "Origin: http://app.example";
const OTHER: &str = "Origin: http://other.example";
const RULES: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>http://app.example</AllowedOrigin>\
    <AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod><AllowedHeader>authorization</AllowedHeader>\
    <ExposeHeader>etag</ExposeHeader></CORSRule></CORSConfiguration>";

/// Whether the answer tells caches that it depends on the origin.
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

    // A preflight: answered without a key, by what the rules say about origin, method and headers.
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
    assert_eq!(elsewhere.status, 403, "a rebound host name");
    assert_eq!(
        ask(&native, "OPTIONS /plain/k", &[&here, APP, &put], "").status,
        405,
        "the bucket has no rules"
    );

    // A page that is let in is answered by the master: after a redirect it could not read the volume's answer.
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

    // All other clients work as before; caches are told that the answer depends on the origin.
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

/// With access keys, a preflight needs none, and a page can read a refusal.
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
    // Credentials that the browser remembers are for no page, even if it names no site: over plain HTTP.
    let basic = "Authorization: Basic QktPTkU6MDEyMzQ1Njc4OWFiY2RlZg==";
    for line in ["GET /box/k", "GET /box/?list", "HEAD /box/k"] {
        assert_eq!(ask(&native, line, &[&here, APP, basic], "").status, 403, "{line}");
    }
    assert_eq!(ask(&native, "GET /box/k?stream", &[&here, basic], "").body, b"value");
}
