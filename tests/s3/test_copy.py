"""CopyObject: what is copied, what is replaced, what is refused, and that a copy is independent.

Conditions on the source are in `test_conditional`, on the destination in `test_conditional_writes`; copied parts in
`test_multipart`.
"""

import os

import pytest

import wire
from expect import absent, body, refused
from parts import MIN, uploaded

HEADERS = {
    "ContentType": "text/plain",
    "CacheControl": "max-age=60",
    "ContentDisposition": "inline",
    "ContentEncoding": "gzip",
    "ContentLanguage": "de",
    "Metadata": {"a": "1", "b": "zwei"},
}


@pytest.fixture
def source(s3, bucket):
    """An object with everything that can be copied along."""
    s3.put_object(Bucket=bucket, Key="source", Body=b"content", Tagging="t=1&u=2", **HEADERS)
    return {"Bucket": bucket, "Key": "source"}


def copy(s3, source, key="copy", **how):
    """Copies within the bucket of the source by default."""
    return s3.copy_object(**{"Bucket": source["Bucket"], "Key": key, "CopySource": source, **how})


def tags(s3, bucket, key):
    return {t["Key"]: t["Value"] for t in s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]}


def test_everything_goes_along(s3, source, bucket):
    result = copy(s3, source)["CopyObjectResult"]
    head = s3.head_object(Bucket=bucket, Key="copy")
    assert body(s3, bucket, "copy") == b"content"
    assert {name: head[name] for name in HEADERS} == HEADERS
    assert result["ETag"] == head["ETag"] == s3.head_object(**source)["ETag"]
    assert result["LastModified"].replace(microsecond=0) == head["LastModified"]
    assert tags(s3, bucket, "copy") == {"t": "1", "u": "2"}


@pytest.mark.parametrize("size", [0, 1, 65537, 9 << 20])
def test_sizes(s3, bucket, size):
    data = os.urandom(size)
    s3.put_object(Bucket=bucket, Key="source", Body=data)
    copy(s3, {"Bucket": bucket, "Key": "source"})
    assert body(s3, bucket, "copy") == data
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["Size"] == size


def test_to_another_bucket(s3, source, other_bucket):
    copy(s3, source, Bucket=other_bucket)
    assert body(s3, other_bucket, "copy") == b"content"
    assert s3.head_object(Bucket=other_bucket, Key="copy")["Metadata"] == HEADERS["Metadata"]


def test_of_an_object_of_parts(s3, bucket):
    contents = uploaded(s3, bucket, "source", [MIN, 100], Metadata={"a": "1"})
    copy(s3, {"Bucket": bucket, "Key": "source"})
    s3.delete_object(Bucket=bucket, Key="source")
    assert body(s3, bucket, "copy") == b"".join(contents)
    assert s3.head_object(Bucket=bucket, Key="copy")["Metadata"] == {"a": "1"}


def test_replaced_metadata(s3, source, bucket):
    copy(s3, source, MetadataDirective="REPLACE", Metadata={"c": "3"}, ContentType="text/html")
    head = s3.head_object(Bucket=bucket, Key="copy")
    assert (head["Metadata"], head["ContentType"]) == ({"c": "3"}, "text/html")
    for name in ["CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage"]:
        assert name not in head
    assert body(s3, bucket, "copy") == b"content"


def test_replaced_by_nothing(s3, source, bucket):
    copy(s3, source, MetadataDirective="REPLACE")
    head = s3.head_object(Bucket=bucket, Key="copy")
    assert (head["Metadata"], head["ContentType"]) == ({}, "binary/octet-stream")


@pytest.mark.parametrize("directive", [{}, {"MetadataDirective": "COPY"}])
def test_metadata_is_ignored_unless_it_replaces(s3, source, bucket, directive):
    copy(s3, source, Metadata={"c": "3"}, ContentType="text/html", **directive)
    head = s3.head_object(Bucket=bucket, Key="copy")
    assert (head["Metadata"], head["ContentType"]) == (HEADERS["Metadata"], "text/plain")


def test_replaced_tags(s3, source, bucket):
    copy(s3, source, TaggingDirective="REPLACE", Tagging="v=3")
    assert tags(s3, bucket, "copy") == {"v": "3"}


def test_tags_replaced_by_nothing(s3, source, bucket):
    copy(s3, source, TaggingDirective="REPLACE")
    assert tags(s3, bucket, "copy") == {}


def test_tags_go_along_when_metadata_is_replaced(s3, source, bucket):
    copy(s3, source, MetadataDirective="REPLACE", Metadata={"c": "3"})
    assert tags(s3, bucket, "copy") == {"t": "1", "u": "2"}


@pytest.mark.parametrize("name", ["MetadataDirective", "TaggingDirective"])
def test_directives_that_nobody_knows(s3, source, bucket, name):
    refused(400, "InvalidArgument", copy, s3=s3, source=source, **{name: "KEEP"})
    absent(s3, bucket, "copy")


def test_onto_itself_without_a_change(s3, source, bucket):
    refused(400, "InvalidRequest", copy, s3=s3, source=source, key="source")
    refused(400, "InvalidRequest", copy, s3=s3, source=source, key="source", Metadata={"c": "3"})
    assert s3.head_object(**source)["Metadata"] == HEADERS["Metadata"]


def test_onto_itself_with_other_metadata(s3, source, bucket):
    copy(s3, source, key="source", MetadataDirective="REPLACE", Metadata={"c": "3"})
    assert s3.head_object(**source)["Metadata"] == {"c": "3"}
    assert body(s3, bucket, "source") == b"content"


def test_onto_itself_again_and_again(s3, bucket):
    data = os.urandom(1 << 20)
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    for n in range(5):
        copy(s3, {"Bucket": bucket, "Key": "k"}, key="k", MetadataDirective="REPLACE", Metadata={"n": str(n)})
        assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"n": str(n)}
    assert body(s3, bucket, "k") == data


def test_onto_another_object(s3, source, bucket):
    s3.put_object(Bucket=bucket, Key="copy", Body=b"old", Metadata={"old": "1"}, Tagging="old=1")
    copy(s3, source)
    assert body(s3, bucket, "copy") == b"content"
    assert s3.head_object(Bucket=bucket, Key="copy")["Metadata"] == HEADERS["Metadata"]
    assert tags(s3, bucket, "copy") == {"t": "1", "u": "2"}


def test_a_copy_outlives_its_source(s3, source, bucket):
    copy(s3, source, key="one")
    copy(s3, source, key="two")
    s3.delete_object(**source)
    assert (body(s3, bucket, "one"), body(s3, bucket, "two")) == (b"content", b"content")
    s3.delete_object(Bucket=bucket, Key="one")
    assert body(s3, bucket, "two") == b"content"


def test_a_copy_does_not_follow_its_source(s3, source, bucket):
    copy(s3, source)
    s3.put_object(Body=b"newer", **source)
    assert body(s3, bucket, "copy") == b"content"
    s3.put_object(Bucket=bucket, Key="copy", Body=b"other")
    assert body(s3, bucket, "source") == b"newer"


KEYS = ["a b", "a+b", "a%20b", "a%b", "ä/漢", "a?b=c", "a&b", "a#b", "a//b", "/a", "a=b,c;d", "x?versionId=null"]


@pytest.mark.parametrize("key", KEYS)
def test_sources_of_strange_names(s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    copy(s3, {"Bucket": bucket, "Key": key}, key=f"copy of {key}")
    assert body(s3, bucket, f"copy of {key}") == key.encode()


@pytest.mark.parametrize("form", ["{bucket}/source", "/{bucket}/source", "{bucket}%2Fsource", "/{bucket}/sour%63e"])
def test_forms_of_a_source(s3, source, bucket, form):
    headers = [("x-amz-copy-source", form.format(bucket=bucket))]
    answer = wire.signed("PUT", f"/{bucket}/copy", headers=headers)
    assert answer.status == 200 and answer.text("ETag") == s3.head_object(**source)["ETag"]
    assert body(s3, bucket, "copy") == b"content"


@pytest.mark.parametrize("form", ["", "/", "nothing", "{bucket}", "{bucket}/"])
def test_what_is_no_source(s3, source, bucket, form):
    headers = [("x-amz-copy-source", form.format(bucket=bucket))]
    answer = wire.signed("PUT", f"/{bucket}/copy", headers=headers)
    assert answer.verdict == (400, "InvalidArgument"), answer
    absent(s3, bucket, "copy")


def test_a_source_that_is_not_there(s3, bucket):
    refused(404, "NoSuchKey", copy, s3=s3, source={"Bucket": bucket, "Key": "none"})
    absent(s3, bucket, "copy")


def test_a_source_that_was_deleted(s3, source, bucket):
    s3.delete_object(**source)
    refused(404, "NoSuchKey", copy, s3=s3, source=source)
    absent(s3, bucket, "copy")


def test_a_bucket_that_is_not_there(s3, bucket):
    nowhere = {"Bucket": f"{bucket}-none", "Key": "k"}
    refused(404, "NoSuchBucket", copy, s3=s3, source=nowhere, Bucket=bucket)
    absent(s3, bucket, "copy")


def test_a_key_that_is_too_long(s3, source):
    refused(400, "KeyTooLongError", copy, s3=s3, source=source, key="a" * 1025)


def test_metadata_that_is_too_large(s3, source, bucket):
    how = {"MetadataDirective": "REPLACE", "Metadata": {"k": "v" * 2048}}
    refused(400, "MetadataTooLarge", copy, s3=s3, source=source, **how)
    absent(s3, bucket, "copy")


def test_a_body_is_not_what_is_stored(s3, source, bucket):
    headers = [("x-amz-copy-source", f"{bucket}/source")]
    answer = wire.signed("PUT", f"/{bucket}/copy", headers=headers, body=b"a body")
    if answer.status == 200:
        assert body(s3, bucket, "copy") == b"content"
    else:
        assert answer.verdict == (400, "InvalidRequest"), answer
        absent(s3, bucket, "copy")
