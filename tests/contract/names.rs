//! Native keys whose first part is a bucket name are S3 keys, too: none is stored that S3 clients cannot express.

use reqwest::Method;
use shared::wire::error::ErrorCode;

use super::cluster;

#[tokio::test(flavor = "multi_thread")]
async fn what_s3_clients_cannot_say_is_not_stored() {
    let cluster = cluster().await;
    let client = cluster.client();
    let long = "r".repeat(1024);
    for key in ["box/", &format!("box/{long}r")] {
        for (method, query) in [(Method::PUT, ""), (Method::POST, ""), (Method::PUT, "?redirect")] {
            let url = client.url(&format!("{key}{query}"));
            let sent = client.once(method, &url, &[], Some(b"x".to_vec())).await.unwrap();
            assert_eq!((sent.status, sent.code()), (400, Some(ErrorCode::BadKey)), "{key}: {}", sent.text());
            assert!(sent.text().contains("S3 clients"), "{}", sent.text());
        }
        // Values stored by an older version can still be read and deleted.
        assert_eq!(client.get(key).await.unwrap().status, 404, "{key}");
        assert_eq!(client.delete(key).await.unwrap().code(), Some(ErrorCode::NotFound), "{key}");
    }
    for key in ["box//", "no/", "Box/", "box", &format!("box/{long}"), &format!("Box/{long}rr")] {
        assert_eq!(client.put(key, b"x".to_vec()).await.unwrap().status, 201, "{key}");
    }
}
