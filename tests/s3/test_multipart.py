"""Multipart uploads that succeed: parts in any order, overwritten, copied; the resulting objects; ended uploads.

Refusals are in `test_multipart_refusals`, listings in `test_multipart_lists`.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from expect import absent, body, keys, nothing_in, refused
from parts import MIN, Upload, upload_tag, uploaded


def test_one_upload(s3, bucket):
    answer = s3.create_multipart_upload(Bucket=bucket, Key="k")
    assert (answer["Bucket"], answer["Key"]) == (bucket, "k") and answer["UploadId"]
    place = {"Bucket": bucket, "Key": "k", "UploadId": answer["UploadId"]}
    contents = [os.urandom(MIN), os.urandom(MIN + 1), os.urandom(10)]
    done = []
    for number, content in enumerate(contents, 1):
        tag = s3.upload_part(PartNumber=number, Body=content, **place)["ETag"]
        assert tag == f'"{hashlib.md5(content).hexdigest()}"'
        done.append({"PartNumber": number, "ETag": tag})
    end = s3.complete_multipart_upload(MultipartUpload={"Parts": done}, **place)
    assert (end["Bucket"], end["Key"], end["ETag"]) == (bucket, "k", upload_tag(contents))
    assert end["Location"].endswith(f"{bucket}/k")
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ETag"], head["ContentLength"]) == (upload_tag(contents), 2 * MIN + 11)
    assert body(s3, bucket, "k") == b"".join(contents)


@pytest.mark.parametrize("content", [b"", b"small"])
def test_one_part_may_be_of_any_size(s3, bucket, content):
    upload = Upload(s3, bucket)
    upload.part(1, content)
    assert upload.complete()["ETag"] == upload_tag([content])
    assert body(s3, bucket, "k") == content


def test_the_only_part_may_have_any_number(s3, bucket):
    upload = Upload(s3, bucket)
    upload.part(10000, b"last")
    upload.complete()
    assert body(s3, bucket, "k") == b"last"


def test_numbers_with_gaps(s3, bucket):
    upload = Upload(s3, bucket)
    contents = [os.urandom(MIN), os.urandom(MIN), b"end"]
    for number, content in zip([3, 20, 9999], contents):
        upload.part(number, content)
    assert upload.complete()["ETag"] == upload_tag(contents)
    assert body(s3, bucket, "k") == b"".join(contents)


def test_parts_in_any_order_and_at_once(s3, bucket):
    upload = Upload(s3, bucket)
    contents = [bytes([n]) * MIN for n in range(3)] + [b"end"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: upload.part(n, contents[n - 1]), [4, 2, 1, 3]))
    assert upload.complete()["ETag"] == upload_tag(contents)
    assert body(s3, bucket, "k") == b"".join(contents)


def test_a_part_sent_again_replaces_the_first(s3, bucket):
    upload = Upload(s3, bucket)
    upload.part(1, b"first, and longer")
    upload.part(1, b"second")
    (listed,) = s3.list_parts(**upload.place)["Parts"]
    assert (listed["Size"], listed["ETag"]) == (6, upload.done[1]["ETag"])
    upload.complete()
    assert body(s3, bucket, "k") == b"second"


def test_parts_that_are_not_named_are_left_out(s3, bucket):
    upload = Upload(s3, bucket)
    upload.part(1, b"not this")
    upload.part(2, b"this")
    upload.complete(MultipartUpload={"Parts": [upload.done[2]]})
    assert body(s3, bucket, "k") == b"this"
    nothing = s3.list_multipart_uploads(Bucket=bucket)
    assert "Uploads" not in nothing


def test_it_replaces_an_object(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old", Metadata={"a": "1"})
    upload = Upload(s3, bucket)
    upload.part(1, b"new")
    assert body(s3, bucket, "k") == b"old"
    upload.complete()
    assert body(s3, bucket, "k") == b"new"
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {}


def test_a_put_replaces_it(s3, bucket):
    uploaded(s3, bucket, "k", [MIN, 10])
    s3.put_object(Bucket=bucket, Key="k", Body=b"new")
    assert body(s3, bucket, "k") == b"new"
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"] == f'"{hashlib.md5(b"new").hexdigest()}"'


def test_delete_of_it(s3, bucket):
    uploaded(s3, bucket, "k", [MIN, 10])
    s3.delete_object(Bucket=bucket, Key="k")
    absent(s3, bucket, "k")


def test_two_uploads_to_one_key(s3, bucket):
    first, second = Upload(s3, bucket), Upload(s3, bucket)
    first.part(1, b"first")
    second.part(1, b"second")
    assert first.id != second.id
    second.complete()
    assert body(s3, bucket, "k") == b"second"
    first.complete()
    assert body(s3, bucket, "k") == b"first"


def test_complete_again_is_the_same(s3, bucket):
    upload = Upload(s3, bucket)
    upload.part(1, b"content")
    assert upload.complete()["ETag"] == upload.complete()["ETag"] == upload_tag([b"content"])
    assert body(s3, bucket, "k") == b"content"


def test_complete_again_does_not_bring_back_what_was_replaced(s3, bucket):
    upload = Upload(s3, bucket)
    upload.part(1, b"content")
    upload.complete()
    s3.put_object(Bucket=bucket, Key="k", Body=b"newer")
    try:
        upload.complete()
    except s3.exceptions.ClientError as e:
        assert e.response["Error"]["Code"] == "NoSuchUpload"
    assert body(s3, bucket, "k") == b"newer"


def test_abort(s3, bucket):
    upload = Upload(s3, bucket)
    upload.part(1, b"content")
    assert s3.abort_multipart_upload(**upload.place)["ResponseMetadata"]["HTTPStatusCode"] == 204
    refused(404, "NoSuchUpload", s3.list_parts, **upload.place)
    refused(404, "NoSuchUpload", s3.upload_part, PartNumber=1, Body=b"x", **upload.place)
    refused(404, "NoSuchUpload", upload.complete)
    nothing_in(s3, bucket)


def test_abort_leaves_the_object_and_other_uploads(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    first, second = Upload(s3, bucket), Upload(s3, bucket)
    second.part(1, b"second")
    s3.abort_multipart_upload(**first.place)
    assert body(s3, bucket, "k") == b"old"
    second.complete()
    assert body(s3, bucket, "k") == b"second"


def test_uploads_are_no_objects(s3, bucket):
    Upload(s3, bucket, "a/b").part(1, b"content")
    assert keys(s3.list_objects_v2(Bucket=bucket)) == []
    absent(s3, bucket, "a/b")


def test_a_key_of_strange_characters(s3, bucket):
    upload = Upload(s3, bucket, "ä b/+%&=?漢")
    upload.part(1, b"content")
    upload.complete()
    assert body(s3, bucket, "ä b/+%&=?漢") == b"content"


def test_object_size_that_fits(s3, bucket):
    upload = Upload(s3, bucket)
    upload.part(1, b"content")
    upload.complete(MpuObjectSize=7)
    assert body(s3, bucket, "k") == b"content"


@pytest.fixture
def source(s3, bucket):
    """A source to copy parts from."""
    data = os.urandom(MIN + 100)
    s3.put_object(Bucket=bucket, Key="source", Body=data)
    return f"{bucket}/source", data


def copied(s3, upload, number, source, **how):
    """Copies a part and remembers it."""
    result = s3.upload_part_copy(PartNumber=number, CopySource=source, **upload.place, **how)["CopyPartResult"]
    upload.done[number] = {"PartNumber": number, "ETag": result["ETag"]}
    return result


def test_a_part_that_is_a_copy(s3, bucket, source):
    upload = Upload(s3, bucket)
    result = copied(s3, upload, 1, source[0])
    assert result["ETag"] == f'"{hashlib.md5(source[1]).hexdigest()}"' and result["LastModified"]
    assert upload.complete()["ETag"] == upload_tag([source[1]])
    assert body(s3, bucket, "k") == source[1]


@pytest.mark.parametrize("first, last", [(0, 0), (5, 1004), (70_000, MIN + 99)])
def test_a_part_that_is_a_copy_of_a_range(s3, bucket, source, first, last):
    upload = Upload(s3, bucket)
    copied(s3, upload, 1, source[0], CopySourceRange=f"bytes={first}-{last}")
    upload.complete()
    assert body(s3, bucket, "k") == source[1][first : last + 1]


def test_copies_and_uploads_mixed(s3, bucket, source):
    upload = Upload(s3, bucket)
    copied(s3, upload, 1, source[0], CopySourceRange=f"bytes=100-{MIN + 99}")
    upload.part(2, bytes(MIN))
    copied(s3, upload, 3, source[0], CopySourceRange="bytes=0-9")
    contents = [source[1][100 : MIN + 100], bytes(MIN), source[1][:10]]
    assert upload.complete()["ETag"] == upload_tag(contents)
    assert body(s3, bucket, "k") == b"".join(contents)


def test_a_copied_part_outlives_its_source(s3, bucket, source):
    upload = Upload(s3, bucket)
    copied(s3, upload, 1, source[0])
    s3.delete_object(Bucket=bucket, Key="source")
    upload.complete()
    assert body(s3, bucket, "k") == source[1]


def test_a_range_of_an_object_of_parts_is_copied(s3, bucket):
    contents = b"".join(uploaded(s3, bucket, "source", [MIN, MIN, 100]))
    upload = Upload(s3, bucket)
    copied(s3, upload, 1, f"{bucket}/source", CopySourceRange=f"bytes={MIN - 10}-{2 * MIN + 9}")
    upload.complete()
    assert body(s3, bucket, "k") == contents[MIN - 10 : 2 * MIN + 10]


def test_copied_from_another_bucket(s3, bucket, other_bucket):
    s3.put_object(Bucket=other_bucket, Key="a b/ü", Body=b"content")
    upload = Upload(s3, bucket)
    copied(s3, upload, 1, {"Bucket": other_bucket, "Key": "a b/ü"})
    upload.complete()
    assert body(s3, bucket, "k") == b"content"


def test_many_parts(s3, bucket):
    # Enough parts that numerical and lexical order differ.
    many = 10
    upload = Upload(s3, bucket)
    upload.part(many, b"end")
    s3.put_object(Bucket=bucket, Key="source", Body=bytes(MIN))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: copied(s3, upload, n, f"{bucket}/source"), range(1, many)))
    assert upload.complete()["ETag"] == upload_tag([bytes(MIN)] * (many - 1) + [b"end"])
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == (many - 1) * MIN + 3
    assert body(s3, bucket, "k", Range=f"bytes={(many - 1) * MIN - 1}-") == b"\0end"
