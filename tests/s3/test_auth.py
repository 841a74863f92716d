"""Authentication: signatures with one wrong piece each, times, digests, other schemes, no signature at all.

After each refusal nothing was stored. Restricted keys are in `test_keys`, presigned URLs in `test_presign`,
chunks in `test_chunked`.
"""

import datetime

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

import sigv4
import wire
from conftest import connect
from expect import absent, body, nothing_in, refused

MINUTE = datetime.timedelta(minutes=1)
DATE = "Sat, 01 Jan 2022 00:00:00 GMT"


def headers_for(bucket, extra=(), time=None, data=b"x", payload=None, **scope):
    """Returns the headers of a signed put of `data` to `k`."""
    signer = sigv4.Signer(wire.ADMIN, time, **{"region": wire.REGION, **scope})
    fields = [("host", wire.HOST), *extra]
    return signer.headers("PUT", f"/{bucket}/k", (), fields, payload or sigv4.sha256(data))


def put(bucket, headers, data=b"x", where=None):
    return wire.exchange("PUT", where or f"/{bucket}/k", headers, data)


def test_our_signatures_are_those_of_botocore(bucket):
    time = sigv4.now()
    url = f"{wire.ENDPOINT}/{bucket}/a%20b?list-type=2&prefix=%C3%A4%2F"
    request = botocore.awsrequest.AWSRequest("GET", url, {"x-amz-meta-a": "1  2"})
    request.headers["x-amz-content-sha256"] = sigv4.EMPTY
    request.context["timestamp"] = sigv4.stamp(time)
    credentials = botocore.credentials.Credentials(wire.ADMIN.id, wire.ADMIN.secret)
    signer = botocore.auth.S3SigV4Auth(credentials, "s3", wire.REGION)
    request.headers["X-Amz-Date"] = sigv4.stamp(time)
    canonical = signer.canonical_request(request)
    theirs = signer.signature(signer.string_to_sign(request, canonical), request)
    fields = [("host", wire.HOST), ("x-amz-meta-a", "1  2")]
    query = [("list-type", "2"), ("prefix", "ä/")]
    path = f"/{bucket}/a b"
    ours = sigv4.Signer(wire.ADMIN, time, region=wire.REGION).headers("GET", path, query, fields, sigv4.EMPTY)
    assert ours[-1][1].endswith(f"Signature={theirs}")


def test_right(s3, bucket):
    assert put(bucket, headers_for(bucket)).status == 200
    assert body(s3, bucket, "k") == b"x"


def test_a_wrong_secret(s3, bucket):
    wrong = connect(sigv4.Key(wire.ADMIN.id, wire.ADMIN.secret + "x"))
    refused(403, "SignatureDoesNotMatch", wrong.put_object, Bucket=bucket, Key="k", Body=b"x")
    refused(403, "SignatureDoesNotMatch", wrong.list_buckets)
    nothing_in(s3, bucket)


def test_a_key_that_nobody_has(s3, bucket):
    unknown = connect(sigv4.Key("AKNOBODYHASTHISKEY00", wire.ADMIN.secret))
    refused(403, "InvalidAccessKeyId", unknown.put_object, Bucket=bucket, Key="k", Body=b"x")
    refused(403, "InvalidAccessKeyId", unknown.list_buckets)
    nothing_in(s3, bucket)


def test_refusals_do_not_tell_what_exists(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    wrong = connect(sigv4.Key(wire.ADMIN.id, "wrong"))
    for place in [
        {"Bucket": bucket, "Key": "k"},
        {"Bucket": bucket, "Key": "none"},
        {"Bucket": bucket + "x", "Key": "k"},
    ]:
        refused(403, "SignatureDoesNotMatch", wrong.get_object, **place)


@pytest.mark.parametrize("minutes", [-20, 20, -60 * 24 * 400])
def test_a_clock_that_is_off(s3, bucket, minutes):
    headers = headers_for(bucket, time=sigv4.now() + minutes * MINUTE)
    assert put(bucket, headers).verdict == (403, "RequestTimeTooSkewed")
    nothing_in(s3, bucket)


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_clock_that_is_a_little_off(s3, bucket, minutes):
    assert put(bucket, headers_for(bucket, time=sigv4.now() + minutes * MINUTE)).status == 200


def test_replayed_later(s3, bucket):
    # The same bytes as a request of 16 minutes ago.
    headers = headers_for(bucket, time=sigv4.now() - 16 * MINUTE)
    assert [put(bucket, headers).verdict for _ in range(2)] == [(403, "RequestTimeTooSkewed")] * 2
    nothing_in(s3, bucket)


def changed(headers, name, value):
    return [(n, value if n.lower() == name else v) for n, v in headers]


@pytest.mark.parametrize(
    "name, value",
    [("x-amz-meta-a", "2"), ("content-type", "text/html"), ("host", "other.example:9000"), ("x-amz-acl", "private ")],
)
def test_a_header_was_tampered_with(s3, bucket, name, value):
    extra = [("x-amz-meta-a", "1"), ("content-type", "text/plain"), ("x-amz-acl", "private")]
    headers = changed(headers_for(bucket, extra), name, value)
    if name == "x-amz-acl":  # Whitespace around a value is not part of it.
        assert put(bucket, headers).status == 200
    else:
        # Another host may address another bucket.
        allowed = [(403, "SignatureDoesNotMatch"), (404, "NoSuchBucket"), (400, "InvalidBucketName")]
        assert put(bucket, headers).verdict in allowed
        nothing_in(s3, bucket)


def test_a_signed_header_was_taken_away(s3, bucket):
    headers = [h for h in headers_for(bucket, [("x-amz-meta-a", "1")]) if h[0] != "x-amz-meta-a"]
    assert put(bucket, headers).verdict == (403, "SignatureDoesNotMatch")
    nothing_in(s3, bucket)


def test_a_header_of_amazon_was_added(s3, bucket):
    headers = [*headers_for(bucket), ("x-amz-meta-a", "1")]
    assert put(bucket, headers).verdict == (403, "AccessDenied")
    nothing_in(s3, bucket)


UNSIGNED = {
    "an invalid link": (
        "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A/20250101/us-east-1/s3/aws4_request&X-Amz-Date=x"
        "&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=zz",
        [],
    ),
    "no digest of the body": (
        "",
        [
            ("x-amz-date", sigv4.stamp(sigv4.now())),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AK/20220101/us-east-1/s3/aws4_request, "
                "SignedHeaders=host;x-amz-date, Signature=00",
            ),
        ],
    ),
    "nothing": ("", []),
}
ODD = [("range", "items=0-5"), ("range", "bytes=0-1,3-4"), ("if-modified-since", "yesterday")]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", UNSIGNED)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_passed_over_lets_nobody_pass(s3, bucket, method, name, odd):
    s3.put_object(Bucket=bucket, Key="k", Body=b"content")
    query, headers = UNSIGNED[name]
    for more in ("", "tagging", "attributes"):
        where = f"/{bucket}/k{query}" + (("&" if query else "?") + more if more else "")
        answer = wire.exchange(method, where, [("host", wire.HOST), *headers, odd])
        assert answer.status in (400, 403, 405), answer
        assert b"content" not in answer.body


def test_an_ordinary_header_may_be_added(s3, bucket):
    assert put(bucket, [*headers_for(bucket), ("user-agent", "proxy/1.0"), ("via", "1.1 x")]).status == 200


@pytest.mark.parametrize("change", ["method", "path", "query"])
def test_the_request_line_was_tampered_with(s3, bucket, change):
    headers = headers_for(bucket)
    where = {"path": f"/{bucket}/other", "query": f"/{bucket}/k?tagging"}.get(change, f"/{bucket}/k")
    answer = wire.exchange("DELETE" if change == "method" else "PUT", where, headers, b"x")
    assert answer.verdict == (403, "SignatureDoesNotMatch"), answer
    nothing_in(s3, bucket)


def test_the_body_was_tampered_with(s3, bucket):
    assert put(bucket, headers_for(bucket, data=b"x"), b"y").verdict == (400, "XAmzContentSHA256Mismatch")
    nothing_in(s3, bucket)


def test_a_large_body_was_tampered_with(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    data = bytes(6 << 20)
    answer = put(bucket, headers_for(bucket, data=data), data[:-1] + b"x")
    assert answer.verdict == (400, "XAmzContentSHA256Mismatch")
    assert body(s3, bucket, "k") == b"old"


def test_the_digest_was_tampered_with(s3, bucket):
    headers = changed(headers_for(bucket, data=b"x"), "x-amz-content-sha256", sigv4.sha256(b"y"))
    assert put(bucket, headers, b"y").verdict == (403, "SignatureDoesNotMatch")
    nothing_in(s3, bucket)


def test_a_body_that_is_not_signed(s3, bucket):
    assert put(bucket, headers_for(bucket, payload=sigv4.UNSIGNED), b"anything").status == 200
    assert body(s3, bucket, "k") == b"anything"


@pytest.mark.parametrize("payload", ["nonsense", "abc", "Z" * 64, "STREAMING-OTHER"])
def test_a_digest_that_is_none(s3, bucket, payload):
    assert put(bucket, headers_for(bucket, payload=payload)).verdict == (400, "InvalidArgument")
    nothing_in(s3, bucket)


def test_without_a_digest(s3, bucket):
    answer = wire.signed("PUT", f"/{bucket}/k", body=b"x", payload=None)
    assert answer.verdict in [(400, "InvalidRequest"), (400, "MissingSecurityHeader")], answer
    nothing_in(s3, bucket)


def test_without_a_date(s3, bucket):
    headers = [h for h in headers_for(bucket) if h[0] != "x-amz-date"]
    assert put(bucket, headers).verdict == (403, "AccessDenied")
    nothing_in(s3, bucket)


@pytest.mark.parametrize("date", ["", "yesterday", "2022-01-01T00:00:00Z"])
def test_a_date_that_is_none(s3, bucket, date):
    assert put(bucket, changed(headers_for(bucket), "x-amz-date", date)).verdict == (403, "AccessDenied")
    nothing_in(s3, bucket)


def test_a_scope_of_another_day(s3, bucket):
    headers = headers_for(bucket)
    credential = headers[-1][1].replace(f"/{sigv4.now():%Y%m%d}/", "/20200101/")
    answer = put(bucket, [*headers[:-1], ("Authorization", credential)])
    assert answer.verdict in [(403, "SignatureDoesNotMatch"), (400, "AuthorizationHeaderMalformed")], answer
    nothing_in(s3, bucket)


def test_a_scope_of_another_service(s3, bucket):
    assert put(bucket, headers_for(bucket, service="ec2")).verdict == (400, "AuthorizationHeaderMalformed")
    nothing_in(s3, bucket)


AUTHORIZATIONS = {
    "empty": ("AWS4-HMAC-SHA256", (400, "AuthorizationHeaderMalformed")),
    "no credential": ("AWS4-HMAC-SHA256 SignedHeaders=host, Signature=00", (400, "AuthorizationHeaderMalformed")),
    "no signature": (
        "AWS4-HMAC-SHA256 Credential=AK/20220101/us-east-1/s3/aws4_request, SignedHeaders=host",
        (400, "AuthorizationHeaderMalformed"),
    ),
    "half a credential": (
        "AWS4-HMAC-SHA256 Credential=AK/20220101, SignedHeaders=host, Signature=00",
        (400, "AuthorizationHeaderMalformed"),
    ),
    "version 2": ("AWS AKID:c2lnbmF0dXJl", (400, "InvalidRequest")),
    "basic": ("Basic dXNlcjpwYXNz", (400, "InvalidArgument")),
    "bearer": ("Bearer token", (400, "InvalidArgument")),
    "nonsense": ("nonsense", (400, "InvalidArgument")),
}


@pytest.mark.parametrize("name", AUTHORIZATIONS)
def test_an_authorization_that_is_none(s3, bucket, name):
    value, verdict = AUTHORIZATIONS[name]
    headers = [("host", wire.HOST), ("date", DATE), ("x-amz-date", sigv4.stamp(sigv4.now())), ("authorization", value)]
    answer = put(bucket, [*headers, ("x-amz-content-sha256", sigv4.sha256(b"x"))])
    assert answer.verdict == verdict, answer
    nothing_in(s3, bucket)


def test_version_2_in_a_url(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    where = f"/{bucket}/k?AWSAccessKeyId={wire.ADMIN.id}&Expires=4102444800&Signature=c2lnbmF0dXJl"
    assert wire.visit("GET", where).verdict == (400, "InvalidRequest")


ANONYMOUS = {
    "get": ("GET", "/{}/k", ()),
    "put": ("PUT", "/{}/k", ()),
    "delete": ("DELETE", "/{}/k", ()),
    "list": ("GET", "/{}", [("list-type", "2")]),
    "start an upload": ("POST", "/{}/k", [("uploads", "")]),
    "delete the bucket": ("DELETE", "/{}", ()),
    "create a bucket": ("PUT", "/{}-new", ()),
    "delete many": ("POST", "/{}", [("delete", "")]),
    "tags": ("PUT", "/{}/k", [("tagging", "")]),
    "a missing bucket": ("GET", "/{}-none/k", ()),
}


@pytest.mark.parametrize("name", ANONYMOUS)
def test_nobody(s3, bucket, name):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    method, path, query = ANONYMOUS[name]
    answer = wire.anonymous(method, path.format(bucket), query, body=b"x" if method == "PUT" else b"")
    allowed = [(403, "AccessDenied")] + ([(404, "NoSuchBucket")] if "none" in path else [])
    assert answer.verdict in allowed, answer
    assert body(s3, bucket, "k") == b"old"


def test_nobody_looks(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    assert wire.anonymous("HEAD", f"/{bucket}/k").status == 403
    assert wire.anonymous("HEAD", f"/{bucket}").status == 403


def test_any_header_may_be_signed(s3, bucket):
    extra = [("x-amz-meta-b", "2"), ("content-type", "text/x"), ("x-amz-meta-a", "1"), ("cache-control", "no-cache")]
    assert put(bucket, headers_for(bucket, extra)).status == 200
    absent(s3, bucket, "other")
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"a": "1", "b": "2"}


def test_a_signed_name_that_is_not_small(s3, bucket):
    # A header added on the way, listed as signed in a case that matches no header.
    s3.put_object(Bucket=bucket, Key="private", Body=b"private")
    headers = headers_for(bucket)
    value = headers[-1][1].replace("SignedHeaders=", "SignedHeaders=X-Amz-Copy-Source;")
    extra = ("x-amz-copy-source", f"/{bucket}/private")
    answer = put(bucket, [*headers[:-1], extra, ("Authorization", value)])
    assert answer.verdict == (400, "AuthorizationHeaderMalformed"), answer
    absent(s3, bucket, "k")


def test_a_signed_value_that_is_not_utf8(s3, bucket):
    headers = headers_for(bucket)
    value = headers[-1][1].replace("x-amz-date,", "x-amz-date;x-amz-meta-a,")
    answer = put(bucket, [*headers[:-1], ("x-amz-meta-a", b"\xff"), ("Authorization", value)])
    assert answer.verdict == (403, "SignatureDoesNotMatch"), answer
    absent(s3, bucket, "k")
