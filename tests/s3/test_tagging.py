"""Tags of objects and of buckets: set, replaced, shown, removed, and their limits.

Tags and copies are in `test_copy`.
"""

import pytest

import wire
from expect import absent, body, refused
from parts import Upload


def as_set(tags):
    return {"TagSet": [{"Key": k, "Value": v} for k, v in tags.items()]}


def tags(s3, bucket, key="k"):
    return {t["Key"]: t["Value"] for t in s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]}


@pytest.fixture
def place(s3, bucket):
    """An object without tags."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"content")
    return {"Bucket": bucket, "Key": "k"}


GOOD = {
    "one": {"a": "1"},
    "ten": {f"k{n}": str(n) for n in range(10)},
    "empty value": {"a": ""},
    "as long as they may be": {"k" * 128: "v" * 256},
    "characters": {"a b+c-d=e._:/@": "f g+h-i=j._:/@"},
    "unicode": {"Schlüssel": "漢字"},
    "none": {},
}


@pytest.mark.parametrize("name", GOOD)
def test_set(s3, place, name):
    s3.put_object_tagging(Tagging=as_set(GOOD[name]), **place)
    assert tags(s3, place["Bucket"]) == GOOD[name]


def test_none(s3, place):
    assert tags(s3, place["Bucket"]) == {}


def test_set_again_replaces(s3, place):
    s3.put_object_tagging(Tagging=as_set({"a": "1", "b": "2"}), **place)
    s3.put_object_tagging(Tagging=as_set({"c": "3"}), **place)
    assert tags(s3, place["Bucket"]) == {"c": "3"}


def test_removed(s3, place):
    s3.put_object_tagging(Tagging=as_set({"a": "1"}), **place)
    assert s3.delete_object_tagging(**place)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert tags(s3, place["Bucket"]) == {}


def test_tags_change_nothing_else(s3, place):
    before = s3.head_object(**place)
    s3.put_object_tagging(Tagging=as_set({"a": "1"}), **place)
    after = s3.head_object(**place)
    assert (after["ETag"], after["LastModified"]) == (before["ETag"], before["LastModified"])
    assert body(s3, *place.values()) == b"content"


BAD = {
    "eleven": ({f"k{n}": str(n) for n in range(11)}, "BadRequest"),
    "long key": ({"k" * 129: "v"}, "InvalidTag"),
    "long value": ({"k": "v" * 257}, "InvalidTag"),
    "empty key": ({"": "v"}, "InvalidTag"),
    "reserved": ({"aws:own": "v"}, "InvalidTag"),
    "characters": ({"k": "<v>"}, "InvalidTag"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(s3, place, name):
    s3.put_object_tagging(Tagging=as_set({"old": "1"}), **place)
    wrong, code = BAD[name]
    if name == "empty key":  # boto3 does not send it
        document = b"<Tagging><TagSet><Tag><Key></Key><Value>v</Value></Tag></TagSet></Tagging>"
        answer = wire.signed("PUT", "/{Bucket}/k".format(**place), query=[("tagging", "")], body=document)
        assert answer.status == 400 and answer.code in (code, "MalformedXML"), answer
    else:
        refused(400, code, s3.put_object_tagging, Tagging=as_set(wrong), **place)
    assert tags(s3, place["Bucket"]) == {"old": "1"}


def test_one_key_twice(s3, place):
    twice = {"TagSet": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}
    refused(400, "InvalidTag", s3.put_object_tagging, Tagging=twice, **place)
    assert tags(s3, place["Bucket"]) == {}


@pytest.mark.parametrize(
    "document", [b"", b"no xml", b"<Tagging>", b"<Other/>", b"<Tagging><TagSet><Tag/></TagSet></Tagging>"]
)
def test_what_says_nothing(s3, place, document):
    answer = wire.signed("PUT", "/{Bucket}/k".format(**place), query=[("tagging", "")], body=document)
    codes = ("MalformedXML", "MissingRequestBodyError") if not document else ("MalformedXML",)
    assert answer.status == 400 and answer.code in codes, answer
    assert tags(s3, place["Bucket"]) == {}


def test_of_what_is_not_there(s3, bucket):
    refused(404, "NoSuchKey", s3.get_object_tagging, Bucket=bucket, Key="k")
    refused(404, "NoSuchKey", s3.put_object_tagging, Bucket=bucket, Key="k", Tagging=as_set({"a": "1"}))
    refused(404, "NoSuchKey", s3.delete_object_tagging, Bucket=bucket, Key="k")


def test_in_the_header_of_a_put(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1&b%20c=d%2Be&f=&g=%C3%A4")
    assert tags(s3, bucket) == {"a": "1", "b c": "d+e", "f": "", "g": "ä"}
    assert s3.get_object(Bucket=bucket, Key="k")["TagCount"] == 4


def test_no_count_without_tags(s3, place):
    assert "TagCount" not in s3.get_object(**place)


def test_a_put_replaces_the_tags(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1")
    s3.put_object(Bucket=bucket, Key="k", Body=b"y")
    assert tags(s3, bucket) == {}


def test_a_delete_takes_the_tags_along(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1")
    s3.delete_object(Bucket=bucket, Key="k")
    refused(404, "NoSuchKey", s3.get_object_tagging, Bucket=bucket, Key="k")
    s3.put_object(Bucket=bucket, Key="k", Body=b"y")
    assert tags(s3, bucket) == {}


HEADERS = {
    "eleven": ("&".join(f"k{n}=v" for n in range(11)), ("BadRequest", "InvalidTag")),
    "long key": ("k" * 129 + "=v", ("InvalidTag", "InvalidArgument")),
    "long value": ("k=" + "v" * 257, ("InvalidTag", "InvalidArgument")),
    "twice": ("a=1&a=2", ("InvalidTag", "InvalidArgument")),
}


@pytest.mark.parametrize("name", HEADERS)
def test_refused_in_a_header(s3, bucket, name):
    text, codes = HEADERS[name]
    refused(400, codes, s3.put_object, Bucket=bucket, Key="k", Body=b"x", Tagging=text)
    absent(s3, bucket, "k")


def test_of_an_upload_of_parts(s3, bucket):
    upload = Upload(s3, bucket, Tagging="a=1&b=2")
    upload.part(1, b"content")
    upload.complete()
    assert tags(s3, bucket) == {"a": "1", "b": "2"}


def test_bucket(s3, bucket):
    s3.put_bucket_tagging(Bucket=bucket, Tagging=as_set({"a": "1", "b": ""}))
    got = s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
    assert {t["Key"]: t["Value"] for t in got} == {"a": "1", "b": ""}
    s3.put_bucket_tagging(Bucket=bucket, Tagging=as_set({"c": "3"}))
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "c", "Value": "3"}]


def test_bucket_with_fifty(s3, bucket):
    fifty = {f"k{n:02}": str(n) for n in range(50)}
    s3.put_bucket_tagging(Bucket=bucket, Tagging=as_set(fifty))
    assert {t["Key"]: t["Value"] for t in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]} == fifty


def test_bucket_without(s3, bucket):
    refused(404, "NoSuchTagSet", s3.get_bucket_tagging, Bucket=bucket)


def test_bucket_removed(s3, bucket):
    s3.put_bucket_tagging(Bucket=bucket, Tagging=as_set({"a": "1"}))
    assert s3.delete_bucket_tagging(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    refused(404, "NoSuchTagSet", s3.get_bucket_tagging, Bucket=bucket)


@pytest.mark.parametrize("name", ["long key", "long value", "reserved"])
def test_bucket_refused(s3, bucket, name):
    refused(400, "InvalidTag", s3.put_bucket_tagging, Bucket=bucket, Tagging=as_set(BAD[name][0]))
    refused(404, "NoSuchTagSet", s3.get_bucket_tagging, Bucket=bucket)


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\tb"])
def test_control_characters(s3, bucket, text):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for tag in ({"Key": text, "Value": "b"}, {"Key": "a", "Value": text}):
        refused(400, "InvalidTag", s3.put_object_tagging, Bucket=bucket, Key="k", Tagging={"TagSet": [tag]})
        refused(400, "InvalidTag", s3.put_bucket_tagging, Bucket=bucket, Tagging={"TagSet": [tag]})


def test_too_many_say_of_what(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    many = [{"Key": str(n), "Value": ""} for n in range(51)]
    of_object = refused(400, "BadRequest", s3.put_object_tagging, Bucket=bucket, Key="k", Tagging={"TagSet": many})
    of_bucket = refused(400, "BadRequest", s3.put_bucket_tagging, Bucket=bucket, Tagging={"TagSet": many})
    assert "Object" in of_object["Error"]["Message"] and "Bucket" in of_bucket["Error"]["Message"]
