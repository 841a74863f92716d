"""The five checksums of objects in one piece: verified on upload, kept, and returned on request.

Checksums in trailers are in `test_chunked`, those of multipart uploads in `test_checksums_of_parts`.
"""

import base64

import pytest

import wire
from checksums import ALGORITHMS, all_in, checksum, field, header
from expect import body, nothing_in, refused

DATA = b"the bytes that are summed " * 100


def put(bucket, data, *headers):
    """Puts with exactly these headers."""
    return wire.signed("PUT", f"/{bucket}/k", headers=headers, body=data)


def shown(s3, bucket):
    """Returns the checksums of the object, by HEAD."""
    return all_in(s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("data", [DATA, b""], ids=["data", "empty"])
def test_right(s3, bucket, algorithm, data):
    answer = put(bucket, data, (header(algorithm), checksum(algorithm, data)))
    assert answer.status == 200, answer
    assert answer.headers[header(algorithm)] == checksum(algorithm, data)
    assert answer.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    assert shown(s3, bucket) == {field(algorithm): checksum(algorithm, data)}
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == data and got["ChecksumType"] == "FULL_OBJECT"
    assert all_in(got) == {field(algorithm): checksum(algorithm, data)}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_of_other_bytes(s3, bucket, algorithm):
    answer = put(bucket, DATA, (header(algorithm), checksum(algorithm, b"other")))
    assert answer.verdict == (400, "BadDigest"), answer
    nothing_in(s3, bucket)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_wrong_leaves_the_old_one(s3, bucket, algorithm):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    before = shown(s3, bucket)
    answer = put(bucket, DATA, (header(algorithm), checksum(algorithm, b"other")))
    assert answer.verdict == (400, "BadDigest"), answer
    assert body(s3, bucket, "k") == b"old" and shown(s3, bucket) == before


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("value", ["", "not base64!", base64.b64encode(b"9 bytes..").decode(), "AAAA"])
def test_what_is_no_checksum(s3, bucket, algorithm, value):
    answer = put(bucket, DATA, (header(algorithm), value))
    assert answer.verdict == (400, "InvalidRequest"), answer
    nothing_in(s3, bucket)


def test_two_at_once(s3, bucket):
    both = [(header(a), checksum(a, DATA)) for a in ["CRC32", "SHA256"]]
    assert put(bucket, DATA, *both).verdict == (400, "InvalidRequest")
    nothing_in(s3, bucket)


def test_another_than_was_announced(s3, bucket):
    headers = [("x-amz-sdk-checksum-algorithm", "SHA256"), (header("CRC32"), checksum("CRC32", DATA))]
    assert put(bucket, DATA, *headers).verdict == (400, "InvalidRequest")
    nothing_in(s3, bucket)


def test_announced_and_not_sent(s3, bucket):
    assert put(bucket, DATA, ("x-amz-sdk-checksum-algorithm", "SHA256")).verdict == (400, "InvalidRequest")
    nothing_in(s3, bucket)


def test_an_algorithm_that_nobody_knows(s3, bucket):
    assert put(bucket, DATA, ("x-amz-sdk-checksum-algorithm", "CRC16")).verdict == (400, "InvalidRequest")
    nothing_in(s3, bucket)


def test_none_at_all_is_crc64nvme(s3, bucket):
    answer = put(bucket, DATA)
    assert answer.status == 200 and answer.headers[header("CRC64NVME")] == checksum("CRC64NVME", DATA)
    assert shown(s3, bucket) == {field("CRC64NVME"): checksum("CRC64NVME", DATA)}


def test_not_shown_unless_asked_for(s3, plain, bucket):
    put(bucket, DATA, (header("SHA256"), checksum("SHA256", DATA)))
    assert all_in(s3.head_object(Bucket=bucket, Key="k")) == {}
    assert all_in(plain.get_object(Bucket=bucket, Key="k")) == {}


def test_a_range_does_not_have_the_checksum_of_the_whole(s3, bucket):
    put(bucket, DATA, (header("SHA256"), checksum("SHA256", DATA)))
    got = s3.get_object(Bucket=bucket, Key="k", Range="bytes=5-9", ChecksumMode="ENABLED")
    assert got["Body"].read() == DATA[5:10] and all_in(got) == {}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_put_replaces_it(s3, bucket, algorithm):
    put(bucket, DATA, (header("SHA1"), checksum("SHA1", DATA)))
    put(bucket, b"new", (header(algorithm), checksum(algorithm, b"new")))
    assert shown(s3, bucket) == {field(algorithm): checksum(algorithm, b"new")}


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_as_boto3_computes_them(s3, bucket, algorithm):
    answer = s3.put_object(Bucket=bucket, Key="k", Body=DATA, ChecksumAlgorithm=algorithm)
    assert answer[field(algorithm)] == checksum(algorithm, DATA)
    assert shown(s3, bucket) == {field(algorithm): checksum(algorithm, DATA)}
    assert body(s3, bucket, "k", ChecksumMode="ENABLED") == DATA


def test_a_copy_keeps_it(s3, bucket):
    put(bucket, DATA, (header("SHA256"), checksum("SHA256", DATA)))
    result = s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/k")["CopyObjectResult"]
    assert all_in(result) == {"ChecksumSHA256": checksum("SHA256", DATA)}
    head = s3.head_object(Bucket=bucket, Key="copy", ChecksumMode="ENABLED")
    assert all_in(head) == {"ChecksumSHA256": checksum("SHA256", DATA)}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_copy_with_another(s3, bucket, algorithm):
    put(bucket, DATA, (header("SHA256"), checksum("SHA256", DATA)))
    how = {"CopySource": f"{bucket}/k", "ChecksumAlgorithm": algorithm}
    result = s3.copy_object(Bucket=bucket, Key="copy", **how)["CopyObjectResult"]
    assert all_in(result) == {field(algorithm): checksum(algorithm, DATA)}
    head = s3.head_object(Bucket=bucket, Key="copy", ChecksumMode="ENABLED")
    assert all_in(head) == {field(algorithm): checksum(algorithm, DATA)}


def test_a_content_md5_beside_it(s3, bucket):
    headers = [(header("CRC32"), checksum("CRC32", DATA)), ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")]
    assert put(bucket, DATA, *headers).verdict == (400, "BadDigest")
    nothing_in(s3, bucket)


def test_a_large_object(s3, bucket):
    data = DATA * 4000
    put(bucket, data, (header("CRC32"), checksum("CRC32", data)))
    assert shown(s3, bucket) == {"ChecksumCRC32": checksum("CRC32", data)}
    refused(
        400, "BadDigest", s3.put_object, Bucket=bucket, Key="k", Body=data, ChecksumCRC32=checksum("CRC32", b"other")
    )
    assert body(s3, bucket, "k", ChecksumMode="ENABLED") == data


# For "abc": FIPS 180-4, RFC 1321, and the tests in xxHash's repository. boto3 does not know all of them.
NEWER = {
    "sha512": "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
    "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    "md5": "900150983cd24fb0d6963f7d28e17f72",
    "xxhash64": "44bc2cf5ad770999",
    "xxhash3": "78af5f94892f3950",
    "xxhash128": "06b05ab6733a618578af5f94892f3950",
}


@pytest.mark.parametrize("name", NEWER)
def test_newer_algorithms(s3, bucket, name):
    header = f"x-amz-checksum-{name}"
    right = base64.b64encode(bytes.fromhex(NEWER[name])).decode()
    answer = wire.signed("PUT", f"/{bucket}/k", headers=[(header, right)], body=b"abc")
    assert (answer.status, answer.headers[header]) == (200, right), answer
    for method in ("GET", "HEAD"):
        answer = wire.signed(method, f"/{bucket}/k", headers=[("x-amz-checksum-mode", "ENABLED")])
        assert (answer.headers[header], answer.headers["x-amz-checksum-type"]) == (right, "FULL_OBJECT"), answer
    assert wire.signed("PUT", f"/{bucket}/k", headers=[(header, right)], body=b"abd").verdict == (400, "BadDigest")
    assert body(s3, bucket, "k") == b"abc"
    # The copy gets one by the same algorithm.
    copied = wire.signed("PUT", f"/{bucket}/copy", headers=[("x-amz-copy-source", f"{bucket}/k")])
    assert copied.status == 200, copied
    answer = wire.signed("HEAD", f"/{bucket}/copy", headers=[("x-amz-checksum-mode", "ENABLED")])
    assert answer.headers[header] == right
    # Not for multipart uploads, and the answer says so.
    parts = [("x-amz-checksum-algorithm", name.upper())]
    begun = wire.signed("POST", f"/{bucket}/parts", query=[("uploads", "")], headers=parts)
    assert begun.verdict == (501, "NotImplemented") and name.upper() in begun.text("Message"), begun
