"""Atomicity: readers concurrent with writers see one version or another, and aborted writes leave no trace.

Every byte of a version identifies it, so a mixture is always detected.
"""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

import sigv4
import wire
from expect import absent, body, keys, nothing_in, refused

# More than is written or sent in one piece.
SIZE = 2 << 20


def version(n, size=SIZE):
    """Returns the bytes of version n; each version has a different length."""
    return bytes([n]) * (size + n)


def one_version(data, size=SIZE):
    """Returns the number of the version of these bytes, which must be complete."""
    assert data, "no bytes"
    assert data == version(data[0], size), f"{len(data)} bytes, of versions {sorted(set(data))[:5]}"
    return data[0]


@pytest.mark.parametrize("size", [1000, SIZE])
def test_readers_beside_a_writer(s3, bucket, size):
    s3.put_object(Bucket=bucket, Key="k", Body=version(0, size))
    done = threading.Event()

    def read(_):
        seen = []
        while not done.is_set() or not seen:
            got = s3.get_object(Bucket=bucket, Key="k")
            data = got["Body"].read()
            assert got["ContentLength"] == len(data)
            assert got["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
            seen.append(one_version(data, size))
        return seen

    def write():
        try:
            for n in range(1, 16):
                s3.put_object(Bucket=bucket, Key="k", Body=version(n, size))
        finally:
            done.set()

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, n) for n in range(3)]
        pool.submit(write).result()
        for reader in readers:
            seen = reader.result()
            assert seen == sorted(seen), "an older version came after a newer one"


def test_a_reader_that_has_begun_keeps_its_version(s3, bucket):
    data = version(1, 24 << 20)
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    stream = s3.get_object(Bucket=bucket, Key="k")["Body"]
    begun = stream.read(1 << 16)
    s3.put_object(Bucket=bucket, Key="k", Body=version(2))
    assert begun + stream.read() == data
    assert body(s3, bucket, "k") == version(2)


def test_a_reader_that_has_begun_outlives_a_delete(s3, bucket):
    data = version(1, 24 << 20)
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    stream = s3.get_object(Bucket=bucket, Key="k")["Body"]
    begun = stream.read(1 << 16)
    s3.delete_object(Bucket=bucket, Key="k")
    assert begun + stream.read() == data
    absent(s3, bucket, "k")


def test_writers_beside_each_other(s3, bucket):
    with ThreadPoolExecutor(6) as pool:
        tags = list(pool.map(lambda n: s3.put_object(Bucket=bucket, Key="k", Body=version(n))["ETag"], range(12)))
    last = one_version(body(s3, bucket, "k"))
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"] == tags[last]
    assert keys(s3.list_objects_v2(Bucket=bucket)) == ["k"]


def test_headers_and_bytes_change_together(s3, bucket):
    def write(n):
        s3.put_object(Bucket=bucket, Key="k", Body=version(n, 1000), Metadata={"n": str(n)})

    write(0)
    with ThreadPoolExecutor(2) as pool:
        writer = pool.submit(lambda: [write(n) for n in range(1, 40)])
        while not writer.done():
            got = s3.get_object(Bucket=bucket, Key="k")
            assert one_version(got["Body"].read(), 1000) == int(got["Metadata"]["n"])
        writer.result()


def test_readers_beside_deletes(s3, bucket):
    def write():
        for n in range(1, 16):
            s3.put_object(Bucket=bucket, Key="k", Body=version(n))
            s3.delete_object(Bucket=bucket, Key="k")

    with ThreadPoolExecutor(2) as pool:
        writer = pool.submit(write)
        while not writer.done():
            try:
                one_version(body(s3, bucket, "k"))
            except ClientError as e:
                assert e.response["Error"]["Code"] == "NoSuchKey"
        writer.result()
    absent(s3, bucket, "k")


def test_a_listing_never_shows_half(s3, bucket):
    sizes = {len(version(n)) for n in range(10)}
    with ThreadPoolExecutor(2) as pool:
        writer = pool.submit(lambda: [s3.put_object(Bucket=bucket, Key="k", Body=version(n)) for n in range(10)])
        while not writer.done():
            listed = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
            assert all(entry["Size"] in sizes for entry in listed) and len(listed) <= 1
        writer.result()


LENGTH = [("content-length", str(SIZE))]


@pytest.mark.parametrize("sent", [0, 1, 65536, SIZE - 1])
def test_a_put_that_breaks_off_leaves_nothing(s3, bucket, sent):
    wire.broken_off("PUT", f"/{bucket}/k", LENGTH, bytes(sent))
    absent(s3, bucket, "k")
    nothing_in(s3, bucket)


@pytest.mark.parametrize("sent", [0, SIZE - 1])
def test_a_put_that_breaks_off_leaves_the_old_one(s3, bucket, sent):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old", Metadata={"a": "1"})
    wire.broken_off("PUT", f"/{bucket}/k", LENGTH, bytes(sent))
    assert body(s3, bucket, "k") == b"old"
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"a": "1"}


def test_a_put_under_way_is_not_seen(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    connection = wire.begun("PUT", f"/{bucket}/k", LENGTH, bytes(SIZE - 1))
    assert body(s3, bucket, "k") == b"old"
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["Size"] == 3
    connection.send(b"\0")
    answer = wire.Answer(connection.getresponse())
    connection.close()
    assert answer.status == 200, answer
    assert body(s3, bucket, "k") == bytes(SIZE)


def test_a_part_that_breaks_off_is_no_part(s3, bucket):
    place = {"Bucket": bucket, "Key": "k"}
    place["UploadId"] = s3.create_multipart_upload(**place)["UploadId"]
    query = [("partNumber", "1"), ("uploadId", place["UploadId"])]
    headers = sigv4.Signer(wire.ADMIN, region=wire.REGION).headers(
        "PUT", f"/{bucket}/k", query, [("host", wire.HOST), *LENGTH], sigv4.UNSIGNED
    )
    connection = wire.connect()
    connection.putrequest("PUT", wire.target(f"/{bucket}/k", query), skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders(bytes(1000))
    connection.close()
    assert "Parts" not in s3.list_parts(**place)
    absent(s3, bucket, "k")


def test_parts_are_no_object_before_they_are_completed(s3, bucket):
    place = {"Bucket": bucket, "Key": "k"}
    s3.put_object(Body=b"old", **place)
    upload = s3.create_multipart_upload(**place)["UploadId"]
    part = s3.upload_part(PartNumber=1, Body=b"new", UploadId=upload, **place)
    assert body(s3, bucket, "k") == b"old"
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(UploadId=upload, MultipartUpload=parts, **place)
    assert body(s3, bucket, "k") == b"new"


def test_a_digest_that_does_not_fit_leaves_the_old_one(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    answer = wire.signed("PUT", f"/{bucket}/k", body=version(1), payload=sigv4.sha256(version(2)))
    assert answer.verdict == (400, "XAmzContentSHA256Mismatch"), answer
    assert body(s3, bucket, "k") == b"old"


def test_readers_beside_completions(s3, bucket):
    place = {"Bucket": bucket, "Key": "k"}
    s3.put_object(Body=version(0), **place)

    def complete(n):
        upload = s3.create_multipart_upload(**place)["UploadId"]
        part = s3.upload_part(PartNumber=1, Body=version(n), UploadId=upload, **place)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        s3.complete_multipart_upload(UploadId=upload, MultipartUpload=parts, **place)

    with ThreadPoolExecutor(2) as pool:
        writer = pool.submit(lambda: [complete(n) for n in range(1, 8)])
        while not writer.done():
            one_version(body(s3, bucket, "k"))
        writer.result()
    refused(412, "PreconditionFailed", s3.put_object, Body=b"x", IfNoneMatch="*", **place)
    assert one_version(body(s3, bucket, "k")) == 7
