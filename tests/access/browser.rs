//! A browser on the machine of an open master is no confused deputy: pages of other sites can neither read from the
//! master, by DNS rebinding, nor change anything on it. All other clients work as before.

use shared::wire::error::ErrorCode;

use super::{Site, ask, text};

const EVIL: &str = "Host: evil.example";
const OTHER_PAGE: &str = "Origin: http://evil.example";
const RULES: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>http://app.example</AllowedOrigin>\
    <AllowedMethod>PUT</AllowedMethod><AllowedMethod>POST</AllowedMethod></CORSRule></CORSConfiguration>";

/// A form with one file, as a browser sends it, and its content type.
fn form(key: &str) -> (String, &'static str) {
    let field = |name: &str, value: &str| {
        format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let file =
        "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nsent\r\n--edge--\r\n";
    (field("key", key) + file, "Content-Type: multipart/form-data; boundary=edge")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_here_is_not_ours() {
    let site = Site::start("rebinding", "127.0.0.1", &["--s3-domain", "s3.test"]).await;
    let (native, s3) = (site.server.address().to_owned(), site.s3.clone());
    let own = format!("Host: {native}");
    assert_eq!(ask(&native, "PUT /box/k", &[&own], "value").status, 201);
    for request in [
        "GET /box/k?stream",
        "GET /?list",
        "GET /box/k?stale",
        "HEAD /box/k",
        "PUT /box/new",
        "DELETE /box/k",
    ] {
        for host in [EVIL, "Host: 127.0.0.1.evil.example:3000", "Host: "] {
            let answer = ask(&native, request, &[host], "");
            assert_eq!(answer.status, 403, "{request} {host}");
            if !request.starts_with("HEAD") {
                assert_eq!(answer.code(), Some(ErrorCode::Forbidden), "{request} {host}");
                let said = text(&answer);
                assert!(said.contains("barge key create") && said.contains("--insecure-no-auth"), "{said}");
            }
        }
    }
    for host in ["Host: localhost", "Host: a.localhost:1", "Host: 127.0.0.1", "Host: [::1]:3000", &own] {
        assert_eq!(ask(&native, "GET /box/k?stream", &[host], "").body, b"value", "{host}");
        assert_eq!(ask(&native, "GET /box/new", &[host], "").status, 404, "{host}");
    }
    assert_eq!(ask(&native, "GET /_/health", &[EVIL], "").status, 200, "it reveals no values");

    for request in
        ["GET /box/k", "GET /", "GET /box", "PUT /box/new", "DELETE /box/k", "OPTIONS /box/k", "PUT /other"]
    {
        let answer = ask(&s3, request, &[EVIL, OTHER_PAGE], "");
        assert_eq!(answer.status, 403, "{request}");
        assert!(text(&answer).contains("barge key create"), "{request}: {}", text(&answer));
    }
    for host in ["Host: localhost:9000", "Host: 127.0.0.1", "Host: s3.test"] {
        assert_eq!(ask(&s3, "GET /box/k", &[host], "").body, b"value", "{host}");
    }
    assert_eq!(ask(&s3, "GET /k", &["Host: box.s3.test:9000"], "").body, b"value");
    assert_eq!(ask(&s3, "GET /k", &["Host: s3.test.evil.example"], "").status, 403);

    // With an access key no protection is needed: each request must show the key.
    let made = site.signed(&["key", "create", "--id", "BKONE", "--secret", "0123456789abcdef"]).await;
    let shown = "Authorization: Bearer BKONE:0123456789abcdef";
    assert_eq!(ask(&native, "GET /box/k?stream", &[EVIL, shown], "").body, b"value", "{}", made.err);
    assert_eq!(ask(&native, "GET /box/k", &[EVIL], "").status, 401);
    site.signed(&["key", "revoke", "BKONE"]).await;
    assert_eq!(ask(&native, "GET /box/k", &[EVIL], "").status, 403);
    assert_eq!(ask(&s3, "GET /box/k", &[EVIL], "").status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_change_nothing() {
    let site = Site::start("cross-site", "127.0.0.1", &[]).await;
    let (native, s3) = (site.server.address().to_owned(), site.s3.clone());
    let (at_native, at_s3) = (format!("Host: {native}"), format!("Host: {s3}"));
    let same = format!("Origin: http://{native}");
    for request in ["POST /box/k", "PUT /box/k", "DELETE /box/k"] {
        for page in [OTHER_PAGE, "Origin: null", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"] {
            let answer = ask(&native, request, &[&at_native, page, "Content-Type: text/plain"], "x");
            assert_eq!((answer.status, answer.code()), (403, Some(ErrorCode::Forbidden)), "{request} {page}");
        }
    }
    assert_eq!(ask(&native, "GET /box/k", &[&at_native], "").status, 404, "nothing was stored");
    assert_eq!(ask(&native, "POST /box/k", &[&at_native], "value").status, 201, "curl sends no Origin");
    assert_eq!(
        ask(&native, "PUT /box/k", &[&at_native, &same, "Sec-Fetch-Site: same-origin"], "own").status,
        200
    );
    assert_eq!(
        ask(&native, "GET /box/k?stream", &[&at_native, OTHER_PAGE], "").status,
        200,
        "a GET changes nothing"
    );

    let (sent, kind) = form("f");
    for page in [OTHER_PAGE, "Origin: null", "Sec-Fetch-Site: cross-site"] {
        assert_eq!(ask(&s3, "POST /box", &[&at_s3, page, kind], &sent).status, 403, "{page}");
        assert_eq!(ask(&s3, "PUT /box/f", &[&at_s3, page], "x").status, 403, "{page}");
        assert_eq!(ask(&s3, "PUT /other", &[&at_s3, page], "").status, 403, "{page}");
        assert_eq!(ask(&s3, "DELETE /box/k", &[&at_s3, page], "").status, 403, "{page}");
    }
    assert_eq!(ask(&s3, "GET /box/f", &[&at_s3], "").status, 404);
    assert_eq!(ask(&s3, "POST /box", &[&at_s3, kind], &sent).status, 204, "no browser");
    assert_eq!(ask(&s3, "GET /box/f", &[&at_s3], "").body, b"sent");

    // A bucket's CORS rules let a page in: to that bucket, with that method, and under our own host names only.
    let ruled = ask(&s3, "PUT /box?cors", &[&at_s3], RULES);
    assert_eq!(ruled.status, 200, "{}", text(&ruled));
    let app = "Origin: http://app.example";
    let written = ask(&s3, "PUT /box/app", &[&at_s3, app, "Sec-Fetch-Site: cross-site"], "app");
    assert_eq!(written.status, 200, "{}", text(&written));
    assert_eq!(written.header("access-control-allow-origin"), Some("http://app.example"));
    assert_eq!(ask(&s3, "POST /box", &[&at_s3, app, kind], &sent).status, 204);
    assert_eq!(ask(&s3, "DELETE /box/app", &[&at_s3, app], "").status, 403, "no rule allows it");
    assert_eq!(ask(&s3, "PUT /other", &[&at_s3, app], "").status, 403, "a bucket without rules");
    assert_eq!(ask(&s3, "PUT /box/app", &[EVIL, app], "x").status, 403);
    assert_eq!(ask(&native, "PUT /box/app", &[EVIL, app], "x").status, 403);
    assert_eq!(ask(&native, "DELETE /box/app", &[&at_native, app], "").status, 403);
    assert_eq!(ask(&s3, "GET /box/app", &[&at_s3], "").body, b"app");
    let written = ask(&native, "PUT /box/app", &[&at_native, app, "Sec-Fetch-Site: cross-site"], "again");
    assert_eq!(written.status, 200, "{}", text(&written));

    // A browser sends a remembered access key with every page's requests.
    site.signed(&["key", "create", "--id", "BKONE", "--secret", "0123456789abcdef"]).await;
    let basic = "Authorization: Basic QktPTkU6MDEyMzQ1Njc4OWFiY2RlZg==";
    let bearer = "Authorization: Bearer BKONE:0123456789abcdef";
    assert_eq!(ask(&native, "PUT /box/k", &[&at_native, basic, OTHER_PAGE], "x").status, 403);
    assert_eq!(ask(&native, "PUT /box/k", &[&at_native, basic], "x").status, 200);
    assert_eq!(ask(&native, "PUT /box/k", &[&at_native, bearer, OTHER_PAGE], "x").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_serves_everybody_has_any_name() {
    let site = Site::start("any-host", "127.0.0.1", &["--insecure-no-auth"]).await;
    let (native, s3) = (site.server.address().to_owned(), site.s3.clone());
    assert_eq!(ask(&native, "PUT /box/k", &[EVIL], "value").status, 201);
    assert_eq!(ask(&native, "GET /box/k?stream", &[EVIL], "").body, b"value");
    assert_eq!(ask(&s3, "GET /box/k", &[EVIL], "").body, b"value");
    assert_eq!(ask(&native, "PUT /box/k", &[EVIL, OTHER_PAGE], "x").status, 200, "a page of the same origin");
    for page in ["Origin: http://other.example", "Sec-Fetch-Site: cross-site"] {
        assert_eq!(ask(&native, "PUT /box/k", &[EVIL, page], "x").status, 403);
        assert_eq!(ask(&s3, "PUT /box/k", &[EVIL, page], "x").status, 403);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_has_a_sixth_version() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        tests::skip("loopback_has_a_sixth_version", "this machine has no IPv6");
        return;
    }
    let site = Site::start("loopback6", "[::1]", &[]).await;
    let (native, s3) = (site.server.address().to_owned(), site.s3.clone());
    assert!(native.starts_with("[::1]:"), "{native}");
    let (at_native, at_s3) = (format!("Host: {native}"), format!("Host: {s3}"));
    assert_eq!(ask(&native, "PUT /box/k", &[&at_native], "value").status, 201);
    assert_eq!(
        ask(&native, "PUT /box/k", &[&at_native, &format!("Origin: http://{native}")], "value").status,
        200
    );
    assert_eq!(ask(&native, "GET /box/k?stream", &["Host: localhost"], "").body, b"value");
    assert_eq!(ask(&s3, "GET /box/k", &[&at_s3], "").body, b"value");
    assert_eq!(ask(&s3, "GET /box/k", &["Host: [::2]:80"], "").status, 403);
}
