"""ListObjectsV2: prefixes, delimiters, pages, tokens and encodings; a thousand and one keys.

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


def raw(bucket, *query):
    """Returns a listing as XML, nothing decoded."""
    return wire.signed("GET", f"/{bucket}", query=[("list-type", "2"), *query])


@pytest.mark.parametrize("name", NAMES)
def test_table(s3, full, name):
    arguments, wanted, folders = CASES[name]
    answer = s3.list_objects_v2(Bucket=full, **arguments)
    assert (keys(answer), prefixes(answer)) == (wanted, folders)
    assert answer["KeyCount"] == len(wanted) + len(folders)
    assert not answer["IsTruncated"] and "NextContinuationToken" not in answer
    assert (answer["Name"], answer["MaxKeys"]) == (full, 1000)
    assert answer.get("Prefix", "") == arguments.get("Prefix", "")
    assert answer.get("Delimiter", "") == arguments.get("Delimiter", "")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("name", ["all", "delimiter", "prefix and delimiter", "delimiter of two characters"])
def test_pages(s3, full, name, size):
    arguments, wanted, folders = CASES[name]
    seen, token = [], {}
    for _ in range(100):
        page = s3.list_objects_v2(Bucket=full, MaxKeys=size, **arguments, **token)
        part = in_order(keys(page), prefixes(page))
        seen += part
        assert page["KeyCount"] == len(part) <= size
        if not page["IsTruncated"]:
            assert "NextContinuationToken" not in page
            break
        assert len(part) == size, "every page but the last is full"
        token = {"ContinuationToken": page["NextContinuationToken"]}
    assert seen == in_order(wanted, folders)


def test_an_empty_bucket(s3, bucket):
    answer = s3.list_objects_v2(Bucket=bucket)
    assert (answer["KeyCount"], answer["IsTruncated"]) == (0, False)
    assert "Contents" not in answer and "CommonPrefixes" not in answer


def test_entries(s3, bucket):
    tag = s3.put_object(Bucket=bucket, Key="k", Body=b"12345")["ETag"]
    (entry,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert (entry["Key"], entry["Size"], entry["ETag"], entry["StorageClass"]) == ("k", 5, tag, "STANDARD")
    assert "Owner" not in entry


def test_entries_with_owners(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    (entry,) = s3.list_objects_v2(Bucket=bucket, FetchOwner=True)["Contents"]
    assert entry["Owner"]["ID"] == s3.list_buckets()["Owner"]["ID"]


def test_entries_without_owners(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    (entry,) = s3.list_objects_v2(Bucket=bucket, FetchOwner=False)["Contents"]
    assert "Owner" not in entry


def test_entries_name_their_checksum(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ChecksumAlgorithm="SHA256")
    (entry,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert (entry["ChecksumAlgorithm"], entry["ChecksumType"]) == (["SHA256"], "FULL_OBJECT")


@pytest.mark.parametrize(
    "after, first",
    [("", "a"), ("a", "a--b--c"), ("a-", "a--b--c"), ("b/2", "b/deep/1"), ("b/", "b/1"), ("c", "c/"), ("z-ä", "z-äöü")],
)
def test_start_after(s3, full, after, first):
    answer = s3.list_objects_v2(Bucket=full, StartAfter=after)
    assert keys(answer) == KEYS[KEYS.index(first) :]
    assert answer.get("StartAfter", "") == after


def test_start_after_the_last(s3, full):
    answer = s3.list_objects_v2(Bucket=full, StartAfter="zzz")
    assert (keys(answer), answer["IsTruncated"]) == ([], False)


def test_start_after_with_a_prefix(s3, full):
    assert keys(s3.list_objects_v2(Bucket=full, Prefix="b/", StartAfter="b/2"))[0] == "b/deep/1"
    assert keys(s3.list_objects_v2(Bucket=full, Prefix="b/", StartAfter="a"))[0] == "b/1"
    assert keys(s3.list_objects_v2(Bucket=full, Prefix="b/", StartAfter="c")) == []


def test_a_token_wins_over_start_after(s3, full):
    first = s3.list_objects_v2(Bucket=full, MaxKeys=5, StartAfter="a")
    token = first["NextContinuationToken"]
    second = s3.list_objects_v2(Bucket=full, StartAfter="a", ContinuationToken=token)
    assert keys(first) + keys(second) == KEYS[1:]
    assert second["ContinuationToken"] == token


def test_a_token_stays_good_when_its_key_is_deleted(s3, bucket):
    for key in "abcd":
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    first = s3.list_objects_v2(Bucket=bucket, MaxKeys=2)
    for key in "bc":
        s3.delete_object(Bucket=bucket, Key=key)
    second = s3.list_objects_v2(Bucket=bucket, ContinuationToken=first["NextContinuationToken"])
    assert (keys(first), keys(second)) == (["a", "b"], ["d"])


@pytest.mark.parametrize("token", ["nonsense", "%%%", "AAAA" * 30])
def test_a_token_that_is_none(s3, full, token):
    refused(400, "InvalidArgument", s3.list_objects_v2, Bucket=full, ContinuationToken=token)


def test_max_keys_zero(s3, full):
    answer = s3.list_objects_v2(Bucket=full, MaxKeys=0)
    assert (keys(answer), answer["KeyCount"], answer["IsTruncated"]) == ([], 0, False)


def test_max_keys_exactly(s3, full):
    answer = s3.list_objects_v2(Bucket=full, MaxKeys=len(KEYS))
    assert keys(answer) == KEYS and not answer["IsTruncated"]


@pytest.mark.parametrize("number", ["-1", "x", "1.5", "99999999999999999999", "2147483648"])
def test_max_keys_that_are_no_number(full, number):
    answer = raw(full, ("max-keys", number))
    assert answer.verdict == (400, "InvalidArgument"), answer


def test_a_thousand_at_most(s3, bucket):
    names = [f"k{n:04}" for n in range(1005)]
    fill(bucket, names)
    for asked in [{}, {"MaxKeys": 1000}, {"MaxKeys": 5000}]:
        page = s3.list_objects_v2(Bucket=bucket, **asked)
        assert (keys(page), page["IsTruncated"], page["MaxKeys"]) == (names[:1000], True, 1000)
    rest = s3.list_objects_v2(Bucket=bucket, ContinuationToken=page["NextContinuationToken"])
    assert keys(rest) == names[1000:]
    old = s3.list_objects(Bucket=bucket, MaxKeys=5000)
    assert (keys(old), old["IsTruncated"], old["MaxKeys"]) == (names[:1000], True, 1000)


STRANGE = [
    "a b",
    "a+b",
    "a%b",
    "a&b<c>\"'",
    "ä/ö",
    "line\nfeed",
    "return\rtab\t",
    "bell\x07",
    "(3).png",
    "\uff5e",
    "\U0001f980",
]


def test_strange_keys_encoded(s3, bucket):
    for key in STRANGE:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    answer = raw(bucket, ("encoding-type", "url"))
    assert answer.text("EncodingType") == "url"
    sent = [e.text for e in answer.tree().findall("Contents/Key")]
    assert [unquote_plus(key) for key in sent] == sorted(STRANGE, key=str.encode)
    assert "%283%29.png" in sent and all(key.isascii() and " " not in key for key in sent)
    assert keys(s3.list_objects_v2(Bucket=bucket)) == sorted(STRANGE, key=str.encode)


def test_strange_keys_as_xml(s3, bucket):
    plain = [key for key in STRANGE if key.isprintable()]
    for key in plain:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    answer = raw(bucket)
    assert answer.text("EncodingType") is None
    assert [e.text for e in answer.tree().findall("Contents/Key")] == sorted(plain, key=str.encode)


def test_everything_is_encoded(full):
    query = [("prefix", "z-漢"), ("delimiter", "字/"), ("start-after", "z ä"), ("encoding-type", "url")]
    tree = raw(full, *query).tree()
    assert unquote_plus(tree.findtext("Prefix")) == "z-漢" != tree.findtext("Prefix")
    assert unquote_plus(tree.findtext("Delimiter")) == "字/" != tree.findtext("Delimiter")
    assert unquote_plus(tree.findtext("StartAfter")) == "z ä" != tree.findtext("StartAfter")
    assert unquote_plus(tree.findtext("CommonPrefixes/Prefix")) == "z-漢字/"


def test_an_encoding_that_nobody_knows(full):
    assert raw(full, ("encoding-type", "base64")).verdict == (400, "InvalidArgument")


def test_order_is_that_of_utf8(s3, bucket):
    # In UTF-16 order, the last one would come before the previous one.
    names = ["A", "Z", "a", "z", "é", "ż", "漢", "\uff5e", "\U0001f980"]
    for name in reversed(names):
        s3.put_object(Bucket=bucket, Key=name, Body=b"x")
    assert keys(s3.list_objects_v2(Bucket=bucket)) == names
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 2})
    assert [key for page in pages for key in keys(page)] == names


def test_a_folder_of_many_is_one_entry(s3, bucket):
    fill(bucket, ["a", *(f"f/{n}" for n in range(30)), "g", *(f"h/{n}" for n in range(30))])
    page = s3.list_objects_v2(Bucket=bucket, Delimiter="/", MaxKeys=3)
    assert (keys(page), prefixes(page), page["IsTruncated"]) == (["a", "g"], ["f/"], True)
    rest = s3.list_objects_v2(Bucket=bucket, Delimiter="/", ContinuationToken=page["NextContinuationToken"])
    assert (keys(rest), prefixes(rest), rest["IsTruncated"]) == ([], ["h/"], False)


def test_what_was_written_is_listed_at_once(s3, bucket):
    for n in range(10):
        s3.put_object(Bucket=bucket, Key=f"k{n}", Body=b"x")
        assert len(keys(s3.list_objects_v2(Bucket=bucket))) == n + 1
    for n in range(10):
        s3.delete_object(Bucket=bucket, Key=f"k{n}")
        assert len(keys(s3.list_objects_v2(Bucket=bucket))) == 9 - n


@pytest.mark.parametrize(
    "after, prefix, wanted",
    [
        ("b/2", "", ["b/", "c/", "d/", "z-漢字/"]),
        ("b/deeper/1", "", ["c/", "d/", "z-漢字/"]),
        ("b/deep/1", "b/", ["b/deep/", "b/deeper/"]),
        ("b/deep/2", "b/", ["b/deeper/"]),
    ],
)
def test_start_after_within_a_common_prefix(s3, full, after, prefix, wanted):
    answer = s3.list_objects_v2(Bucket=full, Prefix=prefix, Delimiter="/", StartAfter=after)
    assert prefixes(answer) == wanted
    assert all(key > after for key in keys(answer))


def test_a_page_of_all_keys_and_prefixes_is_the_last(s3, full):
    arguments, wanted, folders = CASES["delimiter"]
    answer = s3.list_objects_v2(Bucket=full, MaxKeys=len(wanted) + len(folders), **arguments)
    assert (keys(answer), prefixes(answer), answer["IsTruncated"]) == (wanted, folders, False)
