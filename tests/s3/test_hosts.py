"""Virtual-hosted buckets: BUCKET.DOMAIN, if the environment names the domain in BARGE_S3_DOMAIN.

The connection still goes to the endpoint; only the `Host` header differs.
"""

import os

import pytest

import sigv4
import wire
from buckets import new_name
from expect import absent, body, keys, refused


@pytest.fixture(scope="module")
def domain():
    """The domain for virtual-hosted bucket names."""
    name = os.environ.get("BARGE_S3_DOMAIN", "")
    if not name:
        pytest.skip("BARGE_S3_DOMAIN is not set")
    return name


def at(host, method, path, query=(), headers=(), data=b""):
    """Sends a signed request with another host."""
    signer = sigv4.Signer(wire.ADMIN, region=wire.REGION)
    fields = signer.headers(method, path, query, [("host", host), *headers], sigv4.sha256(data))
    return wire.exchange(method, wire.target(path, query), fields, data)


@pytest.mark.parametrize("key", ["k", "a/b c", "ä+%", "/leading"])
def test_put_and_get(s3, bucket, domain, key):
    host = f"{bucket}.{domain}"
    assert at(host, "PUT", f"/{key}", data=b"content").status == 200
    assert at(host, "GET", f"/{key}").body == b"content"
    assert body(s3, bucket, key) == b"content"
    assert at(host, "DELETE", f"/{key}").status == 204
    absent(s3, bucket, key)


def test_the_root_is_the_bucket(s3, bucket, domain):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = at(f"{bucket}.{domain}", "GET", "/", [("list-type", "2")])
    assert (answer.status, answer.text("Name"), answer.text("Contents/Key")) == (200, bucket, "k")


def test_a_path_that_is_the_name_of_the_bucket(s3, bucket, domain):
    assert at(f"{bucket}.{domain}", "PUT", f"/{bucket}/k", data=b"x").status == 200
    assert keys(s3.list_objects_v2(Bucket=bucket)) == [f"{bucket}/k"]


def test_make_and_remove(s3, domain):
    name = new_name()
    assert at(f"{name}.{domain}", "PUT", "/").status == 200
    assert s3.head_bucket(Bucket=name)["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert at(f"{name}.{domain}", "DELETE", "/").status == 204
    refused(404, "404", s3.head_bucket, Bucket=name)


def test_the_domain_alone_has_buckets_in_the_path(s3, bucket, domain):
    assert at(domain, "PUT", f"/{bucket}/k", data=b"x").status == 200
    assert body(s3, bucket, "k") == b"x"
    assert bucket.encode() in at(domain, "GET", "/").body


def test_with_a_port(s3, bucket, domain):
    assert at(f"{bucket}.{domain}:9000", "PUT", "/k", data=b"x").status == 200
    assert body(s3, bucket, "k") == b"x"


def test_a_bucket_that_is_not_there(domain):
    assert at(f"{new_name()}.{domain}", "GET", "/k").verdict == (404, "NoSuchBucket")


def test_the_bucket_is_signed(s3, bucket, other_bucket, domain):
    s3.put_object(Bucket=other_bucket, Key="k", Body=b"theirs")
    signer = sigv4.Signer(wire.ADMIN, region=wire.REGION)
    fields = signer.headers("GET", "/k", (), [("host", f"{bucket}.{domain}")], sigv4.EMPTY)
    moved = [(n, f"{other_bucket}.{domain}" if n == "host" else v) for n, v in fields]
    assert wire.exchange("GET", "/k", moved).verdict == (403, "SignatureDoesNotMatch")


def test_nobody(s3, bucket, domain):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = wire.exchange("GET", "/k", [("host", f"{bucket}.{domain}")])
    assert answer.verdict == (403, "AccessDenied")
