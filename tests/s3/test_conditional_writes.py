"""Conditions on writes: `If-None-Match: *` and `If-Match` on put, complete, copy and delete, and races between them.

After every refusal the object is unchanged. Conditions on reads are in `test_conditional`.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

import wire
from expect import absent, body, keys, nothing_in, refused

OTHER = '"00000000000000000000000000000000"'
GONE = ("NoSuchKey", "PreconditionFailed")


@pytest.fixture
def place(bucket):
    """The location of one object."""
    return {"Bucket": bucket, "Key": "k"}


def put(s3, place, data=b"old"):
    """Writes the object; returns its tag."""
    return s3.put_object(Body=data, **place)["ETag"]


def test_put_if_absent(s3, place):
    s3.put_object(Body=b"new", IfNoneMatch="*", **place)
    assert body(s3, *place.values()) == b"new"


def test_put_if_absent_when_it_is_there(s3, place):
    put(s3, place)
    refused(412, "PreconditionFailed", s3.put_object, Body=b"new", IfNoneMatch="*", **place)
    assert body(s3, *place.values()) == b"old"


def test_put_if_absent_after_a_delete(s3, place):
    put(s3, place)
    s3.delete_object(**place)
    s3.put_object(Body=b"new", IfNoneMatch="*", **place)
    assert body(s3, *place.values()) == b"new"


def test_put_if_none_match_takes_only_any(s3, place):
    put(s3, place)
    refused(501, "NotImplemented", s3.put_object, Body=b"new", IfNoneMatch=OTHER, **place)
    assert body(s3, *place.values()) == b"old"


def test_put_if_match(s3, place):
    tag = put(s3, place)
    newer = s3.put_object(Body=b"new", IfMatch=tag, **place)["ETag"]
    assert newer != tag and body(s3, *place.values()) == b"new"
    refused(412, "PreconditionFailed", s3.put_object, Body=b"third", IfMatch=tag, **place)
    assert body(s3, *place.values()) == b"new"


def test_put_if_match_unquoted(s3, place):
    tag = put(s3, place)
    s3.put_object(Body=b"new", IfMatch=tag.strip('"'), **place)
    assert body(s3, *place.values()) == b"new"


def test_put_if_match_of_another(s3, place):
    put(s3, place)
    refused(412, "PreconditionFailed", s3.put_object, Body=b"new", IfMatch=OTHER, **place)
    assert body(s3, *place.values()) == b"old"


def test_put_if_match_when_it_is_not_there(s3, place):
    refused(404, "NoSuchKey", s3.put_object, Body=b"new", IfMatch=OTHER, **place)
    nothing_in(s3, place["Bucket"])


def test_put_if_match_after_a_delete(s3, place):
    tag = put(s3, place)
    s3.delete_object(**place)
    refused(404, "NoSuchKey", s3.put_object, Body=b"new", IfMatch=tag, **place)
    absent(s3, *place.values())


def test_put_refused_with_a_large_body(s3, place):
    put(s3, place)
    refused(412, "PreconditionFailed", s3.put_object, Body=bytes(6 << 20), IfNoneMatch="*", **place)
    assert body(s3, *place.values()) == b"old"


@pytest.fixture
def upload(s3, place):
    """An upload of one part, ready to be completed."""
    there = {**place, "UploadId": s3.create_multipart_upload(**place)["UploadId"]}
    tag = s3.upload_part(PartNumber=1, Body=b"new", **there)["ETag"]
    return {**there, "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": tag}]}}


def test_complete_if_absent(s3, place, upload):
    s3.complete_multipart_upload(IfNoneMatch="*", **upload)
    assert body(s3, *place.values()) == b"new"


def test_complete_if_absent_when_it_is_there(s3, place, upload):
    put(s3, place)
    refused(412, "PreconditionFailed", s3.complete_multipart_upload, IfNoneMatch="*", **upload)
    assert body(s3, *place.values()) == b"old"


def test_complete_if_match(s3, place, upload):
    tag = put(s3, place)
    s3.complete_multipart_upload(IfMatch=tag, **upload)
    assert body(s3, *place.values()) == b"new"


def test_complete_if_match_of_another(s3, place, upload):
    put(s3, place)
    refused(412, "PreconditionFailed", s3.complete_multipart_upload, IfMatch=OTHER, **upload)
    assert body(s3, *place.values()) == b"old"


def test_complete_if_match_when_it_is_not_there(s3, place, upload):
    refused(404, "NoSuchKey", s3.complete_multipart_upload, IfMatch=OTHER, **upload)
    absent(s3, *place.values())


def test_complete_if_none_match_takes_only_any(s3, place, upload):
    refused(501, "NotImplemented", s3.complete_multipart_upload, IfNoneMatch=OTHER, **upload)
    absent(s3, *place.values())


@pytest.fixture
def source(s3, bucket):
    """A source for copies."""
    s3.put_object(Bucket=bucket, Key="source", Body=b"new")
    return f"{bucket}/source"


def copy(place, source, **conditions):
    """Requests a copy with conditions on its destination."""
    headers = [("x-amz-copy-source", source), *((n.replace("_", "-"), v) for n, v in conditions.items())]
    return wire.signed("PUT", "/{Bucket}/{Key}".format(**place), headers=headers)


def test_copy_if_absent(s3, place, source):
    assert copy(place, source, if_none_match="*").status == 200
    assert body(s3, *place.values()) == b"new"


def test_copy_if_absent_when_it_is_there(s3, place, source):
    put(s3, place)
    assert copy(place, source, if_none_match="*").verdict == (412, "PreconditionFailed")
    assert body(s3, *place.values()) == b"old"


def test_copy_if_match(s3, place, source):
    tag = put(s3, place)
    assert copy(place, source, if_match=OTHER).verdict == (412, "PreconditionFailed")
    assert body(s3, *place.values()) == b"old"
    assert copy(place, source, if_match=tag).status == 200
    assert body(s3, *place.values()) == b"new"


def test_delete_if_match(s3, place):
    tag = put(s3, place)
    refused(412, "PreconditionFailed", s3.delete_object, IfMatch=OTHER, **place)
    assert body(s3, *place.values()) == b"old"
    assert s3.delete_object(IfMatch=tag, **place)["ResponseMetadata"]["HTTPStatusCode"] == 204
    absent(s3, *place.values())


def test_delete_if_it_is_there(s3, place):
    put(s3, place)
    s3.delete_object(IfMatch="*", **place)
    absent(s3, *place.values())


@pytest.mark.parametrize("tag", ["*", OTHER])
def test_delete_if_match_when_it_is_not_there(s3, place, tag):
    with pytest.raises(ClientError) as caught:
        s3.delete_object(IfMatch=tag, **place)
    answer = caught.value.response
    verdict = answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]
    assert verdict in [(412, "PreconditionFailed"), (404, "NoSuchKey")]


def test_delete_many_if_match(s3, bucket):
    tags = {key: put(s3, {"Bucket": bucket, "Key": key}) for key in "ab"}
    entries = [{"Key": "a", "ETag": tags["a"]}, {"Key": "b", "ETag": OTHER}]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": entries})
    assert [entry["Key"] for entry in answer["Deleted"]] == ["a"]
    assert [(e["Key"], e["Code"]) for e in answer["Errors"]] == [("b", "PreconditionFailed")]
    assert keys(s3.list_objects_v2(Bucket=bucket)) == ["b"]


def race(calls):
    """Runs all at once; returns the results of the winners and the verdicts on the losers."""

    def attempt(call):
        try:
            return call(), None
        except ClientError as e:
            return None, (e.response["ResponseMetadata"]["HTTPStatusCode"], e.response["Error"]["Code"])

    with ThreadPoolExecutor(len(calls)) as pool:
        done = list(pool.map(attempt, calls))
    return [won for won, lost in done if lost is None], [lost for _, lost in done if lost]


# What S3 answers the losers of a race.
LOST = {(412, "PreconditionFailed"), (409, "ConditionalRequestConflict")}


def test_exactly_one_of_many_creates(s3, place):
    for round_ in range(5):
        there = {**place, "Key": f"k{round_}"}
        calls = [lambda n=n: s3.put_object(Body=b"%d" % n, IfNoneMatch="*", **there) and n for n in range(12)]
        won, lost = race(calls)
        assert len(won) == 1 and set(lost) <= LOST, (won, lost)
        assert body(s3, *there.values()) == b"%d" % won[0]


def test_exactly_one_of_many_replaces(s3, place):
    for _ in range(5):
        tag = put(s3, place)
        calls = [lambda n=n: s3.put_object(Body=b"%d" % n, IfMatch=tag, **place) and n for n in range(12)]
        won, lost = race(calls)
        assert len(won) == 1 and set(lost) <= LOST, (won, lost)
        assert body(s3, *place.values()) == b"%d" % won[0]


def test_exactly_one_of_many_completes(s3, place):
    def prepared(n):
        there = {**place, "UploadId": s3.create_multipart_upload(**place)["UploadId"]}
        tag = s3.upload_part(PartNumber=1, Body=b"%d" % n, **there)["ETag"]
        parts = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
        return lambda: s3.complete_multipart_upload(MultipartUpload=parts, IfNoneMatch="*", **there) and n

    won, lost = race([prepared(n) for n in range(8)])
    assert len(won) == 1 and set(lost) <= LOST, (won, lost)
    assert body(s3, *place.values()) == b"%d" % won[0]


def test_exactly_one_of_many_copies(s3, place, source):
    for round_ in range(5):
        there = {**place, "Key": f"k{round_}"}
        with ThreadPoolExecutor(12) as pool:
            verdicts = list(pool.map(lambda _: copy(there, source, if_none_match="*").verdict, range(12)))
        assert verdicts.count((200, None)) == 1 and set(verdicts) - {(200, None)} <= LOST, verdicts


def test_a_counter_that_many_raise(s3, place):
    s3.put_object(Body=b"0", **place)

    def raise_it(_):
        for _ in range(200):
            got = s3.get_object(**place)
            count = int(got["Body"].read())
            try:
                s3.put_object(Body=b"%d" % (count + 1), IfMatch=got["ETag"], **place)
                return
            except ClientError as e:
                assert e.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412), e
        raise AssertionError("never had its turn")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(raise_it, range(24)))
    assert body(s3, *place.values()) == b"24"
