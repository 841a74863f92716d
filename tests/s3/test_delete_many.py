"""DeleteObjects: many keys in one request, the result of each, and when all are refused.

Never removes a bucket; conditions on single entries are in `test_conditional_writes`.
"""

import base64
import hashlib

import pytest

import wire
from buckets import fill
from expect import body, keys, refused


def delete(s3, bucket, names, **how):
    """Deletes by name."""
    return s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": n} for n in names], **how})


def post(bucket, document, *headers, md5=True):
    """Sends a request with this body."""
    digest = base64.b64encode(hashlib.md5(document).digest()).decode()
    all_headers = [*headers, *([("content-md5", digest)] if md5 else [])]
    return wire.signed("POST", f"/{bucket}", query=[("delete", "")], headers=all_headers, body=document)


def document(*names):
    """Returns the body that names these keys, none of which needs escaping."""
    return ("<Delete>" + "".join(f"<Object><Key>{n}</Key></Object>" for n in names) + "</Delete>").encode()


@pytest.fixture
def full(bucket):
    """A bucket with a few objects."""
    fill(bucket, "abcd")
    return bucket


def names(entries):
    return sorted(entry["Key"] for entry in entries)


def test_several(s3, full):
    answer = delete(s3, full, "abc")
    assert names(answer["Deleted"]) == ["a", "b", "c"] and "Errors" not in answer
    assert keys(s3.list_objects_v2(Bucket=full)) == ["d"]


def test_quietly(s3, full):
    answer = delete(s3, full, "abc", Quiet=True)
    assert "Deleted" not in answer and "Errors" not in answer
    assert keys(s3.list_objects_v2(Bucket=full)) == ["d"]


def test_what_is_not_there_counts_as_deleted(s3, full):
    assert names(delete(s3, full, ["a", "none"])["Deleted"]) == ["a", "none"]
    assert keys(s3.list_objects_v2(Bucket=full)) == ["b", "c", "d"]


def test_one_key_twice(s3, full):
    answer = delete(s3, full, ["a", "a"])
    assert set(names(answer["Deleted"])) == {"a"} and "Errors" not in answer
    assert keys(s3.list_objects_v2(Bucket=full)) == ["b", "c", "d"]


def test_strange_keys(s3, bucket):
    strange = ["a b", "a&b", "<c>", '"d"', "é", "漢字", "e+f", "%41", "/g", "h/", "\U0001f980", "i\nj", " k "]
    for key in strange:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    answer = delete(s3, bucket, strange)
    assert set(names(answer["Deleted"])) >= {k for k in strange if k.isprintable()} and "Errors" not in answer
    assert keys(s3.list_objects_v2(Bucket=bucket)) == []


def test_a_folder_is_only_a_name(s3, bucket):
    for key in ["a", "a/", "a/b"]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    delete(s3, bucket, ["a/"])
    assert keys(s3.list_objects_v2(Bucket=bucket)) == ["a", "a/b"]


def test_a_thousand(s3, full):
    many = ["a", "b", *(f"none/{n}" for n in range(998))]
    assert len(delete(s3, full, many)["Deleted"]) == 1000
    assert keys(s3.list_objects_v2(Bucket=full)) == ["c", "d"]


def test_more_than_a_thousand(s3, full):
    many = ["a", *(f"none/{n}" for n in range(1000))]
    refused(400, "MalformedXML", delete, s3=s3, bucket=full, names=many)
    assert keys(s3.list_objects_v2(Bucket=full)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no xml",
        b"<Delete></Delete>",
        b"<Delete><Object></Object></Delete>",
        b"<Delete><Object><Key>a</Key></Object>",
        b"<Other><Object><Key>a</Key></Object></Other>",
    ],
)
def test_a_body_that_says_nothing(s3, full, text):
    answer = post(full, text)
    # S3 reports a missing body as missing, too.
    codes = ("MalformedXML", "MissingRequestBodyError") if not text else ("MalformedXML",)
    assert answer.status == 400 and answer.code in codes, answer
    assert keys(s3.list_objects_v2(Bucket=full)) == ["a", "b", "c", "d"]


def test_without_a_digest(s3, full):
    answer = post(full, document("a"), md5=False)
    assert answer.verdict == (400, "InvalidRequest"), answer
    assert keys(s3.list_objects_v2(Bucket=full)) == ["a", "b", "c", "d"]


def test_with_the_md5_of_other_bytes(s3, full):
    digest = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    answer = post(full, document("a"), ("content-md5", digest), md5=False)
    assert answer.verdict == (400, "BadDigest"), answer
    assert keys(s3.list_objects_v2(Bucket=full)) == ["a", "b", "c", "d"]


def test_with_a_checksum_instead(s3, full):
    digest = base64.b64encode(hashlib.sha256(document("a")).digest()).decode()
    answer = post(full, document("a"), ("x-amz-checksum-sha256", digest), md5=False)
    assert answer.status == 200 and answer.text("Deleted/Key") == "a"
    assert keys(s3.list_objects_v2(Bucket=full)) == ["b", "c", "d"]


def test_with_the_checksum_of_other_bytes(s3, full):
    digest = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    answer = post(full, document("a"), ("x-amz-checksum-sha256", digest), md5=False)
    assert answer.verdict == (400, "BadDigest"), answer
    assert keys(s3.list_objects_v2(Bucket=full)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("head", [b'<?xml version="1.0" encoding="UTF-8"?>\n', b"<!-- remark -->"])
def test_forms_of_xml(s3, full, head):
    text = document("a", "b").replace(b"<Delete>", b'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">')
    answer = post(full, head + text.replace(b"><", b">\n  <"))
    assert answer.status == 200, answer
    assert keys(s3.list_objects_v2(Bucket=full)) == ["c", "d"]


def test_entities_are_not_opened(s3, full):
    text = b'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/hostname">]>' + document("&x;")
    answer = post(full, text)
    assert answer.verdict == (400, "MalformedXML"), answer
    assert keys(s3.list_objects_v2(Bucket=full)) == ["a", "b", "c", "d"]


def test_a_key_that_is_too_long_does_not_stop_the_others(s3, full):
    answer = delete(s3, full, ["a", "x" * 1025, "b"], Quiet=True)
    assert [error["Code"] for error in answer["Errors"]] == ["KeyTooLongError"]
    assert keys(s3.list_objects_v2(Bucket=full)) == ["c", "d"]


def test_the_null_version(s3, full):
    entry = {"Key": "a", "VersionId": "null"}
    answer = s3.delete_objects(Bucket=full, Delete={"Objects": [entry]})
    assert names(answer["Deleted"]) == ["a"] and "Errors" not in answer
    assert keys(s3.list_objects_v2(Bucket=full)) == ["b", "c", "d"]


def test_a_version_that_nobody_made(s3, full):
    entry = {"Key": "a", "VersionId": "3HL4kqtJlcpXroDTDmJ"}
    try:
        answer = s3.delete_objects(Bucket=full, Delete={"Objects": [entry]})
        assert [error["Code"] for error in answer["Errors"]] in (["NoSuchVersion"], ["InvalidArgument"])
    except s3.exceptions.ClientError as e:
        assert e.response["Error"]["Code"] == "InvalidArgument"
    assert body(s3, full, "a") == b"a"


def test_what_was_deleted_can_be_written_again(s3, full):
    delete(s3, full, "ab")
    s3.put_object(Bucket=full, Key="a", Body=b"again")
    assert keys(s3.list_objects_v2(Bucket=full)) == ["a", "c", "d"]
    assert body(s3, full, "a") == b"again"
