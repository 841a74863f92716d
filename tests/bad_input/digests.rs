//! Declared digests: a correct one is accepted, a wrong one refuses the value, on every way in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::Md5;
use reqwest::Method;
use sha2::{Digest as _, Sha256};
use shared::digest::Digest;
use shared::wire::error::ErrorCode;
use tests::value;

use super::Victim;

fn md5(bytes: &[u8]) -> String {
    BASE64.encode(Md5::digest(bytes))
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha-256=:{}:", BASE64.encode(Sha256::digest(bytes)))
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_digests_keep_nothing_and_right_ones_are_taken() {
    let victim = Victim::new().await;
    let client = victim.cluster.client();
    for size in [0, 1, 3_000_000] {
        let (bytes, other) = (value(1, size), value(2, size + 1));
        let of = |b: &[u8]| {
            [
                ("barge-blake3", Digest::of(b).to_string()),
                ("content-md5", md5(b)),
                ("repr-digest", sha256(b)),
                ("content-digest", format!("unknown=:AAAA:, {}", sha256(b))),
            ]
        };
        for ((name, right), (_, wrong)) in of(&bytes).into_iter().zip(of(&other)) {
            for path in ["k", "k?redirect"] {
                let what = format!("{name} of {size} bytes to {path}");
                // A redirect of an upload whose length is 0 or missing requires a Content-Length.
                let path = if path == "k" { path.to_owned() } else { format!("{path}&length={size}") };
                let put = async |digest: &str| {
                    client.send(Method::PUT, &path, &[(name, digest)], Some(bytes.clone())).await.unwrap()
                };
                let refused = put(&wrong).await;
                assert_eq!((refused.status, refused.code()), (400, Some(ErrorCode::WrongDigest)), "{what}");
                victim.unharmed(&what).await;
                assert_eq!(client.get("k").await.unwrap().status, 404, "{what}");
                let taken = put(&right).await;
                assert_eq!(taken.status, 201, "{what}: {}", taken.text());
                assert!(client.get("k").await.unwrap().body == bytes, "{what}");
                assert_eq!(client.delete("k").await.unwrap().status, 200);
                victim.unharmed(&what).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_digest_is_refused_and_harms_no_later_upload() {
    let victim = Victim::new().await;
    let client = victim.cluster.client();
    let bytes = value(1, 3_000_000);
    for (name, digest) in [("barge-blake3", "!"), ("content-md5", "!"), ("repr-digest", "sha-256=!")] {
        let refused = client.send(Method::PUT, "k", &[(name, digest)], Some(bytes.clone())).await.unwrap();
        assert_eq!((refused.status, refused.code()), (400, Some(ErrorCode::BadHeader)), "{name}");
        victim.unharmed(name).await;
        let next = client.put("k", bytes.clone()).await.unwrap();
        assert_eq!(next.status, 201, "the upload after one with a bad {name}: {}", next.text());
        assert_eq!(client.delete("k").await.unwrap().status, 200);
        victim.unharmed(name).await;
    }
}
