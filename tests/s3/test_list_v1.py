"""ListObjects, version 1: markers instead of tokens, always with owners.

The table of prefixes and delimiters is in `listings`, for both versions of the operation.
"""

from urllib.parse import unquote_plus

import pytest

import wire
from buckets import fill
from expect import keys, prefixes, refused
from listings import CASES, KEYS, NAMES, in_order


@pytest.fixture(scope="module")
def full(shelf):
    """A bucket with the keys of the table."""
    fill(shelf, KEYS)
    return shelf


@pytest.mark.parametrize("name", NAMES)
def test_table(s3, full, name):
    arguments, wanted, folders = CASES[name]
    answer = s3.list_objects(Bucket=full, **arguments)
    assert (keys(answer), prefixes(answer)) == (wanted, folders)
    assert (answer["Name"], answer["MaxKeys"], answer["IsTruncated"]) == (full, 1000, False)
    assert "NextMarker" not in answer


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("name", ["delimiter", "prefix and delimiter", "delimiter of two slashes"])
def test_pages_by_next_marker(s3, full, name, size):
    arguments, wanted, folders = CASES[name]
    seen, marker = [], ""
    for _ in range(100):
        page = s3.list_objects(Bucket=full, MaxKeys=size, Marker=marker, **arguments)
        part = in_order(keys(page), prefixes(page))
        seen += part
        assert page.get("Marker", "") == marker
        if not page["IsTruncated"]:
            break
        assert len(part) == size, "every page but the last is full"
        marker = page["NextMarker"]
        assert marker == part[-1]
    assert seen == in_order(wanted, folders)


@pytest.mark.parametrize("size", [1, 3])
def test_pages_by_the_last_key(s3, full, size):
    seen = []
    for _ in range(100):
        page = s3.list_objects(Bucket=full, MaxKeys=size, Marker=seen[-1] if seen else "")
        seen += keys(page)
        if not page["IsTruncated"]:
            break
    assert seen == KEYS


@pytest.mark.parametrize("marker, first", [("a", "a--b--c"), ("a-", "a--b--c"), ("b/2", "b/deep/1"), ("z-ä", "z-äöü")])
def test_marker(s3, full, marker, first):
    answer = s3.list_objects(Bucket=full, Marker=marker)
    assert keys(answer) == KEYS[KEYS.index(first) :] and answer["Marker"] == marker


def test_marker_after_the_last(s3, full):
    answer = s3.list_objects(Bucket=full, Marker="zzz")
    assert (keys(answer), answer["IsTruncated"]) == ([], False)


def test_marker_that_is_a_common_prefix_goes_past_it(s3, full):
    answer = s3.list_objects(Bucket=full, Marker="b/", Delimiter="/")
    assert prefixes(answer) == ["c/", "d/", "z-漢字/"]


def test_entries_have_owners(s3, bucket):
    tag = s3.put_object(Bucket=bucket, Key="k", Body=b"12345")["ETag"]
    (entry,) = s3.list_objects(Bucket=bucket)["Contents"]
    assert (entry["Key"], entry["Size"], entry["ETag"], entry["StorageClass"]) == ("k", 5, tag, "STANDARD")
    assert entry["Owner"]["ID"] == s3.list_buckets()["Owner"]["ID"]


def test_an_empty_bucket(s3, bucket):
    answer = s3.list_objects(Bucket=bucket)
    assert (keys(answer), prefixes(answer), answer["IsTruncated"]) == ([], [], False)


def test_max_keys_zero(s3, full):
    answer = s3.list_objects(Bucket=full, MaxKeys=0)
    assert (keys(answer), answer["MaxKeys"], answer["IsTruncated"]) == ([], 0, False)


@pytest.mark.parametrize("number", ["-1", "x", "99999999999999999999"])
def test_max_keys_that_are_no_number(full, number):
    answer = wire.signed("GET", f"/{full}", query=[("max-keys", number)])
    assert answer.verdict == (400, "InvalidArgument"), answer


def test_everything_is_encoded(full):
    query = [("prefix", "z-"), ("delimiter", "字/"), ("marker", "z ä"), ("encoding-type", "url"), ("max-keys", "1")]
    answer = wire.signed("GET", f"/{full}", query=query)
    tree = answer.tree()
    assert tree.findtext("EncodingType") == "url"
    assert unquote_plus(tree.findtext("Delimiter")) == "字/" != tree.findtext("Delimiter")
    assert unquote_plus(tree.findtext("Marker")) == "z ä" != tree.findtext("Marker")
    assert unquote_plus(tree.findtext("Contents/Key")) == "z-äöü" != tree.findtext("Contents/Key")
    assert unquote_plus(tree.findtext("NextMarker")) == "z-äöü" != tree.findtext("NextMarker")


def test_an_encoding_that_nobody_knows(full):
    answer = wire.signed("GET", f"/{full}", query=[("encoding-type", "base64")])
    assert answer.verdict == (400, "InvalidArgument"), answer


def test_trailing_slash_after_the_bucket(full):
    answer = wire.signed("GET", f"/{full}/")
    assert [e.text for e in answer.tree().findall("Contents/Key")] == KEYS


def test_missing_bucket(s3, full):
    refused(404, "NoSuchBucket", s3.list_objects, Bucket=full + "-none", Delimiter="/")


def test_marker_within_a_common_prefix(s3, full):
    for marker, wanted in [("b/2", ["b/", "c/", "d/", "z-漢字/"]), ("b/deeper/1", ["c/", "d/", "z-漢字/"])]:
        assert prefixes(s3.list_objects(Bucket=full, Marker=marker, Delimiter="/")) == wanted


def test_a_page_of_all_keys_is_the_last(s3, full):
    answer = s3.list_objects(Bucket=full, MaxKeys=len(KEYS))
    assert keys(answer) == KEYS and not answer["IsTruncated"]
