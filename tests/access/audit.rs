//! The audit log records for every request who asked for what and how it ended: in both APIs, including refused
//! requests and the administration. It never records anything that grants access.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tests::eventually;
use tests::raw::RawAnswer;
use tests::tool::{curl, must};

use super::{Site, ask};

const ID: &str = "BKAUDITED00000000001";
const SECRET: &str = "the-right-secret-0123456789";
/// A line is written within this time.
const WRITTEN: Duration = Duration::from_secs(30);

struct Audited {
    site: Site,
    file: PathBuf,
}

impl Audited {
    async fn start(name: &str) -> Self {
        let site = Site::start(name, "127.0.0.1", &["--audit-log", "audit.log"]).await;
        let file = site.folder.join("audit.log");
        Self { site, file }
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.file).expect("the audit log");
        // The last line may be incomplete.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// Returns the line of an answer, without the fields that differ from request to request.
    async fn line_of(&self, answer: &RawAnswer) -> BTreeMap<String, Value> {
        let id = answer.header("barge-request-id").expect("every answer has one").to_owned();
        self.line_by(&id).await
    }

    async fn line_by(&self, id: &str) -> BTreeMap<String, Value> {
        let found = eventually(WRITTEN, "the line is written", async || {
            self.lines().into_iter().find(|line| line["request_id"] == id)
        });
        let mut line: BTreeMap<String, Value> = serde_json::from_value(found.await).expect("an object");
        for (field, begins) in [("time", "20"), ("peer", "127.0.0."), ("request_id", "")] {
            let value = line.remove(field).expect("each line has it");
            assert!(value.as_str().is_some_and(|text| text.starts_with(begins)), "{field}: {value}");
        }
        line
    }
}

/// Request line, headers and body.
type Sent<'a> = (&'a str, &'a [&'a str], &'a str);
/// Options of curl, path, operation, place, and status with the bytes sent.
type ByCurl<'a> = (&'a [&'a str], &'a str, &'a str, Place<'a>, [u16; 2]);
/// Bucket and key.
type Place<'a> = [Option<&'a str>; 2];

/// The other fields of a line.
fn said(
    api: &str,
    operation: &str,
    key: Option<&str>,
    place: Place<'_>,
    status: u16,
    bytes: [usize; 2],
) -> BTreeMap<String, Value> {
    let line = json!({
        "api": api, "access_key": key, "cluster_secret": false, "operation": operation, "bucket": place[0],
        "key": place[1], "status": status, "bytes_in": bytes[0], "bytes_out": bytes[1],
    });
    serde_json::from_value(line).expect("an object")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_native_request_has_its_line() {
    let audited = Audited::start("audit-native").await;
    let site = &audited.site;
    let mode = std::fs::metadata(&audited.file).expect("the log exists from the start").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let address = site.server.address().to_owned();
    let host = "Host: localhost";
    let page = ask(&address, "PUT /box/k", &[host, "Origin: http://evil.example"], "value");
    let of = ["box", "k"].map(Some);
    let wanted = said("native", "PutObject", None, of, 403, [0, page.body.len()]);
    assert_eq!(audited.line_of(&page).await, wanted, "refused because of its origin");

    site.signed(&[
        "key",
        "create",
        "--permission",
        "write",
        "--scope",
        "box",
        "--id",
        ID,
        "--secret",
        SECRET,
    ])
    .await;
    let good = format!("Authorization: Bearer {ID}:{SECRET}");
    let wrong = format!("Authorization: Bearer {ID}:a-wrong-secret");
    let unknown = "Authorization: Bearer TheSecretItself:x";
    let table: [(Sent<'_>, &str, Option<&str>, Place<'_>, u16); 9] = [
        (("PUT /box/k", &[&good], "value"), "PutObject", Some(ID), of, 201),
        (("GET /box/k?stream", &[&good], ""), "GetObject", Some(ID), of, 200),
        (("GET /box/k", &[&good], ""), "GetObject", Some(ID), of, 307),
        (("GET /box/?list", &[&good], ""), "ListObjectsV2", Some(ID), [Some("box"), Some("")], 200),
        (("GET /else/k", &[&good], ""), "GetObject", Some(ID), ["else", "k"].map(Some), 403),
        (("GET /box/k", &[], ""), "GetObject", None, of, 401),
        (("DELETE /box/k", &[&wrong], ""), "DeleteObject", Some(ID), of, 401),
        (("GET /box/k", &[unknown], ""), "GetObject", Some("TheS…"), of, 401),
        (("DELETE /box/k", &[&good], ""), "DeleteObject", Some(ID), of, 200),
    ];
    for ((request, headers, body), operation, key, place, status) in table {
        let answer = ask(&address, request, &[&[host], headers].concat(), body);
        let sent = if status < 300 { body.len() } else { 0 };
        let wanted = said("native", operation, key, place, status, [sent, answer.body.len()]);
        assert_eq!(audited.line_of(&answer).await, wanted, "{request}");
    }
    // Chunked bodies are counted as well.
    let chunked =
        ["-H", "Transfer-Encoding: chunked", "-H", &good, "--data-binary", "0123456789", "-X", "PUT"];
    let url = format!("{}/box/chunked", site.server.url());
    let stored = curl(&site.folder, [&chunked[..], &[url.as_str()]].concat()).await;
    let line = audited.line_by(&stored.header("barge-request-id").expect("an id")).await;
    assert_eq!((&line["status"], &line["bytes_in"]), (&json!(201), &json!(10)));
    // A stranger's calls to servers and to the administration.
    for (route, operation) in [("/_/keys/put", "PutAccessKey"), ("/_/raft/append", "CallBetweenServers")] {
        let answer = ask(&address, &format!("POST {route}"), &[host], "{}");
        let wanted = said("native", operation, None, [None; 2], 403, [0, answer.body.len()]);
        assert_eq!(audited.line_of(&answer).await, wanted, "{route}");
    }
    site.signed(&["cluster", "backup", "backup"]).await;
    site.signed(&["key", "revoke", ID]).await;
    for operation in ["PutAccessKey", "BackupMetadata", "RevokeAccessKey"] {
        let line = eventually(WRITTEN, operation, async || {
            let done = |line: &Value| line["operation"] == operation && line["status"] == 200;
            audited.lines().into_iter().find(done)
        });
        assert_eq!(line.await["cluster_secret"], true, "{operation}");
    }
    nothing_permits(&audited);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_by_s3_has_its_line() {
    let audited = Audited::start("audit-s3").await;
    let site = &audited.site;
    site.signed(&["key", "create", "--permission", "admin", "--id", ID, "--secret", SECRET]).await;
    let now = must("date", ["-u", "+%Y%m%dT%H%M%SZ"]).await.text().trim().to_owned();
    let base = format!("http://{}", site.s3);
    let pair = format!("{ID}:{SECRET}");
    let payload = "x-amz-content-sha256: UNSIGNED-PAYLOAD";
    let signing = ["--aws-sigv4", "aws:amz:us-east-1:s3", "-u", &pair, "-H", payload];
    let table: [ByCurl<'_>; 5] = [
        (&["-X", "PUT"], "/box", "CreateBucket", [Some("box"), None], [200, 0]),
        (&["-X", "PUT", "--data-binary", "value"], "/box/k", "PutObject", ["box", "k"].map(Some), [200, 5]),
        (&[], "/box/k", "GetObject", ["box", "k"].map(Some), [200, 0]),
        (&[], "/box?list-type=2", "ListObjectsV2", [Some("box"), None], [200, 0]),
        (&[], "/box/none", "GetObject", ["box", "none"].map(Some), [404, 0]),
    ];
    for (more, path, operation, place, [status, sent]) in table {
        let url = format!("{base}{path}");
        let answer = curl(&site.folder, [&signing[..], more, &[url.as_str()]].concat()).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        let line = audited.line_by(&answer.header("barge-request-id").expect("an id")).await;
        let wanted = said("s3", operation, Some(ID), place, status, [usize::from(sent), answer.body.len()]);
        assert_eq!(line, wanted, "{path}");
    }
    let link = format!(
        "/box/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={ID}%2F{}%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date={now}\
         &X-Amz-Expires=600&X-Amz-SignedHeaders=host&X-Amz-Signature={}",
        &now[..8],
        "5ec4e7".repeat(10) + "0000"
    );
    for (request, operation, key) in [
        (format!("GET {link}"), "GetObject", Some(ID)),
        ("DELETE /box/k".to_owned(), "DeleteObject", None),
        ("PUT /box/k?tagging".to_owned(), "PutObjectTagging", None),
    ] {
        let answer = ask(&site.s3, &request, &["Host: localhost"], "");
        assert_eq!(answer.status, 403);
        let wanted = said("s3", operation, key, ["box", "k"].map(Some), 403, [0, answer.body.len()]);
        assert_eq!(audited.line_of(&answer).await, wanted, "{request}");
    }
    nothing_permits(&audited);
}

/// Nothing in the file helps its readers to get access.
fn nothing_permits(audited: &Audited) {
    let text = std::fs::read_to_string(&audited.file).expect("the audit log");
    for permits in
        [SECRET, "a-wrong-secret", "TheSecretItself", "5ec4e7", "Signature", "ticket", "?", "Bearer"]
    {
        assert!(!text.contains(permits), "the audit log contains {permits}");
    }
}
