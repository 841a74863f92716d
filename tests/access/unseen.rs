//! Requests refused before an API has seen them get that API's error format: XML for S3 clients.

use tests::raw::Raw;

use super::{Site, text};

#[tokio::test(flavor = "multi_thread")]
async fn what_s3_refuses_unseen_is_xml() {
    for more in [vec![], vec!["--audit-log", "audit"]] {
        let site = Site::start("unseen", "127.0.0.1", &more).await;
        for (head, status, code) in [
            ("GET /box HTTP/1.1\r\n", 400, "InvalidArgument"),
            ("GET /box HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n", 400, "InvalidArgument"),
            ("PUT * HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n", 400, "InvalidArgument"),
            (
                "PUT /box/k HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n",
                501,
                "NotImplemented",
            ),
        ] {
            let mut raw = Raw::connect(&site.s3);
            raw.send(format!("{head}\r\n"));
            let answer = raw.answer();
            let said = text(&answer);
            assert!(said.contains(&format!("<Code>{code}</Code>")), "{head}: {said}");
            assert_eq!(answer.status, status, "{head}: {said}");
            assert_eq!(answer.header("content-type"), Some("application/xml"), "{head}");
            assert!(answer.header("x-amz-request-id").is_some(), "{head}");
        }
    }
}
