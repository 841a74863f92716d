"""Conditions on reads: the four headers, alone and together, on GET, HEAD and the source of a copy.

Conditions on writes are in `test_conditional_writes`.
"""

import datetime

import pytest

import wire
from expect import absent, body, refused

OTHER = '"00000000000000000000000000000000"'


@pytest.fixture(scope="module")
def thing(s3, shelf):
    """Creates an object; returns its tag and the second in which it was written."""
    s3.put_object(Bucket=shelf, Key="thing", Body=b"content", Metadata={"a": "1"})
    head = s3.head_object(Bucket=shelf, Key="thing")
    return {"Bucket": shelf, "Key": "thing"}, head["ETag"], head["LastModified"]


def earlier(time):
    return time - datetime.timedelta(seconds=1)


# name: (the conditions, from tag and time; the status of a read; whether a copy is made)
CASES = {
    "match": (lambda tag, time: {"IfMatch": tag}, 200, True),
    "match unquoted": (lambda tag, time: {"IfMatch": tag.strip('"')}, 200, True),
    "match any": (lambda tag, time: {"IfMatch": "*"}, 200, None),
    "match other": (lambda tag, time: {"IfMatch": OTHER}, 412, False),
    "none match": (lambda tag, time: {"IfNoneMatch": tag}, 304, False),
    "none match unquoted": (lambda tag, time: {"IfNoneMatch": tag.strip('"')}, 304, False),
    "none match any": (lambda tag, time: {"IfNoneMatch": "*"}, 304, None),
    "none match other": (lambda tag, time: {"IfNoneMatch": OTHER}, 200, True),
    "modified since before": (lambda tag, time: {"IfModifiedSince": earlier(time)}, 200, True),
    "modified since then": (lambda tag, time: {"IfModifiedSince": time}, 304, False),
    "unmodified since then": (lambda tag, time: {"IfUnmodifiedSince": time}, 200, True),
    "unmodified since before": (lambda tag, time: {"IfUnmodifiedSince": earlier(time)}, 412, False),
    "match, and modified since": (
        lambda tag, time: {"IfMatch": tag, "IfUnmodifiedSince": earlier(time)},
        200,
        True,
    ),
    "match other, and unmodified since": (
        lambda tag, time: {"IfMatch": OTHER, "IfUnmodifiedSince": time},
        412,
        False,
    ),
    "none match, and modified since": (
        lambda tag, time: {"IfNoneMatch": tag, "IfModifiedSince": earlier(time)},
        304,
        False,
    ),
    "none match other, and unmodified": (
        lambda tag, time: {"IfNoneMatch": OTHER, "IfModifiedSince": earlier(time)},
        200,
        True,
    ),
    "match and none match": (lambda tag, time: {"IfMatch": tag, "IfNoneMatch": tag}, 304, False),
    "match and none match other": (lambda tag, time: {"IfMatch": tag, "IfNoneMatch": OTHER}, 200, True),
}
CODES = {304: "304", 412: "PreconditionFailed"}


@pytest.mark.parametrize("case", CASES)
def test_get(s3, thing, case):
    place, tag, time = thing
    conditions, status, _ = CASES[case]
    if status == 200:
        assert s3.get_object(**place, **conditions(tag, time))["Body"].read() == b"content"
    else:
        refused(status, CODES[status], s3.get_object, **place, **conditions(tag, time))


@pytest.mark.parametrize("case", CASES)
def test_head(s3, thing, case):
    place, tag, time = thing
    conditions, status, _ = CASES[case]
    if status == 200:
        assert s3.head_object(**place, **conditions(tag, time))["ContentLength"] == 7
    else:
        refused(status, str(status), s3.head_object, **place, **conditions(tag, time))


def on_the_source(conditions):
    return {f"CopySource{name}": value for name, value in conditions.items()}


@pytest.mark.parametrize("case", [name for name, (_, _, copied) in CASES.items() if copied is not None])
def test_copy_source(s3, bucket, thing, case):
    place, tag, time = thing
    conditions, _, copied = CASES[case]
    copy = {"Bucket": bucket, "Key": "copy", "CopySource": place, **on_the_source(conditions(tag, time))}
    if copied:
        assert s3.copy_object(**copy)["CopyObjectResult"]["ETag"] == tag
        assert body(s3, bucket, "copy") == b"content"
    else:
        refused(412, "PreconditionFailed", s3.copy_object, **copy)
        absent(s3, bucket, "copy")


@pytest.mark.parametrize(
    "case", ["match", "match other", "none match", "modified since then", "unmodified since before"]
)
def test_part_copy_source(s3, bucket, thing, case):
    place, tag, time = thing
    conditions, _, copied = CASES[case]
    target = {"Bucket": bucket, "Key": "copy"}
    target["UploadId"] = s3.create_multipart_upload(**target)["UploadId"]
    copy = {**target, "PartNumber": 1, "CopySource": place, **on_the_source(conditions(tag, time))}
    if copied:
        assert s3.upload_part_copy(**copy)["CopyPartResult"]["ETag"] == tag
    else:
        refused(412, "PreconditionFailed", s3.upload_part_copy, **copy)
    assert len(s3.list_parts(**target).get("Parts", [])) == int(copied)


def test_not_modified_has_the_tag_and_no_body(thing):
    place, tag, _ = thing
    answer = wire.signed("GET", "/{Bucket}/{Key}".format(**place), headers=[("if-none-match", tag)])
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["etag"] == tag


@pytest.mark.parametrize("form", ["garbage", "2031-01-01", ""])
def test_a_date_that_is_none_is_ignored(thing, form):
    place, _, _ = thing
    for name in ["if-modified-since", "if-unmodified-since"]:
        answer = wire.signed("GET", "/{Bucket}/{Key}".format(**place), headers=[(name, form)])
        assert (answer.status, answer.body) == (200, b"content"), (name, answer)


@pytest.mark.parametrize("name", ["IfMatch", "IfNoneMatch"])
def test_missing_comes_before_conditions(s3, shelf, name):
    refused(404, "NoSuchKey", s3.get_object, Bucket=shelf, Key="none", **{name: "*"})
    refused(404, "404", s3.head_object, Bucket=shelf, Key="none", **{name: "*"})


def test_a_condition_and_a_range(s3, thing):
    place, tag, _ = thing
    got = s3.get_object(IfMatch=tag, Range="bytes=1-3", **place)
    assert (got["ResponseMetadata"]["HTTPStatusCode"], got["Body"].read()) == (206, b"ont")
    refused(412, "PreconditionFailed", s3.get_object, IfMatch=OTHER, Range="bytes=1-3", **place)
    refused(304, "304", s3.get_object, IfNoneMatch=tag, Range="bytes=1-3", **place)
