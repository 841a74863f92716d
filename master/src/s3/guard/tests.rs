//! Requests that are refused before the library looks, and those that are not.

use super::*;

const DATE: &str = "20260101T000000Z";

fn code(settings: &Settings, target: &str, headers: &[(&str, &str)]) -> Option<String> {
    let mut request = Request::get(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).unwrap();
    let about = About::of(&request, None, String::new());
    check(settings, "owner", &request, &about).err().map(|e| e.code().as_str().to_owned())
}

fn v4(region: &str, signed: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=BK/20260101/{region}/s3/aws4_request, SignedHeaders={signed}, Signature=0"
    )
}

fn link(secs: &str) -> String {
    format!(
        "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0&X-Amz-Expires={secs}&X-Amz-Date={DATE}&X-Amz-SignedHeaders=host&X-Amz-Credential=BK%2F20260101%2Feu-1%2Fs3%2Faws4_request"
    )
}

#[test]
fn signatures() {
    let any = Settings::default();
    let one = Settings { region: Some("eu-1".into()), ..Settings::default() };
    let by_header = |settings: &Settings, region: &str, signed: &str| {
        code(settings, "/b/k", &[("authorization", &v4(region, signed)), ("x-amz-date", DATE)])
    };
    assert_eq!(code(&any, "/b/k", &[]), None);
    assert_eq!(by_header(&any, "us-1", "host;x-amz-date"), None);
    assert_eq!(by_header(&any, "us-1", "host").as_deref(), Some("AccessDenied"));
    assert_eq!(by_header(&one, "eu-1", "host;x-amz-date"), None);
    assert_eq!(by_header(&one, "us-1", "host;x-amz-date").as_deref(), Some("AuthorizationHeaderMalformed"));
    for (header, wanted) in [
        ("AWS BK:0", "InvalidRequest"),
        ("Bearer x", "InvalidArgument"),
        ("AWS4-HMAC-SHA256 Credential=BK/20260101, SignedHeaders=host", "AuthorizationHeaderMalformed"),
        (
            "AWS4-HMAC-SHA256 Credential=BK/x, SignedHeaders=host;x-amz-date, Signature=0",
            "AuthorizationHeaderMalformed",
        ),
    ] {
        let found = code(&any, "/b/k", &[("authorization", header), ("x-amz-date", DATE)]);
        assert_eq!(found.as_deref(), Some(wanted), "{header}");
    }
    let undated = code(&any, "/b/k", &[("authorization", &v4("us-1", "host"))]);
    assert_eq!(undated.as_deref(), Some("AccessDenied"));
}

#[test]
fn links() {
    let any = Settings::default();
    assert_eq!(
        code(&any, "/b/k?AWSAccessKeyId=BK&Signature=0&Expires=1", &[]).as_deref(),
        Some("InvalidRequest")
    );
    assert_eq!(code(&any, &link("604800"), &[]), None);
    for secs in ["604801", "-1", "soon", ""] {
        let found = code(&any, &link(secs), &[]);
        assert_eq!(found.as_deref(), Some("AuthorizationQueryParametersError"), "{secs}");
    }
    let both = code(&any, &link("60"), &[("authorization", &v4("eu-1", "host")), ("x-amz-date", DATE)]);
    assert_eq!(both.as_deref(), Some("InvalidArgument"));
    assert_eq!(code(&any, &link("60"), &[("x-amz-meta-a", "1")]).as_deref(), Some("AccessDenied"));
}

#[test]
fn names_are_what_they_say_however_they_are_written() {
    let any = Settings::default();
    let hidden = link("604801").replace("X-Amz-Signature", "X%2DAmz-Signature");
    assert_eq!(code(&any, &hidden, &[]).as_deref(), Some("AuthorizationQueryParametersError"));
    assert_eq!(code(&any, "/b/k?AWSAccess%4BeyId=BK", &[]).as_deref(), Some("InvalidRequest"));
    let owner = |name| code(&any, "/b/k", &[("x-amz-expected-bucket-owner", name)]);
    assert_eq!((owner("owner"), owner("other").as_deref()), (None, Some("AccessDenied")));
}

#[test]
fn what_is_not_there() {
    let any = Settings::default();
    for (name, wanted) in [
        ("x-amz-object-lock-mode", "NotImplemented"),
        ("x-amz-server-side-encryption", "NotImplemented"),
        ("x-amz-grant-read", "AccessControlListNotSupported"),
    ] {
        assert_eq!(code(&any, "/b/k", &[(name, "x")]).as_deref(), Some(wanted), "{name}");
    }
    assert_eq!(code(&any, "/b/k", &[("x-amz-copy-source", "b/")]).as_deref(), Some("InvalidArgument"));
    assert_eq!(code(&any, "/b/k?partNumber=0", &[]).as_deref(), Some("InvalidArgument"));
}
