"""Byte ranges and part numbers: every form, at every edge, of objects in one piece and multipart.

A satisfiable range is answered exactly; any other is refused or ignored as S3 does, never guessed.
"""

import os
import random

import pytest

import wire
from expect import refused

SIZE = (1 << 20) + 17
DATA = os.urandom(SIZE)
PART = 5 << 20


@pytest.fixture(scope="module")
def whole(s3, shelf):
    """An object in one piece."""
    s3.put_object(Bucket=shelf, Key="whole", Body=DATA, ContentType="text/x-whole")
    return {"Bucket": shelf, "Key": "whole"}


@pytest.fixture(scope="module")
def parts(s3, shelf):
    """Creates an object of three parts; returns their bytes."""
    contents = [os.urandom(PART), os.urandom(PART), os.urandom(1000)]
    place = {"Bucket": shelf, "Key": "parts"}
    upload = s3.create_multipart_upload(**place)["UploadId"]
    done = []
    for number, content in enumerate(contents, 1):
        part = s3.upload_part(PartNumber=number, Body=content, UploadId=upload, **place)
        done.append({"PartNumber": number, "ETag": part["ETag"]})
    s3.complete_multipart_upload(UploadId=upload, MultipartUpload={"Parts": done}, **place)
    return place, contents


SATISFIABLE = {
    "bytes=0-0": (0, 0),
    "bytes=0-99": (0, 99),
    "bytes=1-65536": (1, 65536),
    "bytes=65535-65536": (65535, 65536),
    "bytes=65536-131071": (65536, 131071),
    "bytes=100-": (100, SIZE - 1),
    "bytes=0-": (0, SIZE - 1),
    f"bytes={SIZE - 1}-": (SIZE - 1, SIZE - 1),
    f"bytes={SIZE - 1}-{SIZE - 1}": (SIZE - 1, SIZE - 1),
    f"bytes=10-{SIZE}": (10, SIZE - 1),
    "bytes=10-99999999999999": (10, SIZE - 1),
    f"bytes=0-{SIZE - 1}": (0, SIZE - 1),
    "bytes=-1": (SIZE - 1, SIZE - 1),
    "bytes=-70000": (SIZE - 70000, SIZE - 1),
    f"bytes=-{SIZE}": (0, SIZE - 1),
    f"bytes=-{SIZE + 1}": (0, SIZE - 1),
}


@pytest.mark.parametrize("form", SATISFIABLE)
def test_satisfiable(s3, whole, form):
    first, last = SATISFIABLE[form]
    got = s3.get_object(Range=form, **whole)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == f"bytes {first}-{last}/{SIZE}"
    assert got["ContentLength"] == last - first + 1
    assert got["Body"].read() == DATA[first : last + 1]


@pytest.mark.parametrize("form", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=99999999999-", "bytes=-0"])
def test_unsatisfiable(whole, form):
    answer = wire.signed("GET", "/{Bucket}/{Key}".format(**whole), headers=[("range", form)])
    assert answer.verdict == (416, "InvalidRange"), answer
    assert answer.text("ActualObjectSize") == str(SIZE)
    assert answer.text("RangeRequested") == form


@pytest.mark.parametrize("form", ["items=0-5", "Items=5-2", "lines=1"])
def test_units_that_nobody_knows_are_ignored(whole, form):
    answer = wire.signed("GET", "/{Bucket}/{Key}".format(**whole), headers=[("range", form)])
    assert (answer.status, answer.headers["content-range"]) == (200, None), answer.status
    assert answer.body == DATA


@pytest.mark.parametrize("form", ["bytes=5-2", "bytes=a-b", "bytes=", "bytes=-", "bytes 0-5", "bytes=1--2"])
def test_what_is_no_range_is_ignored_or_refused(whole, form):
    # RFC 9110, 14.2: either answer is correct; a part of the range is not.
    answer = wire.signed("GET", "/{Bucket}/{Key}".format(**whole), headers=[("range", form)])
    if answer.status == 200:
        assert answer.body == DATA and answer.headers["content-range"] is None
    else:
        assert answer.verdict in [(416, "InvalidRange"), (400, "InvalidArgument")], answer


@pytest.mark.parametrize("form", ["bytes=0-1,5-6", "bytes=0-10,-5", "bytes=0-0, 2-2, 4-4"])
def test_several_ranges_are_never_a_part(whole, form):
    answer = wire.signed("GET", "/{Bucket}/{Key}".format(**whole), headers=[("range", form)])
    if answer.status == 200:
        assert answer.body == DATA
    else:
        assert answer.verdict in [(416, "InvalidRange"), (501, "NotImplemented")], answer


@pytest.mark.parametrize("form", ["bytes=0-0", "bytes=0-", "bytes=5-9"])
def test_nothing_of_an_empty_object(s3, bucket, form):
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    refused(416, "InvalidRange", s3.get_object, Bucket=bucket, Key="k", Range=form)


def test_range_of_what_is_not_there(s3, shelf):
    refused(404, "NoSuchKey", s3.get_object, Bucket=shelf, Key="none", Range="bytes=0-1")


def test_head_with_a_range(s3, whole):
    head = s3.head_object(Range="bytes=5-14", **whole)
    assert head["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert (head["ContentLength"], head["ContentRange"]) == (10, f"bytes 5-14/{SIZE}")


def test_head_with_a_range_beyond_the_end(s3, whole):
    refused(416, "416", s3.head_object, Range=f"bytes={SIZE}-", **whole)


def test_a_range_carries_the_headers_of_the_whole(s3, whole):
    head, got = s3.head_object(**whole), s3.get_object(Range="bytes=5-14", **whole)
    for name in ["ETag", "LastModified", "ContentType", "AcceptRanges"]:
        assert got[name] == head[name], name


def test_random_ranges(s3, whole):
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    for _ in range(25):
        first = dice.randrange(SIZE)
        last = min(SIZE - 1, first + dice.choice([0, 10, 65536, 300_000]))
        got = s3.get_object(Range=f"bytes={first}-{last}", **whole)["Body"].read()
        assert got == DATA[first : last + 1], f"bytes={first}-{last}, seed {seed}"


@pytest.mark.parametrize(
    "first, last",
    [(PART - 1, PART), (PART, PART), (PART - 70000, PART + 70000), (2 * PART - 1, 2 * PART + 999), (1, 2 * PART)],
)
def test_ranges_across_parts(s3, parts, first, last):
    place, contents = parts
    got = s3.get_object(Range=f"bytes={first}-{last}", **place)
    assert got["Body"].read() == b"".join(contents)[first : last + 1]
    assert got["ContentRange"] == f"bytes {first}-{last}/{2 * PART + 1000}"


def test_suffix_across_parts(s3, parts):
    place, contents = parts
    got = s3.get_object(Range="bytes=-1500", **place)["Body"].read()
    assert got == b"".join(contents)[-1500:]


def test_each_part_by_number(s3, parts):
    place, contents = parts
    first = 0
    for number, content in enumerate(contents, 1):
        got = s3.get_object(PartNumber=number, **place)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert got["Body"].read() == content
        assert got["PartsCount"] == 3
        assert got["ContentRange"] == f"bytes {first}-{first + len(content) - 1}/{2 * PART + 1000}"
        first += len(content)


def test_head_of_a_part(s3, parts):
    place, contents = parts
    head = s3.head_object(PartNumber=3, **place)
    assert head["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert (head["ContentLength"], head["PartsCount"]) == (1000, 3)
    assert head["ETag"] == s3.head_object(**place)["ETag"]


def test_no_parts_count_unless_a_part_is_asked_for(s3, parts):
    place, _ = parts
    assert "PartsCount" not in s3.head_object(**place)


def test_a_part_that_is_not_there(s3, parts):
    place, _ = parts
    refused(416, "InvalidPartNumber", s3.get_object, PartNumber=4, **place)
    refused(416, "416", s3.head_object, PartNumber=4, **place)


@pytest.mark.parametrize("number", ["0", "10001", "-1", "x"])
def test_numbers_that_no_part_has(parts, number):
    place, _ = parts
    answer = wire.signed("GET", "/{Bucket}/{Key}".format(**place), query=[("partNumber", number)])
    assert answer.verdict == (400, "InvalidArgument"), answer


def test_a_part_and_a_range_at_once(s3, parts):
    place, _ = parts
    refused(400, "InvalidRequest", s3.get_object, PartNumber=1, Range="bytes=0-1", **place)


def test_an_object_in_one_piece_has_one_part(s3, whole):
    got = s3.get_object(PartNumber=1, **whole)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["Body"].read() == DATA
    refused(416, "InvalidPartNumber", s3.get_object, PartNumber=2, **whole)
