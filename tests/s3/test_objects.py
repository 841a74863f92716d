"""Single objects: put, read, inspected, replaced and deleted, under all kinds of keys and with all kinds of sizes.

Headers, ranges and conditions have modules of their own.
"""

import base64
import datetime
import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

import sigv4
import wire
from conftest import connect
from expect import absent, body, keys, nothing_in, refused

SIZES = [0, 1, 5, 4095, 4096, 4097, 65535, 65536, 65537, (1 << 20) + 1, 9 << 20]
KEYS = [
    "simple",
    "with space",
    " leading and trailing ",
    "a/b/c",
    "/leading/slash",
    "trailing/slash/",
    "double//slash",
    "plus+and&and=and?and#",
    "percent%41and%2F",
    "quotes'\"<>",
    "braces{}[]^`|\\~",
    "semicolon;comma,colon:at@",
    "umlaut-äöüß",
    "漢字/かな",
    "emoji-\U0001f980",
    "e\u0301-and-\u00e9",
    "_/ours",
    "a" * 1024,
    "ü" * 512,
]


def digest(data):
    return f'"{hashlib.md5(data).hexdigest()}"'


@pytest.mark.parametrize("size", SIZES)
def test_sizes(s3, bucket, size):
    data = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=data)
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 200
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == data
    assert got["ContentLength"] == size
    assert got["ETag"] == put["ETag"] == digest(data)


@pytest.mark.parametrize("key", KEYS)
def test_keys(s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert body(s3, bucket, key) == key.encode()
    assert keys(s3.list_objects_v2(Bucket=bucket)) == [key]
    assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(key.encode())
    s3.delete_object(Bucket=bucket, Key=key)
    absent(s3, bucket, key)


@pytest.mark.parametrize("key", ["a" * 1025, "ü" * 512 + "a"])
def test_keys_that_are_too_long(s3, bucket, key):
    refused(400, "KeyTooLongError", s3.put_object, Bucket=bucket, Key=key, Body=b"x")
    nothing_in(s3, bucket)


def test_keys_that_differ_in_case_or_slashes_are_different(s3, bucket):
    names = ["a", "A", "a/", "/a", "a//", "a ", "%61"]
    for name in names:
        s3.put_object(Bucket=bucket, Key=name, Body=name.encode())
    assert [body(s3, bucket, name) for name in names] == [name.encode() for name in names]


@pytest.mark.parametrize("key", ["dots/./in/it", "dots/in/../it", "..", "./a"])
def test_dots_are_kept_or_refused(s3, bucket, key):
    # S3 keeps most of them; clients and proxies rewrite them. The only error is a different key.
    answer = wire.signed("PUT", f"/{bucket}/{key}", body=b"x")
    if answer.status == 200:
        assert keys(s3.list_objects_v2(Bucket=bucket)) == [key]
        assert wire.signed("GET", f"/{bucket}/{key}").body == b"x"
        assert wire.signed("DELETE", f"/{bucket}/{key}").status == 204
    else:
        assert answer.verdict in [(400, "InvalidURI"), (400, "InvalidArgument")], answer
    nothing_in(s3, bucket)


def test_an_object_and_a_folder_of_one_name(s3, bucket):
    for key in ["dir", "dir/", "dir/file"]:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    s3.delete_object(Bucket=bucket, Key="dir")
    assert keys(s3.list_objects_v2(Bucket=bucket)) == ["dir/", "dir/file"]
    assert body(s3, bucket, "dir/") == b"dir/"


def test_replaced_by_shorter_and_by_longer(s3, bucket):
    for data in [b"a" * 100_000, b"b", b"c" * 200_000, b""]:
        s3.put_object(Bucket=bucket, Key="k", Body=data)
        got = s3.get_object(Bucket=bucket, Key="k")
        assert (got["Body"].read(), got["ETag"]) == (data, digest(data))
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [(entry["Key"], entry["Size"]) for entry in listed] == [("k", 0)]


def test_head_says_what_get_says(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345", ContentType="text/plain", Metadata={"a": "b"})
    head, got = s3.head_object(Bucket=bucket, Key="k"), s3.get_object(Bucket=bucket, Key="k")
    for field in ["ContentLength", "ETag", "LastModified", "ContentType", "Metadata", "AcceptRanges"]:
        assert head[field] == got[field], field
    assert (head["ContentLength"], head["AcceptRanges"]) == (5, "bytes")


def test_head_has_no_body(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345")
    answer = wire.signed("HEAD", f"/{bucket}/k")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "5", b"")


def test_last_modified_is_now_and_the_same_everywhere(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    head = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"][0]["LastModified"]
    assert head == listed.replace(microsecond=0)
    assert abs(datetime.datetime.now(datetime.timezone.utc) - head) < datetime.timedelta(minutes=5)


def test_get_missing_names_the_key(s3, bucket):
    answer = refused(404, "NoSuchKey", s3.get_object, Bucket=bucket, Key="not/there")
    assert answer["Error"]["Key"] == "not/there"


def test_head_missing(s3, bucket):
    refused(404, "404", s3.head_object, Bucket=bucket, Key="k")
    answer = wire.signed("HEAD", f"/{bucket}/k")
    assert (answer.status, answer.body) == (404, b"")


def test_delete(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = s3.delete_object(Bucket=bucket, Key="k")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    absent(s3, bucket, "k")
    refused(404, "404", s3.head_object, Bucket=bucket, Key="k")


def test_delete_what_is_not_there(s3, bucket):
    assert s3.delete_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_put_after_delete(s3, bucket):
    for data in [b"one", b"two", b"three"]:
        s3.put_object(Bucket=bucket, Key="k", Body=data)
        assert body(s3, bucket, "k") == data
        s3.delete_object(Bucket=bucket, Key="k")
        absent(s3, bucket, "k")


def test_content_md5_that_fits(s3, bucket):
    md5 = base64.b64encode(hashlib.md5(b"data").digest()).decode()
    s3.put_object(Bucket=bucket, Key="k", Body=b"data", ContentMD5=md5)
    assert body(s3, bucket, "k") == b"data"


def test_content_md5_of_other_bytes(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    refused(400, "BadDigest", s3.put_object, Bucket=bucket, Key="k", Body=b"data", ContentMD5=md5)
    assert body(s3, bucket, "k") == b"old"


@pytest.mark.parametrize(
    "md5", ["", "short", "not*base64*at*all", "A" * 40, base64.b64encode(b"15 bytes of it.").decode()]
)
def test_content_md5_that_is_none(s3, bucket, md5):
    answer = wire.signed("PUT", f"/{bucket}/k", headers=[("content-md5", md5)], body=b"data")
    assert answer.verdict == (400, "InvalidDigest"), answer
    nothing_in(s3, bucket)


def test_no_length(s3, bucket):
    answer = wire.signed("PUT", f"/{bucket}/k", payload=sigv4.UNSIGNED, length=False)
    assert answer.verdict == (411, "MissingContentLength"), answer
    nothing_in(s3, bucket)


def test_larger_than_one_put_may_be(s3, bucket):
    too_much = [("content-length", str((5 << 30) + 1))]
    answer = wire.signed("PUT", f"/{bucket}/k", headers=too_much, payload=sigv4.UNSIGNED, length=False)
    assert answer.verdict == (400, "EntityTooLarge"), answer
    nothing_in(s3, bucket)


def test_storage_class_standard(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", StorageClass="STANDARD")
    assert s3.head_object(Bucket=bucket, Key="k").get("StorageClass", "STANDARD") == "STANDARD"
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["StorageClass"] == "STANDARD"


def test_storage_class_that_nobody_knows(s3, bucket):
    refused(400, "InvalidStorageClass", s3.put_object, Bucket=bucket, Key="k", Body=b"x", StorageClass="CELLAR")
    nothing_in(s3, bucket)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_methods_that_objects_do_not_have(s3, bucket, method):
    answer = wire.signed(method, f"/{bucket}/k", body=b"x")
    assert answer.verdict == (405, "MethodNotAllowed"), answer
    nothing_in(s3, bucket)


def test_many_at_once(s3, bucket):
    names = [f"k{n:03}" for n in range(64)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: s3.put_object(Bucket=bucket, Key=n, Body=n.encode() * 100), names))
        assert list(pool.map(lambda n: body(s3, bucket, n), names)) == [n.encode() * 100 for n in names]
    assert keys(s3.list_objects_v2(Bucket=bucket)) == names


def test_one_connection_carries_refusals_and_successes(s3, bucket):
    for n in range(5):
        refused(404, "NoSuchKey", s3.get_object, Bucket=bucket, Key="k")
        s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % n)
        assert body(s3, bucket, "k") == b"%d" % n
        s3.delete_object(Bucket=bucket, Key="k")


def test_one_connection_for_what_waits_to_be_called(bucket):
    """botocore sends `Expect: 100-continue` with every body, even an empty one; after an answer instead of the 100 it
    reads the next answer wrongly, unless the connection was closed."""
    alone = connect(max_pool_connections=1)
    text = io.BytesIO(b"x" * 100_000)
    tags = [alone.put_object(Bucket=bucket, Key=f"{n}", Body=io.BytesIO(b""))["ETag"] for n in range(2)]
    assert tags == [digest(b"")] * 2
    assert alone.put_object(Bucket=bucket, Key="k", Body=text)["ETag"] == digest(text.getvalue())
    refused(412, "PreconditionFailed", alone.put_object, Bucket=bucket, Key="k", Body=text, IfNoneMatch="*")
    text.seek(0)
    assert alone.put_object(Bucket=bucket, Key="k", Body=text)["ETag"] == digest(text.getvalue())
