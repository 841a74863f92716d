"""Multipart uploads that are refused: sizes, orders, numbers, tags, ids, and invalid XML bodies.

After each refusal the object does not exist, and the upload still does.
"""

import base64
import hashlib

import pytest

import sigv4
import wire
from expect import absent, body, nothing_in, refused
from parts import MIN, Upload

OTHER = '"00000000000000000000000000000000"'


@pytest.fixture
def upload(s3, bucket):
    """An upload of one part."""
    upload = Upload(s3, bucket)
    upload.part(1, b"content")
    return upload


@pytest.fixture
def pair(s3, bucket):
    """An upload of two parts, the first of the minimum size for a part that is not the last."""
    upload = Upload(s3, bucket)
    upload.part(1, bytes(MIN))
    upload.part(2, b"end")
    return upload


def still_there(s3, upload):
    """Expects that the upload has its parts and that no object was created."""
    assert [p["PartNumber"] for p in s3.list_parts(**upload.place)["Parts"]] == sorted(upload.done)
    absent(s3, upload.bucket, upload.key)
    upload.complete()
    assert body(s3, upload.bucket, upload.key) == upload.content()


def test_a_part_that_is_too_small(s3, bucket):
    upload = Upload(s3, bucket)
    upload.part(1, bytes(MIN - 1))
    upload.part(2, b"end")
    refused(400, "EntityTooSmall", upload.complete)
    absent(s3, bucket, "k")
    upload.part(1, bytes(MIN))
    upload.complete()
    assert body(s3, bucket, "k") == bytes(MIN) + b"end"


def test_parts_out_of_order(s3, pair):
    pair.part(2, b"e" * MIN)
    wrong = {"Parts": [pair.done[2], pair.done[1]]}
    refused(400, "InvalidPartOrder", pair.complete, MultipartUpload=wrong)
    still_there(s3, pair)


def test_a_part_twice(s3, pair):
    wrong = {"Parts": [pair.done[1], pair.done[1], pair.done[2]]}
    refused(400, "InvalidPartOrder", pair.complete, MultipartUpload=wrong)
    still_there(s3, pair)


def test_a_part_that_was_never_sent(s3, pair):
    pair.part(2, b"e" * MIN)
    wrong = {"Parts": [*pair.parts()["Parts"], {"PartNumber": 3, "ETag": pair.done[2]["ETag"]}]}
    refused(400, "InvalidPart", pair.complete, MultipartUpload=wrong)
    still_there(s3, pair)


@pytest.mark.parametrize("tag", [OTHER, "nonsense"])
def test_a_tag_of_other_bytes(s3, pair, tag):
    wrong = {"Parts": [{"PartNumber": 1, "ETag": tag}, pair.done[2]]}
    refused(400, "InvalidPart", pair.complete, MultipartUpload=wrong)
    still_there(s3, pair)


def test_the_tag_of_what_was_sent_before(s3, pair):
    before = pair.parts()
    pair.part(2, b"other")
    refused(400, "InvalidPart", pair.complete, MultipartUpload=before)
    still_there(s3, pair)


def test_tags_need_no_quotes(s3, pair):
    bare = [{"PartNumber": p["PartNumber"], "ETag": p["ETag"].strip('"')} for p in pair.parts()["Parts"]]
    pair.complete(MultipartUpload={"Parts": bare})
    assert body(s3, pair.bucket, "k") == pair.content()


def test_no_parts_at_all(s3, upload):
    refused(400, "MalformedXML", upload.complete, MultipartUpload={"Parts": []})
    still_there(s3, upload)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"no xml",
        b"<CompleteMultipartUpload>",
        b"<Other/>",
        b"<CompleteMultipartUpload><Part/></CompleteMultipartUpload>",
    ],
)
def test_a_body_that_says_nothing(s3, upload, document):
    answer = wire.signed("POST", f"/{upload.bucket}/k", query=[("uploadId", upload.id)], body=document)
    # S3 reports an empty body as a bad request, too.
    codes = ("MalformedXML", "InvalidRequest") if not document else ("MalformedXML",)
    assert answer.status == 400 and answer.code in codes, answer
    still_there(s3, upload)


@pytest.mark.parametrize("number", ["0", "10001", "-1", "one", "4294967297", ""])
def test_numbers_that_no_part_has(s3, upload, number):
    query = [("partNumber", number), ("uploadId", upload.id)]
    answer = wire.signed("PUT", f"/{upload.bucket}/k", query=query, body=b"x")
    assert answer.verdict == (400, "InvalidArgument"), answer
    still_there(s3, upload)


@pytest.mark.parametrize("number", ["0", "10001"])
def test_numbers_that_no_copied_part_has(s3, upload, number):
    s3.put_object(Bucket=upload.bucket, Key="source", Body=b"x")
    query = [("partNumber", number), ("uploadId", upload.id)]
    headers = [("x-amz-copy-source", f"{upload.bucket}/source")]
    answer = wire.signed("PUT", f"/{upload.bucket}/k", query=query, headers=headers)
    assert answer.verdict == (400, "InvalidArgument"), answer
    still_there(s3, upload)


UNKNOWN = ["nonsense", "00000000-0000-0000-0000-000000000000", "a" * 200, "../x"]


@pytest.mark.parametrize("upload_id", UNKNOWN)
@pytest.mark.parametrize("operation", ["upload_part", "complete", "abort", "list_parts"])
def test_an_id_that_nobody_gave(s3, bucket, operation, upload_id):
    place = {"Bucket": bucket, "Key": "k", "UploadId": upload_id}
    calls = {
        "upload_part": lambda: s3.upload_part(PartNumber=1, Body=b"x", **place),
        "complete": lambda: s3.complete_multipart_upload(
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": OTHER}]}, **place
        ),
        "abort": lambda: s3.abort_multipart_upload(**place),
        "list_parts": lambda: s3.list_parts(**place),
    }
    refused(404, "NoSuchUpload", calls[operation])
    nothing_in(s3, bucket)


def test_the_id_of_another_key(s3, upload):
    elsewhere = {**upload.place, "Key": "other"}
    refused(404, "NoSuchUpload", s3.upload_part, PartNumber=3, Body=b"x", **elsewhere)
    refused(404, "NoSuchUpload", s3.complete_multipart_upload, MultipartUpload=upload.parts(), **elsewhere)
    refused(404, "NoSuchUpload", s3.abort_multipart_upload, **elsewhere)
    refused(404, "NoSuchUpload", s3.list_parts, **elsewhere)
    still_there(s3, upload)


def test_the_id_of_another_bucket(s3, upload, other_bucket):
    elsewhere = {**upload.place, "Bucket": other_bucket}
    refused(404, "NoSuchUpload", s3.upload_part, PartNumber=3, Body=b"x", **elsewhere)
    refused(404, "NoSuchUpload", s3.abort_multipart_upload, **elsewhere)
    still_there(s3, upload)


def test_abort_twice(s3, upload):
    s3.abort_multipart_upload(**upload.place)
    refused(404, "NoSuchUpload", s3.abort_multipart_upload, **upload.place)


def test_parts_after_the_end(s3, upload):
    upload.complete()
    refused(404, "NoSuchUpload", s3.upload_part, PartNumber=3, Body=b"x", **upload.place)
    refused(404, "NoSuchUpload", s3.list_parts, **upload.place)
    assert body(s3, upload.bucket, "k") == upload.content()


def test_a_part_whose_md5_does_not_fit(s3, upload):
    md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    refused(400, "BadDigest", s3.upload_part, PartNumber=1, Body=b"x", ContentMD5=md5, **upload.place)
    still_there(s3, upload)


def test_a_part_whose_digest_does_not_fit(s3, upload):
    query = [("partNumber", "1"), ("uploadId", upload.id)]
    answer = wire.signed("PUT", f"/{upload.bucket}/k", query=query, body=b"x", payload=sigv4.sha256(b"y"))
    assert answer.verdict == (400, "XAmzContentSHA256Mismatch"), answer
    still_there(s3, upload)


def test_a_part_that_is_too_large(s3, upload):
    query = [("partNumber", "1"), ("uploadId", upload.id)]
    headers = [("content-length", str((5 << 30) + 1))]
    answer = wire.signed(
        "PUT", f"/{upload.bucket}/k", query=query, headers=headers, payload=sigv4.UNSIGNED, length=False
    )
    assert answer.verdict == (400, "EntityTooLarge"), answer
    still_there(s3, upload)


def test_object_size_that_does_not_fit(s3, upload):
    refused(400, "InvalidRequest", upload.complete, MpuObjectSize=8)
    still_there(s3, upload)


@pytest.mark.parametrize("key", ["a" * 1025])
def test_a_key_that_is_too_long(s3, bucket, key):
    refused(400, "KeyTooLongError", s3.create_multipart_upload, Bucket=bucket, Key=key)
    nothing_in(s3, bucket)


def test_a_copied_part_of_what_is_not_there(s3, upload):
    how = {"PartNumber": 1, "CopySource": f"{upload.bucket}/none", **upload.place}
    refused(404, "NoSuchKey", s3.upload_part_copy, **how)
    how["CopySource"] = f"{upload.bucket}-none/k"
    refused(404, "NoSuchBucket", s3.upload_part_copy, **how)
    still_there(s3, upload)


@pytest.mark.parametrize(
    "form", ["0-2", "bytes=0", "bytes=hello-world", "bytes=0-bar", "bytes=5-", "bytes=-5", "bytes=0-2,3-5"]
)
def test_a_copied_range_of_another_form(s3, upload, form):
    s3.put_object(Bucket=upload.bucket, Key="source", Body=b"0123456789")
    how = {"PartNumber": 1, "CopySource": f"{upload.bucket}/source", **upload.place}
    refused(400, "InvalidArgument", s3.upload_part_copy, CopySourceRange=form, **how)
    still_there(s3, upload)


@pytest.mark.parametrize("form", ["bytes=0-10", "bytes=10-12", "bytes=5-4"])
def test_a_copied_range_beyond_the_end(s3, upload, form):
    s3.put_object(Bucket=upload.bucket, Key="source", Body=b"0123456789")
    query = [("partNumber", "1"), ("uploadId", upload.id)]
    headers = [("x-amz-copy-source", f"{upload.bucket}/source"), ("x-amz-copy-source-range", form)]
    answer = wire.signed("PUT", f"/{upload.bucket}/k", query=query, headers=headers)
    assert answer.verdict in [(400, "InvalidArgument"), (416, "InvalidRange")], answer
    still_there(s3, upload)
