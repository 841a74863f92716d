//! Requests that are refused before the library looks, and those that are not.

use crate::s3::request::guard::*;

const DATE: &str = "20260101T000000Z";
const PEER: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn code(settings: &S3Settings, target: &str, headers: &[(&str, &str)]) -> Option<String> {
    code_of(Request::get(target), settings, headers)
}

fn code_of(
    request: http::request::Builder,
    settings: &S3Settings,
    headers: &[(&str, &str)],
) -> Option<String> {
    let mut request = request.header("host", "h");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).unwrap();
    let about = RequestContext::of(&request, None, PEER, String::new());
    check_request(settings, "owner", &request, &about).err().map(|e| e.code().as_str().to_owned())
}

fn v4(region: &str, signed: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=BK/20260101/{region}/s3/aws4_request, SignedHeaders={signed}, Signature={}",
        "0".repeat(64)
    )
}

fn link(secs: &str) -> String {
    format!(
        "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0&X-Amz-Expires={secs}&X-Amz-Date={DATE}&X-Amz-SignedHeaders=host&X-Amz-Credential=BK%2F20260101%2Feu-1%2Fs3%2Faws4_request"
    )
}

#[test]
fn signatures() {
    let any = S3Settings::default();
    let one = S3Settings { region: Some("eu-1".into()), ..S3Settings::default() };
    let by_header = |settings: &S3Settings, region: &str, signed: &str| {
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
    let any = S3Settings::default();
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
    let any = S3Settings::default();
    let hidden = link("604801").replace("X-Amz-Signature", "X%2DAmz-Signature");
    assert_eq!(code(&any, &hidden, &[]).as_deref(), Some("AuthorizationQueryParametersError"));
    assert_eq!(code(&any, "/b/k?AWSAccess%4BeyId=BK", &[]).as_deref(), Some("InvalidRequest"));
    let owner = |name| code(&any, "/b/k", &[("x-amz-expected-bucket-owner", name)]);
    assert_eq!((owner("owner"), owner("other").as_deref()), (None, Some("AccessDenied")));
}

#[test]
fn what_is_not_there() {
    let any = S3Settings::default();
    for (name, wanted) in [
        ("x-amz-object-lock-mode", "NotImplemented"),
        ("x-amz-server-side-encryption", "NotImplemented"),
        ("x-amz-grant-read", "AccessControlListNotSupported"),
    ] {
        assert_eq!(code(&any, "/b/k", &[(name, "x")]).as_deref(), Some(wanted), "{name}");
    }
    let copy = code_of(Request::put("/b/k"), &any, &[("x-amz-copy-source", "b/")]);
    assert_eq!(copy.as_deref(), Some("InvalidArgument"));
    let read = code(&any, "/b/k", &[("x-amz-copy-source", "b/k")]);
    assert_eq!(read.as_deref(), Some("NotImplemented"), "a read copies nothing");
    assert_eq!(code(&any, "/b/k?partNumber=0", &[]).as_deref(), Some("InvalidArgument"));
}

#[test]
fn queries_of_other_methods() {
    let asked = |method: &str, target: &str| {
        let request = Request::builder().method(method).uri(target).header("host", "h");
        let request = request.header("content-length", "0").body(()).unwrap();
        let about = RequestContext::of(&request, None, PEER, String::new());
        let error = check_request(&S3Settings::default(), "owner", &request, &about).err();
        error.map(|e| {
            let allow = e.headers().and_then(|h| h.get("allow")).map(|v| v.to_str().unwrap().to_owned());
            (e.code().as_str().to_owned(), allow)
        })
    };
    let not_allowed = |methods: &str| Some(("MethodNotAllowed".to_owned(), Some(methods.to_owned())));
    assert_eq!(asked("DELETE", "/b?logging="), not_allowed("GET, PUT"));
    assert_eq!(asked("DELETE", "/b?delete"), not_allowed("POST"));
    assert_eq!(asked("PUT", "/b?location"), not_allowed("GET"));
    assert_eq!(asked("GET", "/b/k?uploads"), not_allowed("POST"));
    assert_eq!(asked("GET", "/b/k?c%6Frs"), not_allowed("GET, HEAD, PUT, DELETE"));
    for target in ["/b/k?id=123", "/b/k?location=berlin", "/b/k?deadbeef", "/b/k?v=2"] {
        assert_eq!(asked("GET", target), None, "{target}");
    }
    assert_eq!(asked("PATCH", "/b/k"), not_allowed("GET, HEAD, PUT, DELETE"));
    assert_eq!(asked("DELETE", "/b?cors"), None);
    assert_eq!(asked("GET", "/b/k?v=1&20261130"), None);
    let missing = Some(("NotImplemented".to_owned(), None));
    for target in ["/b/k?encryptedness", "/b?abac", "/b/k?renameObject"] {
        assert_eq!(asked("GET", target), missing, "{target}");
    }
    assert_eq!(asked("DELETE", "/b?v=1"), missing);
    assert_eq!(asked("DELETE", "/b?prefix=a"), missing);
}

#[test]
fn queries_that_are_headers() {
    let any = S3Settings::default();
    let asked = |target: &str, headers: &[(&str, &str)]| {
        let mut request = Request::put(target).header("host", "h").header("content-length", "0");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        presigned_headers::restore(&mut request);
        let about = RequestContext::of(&request, None, PEER, String::new());
        check_request(&any, "owner", &request, &about).err().map(|e| e.code().as_str().to_owned())
    };
    let with = |more: &str| format!("{}&{more}", link("60"));
    assert_eq!(asked(&with("X-Amz-Meta-A=1&x-amz-tagging=a%3Db"), &[]), None);
    assert_eq!(asked(&with("x-amz-acl=public-read"), &[]).as_deref(), Some("AccessControlListNotSupported"));
    assert_eq!(asked(&with("X-Amz-Object-Lock-Mode=GOVERNANCE"), &[]).as_deref(), Some("NotImplemented"));
    let twice = asked(&with("X-Amz-Meta-A=1&x-amz-meta-a=2"), &[]);
    assert_eq!(twice.as_deref(), Some("InvalidArgument"));
    let both = asked(&with("X-Amz-Meta-A=1"), &[("x-amz-meta-a", "2")]);
    assert_eq!(both.as_deref(), Some("InvalidArgument"));
    assert_eq!(asked(&with("x-amz-meta-a=%00"), &[]).as_deref(), Some("InvalidArgument"));
    assert_eq!(asked("/b/k?x-amz-copy-source=c/k", &[]).as_deref(), Some("InvalidArgument"), "not signed");
    assert_eq!(asked(&with("x-amz-copy-source-range=bytes=0-1"), &[]).as_deref(), Some("NotImplemented"));
    assert_eq!(asked(&with("x-amz-mp-object-size=9"), &[]).as_deref(), Some("NotImplemented"));
    let trailer = asked(&with("x-amz-trailer=x-amz-checksum-crc32"), &[]);
    assert_eq!(trailer.as_deref(), Some("InvalidArgument"));
    let respelled = asked(&link("60").replace("X-Amz-Expires", "x-amz-expires"), &[]);
    assert_eq!(respelled.as_deref(), Some("AuthorizationQueryParametersError"));
}

#[test]
fn encryption_and_classes_are_taken_for_nothing_only_where_that_was_said() {
    let noop = S3Settings { noop: true, ..S3Settings::default() };
    let asked = |settings: &S3Settings, name: &str, value: &str| {
        code_of(Request::put("/b/k").header("content-length", "0"), settings, &[(name, value)])
    };
    for (name, value, refusal) in [
        ("x-amz-server-side-encryption", "AES256", "NotImplemented"),
        ("x-amz-storage-class", "GLACIER", "InvalidStorageClass"),
    ] {
        assert_eq!(asked(&S3Settings::default(), name, value).as_deref(), Some(refusal), "{name}");
        assert_eq!(asked(&noop, name, value), None, "{name}");
    }
    // Other encryption, and storage classes that do not exist, are still refused.
    for (name, value) in [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-storage-class", "COLDER"),
    ] {
        assert!(asked(&noop, name, value).is_some(), "{name}: {value}");
    }
}

fn verdict(request: http::request::Builder) -> String {
    let request = request.body(()).unwrap();
    let about = RequestContext::of(&request, None, PEER, String::new());
    match check_request(&S3Settings::default(), "owner", &request, &about) {
        Ok(kind) => format!("{kind:?}"),
        Err(e) => e.code().as_str().to_owned(),
    }
}

#[test]
fn a_form_is_one_for_us_wherever_the_library_could_read_one() {
    let post = |target: &str| Request::post(target).header("host", "h");
    let kind = |kind: &[u8]| verdict(post("/b").header("content-type", kind));
    assert_eq!(kind(b"multipart/form-data; boundary=BB"), "Form");
    assert_eq!(kind(b"Multipart/FORM-Data;boundary=BB"), "Form");
    assert_eq!(kind("multipart/form-data; boundary=BB; x=\"\u{e9}\"".as_bytes()), "InvalidRequest");
    assert_eq!(kind(b"multipart/form-data; boundary=BB; x=\"\xe9\""), "InvalidRequest");
    let form = |target: &str| post(target).header("content-type", "multipart/form-data; boundary=BB");
    assert_eq!(verdict(form("/b").header("content-type", "text/plain")), "InvalidArgument");
    assert_eq!(verdict(form("/b").header("authorization", v4("us-1", "host"))), "InvalidArgument");
    assert_eq!(verdict(form(&link("60").replace("/k", ""))), "InvalidArgument");
    assert_eq!(verdict(form("/b?delete")), "InvalidArgument");
    assert_eq!(verdict(form("/b").header("x-amz-meta-a", "1")), "NotImplemented");
    assert_eq!(verdict(form("/b").header("x-amz-expected-bucket-owner", "other")), "AccessDenied");
    assert_eq!(verdict(form("/b/k?uploads")), "MethodNotAllowed");
    assert_eq!(verdict(form("/")), "MethodNotAllowed");
}

#[test]
fn names_of_signed_headers_are_those_that_the_library_finds() {
    let any = S3Settings::default();
    let signed = |names: &str| {
        let headers =
            [("authorization", &*v4("us-1", names)), ("x-amz-date", DATE), ("x-amz-copy-source", "/b/k")];
        code_of(Request::put("/b/k"), &any, &headers)
    };
    assert_eq!(signed("host;x-amz-copy-source;x-amz-date"), None);
    for (names, wanted) in [
        ("X-Amz-Copy-Source;host;x-amz-date", "AuthorizationHeaderMalformed"),
        ("host;x-amz-date;x-amz-copy-source", "AuthorizationHeaderMalformed"),
        ("host;host;x-amz-copy-source;x-amz-date", "AuthorizationHeaderMalformed"),
        ("x-amz-copy-source;x-amz-date", "AuthorizationHeaderMalformed"),
        ("host;;x-amz-date", "AuthorizationHeaderMalformed"),
        ("host;x-amz-acl;x-amz-copy-source;x-amz-date", "SignatureDoesNotMatch"),
        ("host;x-amz-date", "AccessDenied"),
    ] {
        assert_eq!(signed(names).as_deref(), Some(wanted), "{names}");
    }
    let upper = link("60").replace("SignedHeaders=host", "SignedHeaders=X-Amz-Copy-Source%3Bhost");
    let found = code(&any, &upper, &[("x-amz-copy-source", "/b/k")]);
    assert_eq!(found.as_deref(), Some("AuthorizationQueryParametersError"));
    // The library leaves out a value that is not UTF-8.
    let hidden = Request::put("/b/k")
        .header("host", "h")
        .header("authorization", v4("us-1", "host;x-amz-date;x-amz-meta-a"))
        .header("x-amz-date", DATE)
        .header("x-amz-meta-a", &b"\xff"[..]);
    assert_eq!(verdict(hidden), "SignatureDoesNotMatch");
    assert_eq!(code(&any, "/b/k?prefix=a&pre%66ix=b", &[]).as_deref(), Some("InvalidArgument"));
    let twice = [("x-amz-copy-source", "/b/k"), ("x-amz-copy-source", "/b/l")];
    assert_eq!(code(&any, "/b/k", &twice).as_deref(), Some("InvalidArgument"));
}

#[test]
fn an_authorization_has_one_shape() {
    let good = v4("us-1", "host;x-amz-date");
    let ask =
        |text: &str| code(&S3Settings::default(), "/b/k", &[("authorization", text), ("x-amz-date", DATE)]);
    assert_eq!((ask(&good), ask(&good.replace(", ", ","))), (None, None));
    for bad in [
        good.replace(", ", ",  "),
        good.replace("HMAC-SHA256 ", "HMAC-SHA256  "),
        good.replace("HMAC-SHA256 ", "HMAC-SHA256-X "),
        format!("{good}, Signature={}", "1".repeat(64)),
        good.replace("SignedHeaders=", "SignedHeaders=host, SignedHeaders="),
        good.replace("Credential=", "Credential=a/20260101/r/s3/aws4_request, Credential="),
        good.replace("BK/", "BK/x/"),
    ] {
        assert!(ask(&bad).is_some(), "{bad}");
    }
}
