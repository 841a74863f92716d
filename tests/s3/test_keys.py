"""Restricted keys: a read-only one and one for a prefix of one bucket. Given by the environment.

Every operation that a key does not permit is refused with AccessDenied and changes nothing.
"""

import os
import uuid

import pytest

import wire
from buckets import new_name
from conftest import connect, key_of
from expect import absent, body, keys, nothing_in, refused
from parts import Upload


@pytest.fixture
def thing(s3, bucket):
    """An object, as arguments."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    return {"Bucket": bucket, "Key": "k"}


def test_the_reader_reads(reader, thing):
    bucket = thing["Bucket"]
    assert body(reader, bucket, "k") == b"old"
    assert reader.head_object(**thing)["ContentLength"] == 3
    assert keys(reader.list_objects_v2(Bucket=bucket)) == ["k"]
    assert bucket in [b["Name"] for b in reader.list_buckets()["Buckets"]]
    assert reader.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200


WRITES = {
    "put_object": {"Key": "new", "Body": b"x"},
    "delete_object": {"Key": "k"},
    "copy_object": {"Key": "new", "CopySource": "{bucket}/k"},
    "create_multipart_upload": {"Key": "new"},
    "put_object_tagging": {"Key": "k", "Tagging": {"TagSet": []}},
    "put_bucket_tagging": {"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}},
    "put_bucket_cors": {"CORSConfiguration": {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]}},
    "delete_bucket": {},
}


@pytest.mark.parametrize("operation", WRITES)
def test_the_reader_does_not_write(s3, reader, thing, operation):
    bucket = thing["Bucket"]
    how = {n: v.format(bucket=bucket) if isinstance(v, str) else v for n, v in WRITES[operation].items()}
    refused(403, "AccessDenied", getattr(reader, operation), Bucket=bucket, **how)
    assert keys(s3.list_objects_v2(Bucket=bucket)) == ["k"] and body(s3, bucket, "k") == b"old"
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_the_reader_makes_no_bucket(s3, reader):
    name = new_name()
    refused(403, "AccessDenied", reader.create_bucket, Bucket=name)
    refused(404, "404", s3.head_bucket, Bucket=name)


def test_the_reader_deletes_none_of_many(s3, reader, thing):
    bucket = thing["Bucket"]
    try:
        answer = reader.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]})
        assert [e["Code"] for e in answer["Errors"]] == ["AccessDenied"] and "Deleted" not in answer
    except reader.exceptions.ClientError as e:
        assert e.response["Error"]["Code"] == "AccessDenied"
    assert body(s3, bucket, "k") == b"old"


def test_the_reader_does_not_touch_an_upload(s3, reader, bucket):
    upload = Upload(s3, bucket)
    upload.part(1, b"content")
    refused(403, "AccessDenied", reader.upload_part, PartNumber=2, Body=b"x", **upload.place)
    refused(403, "AccessDenied", reader.complete_multipart_upload, MultipartUpload=upload.parts(), **upload.place)
    refused(403, "AccessDenied", reader.abort_multipart_upload, **upload.place)
    assert len(s3.list_parts(**upload.place)["Parts"]) == 1
    absent(s3, bucket, "k")


def test_the_reader_gives_no_url_to_write(s3, bucket):
    answer = wire.visit("PUT", wire.presigned("PUT", f"/{bucket}/k", key=key_of("READ")), body=b"x")
    assert answer.verdict == (403, "AccessDenied"), answer
    nothing_in(s3, bucket)


@pytest.fixture
def scoped(s3):
    """A client with the prefix key, its bucket, and a key prefix within it for this test alone."""
    client = connect(key_of("PREFIX"))
    bucket, _, prefix = os.environ["BARGE_S3_PREFIX"].partition("/")
    try:
        s3.create_bucket(Bucket=bucket)
    except s3.exceptions.ClientError as e:
        assert e.response["Error"]["Code"] == "BucketAlreadyOwnedByYou"
    prefix = f"{prefix.rstrip('/')}/{uuid.uuid4().hex}/"
    yield client, bucket, prefix
    for key in keys(s3.list_objects_v2(Bucket=bucket, Prefix=prefix)):
        s3.delete_object(Bucket=bucket, Key=key)


def test_within_its_prefix(scoped):
    client, bucket, prefix = scoped
    client.put_object(Bucket=bucket, Key=f"{prefix}k", Body=b"content")
    assert body(client, bucket, f"{prefix}k") == b"content"
    assert keys(client.list_objects_v2(Bucket=bucket, Prefix=prefix)) == [f"{prefix}k"]
    client.copy_object(Bucket=bucket, Key=f"{prefix}copy", CopySource=f"{bucket}/{prefix}k")
    client.delete_object(Bucket=bucket, Key=f"{prefix}k")
    assert body(client, bucket, f"{prefix}copy") == b"content"


def test_uploads_of_parts_within_its_prefix(scoped):
    client, bucket, prefix = scoped
    upload = Upload(client, bucket, f"{prefix}k")
    upload.part(1, b"content")
    upload.complete()
    assert body(client, bucket, f"{prefix}k") == b"content"


@pytest.fixture
def outside(s3, scoped):
    """Keys outside the prefix, with objects: one with a similar name, one above, one elsewhere."""
    _, bucket, _ = scoped
    scope = os.environ["BARGE_S3_PREFIX"].partition("/")[2]
    names = [f"{scope[:-1]}-not-{uuid.uuid4().hex}", f"other-{uuid.uuid4().hex}"]
    for name in names:
        s3.put_object(Bucket=bucket, Key=name, Body=b"theirs")
    yield names
    for name in names:
        s3.delete_object(Bucket=bucket, Key=name)


@pytest.mark.parametrize("operation", ["get", "head", "put", "delete", "copy from", "copy to", "upload", "tags"])
def test_outside_its_prefix(s3, scoped, outside, operation):
    client, bucket, prefix = scoped
    client.put_object(Bucket=bucket, Key=f"{prefix}mine", Body=b"mine")
    for name in outside:
        place = {"Bucket": bucket, "Key": name}
        calls = {
            "get": lambda: client.get_object(**place),
            "put": lambda: client.put_object(Body=b"x", **place),
            "delete": lambda: client.delete_object(**place),
            "copy from": lambda: client.copy_object(
                Bucket=bucket, Key=f"{prefix}stolen", CopySource={"Bucket": bucket, "Key": name}
            ),
            "copy to": lambda: client.copy_object(CopySource=f"{bucket}/{prefix}mine", **place),
            "upload": lambda: client.create_multipart_upload(**place),
            "tags": lambda: client.get_object_tagging(**place),
        }
        if operation == "head":
            refused(403, "403", client.head_object, **place)
        else:
            refused(403, "AccessDenied", calls[operation])
        assert body(s3, bucket, name) == b"theirs"
    absent(s3, bucket, f"{prefix}stolen")


def test_lists_nothing_outside_its_prefix(scoped, outside):
    client, bucket, _ = scoped
    for wider in ["", "other", os.environ["BARGE_S3_PREFIX"].partition("/")[2][:1]]:
        refused(403, "AccessDenied", client.list_objects_v2, Bucket=bucket, Prefix=wider)


def test_has_no_other_bucket(s3, scoped, thing):
    client, _, _ = scoped
    bucket = thing["Bucket"]
    refused(403, "AccessDenied", client.get_object, **thing)
    refused(403, "AccessDenied", client.put_object, Body=b"x", **thing)
    refused(403, "AccessDenied", client.list_objects_v2, Bucket=bucket)
    refused(403, "AccessDenied", client.delete_bucket, Bucket=bucket)
    refused(403, "AccessDenied", client.create_bucket, Bucket=new_name())
    assert body(s3, bucket, "k") == b"old"


def test_deletes_only_its_own_of_many(s3, scoped, outside):
    client, bucket, prefix = scoped
    client.put_object(Bucket=bucket, Key=f"{prefix}mine", Body=b"mine")
    entries = [{"Key": f"{prefix}mine"}, {"Key": outside[0]}]
    try:
        answer = client.delete_objects(Bucket=bucket, Delete={"Objects": entries})
        assert [(e["Key"], e["Code"]) for e in answer["Errors"]] == [(outside[0], "AccessDenied")]
    except client.exceptions.ClientError as e:
        assert e.response["Error"]["Code"] == "AccessDenied"
    assert body(s3, bucket, outside[0]) == b"theirs"
