"""Versions without versioning: each object has the one version `null`, which can be listed, read, copied and deleted.

Never enables versioning; `test_not_there` tests that it is refused.
"""

import pytest

import wire
from buckets import fill
from expect import absent, body, prefixes, refused

KEYS = ["a", "b/1", "b/2", "c", "d e/ü"]


@pytest.fixture(scope="module")
def full(shelf):
    """A bucket with a few objects, for tests that change none of them."""
    fill(shelf, KEYS)
    return shelf


@pytest.fixture
def own(bucket):
    """A bucket with the same, for one test."""
    fill(bucket, KEYS)
    return bucket


def shown(answer):
    return [version["Key"] for version in answer.get("Versions", [])]


def test_all(s3, full):
    answer = s3.list_object_versions(Bucket=full)
    assert shown(answer) == KEYS
    for version in answer["Versions"]:
        assert (version["VersionId"], version["IsLatest"]) == ("null", True)
        head = s3.head_object(Bucket=full, Key=version["Key"])
        assert (version["ETag"], version["Size"]) == (head["ETag"], head["ContentLength"])
        assert version["LastModified"].replace(microsecond=0) == head["LastModified"]
        assert version["StorageClass"] == "STANDARD" and version["Owner"]["ID"]
    assert "DeleteMarkers" not in answer
    assert (answer["Name"], answer["MaxKeys"], answer["IsTruncated"]) == (full, 1000, False)


def test_an_empty_bucket(s3, bucket):
    answer = s3.list_object_versions(Bucket=bucket)
    assert (shown(answer), answer["IsTruncated"]) == ([], False)


def test_deleted_is_gone(s3, own):
    s3.delete_object(Bucket=own, Key="a")
    answer = s3.list_object_versions(Bucket=own)
    assert shown(answer) == KEYS[1:] and "DeleteMarkers" not in answer


def test_replaced_is_one(s3, own):
    s3.put_object(Bucket=own, Key="a", Body=b"newer")
    versions = s3.list_object_versions(Bucket=own, Prefix="a")["Versions"]
    assert [(v["Key"], v["Size"]) for v in versions] == [("a", 5)]


def test_by_prefix(s3, full):
    assert shown(s3.list_object_versions(Bucket=full, Prefix="b/")) == ["b/1", "b/2"]


def test_by_delimiter(s3, full):
    answer = s3.list_object_versions(Bucket=full, Delimiter="/")
    assert (shown(answer), prefixes(answer)) == (["a", "c"], ["b/", "d e/"])


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_in_pages(s3, full, size):
    seen, marker = [], {}
    for _ in range(10):
        page = s3.list_object_versions(Bucket=full, MaxKeys=size, **marker)
        seen += shown(page)
        assert len(shown(page)) <= size
        if not page["IsTruncated"]:
            break
        marker = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
        assert tuple(marker.values()) == (seen[-1], "null")
    assert seen == KEYS


def test_in_pages_with_folders(s3, full):
    pages = s3.get_paginator("list_object_versions").paginate(
        Bucket=full, Delimiter="/", PaginationConfig={"PageSize": 1}
    )
    seen = [name for page in pages for name in [*shown(page), *prefixes(page)]]
    assert seen == ["a", "b/", "c", "d e/"]


def test_after_a_key(s3, full):
    assert shown(s3.list_object_versions(Bucket=full, KeyMarker="b/1")) == ["b/2", "c", "d e/ü"]


def test_encoded(full):
    answer = wire.signed("GET", f"/{full}", query=[("versions", ""), ("encoding-type", "url"), ("prefix", "d e")])
    assert answer.text("EncodingType") == "url"
    assert answer.text("Version/Key") in ("d%20e/%C3%BC", "d+e/%C3%BC")


@pytest.mark.parametrize("number", ["-1", "x"])
def test_max_keys_that_are_no_number(bucket, number):
    answer = wire.signed("GET", f"/{bucket}", query=[("versions", ""), ("max-keys", number)])
    assert answer.verdict == (400, "InvalidArgument"), answer


def test_read_by_its_version(s3, full):
    assert body(s3, full, "a", VersionId="null") == b"a"
    assert s3.head_object(Bucket=full, Key="a", VersionId="null")["ContentLength"] == 1


def test_no_version_is_named_where_none_are_kept(s3, own):
    assert "VersionId" not in s3.put_object(Bucket=own, Key="a", Body=b"x")
    assert wire.signed("GET", f"/{own}/a").headers["x-amz-version-id"] is None


OTHER = "3HL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY"


@pytest.mark.parametrize("version", [OTHER, "nonsense"])
def test_a_version_that_nobody_made(s3, full, version):
    answer = wire.signed("GET", f"/{full}/a", query=[("versionId", version)])
    assert answer.verdict in [(404, "NoSuchVersion"), (400, "InvalidArgument")], answer
    assert wire.signed("HEAD", f"/{full}/a", query=[("versionId", version)]).status in (404, 400)


def test_the_version_of_what_is_not_there(s3, bucket):
    answer = wire.signed("GET", f"/{bucket}/k", query=[("versionId", "null")])
    assert answer.verdict in [(404, "NoSuchVersion"), (404, "NoSuchKey")], answer


def test_delete_by_its_version(s3, own):
    answer = s3.delete_object(Bucket=own, Key="a", VersionId="null")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204 and not answer.get("DeleteMarker")
    absent(s3, own, "a")


def test_delete_of_a_version_that_nobody_made(s3, full):
    answer = wire.signed("DELETE", f"/{full}/a", query=[("versionId", OTHER)])
    assert answer.status == 204 or answer.verdict in [(404, "NoSuchVersion"), (400, "InvalidArgument")], answer
    assert body(s3, full, "a") == b"a"


def test_copy_of_a_version(s3, own):
    source = {"Bucket": own, "Key": "a", "VersionId": "null"}
    s3.copy_object(Bucket=own, Key="copy", CopySource=source)
    assert body(s3, own, "copy") == b"a"


def test_copy_of_a_version_that_nobody_made(s3, full):
    headers = [("x-amz-copy-source", f"{full}/a?versionId={OTHER}")]
    answer = wire.signed("PUT", f"/{full}/copy", headers=headers)
    assert answer.verdict in [(404, "NoSuchVersion"), (400, "InvalidArgument")], answer
    absent(s3, full, "copy")


def test_tags_of_a_version(s3, own):
    tags = {"TagSet": [{"Key": "a", "Value": "1"}]}
    s3.put_object_tagging(Bucket=own, Key="a", VersionId="null", Tagging=tags)
    assert s3.get_object_tagging(Bucket=own, Key="a", VersionId="null")["TagSet"] == tags["TagSet"]


def test_missing_bucket(s3, bucket):
    refused(404, "NoSuchBucket", s3.list_object_versions, Bucket=f"{bucket}-none")


def test_after_a_key_within_a_common_prefix(s3, full):
    answer = s3.list_object_versions(Bucket=full, KeyMarker="b/1", Delimiter="/")
    assert (shown(answer), prefixes(answer)) == (["c"], ["b/", "d e/"])


def test_a_page_of_all_is_the_last(s3, full):
    answer = s3.list_object_versions(Bucket=full, MaxKeys=len(KEYS))
    assert (shown(answer), answer["IsTruncated"]) == (KEYS, False)
