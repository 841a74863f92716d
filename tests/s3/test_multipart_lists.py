"""ListParts and ListMultipartUploads: contents, order, and pages of any size.

Uploads are only started here; `test_multipart` completes them.
"""

import pytest

import wire
from expect import prefixes, refused
from parts import Upload


@pytest.fixture(scope="module")
def upload(s3, other_shelf):
    """An upload of five parts, sent out of order."""
    upload = Upload(s3, other_shelf)
    for number in [7, 1, 3, 10000, 20]:
        upload.part(number, bytes(number % 11))
    return upload


NUMBERS = [1, 3, 7, 20, 10000]


def numbers(answer):
    return [part["PartNumber"] for part in answer.get("Parts", [])]


def test_parts(s3, upload):
    answer = s3.list_parts(**upload.place)
    assert numbers(answer) == NUMBERS
    for part in answer["Parts"]:
        assert part["ETag"] == upload.done[part["PartNumber"]]["ETag"]
        assert part["Size"] == part["PartNumber"] % 11 and part["LastModified"]
    assert (answer["Bucket"], answer["Key"], answer["UploadId"]) == tuple(upload.place.values())
    assert (answer["MaxParts"], answer["IsTruncated"], answer["StorageClass"]) == (1000, False, "STANDARD")
    assert answer["Owner"]["ID"] and answer["Initiator"]["ID"]


def test_no_parts(s3, bucket):
    answer = s3.list_parts(**Upload(s3, bucket).place)
    assert (numbers(answer), answer["IsTruncated"]) == ([], False)


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_parts_in_pages(s3, upload, size):
    seen, marker = [], 0
    for _ in range(10):
        page = s3.list_parts(MaxParts=size, PartNumberMarker=marker, **upload.place)
        seen += numbers(page)
        assert len(numbers(page)) <= size == page["MaxParts"]
        assert page["PartNumberMarker"] == marker
        if not page["IsTruncated"]:
            break
        marker = page["NextPartNumberMarker"]
        assert marker == seen[-1]
    assert seen == NUMBERS


@pytest.mark.parametrize("marker, wanted", [(0, NUMBERS), (3, [7, 20, 10000]), (4, [7, 20, 10000]), (10000, [])])
def test_parts_after_a_marker(s3, upload, marker, wanted):
    assert numbers(s3.list_parts(PartNumberMarker=marker, **upload.place)) == wanted


@pytest.mark.parametrize("name", ["max-parts", "part-number-marker"])
@pytest.mark.parametrize("value", ["-1", "x", "99999999999"])
def test_parts_by_what_is_no_number(upload, name, value):
    query = [("uploadId", upload.id), (name, value)]
    answer = wire.signed("GET", f"/{upload.bucket}/k", query=query)
    assert answer.verdict == (400, "InvalidArgument"), answer


NAMES = ["a", "b/1", "b/2", "b/2", "b/deep/3", "c", "z ä+漢"]


@pytest.fixture(scope="module")
def uploads(s3, shelf):
    """Started uploads, two of them for one key: key and id, in listing order."""
    return [(name, Upload(s3, shelf, name).id) for name in NAMES]


def shown(answer):
    return [(upload["Key"], upload["UploadId"]) for upload in answer.get("Uploads", [])]


def test_uploads(s3, shelf, uploads):
    answer = s3.list_multipart_uploads(Bucket=shelf)
    assert shown(answer) == uploads
    assert (answer["Bucket"], answer["MaxUploads"], answer["IsTruncated"]) == (shelf, 1000, False)
    for upload in answer["Uploads"]:
        assert upload["Initiated"] and upload["Owner"]["ID"] and upload["Initiator"]["ID"]
        assert upload["StorageClass"] == "STANDARD"


def test_no_uploads(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = s3.list_multipart_uploads(Bucket=bucket)
    assert (shown(answer), answer["IsTruncated"]) == ([], False)


@pytest.mark.parametrize("prefix", ["", "b/", "b/2", "b/d", "c", "nobody", "z ä+"])
def test_uploads_by_prefix(s3, shelf, uploads, prefix):
    answer = s3.list_multipart_uploads(Bucket=shelf, Prefix=prefix)
    assert shown(answer) == [u for u in uploads if u[0].startswith(prefix)]
    assert answer.get("Prefix", "") == prefix


def test_uploads_by_delimiter(s3, shelf, uploads):
    answer = s3.list_multipart_uploads(Bucket=shelf, Delimiter="/")
    assert shown(answer) == [uploads[0], uploads[5], uploads[6]]
    assert prefixes(answer) == ["b/"]


def test_uploads_by_prefix_and_delimiter(s3, shelf, uploads):
    answer = s3.list_multipart_uploads(Bucket=shelf, Prefix="b/", Delimiter="/")
    assert (shown(answer), prefixes(answer)) == (uploads[1:4], ["b/deep/"])


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_uploads_in_pages(s3, shelf, uploads, size):
    seen, markers = [], {}
    for _ in range(20):
        page = s3.list_multipart_uploads(Bucket=shelf, MaxUploads=size, **markers)
        seen += shown(page)
        assert len(shown(page)) <= size == page["MaxUploads"]
        if not page["IsTruncated"]:
            break
        markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
        assert tuple(markers.values()) == seen[-1]
    assert seen == uploads


def test_uploads_after_a_key(s3, shelf, uploads):
    assert shown(s3.list_multipart_uploads(Bucket=shelf, KeyMarker="b/2")) == uploads[4:]
    assert shown(s3.list_multipart_uploads(Bucket=shelf, KeyMarker="b/20")) == uploads[4:]


def test_uploads_after_one_of_two_to_a_key(s3, shelf, uploads):
    marker = {"KeyMarker": "b/2", "UploadIdMarker": uploads[2][1]}
    assert shown(s3.list_multipart_uploads(Bucket=shelf, **marker)) == uploads[3:]


def test_uploads_encoded(shelf, uploads):
    query = [("uploads", ""), ("encoding-type", "url"), ("prefix", "z ")]
    answer = wire.signed("GET", f"/{shelf}", query=query)
    assert answer.text("EncodingType") == "url"
    assert answer.text("Upload/Key") in ("z%20%C3%A4%2B%E6%BC%A2", "z+%C3%A4%2B%E6%BC%A2")


@pytest.mark.parametrize("value", ["-1", "x", "99999999999"])
def test_uploads_by_what_is_no_number(bucket, value):
    answer = wire.signed("GET", f"/{bucket}", query=[("uploads", ""), ("max-uploads", value)])
    assert answer.verdict == (400, "InvalidArgument"), answer


def test_what_has_ended_is_not_shown(s3, bucket):
    ended, aborted, open_ = (Upload(s3, bucket, key) for key in ["a", "b", "c"])
    ended.part(1, b"x")
    ended.complete()
    s3.abort_multipart_upload(**aborted.place)
    assert shown(s3.list_multipart_uploads(Bucket=bucket)) == [("c", open_.id)]
    refused(404, "NoSuchUpload", s3.list_parts, **ended.place)


def test_uploads_after_a_key_within_a_common_prefix(s3, shelf, uploads):
    answer = s3.list_multipart_uploads(Bucket=shelf, KeyMarker="b/2", Delimiter="/")
    assert (shown(answer), prefixes(answer)) == (uploads[5:], ["b/"])


def test_a_page_of_all_uploads_or_parts_is_the_last(s3, shelf, uploads, upload):
    answer = s3.list_multipart_uploads(Bucket=shelf, MaxUploads=len(NAMES))
    assert (shown(answer), answer["IsTruncated"]) == (uploads, False)
    answer = s3.list_parts(MaxParts=len(NUMBERS), **upload.place)
    assert (numbers(answer), answer["IsTruncated"]) == (NUMBERS, False)
