"""Presigned URLs: what they permit, for how long, and every possible error.

Used over plain HTTP connections, without any further signature.
"""

import datetime
import urllib.parse

import pytest

import sigv4
import wire
from expect import absent, body

DAY = datetime.timedelta(days=1)
MINUTE = datetime.timedelta(minutes=1)


@pytest.fixture
def path(s3, bucket):
    """The path of an object."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"content", ContentType="text/plain")
    return f"/{bucket}/k"


def target_of(url):
    """Returns what boto3 signed, as a request target."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.path}?{parts.query}"


def test_get(path):
    answer = wire.visit("GET", wire.presigned("GET", path))
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"content", "text/plain")


def test_head(path):
    answer = wire.visit("HEAD", wire.presigned("HEAD", path))
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "7", b"")


def test_put(s3, bucket):
    answer = wire.visit("PUT", wire.presigned("PUT", f"/{bucket}/new"), body=b"sent")
    assert answer.status == 200, answer
    assert body(s3, bucket, "new") == b"sent"


def test_delete(s3, bucket, path):
    assert wire.visit("DELETE", wire.presigned("DELETE", path)).status == 204
    absent(s3, bucket, "k")


def test_list(bucket, path):
    answer = wire.visit("GET", wire.presigned("GET", f"/{bucket}", query=[("list-type", "2"), ("prefix", "k")]))
    assert (answer.status, answer.text("Contents/Key")) == (200, "k")


def test_made_by_boto3(s3, bucket, path):
    place = {"Bucket": bucket, "Key": "k"}
    assert wire.visit("GET", target_of(s3.generate_presigned_url("get_object", place))).body == b"content"
    put = s3.generate_presigned_url("put_object", {**place, "ContentType": "text/x-new"})
    assert wire.visit("PUT", target_of(put), [("content-type", "text/x-new")], b"sent").status == 200
    assert s3.get_object(**place)["ContentType"] == "text/x-new"


@pytest.mark.parametrize("key", ["a b", "a+b&c=d?e#f", "ä/漢", "%41", "a//b", "/a"])
def test_strange_keys(s3, bucket, key):
    assert wire.visit("PUT", wire.presigned("PUT", f"/{bucket}/{key}"), body=key.encode()).status == 200
    assert body(s3, bucket, key) == key.encode()
    assert wire.visit("GET", wire.presigned("GET", f"/{bucket}/{key}")).body == key.encode()


def test_again_and_again(path):
    where = wire.presigned("GET", path)
    assert [wire.visit("GET", where).status for _ in range(3)] == [200, 200, 200]


def test_a_range(path):
    answer = wire.visit("GET", wire.presigned("GET", path), [("range", "bytes=1-3")])
    assert (answer.status, answer.body) == (206, b"ont")


def test_response_override(path):
    where = wire.presigned("GET", path, query=[("response-content-disposition", 'attachment; filename="ä b"')])
    answer = wire.visit("GET", where)
    assert answer.status == 200 and answer.headers["content-disposition"].startswith("attachment")


def test_what_is_not_there(bucket):
    assert wire.visit("GET", wire.presigned("GET", f"/{bucket}/none")).verdict == (404, "NoSuchKey")


def test_a_signed_header(s3, bucket):
    where = wire.presigned("PUT", f"/{bucket}/k", headers=[("x-amz-meta-a", "1")])
    assert wire.visit("PUT", where, [("x-amz-meta-a", "1")], b"x").status == 200
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"a": "1"}


@pytest.mark.parametrize("headers", [[], [("x-amz-meta-a", "2")]], ids=["missing", "other"])
def test_a_signed_header_that_is_not_as_signed(s3, bucket, headers):
    where = wire.presigned("PUT", f"/{bucket}/k", headers=[("x-amz-meta-a", "1")])
    assert wire.visit("PUT", where, headers, b"x").verdict == (403, "SignatureDoesNotMatch")
    absent(s3, bucket, "k")


def test_a_header_of_amazon_that_is_not_signed(s3, bucket):
    where = wire.presigned("PUT", f"/{bucket}/k")
    answer = wire.visit("PUT", where, [("x-amz-meta-a", "1")], b"x")
    assert answer.verdict == (403, "AccessDenied"), answer
    absent(s3, bucket, "k")


def test_expired(path):
    where = wire.presigned("GET", path, expires=60, time=sigv4.now() - 2 * MINUTE)
    assert wire.visit("GET", where).verdict == (403, "AccessDenied")


def test_expired_put_stores_nothing(s3, bucket):
    where = wire.presigned("PUT", f"/{bucket}/k", expires=60, time=sigv4.now() - 2 * MINUTE)
    assert wire.visit("PUT", where, body=b"x").verdict == (403, "AccessDenied")
    absent(s3, bucket, "k")


def test_old_and_still_good(path):
    where = wire.presigned("GET", path, expires=7 * 86400, time=sigv4.now() - 6 * DAY)
    assert wire.visit("GET", where).body == b"content"


def test_from_the_future(path):
    where = wire.presigned("GET", path, time=sigv4.now() + DAY)
    assert wire.visit("GET", where).verdict in [(403, "AccessDenied"), (403, "RequestTimeTooSkewed")]


@pytest.mark.parametrize("expires", [7 * 86400 + 1, -1, "x", "", 99999999999999999999])
def test_for_a_time_that_may_not_be(path, expires):
    where = wire.presigned("GET", path, expires=expires)
    assert wire.visit("GET", where).verdict == (400, "AuthorizationQueryParametersError")


def test_for_seven_days(path):
    assert wire.visit("GET", wire.presigned("GET", path, expires=7 * 86400)).body == b"content"


def test_longer_than_signed(path):
    where = wire.presigned("GET", path, expires=60).replace("Expires=60", "Expires=600")
    assert wire.visit("GET", where).verdict == (403, "SignatureDoesNotMatch")


def test_another_key(s3, bucket, path):
    s3.put_object(Bucket=bucket, Key="other", Body=b"secret")
    where = wire.presigned("GET", path).replace("/k?", "/other?")
    assert wire.visit("GET", where).verdict == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_another_method(s3, bucket, path, method):
    answer = wire.visit(method, wire.presigned("GET", path), body=b"x" if method == "PUT" else b"")
    assert answer.verdict == (403, "SignatureDoesNotMatch")
    assert body(s3, bucket, "k") == b"content"


def test_another_query(path):
    where = wire.presigned("GET", path) + "&response-content-type=text%2Fhtml"
    assert wire.visit("GET", where).verdict == (403, "SignatureDoesNotMatch")


def test_another_signature(path):
    before, after = wire.presigned("GET", path).split("X-Amz-Signature=")
    first = "0" if after[0] != "0" else "1"
    where = f"{before}X-Amz-Signature={first}{after[1:]}"
    assert wire.visit("GET", where).verdict == (403, "SignatureDoesNotMatch")
    # A signature that does not cover the host is invalid.
    unbound = wire.presigned("GET", path).replace("SignedHeaders=host", "SignedHeaders=hos")
    assert wire.visit("GET", unbound).verdict == (400, "AuthorizationQueryParametersError")


def test_another_host(path):
    answer = wire.exchange("GET", wire.presigned("GET", path), [("host", "other.example")])
    assert answer.status in (403, 404) and answer.body != b"content"
    assert answer.code in ("SignatureDoesNotMatch", "NoSuchBucket"), answer


def test_a_wrong_secret(path):
    wrong = sigv4.Key(wire.ADMIN.id, "wrong")
    assert wire.visit("GET", wire.presigned("GET", path, key=wrong)).verdict == (403, "SignatureDoesNotMatch")


def test_a_key_that_nobody_has(path):
    unknown = sigv4.Key("AKNOBODYHASTHISKEY00", "secret")
    assert wire.visit("GET", wire.presigned("GET", path, key=unknown)).verdict == (403, "InvalidAccessKeyId")


NEEDED = ["Credential", "Date", "Expires", "SignedHeaders"]


@pytest.mark.parametrize("name", NEEDED)
def test_a_piece_is_missing(path, name):
    where, query = wire.presigned("GET", path).split("?")
    kept = [piece for piece in query.split("&") if not piece.startswith(f"X-Amz-{name}=")]
    answer = wire.visit("GET", f"{where}?{'&'.join(kept)}")
    assert answer.verdict == (400, "AuthorizationQueryParametersError"), answer


@pytest.mark.parametrize("name", ["Algorithm", "Signature"])
def test_what_makes_it_presigned_is_missing(path, name):
    where, query = wire.presigned("GET", path).split("?")
    kept = [piece for piece in query.split("&") if not piece.startswith(f"X-Amz-{name}=")]
    answer = wire.visit("GET", f"{where}?{'&'.join(kept)}")
    # Without it the request may count as unsigned.
    assert answer.verdict in [(400, "AuthorizationQueryParametersError"), (403, "AccessDenied")], answer


def test_a_header_and_a_url_at_once(path):
    where = wire.presigned("GET", path)
    answer = wire.visit(
        "GET", where, [("authorization", "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=b, Signature=c")]
    )
    assert answer.verdict == (400, "InvalidArgument"), answer
