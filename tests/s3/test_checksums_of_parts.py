"""The checksums of multipart uploads: of each part, of all parts together, and of the whole object.

Those of objects in one piece are in `test_checksums`.
"""

import base64
import hashlib
import os

import pytest

import wire
from checksums import ALGORITHMS, all_in, checksum, composite, field
from expect import absent, body, nothing_in, refused
from parts import MIN, Upload

COMPOSITE = ["CRC32", "CRC32C", "SHA1", "SHA256"]
FULL = ["CRC32", "CRC32C", "CRC64NVME"]


def part(upload, number, content, algorithm):
    """Uploads a part with its checksum, which then is in the list, too."""
    value = {field(algorithm): checksum(algorithm, content)}
    answer = upload.part(number, content, **value)
    assert all_in(answer) == value
    upload.done[number].update(value)


def head(s3, bucket):
    return s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")


@pytest.mark.parametrize("algorithm", COMPOSITE)
@pytest.mark.parametrize("how", [{}, {"ChecksumType": "COMPOSITE"}], ids=["default", "said"])
def test_composite(s3, bucket, algorithm, how):
    upload = Upload(s3, bucket, ChecksumAlgorithm=algorithm, **how)
    part(upload, 1, b"content", algorithm)
    end = upload.complete()
    wanted = {field(algorithm): composite(algorithm, [b"content"])}
    assert (all_in(end), end["ChecksumType"]) == (wanted, "COMPOSITE")
    assert (all_in(head(s3, bucket)), head(s3, bucket)["ChecksumType"]) == (wanted, "COMPOSITE")
    assert body(s3, bucket, "k", ChecksumMode="ENABLED") == b"content"


def test_composite_of_several(s3, bucket):
    upload = Upload(s3, bucket, ChecksumAlgorithm="SHA256")
    contents = [os.urandom(MIN), os.urandom(MIN + 5), b"end"]
    for number, content in enumerate(contents, 1):
        part(upload, number, content, "SHA256")
    assert upload.complete()["ChecksumSHA256"] == composite("SHA256", contents)
    assert head(s3, bucket)["ChecksumSHA256"] == composite("SHA256", contents)
    got = s3.get_object(Bucket=bucket, Key="k", PartNumber=2, ChecksumMode="ENABLED")
    assert got["Body"].read() == contents[1]


@pytest.mark.parametrize("algorithm", FULL)
def test_of_the_whole(s3, bucket, algorithm):
    upload = Upload(s3, bucket, ChecksumAlgorithm=algorithm, ChecksumType="FULL_OBJECT")
    part(upload, 1, b"content", algorithm)
    end = upload.complete(ChecksumType="FULL_OBJECT")
    wanted = {field(algorithm): checksum(algorithm, b"content")}
    assert (all_in(end), end["ChecksumType"]) == (wanted, "FULL_OBJECT")
    assert (all_in(head(s3, bucket)), head(s3, bucket)["ChecksumType"]) == (wanted, "FULL_OBJECT")


def test_of_the_whole_of_several(s3, bucket):
    upload = Upload(s3, bucket, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    contents = [os.urandom(MIN), os.urandom(MIN + 5), b"end"]
    for number, content in enumerate(contents, 1):
        part(upload, number, content, "CRC32")
    whole = checksum("CRC32", b"".join(contents))
    assert upload.complete(ChecksumCRC32=whole, ChecksumType="FULL_OBJECT")["ChecksumCRC32"] == whole
    assert head(s3, bucket)["ChecksumCRC32"] == whole


def test_crc64nvme_is_of_the_whole_without_being_told(s3, bucket):
    upload = Upload(s3, bucket, ChecksumAlgorithm="CRC64NVME")
    part(upload, 1, b"content", "CRC64NVME")
    assert upload.complete()["ChecksumType"] == "FULL_OBJECT"
    assert head(s3, bucket)["ChecksumCRC64NVME"] == checksum("CRC64NVME", b"content")


@pytest.mark.parametrize("algorithm", FULL)
def test_the_whole_of_other_bytes(s3, bucket, algorithm):
    upload = Upload(s3, bucket, ChecksumAlgorithm=algorithm, ChecksumType="FULL_OBJECT")
    part(upload, 1, b"content", algorithm)
    wrong = {field(algorithm): checksum(algorithm, b"other"), "ChecksumType": "FULL_OBJECT"}
    refused(400, "BadDigest", upload.complete, **wrong)
    absent(s3, bucket, "k")


@pytest.mark.parametrize(
    "algorithm, kind", [("SHA1", "FULL_OBJECT"), ("SHA256", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE")]
)
def test_kinds_that_an_algorithm_does_not_have(s3, bucket, algorithm, kind):
    how = {"ChecksumAlgorithm": algorithm, "ChecksumType": kind}
    refused(400, "InvalidRequest", s3.create_multipart_upload, Bucket=bucket, Key="k", **how)
    nothing_in(s3, bucket)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_part_of_other_bytes(s3, bucket, algorithm):
    upload = Upload(s3, bucket, ChecksumAlgorithm=algorithm)
    wrong = {field(algorithm): checksum(algorithm, b"other")}
    refused(400, "BadDigest", s3.upload_part, PartNumber=1, Body=b"content", **wrong, **upload.place)
    assert "Parts" not in s3.list_parts(**upload.place)


def test_a_part_by_another_algorithm(s3, bucket):
    upload = Upload(s3, bucket, ChecksumAlgorithm="SHA256")
    other = {"ChecksumCRC32": checksum("CRC32", b"content")}
    refused(400, "InvalidRequest", s3.upload_part, PartNumber=1, Body=b"content", **other, **upload.place)
    assert "Parts" not in s3.list_parts(**upload.place)


def test_a_list_without_the_checksums(s3, bucket):
    upload = Upload(s3, bucket, ChecksumAlgorithm="SHA256")
    part(upload, 1, b"content", "SHA256")
    bare = {"Parts": [{"PartNumber": 1, "ETag": upload.done[1]["ETag"]}]}
    refused(400, "InvalidRequest", upload.complete, MultipartUpload=bare)
    absent(s3, bucket, "k")


def test_a_list_with_a_checksum_by_another_algorithm(s3, bucket):
    upload = Upload(s3, bucket, ChecksumAlgorithm="SHA256")
    part(upload, 1, b"content", "SHA256")
    upload.done[1]["ChecksumCRC32"] = checksum("CRC32", b"content")
    refused(400, ("InvalidPart", "BadDigest"), upload.complete)
    absent(s3, bucket, "k")


def test_a_list_with_another_checksum(s3, bucket):
    upload = Upload(s3, bucket, ChecksumAlgorithm="SHA256")
    part(upload, 1, b"content", "SHA256")
    upload.done[1]["ChecksumSHA256"] = checksum("SHA256", b"other")
    refused(400, ("InvalidPart", "BadDigest"), upload.complete)
    absent(s3, bucket, "k")


def test_parts_are_listed_with_theirs(s3, bucket):
    upload = Upload(s3, bucket, ChecksumAlgorithm="SHA256")
    part(upload, 1, b"content", "SHA256")
    answer = s3.list_parts(**upload.place)
    assert (answer["ChecksumAlgorithm"], answer["ChecksumType"]) == ("SHA256", "COMPOSITE")
    assert answer["Parts"][0]["ChecksumSHA256"] == checksum("SHA256", b"content")


def test_uploads_are_listed_with_their_algorithm(s3, bucket):
    answer = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32C")
    assert (answer["ChecksumAlgorithm"], answer["ChecksumType"]) == ("CRC32C", "COMPOSITE")
    (upload,) = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert (upload["ChecksumAlgorithm"], upload["ChecksumType"]) == ("CRC32C", "COMPOSITE")


def test_a_copied_part_has_one(s3, bucket):
    s3.put_object(Bucket=bucket, Key="source", Body=b"0123456789")
    upload = Upload(s3, bucket, ChecksumAlgorithm="SHA256")
    how = {"CopySource": f"{bucket}/source", "CopySourceRange": "bytes=2-5", "PartNumber": 1}
    result = s3.upload_part_copy(**how, **upload.place)["CopyPartResult"]
    assert result["ChecksumSHA256"] == checksum("SHA256", b"2345")
    upload.done[1] = {"PartNumber": 1, "ETag": result["ETag"], "ChecksumSHA256": result["ChecksumSHA256"]}
    assert upload.complete()["ChecksumSHA256"] == composite("SHA256", [b"2345"])


def test_without_any_the_whole_has_crc64nvme(plain, s3, bucket):
    upload = Upload(plain, bucket)
    upload.part(1, b"content")
    upload.complete()
    assert all_in(head(s3, bucket)) == {"ChecksumCRC64NVME": checksum("CRC64NVME", b"content")}


def test_the_sum_of_the_whole_as_it_was_shown(s3, bucket):
    """A completion may name the composite checksum, followed by the number of parts."""
    for said, code in [("-1", None), ("-2", (400, "BadDigest")), ("", None)]:
        upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256")["UploadId"]
        part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x", ChecksumAlgorithm="SHA256")
        whole = base64.b64encode(hashlib.sha256(base64.b64decode(part["ChecksumSHA256"])).digest()).decode()
        document = (
            f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{part['ETag']}</ETag>"
            f"<ChecksumSHA256>{part['ChecksumSHA256']}</ChecksumSHA256></Part></CompleteMultipartUpload>"
        ).encode()
        answer = wire.signed(
            "POST",
            f"/{bucket}/k",
            query=[("uploadId", upload)],
            headers=[("x-amz-checksum-sha256", whole + said)],
            body=document,
        )
        assert answer.verdict == (code or (200, None)), (said, answer)


def test_the_sum_of_a_part_that_is_read(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32")["UploadId"]
    bodies = [b"a" * (5 << 20), b"b"]
    parts = [
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=n, Body=b, ChecksumAlgorithm="CRC32")
        for n, b in enumerate(bodies, 1)
    ]
    listed = [{"PartNumber": n, "ETag": p["ETag"], "ChecksumCRC32": p["ChecksumCRC32"]} for n, p in enumerate(parts, 1)]
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": listed})
    for n, part in enumerate(parts, 1):
        answer = s3.head_object(Bucket=bucket, Key="k", PartNumber=n, ChecksumMode="ENABLED")
        assert answer["ChecksumCRC32"] == part["ChecksumCRC32"]
    assert "ChecksumCRC32" not in s3.head_object(Bucket=bucket, Key="k", PartNumber=1)
    s3.put_object(Bucket=bucket, Key="one", Body=b"x", ChecksumAlgorithm="CRC32")
    one = s3.head_object(Bucket=bucket, Key="one", PartNumber=1, ChecksumMode="ENABLED")
    assert one["ChecksumCRC32"] == s3.head_object(Bucket=bucket, Key="one", ChecksumMode="ENABLED")["ChecksumCRC32"]
