"""GetObjectAttributes: each attribute, those of parts in pages, and refusals.

The checksums themselves are tested in `test_checksums` and `test_checksums_of_parts`.
"""

import pytest

import wire
from checksums import checksum, composite, field
from expect import refused
from parts import MIN, Upload

EVERYTHING = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]


def attributes(s3, bucket, *names, **how):
    """Returns the named attributes, without the fields of every answer."""
    answer = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=list(names), **how)
    return {n: v for n, v in answer.items() if n not in ("ResponseMetadata", "LastModified", "VersionId")}


@pytest.fixture
def whole(s3, bucket):
    """An object in one piece; returns its bucket and tag."""
    tag = s3.put_object(Bucket=bucket, Key="k", Body=b"content", ChecksumAlgorithm="SHA256")["ETag"]
    return bucket, tag.strip('"')


@pytest.fixture(scope="module")
def of_parts(s3, shelf):
    """An object of five parts with checksums; returns its bucket and tag."""
    upload = Upload(s3, shelf, ChecksumAlgorithm="SHA256")
    contents = [bytes([n]) * MIN for n in range(4)] + [b"end"]
    for number, content in enumerate(contents, 1):
        value = {"ChecksumSHA256": checksum("SHA256", content)}
        upload.part(number, content, **value)
        upload.done[number].update(value)
    return shelf, upload.complete()["ETag"].strip('"'), contents


def test_tag(s3, whole):
    assert attributes(s3, whole[0], "ETag") == {"ETag": whole[1]}


def test_size(s3, whole):
    assert attributes(s3, whole[0], "ObjectSize") == {"ObjectSize": 7}


def test_size_of_nothing(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    assert attributes(s3, bucket, "ObjectSize") == {"ObjectSize": 0}


def test_storage_class(s3, whole):
    assert attributes(s3, whole[0], "StorageClass") == {"StorageClass": "STANDARD"}


def test_checksum(s3, whole):
    wanted = {"ChecksumSHA256": checksum("SHA256", b"content"), "ChecksumType": "FULL_OBJECT"}
    assert attributes(s3, whole[0], "Checksum") == {"Checksum": wanted}


def test_checksum_when_none_was_given(s3, plain, bucket):
    plain.put_object(Bucket=bucket, Key="k", Body=b"content")
    wanted = {field("CRC64NVME"): checksum("CRC64NVME", b"content"), "ChecksumType": "FULL_OBJECT"}
    assert attributes(s3, bucket, "Checksum") == {"Checksum": wanted}


def test_no_parts(s3, whole):
    assert attributes(s3, whole[0], "ObjectParts") == {}


def test_everything(s3, whole):
    got = attributes(s3, whole[0], *EVERYTHING)
    assert set(got) == {"ETag", "Checksum", "StorageClass", "ObjectSize"}


def test_when_it_was_modified(s3, whole):
    answer = s3.get_object_attributes(Bucket=whole[0], Key="k", ObjectAttributes=["ETag"])
    assert answer["LastModified"] == s3.head_object(Bucket=whole[0], Key="k")["LastModified"]


def test_of_parts(s3, of_parts):
    bucket, tag, contents = of_parts
    got = attributes(s3, bucket, *EVERYTHING)
    assert (got["ETag"], got["ObjectSize"]) == (tag, 4 * MIN + 3)
    assert got["Checksum"] == {"ChecksumSHA256": composite("SHA256", contents), "ChecksumType": "COMPOSITE"}
    shown = [(p["PartNumber"], p["Size"], p["ChecksumSHA256"]) for p in got["ObjectParts"]["Parts"]]
    assert shown == [(n, len(c), checksum("SHA256", c)) for n, c in enumerate(contents, 1)]
    assert (got["ObjectParts"]["TotalPartsCount"], got["ObjectParts"]["IsTruncated"]) == (5, False)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_parts_in_pages(s3, of_parts, size):
    seen, marker = [], 0
    for _ in range(10):
        page = attributes(s3, of_parts[0], "ObjectParts", MaxParts=size, PartNumberMarker=marker)["ObjectParts"]
        assert (page["TotalPartsCount"], page["MaxParts"], page["PartNumberMarker"]) == (5, size, marker)
        assert len(page["Parts"]) <= size
        seen += [p["PartNumber"] for p in page["Parts"]]
        if not page["IsTruncated"]:
            break
        marker = page["NextPartNumberMarker"]
        assert marker == seen[-1]
    assert seen == [1, 2, 3, 4, 5]


def test_parts_without_checksums_are_counted(s3, plain, bucket):
    upload = Upload(plain, bucket)
    upload.part(1, bytes(MIN))
    upload.part(2, b"end")
    upload.complete()
    assert attributes(s3, bucket, "ObjectParts")["ObjectParts"]["TotalPartsCount"] == 2


def test_of_what_is_not_there(s3, bucket):
    how = {"Bucket": bucket, "Key": "k", "ObjectAttributes": ["ETag"]}
    refused(404, "NoSuchKey", s3.get_object_attributes, **how)


@pytest.mark.parametrize("headers", [[], [("x-amz-object-attributes", "")], [("x-amz-object-attributes", "Colour")]])
def test_without_an_attribute(whole, headers):
    answer = wire.signed("GET", f"/{whole[0]}/k", query=[("attributes", "")], headers=headers)
    assert answer.verdict == (400, "InvalidArgument"), answer
