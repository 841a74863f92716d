//! Which methods each path takes: HEAD agrees with GET, and a refusal names the allowed methods.

use shared::wire::error::ErrorCode;
use tests::raw::{Raw, RawAnswer};

use super::cluster;

fn ask(address: &str, method: &str, path: &str) -> RawAnswer {
    let mut raw = Raw::connect(address);
    raw.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"));
    raw.answer()
}

/// Sends HEAD and does not read a body: bytes after the head would be read as the next answer.
fn head(address: &str, path: &str) -> (String, bool) {
    let mut raw = Raw::connect(address);
    raw.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    let (said, clean) = raw.rest();
    let said = String::from_utf8_lossy(&said).into_owned();
    let bare = clean && said.ends_with("\r\n\r\n");
    (said.lines().next().unwrap_or_default().to_owned(), bare)
}

#[tokio::test(flavor = "multi_thread")]
async fn head_says_what_get_says() {
    let cluster = cluster().await;
    let (master, volume) = (cluster.master.address(), cluster.volumes[0].address());
    for (address, path) in [
        (master, "/_/health"),
        (master, "/_/status"),
        (master, "/_/metrics"),
        (master, "/_/events"),
        (master, "/_/masters"),
        (master, "/"),
        (volume, "/_/health"),
        (volume, "/_/metrics"),
    ] {
        let got = ask(address, "GET", path);
        assert_eq!(got.status, 200, "{path}");
        assert_eq!(head(address, path), ("HTTP/1.1 200 OK".to_owned(), true), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_says_what_is() {
    let cluster = cluster().await;
    let (master, volume) = (cluster.master.address(), cluster.volumes[0].address());
    let posts = ["/_/commit", "/_/keys", "/_/keys/put", "/_/raft/append", "/_/masters/add", "/_/doctor"];
    let of_volumes = ["/_/status", "/_/delete", "/_/add-replica", "/_/records"];
    let shown = ["/_/health", "/_/metrics"];
    let told = ["/_/status", "/_/events", "/_/masters"];
    let cases = posts
        .map(|path| (master, "GET", path, "POST"))
        .into_iter()
        .chain(of_volumes.map(|path| (volume, "DELETE", path, "POST")))
        .chain(shown.map(|path| (master, "POST", path, "GET, HEAD")))
        .chain(shown.map(|path| (volume, "PUT", path, "GET, HEAD")))
        .chain(told.map(|path| (master, "DELETE", path, "GET, HEAD, POST")))
        .chain([(master, "PATCH", "/key", "GET, HEAD, PUT, POST, DELETE")]);
    for (address, method, path, allowed) in cases {
        let answer = ask(address, method, path);
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allowed)), "{method} {path}");
        assert_eq!(answer.code(), Some(ErrorCode::MethodNotAllowed), "{method} {path}");
    }
    for address in [master, volume] {
        for path in ["/_/nothing", "/_/"] {
            let answer = ask(address, "GET", path);
            assert_eq!((answer.status, answer.code()), (404, Some(ErrorCode::NoSuchRoute)), "{path}");
        }
    }
}
