"""Buckets: created, inspected, listed and removed; valid names; requests for missing buckets.

Never judges the listing of all buckets as a whole: other tests create buckets at the same time.
"""

import datetime

import pytest

import wire
from buckets import new_name
from expect import absent, body, keys, refused
from test_permissions import ask_natively

VALID = ["{}-a-b", "{}.c.d", "1{}1", "{}x--y", "{:0<63}"]
INVALID = [
    "ab",
    "Upper-{}",
    "under_score-{}",
    "-{}",
    "{}-",
    ".{}",
    "{}.",
    "{}..x",
    "192.168.5.4",
    "{:0<64}",
    "xn--{}",
    "{}-s3alias",
    "sp ace-{}",
]


def test_create_says_where_it_is(s3):
    name = new_name()
    answer = s3.create_bucket(Bucket=name)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert answer["Location"].rstrip("/").endswith(name)
    s3.delete_bucket(Bucket=name)


def test_create_again_keeps_what_is_inside(s3, bucket):
    s3.put_object(Bucket=bucket, Key="a", Body=b"kept")
    again = wire.signed("PUT", f"/{bucket}")
    # The region us-east-1 answers its owner with 200, all others with 409.
    assert again.status == 200 or again.verdict == (409, "BucketAlreadyOwnedByYou"), again
    assert body(s3, bucket, "a") == b"kept"


@pytest.mark.parametrize("pattern", VALID)
def test_valid_names(s3, pattern):
    name = pattern.format(new_name())[:63]
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"v")
    assert body(s3, name, "k") == b"v"
    s3.delete_object(Bucket=name, Key="k")
    s3.delete_bucket(Bucket=name)


@pytest.mark.parametrize("pattern", INVALID)
def test_invalid_names(pattern):
    answer = wire.signed("PUT", "/" + pattern.format(new_name()))
    assert answer.verdict == (400, "InvalidBucketName"), answer


def test_create_with_a_body_that_is_no_xml(s3):
    name = new_name()
    answer = wire.signed("PUT", f"/{name}", body=b"<CreateBucketConfiguration><Location")
    assert answer.verdict == (400, "MalformedXML"), answer
    refused(404, "404", s3.head_bucket, Bucket=name)


def test_head(s3, bucket):
    answer = s3.head_bucket(Bucket=bucket)["ResponseMetadata"]
    assert answer["HTTPStatusCode"] == 200
    assert answer["HTTPHeaders"]["x-amz-bucket-region"] == wire.REGION


def test_head_missing(s3):
    refused(404, "404", s3.head_bucket, Bucket=new_name())


def test_listed_with_date_and_owner(s3, bucket):
    answer = s3.list_buckets()
    found = [b for b in answer["Buckets"] if b["Name"] == bucket]
    age = datetime.datetime.now(datetime.timezone.utc) - found[0]["CreationDate"]
    assert len(found) == 1 and abs(age) < datetime.timedelta(minutes=5)
    assert answer["Owner"]["ID"]


def test_listed_in_order_of_names(s3, bucket, other_bucket):
    names = [b["Name"] for b in s3.list_buckets()["Buckets"]]
    assert names == sorted(names) and {bucket, other_bucket} <= set(names)


def test_listed_by_prefix(s3, bucket, other_bucket):
    assert [b["Name"] for b in s3.list_buckets(Prefix=bucket)["Buckets"]] == [bucket]


def test_listed_in_pages(s3):
    base = new_name()
    names = [f"{base}-{n}" for n in range(3)]
    for name in names:
        s3.create_bucket(Bucket=name)
    pages = s3.get_paginator("list_buckets").paginate(Prefix=base, PaginationConfig={"PageSize": 1})
    found = [[b["Name"] for b in page.get("Buckets", [])] for page in pages]
    for name in names:
        s3.delete_bucket(Bucket=name)
    assert [page for page in found if page] == [[name] for name in names]


def test_location(s3, bucket):
    where = s3.get_bucket_location(Bucket=bucket)["LocationConstraint"]
    assert where == (None if wire.REGION == "us-east-1" else wire.REGION)


def test_delete_empty(s3):
    name = new_name()
    s3.create_bucket(Bucket=name)
    assert s3.delete_bucket(Bucket=name)["ResponseMetadata"]["HTTPStatusCode"] == 204
    refused(404, "404", s3.head_bucket, Bucket=name)
    assert name not in [b["Name"] for b in s3.list_buckets()["Buckets"]]


def test_delete_twice(s3):
    name = new_name()
    s3.create_bucket(Bucket=name)
    s3.delete_bucket(Bucket=name)
    refused(404, "NoSuchBucket", s3.delete_bucket, Bucket=name)


def test_delete_with_something_in_it(s3, bucket):
    s3.put_object(Bucket=bucket, Key="a", Body=b"kept")
    refused(409, "BucketNotEmpty", s3.delete_bucket, Bucket=bucket)
    assert body(s3, bucket, "a") == b"kept"


def test_delete_when_it_was_emptied(s3):
    name = new_name()
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="a", Body=b"x")
    s3.delete_object(Bucket=name, Key="a")
    s3.delete_bucket(Bucket=name)
    refused(404, "404", s3.head_bucket, Bucket=name)


def test_made_anew_it_is_empty(s3):
    name = new_name()
    s3.create_bucket(Bucket=name)
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    s3.delete_bucket(Bucket=name)
    s3.create_bucket(Bucket=name)
    refused(404, "NoSuchTagSet", s3.get_bucket_tagging, Bucket=name)
    assert keys(s3.list_objects_v2(Bucket=name)) == []
    s3.delete_bucket(Bucket=name)


def test_names_that_begin_alike_are_strangers(s3, bucket):
    longer = bucket + "2"
    s3.create_bucket(Bucket=longer)
    s3.put_object(Bucket=longer, Key="a", Body=b"theirs")
    assert keys(s3.list_objects_v2(Bucket=bucket)) == []
    absent(s3, bucket, "a")
    s3.delete_object(Bucket=longer, Key="a")
    s3.delete_bucket(Bucket=longer)


MISSING = {
    "put_object": {"Key": "k", "Body": b"x"},
    "get_object": {"Key": "k"},
    "delete_object": {"Key": "k"},
    "delete_objects": {"Delete": {"Objects": [{"Key": "k"}]}},
    "copy_object": {"Key": "k", "CopySource": "b/k"},
    "list_objects": {},
    "list_objects_v2": {},
    "list_object_versions": {},
    "list_multipart_uploads": {},
    "create_multipart_upload": {"Key": "k"},
    "get_bucket_location": {},
    "get_bucket_tagging": {},
    "put_bucket_tagging": {"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}},
    "get_bucket_cors": {},
    "get_bucket_versioning": {},
    "get_object_attributes": {"Key": "k", "ObjectAttributes": ["ETag"]},
    "get_object_tagging": {"Key": "k"},
}


@pytest.mark.parametrize("operation", MISSING)
def test_no_such_bucket(s3, bucket, operation):
    arguments = dict(MISSING[operation])
    if operation == "copy_object":
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        arguments["CopySource"] = f"{bucket}/k"
    refused(404, "NoSuchBucket", getattr(s3, operation), Bucket=new_name(), **arguments)


def test_the_missing_bucket_is_named(s3):
    name = new_name()
    answer = refused(404, "NoSuchBucket", s3.list_objects_v2, Bucket=name)
    assert answer["Error"]["BucketName"] == name


def test_errors_are_xml_with_a_request_id():
    answer = wire.signed("GET", f"/{new_name()}/key")
    assert answer.verdict == (404, "NoSuchBucket")
    assert answer.headers["content-type"].startswith("application/xml")
    assert answer.text("RequestId") == answer.headers["x-amz-request-id"]
    assert answer.text("Message")


def test_success_has_a_request_id(bucket):
    first, second = (wire.signed("GET", f"/{bucket}") for _ in range(2))
    assert first.status == second.status == 200
    assert first.headers["x-amz-request-id"] != second.headers["x-amz-request-id"]


def test_a_bucket_that_native_writes_have_made_stays_after_the_first_s3_write(s3):
    name = new_name()
    assert ask_natively(f"{name}/first", "PUT", "", b"x", wire.ADMIN)[0] == 201
    s3.put_object(Bucket=name, Key="k", Body=b"y")
    assert keys(s3.list_objects_v2(Bucket=name)) == ["first", "k"]
    for key in ("first", "k"):
        assert ask_natively(f"{name}/{key}", "DELETE", "", b"", wire.ADMIN)[0] == 200
    s3.put_object(Bucket=name, Key="again", Body=b"z")
    s3.delete_object(Bucket=name, Key="again")
    assert keys(s3.list_objects_v2(Bucket=name)) == []
    s3.delete_bucket(Bucket=name)
    refused(404, "NoSuchBucket", s3.put_object, Bucket=name, Key="k", Body=b"y")


def test_a_bucket_that_native_writes_have_made_stays_after_a_delete_by_s3(s3):
    name = new_name()
    assert ask_natively(f"{name}/first", "PUT", "", b"x", wire.ADMIN)[0] == 201
    s3.delete_object(Bucket=name, Key="first")
    s3.put_object(Bucket=name, Key="k", Body=b"y")
    s3.delete_object(Bucket=name, Key="k")
    s3.delete_bucket(Bucket=name)


def test_regions_of_listed_buckets(s3, bucket):
    answer = wire.signed("GET", "/", query=[("prefix", bucket)])
    region = answer.text("Buckets/Bucket/BucketRegion")
    assert region == s3.head_bucket(Bucket=bucket)["BucketRegion"]
    other = wire.signed("GET", "/", query=[("prefix", bucket), ("bucket-region", "elsewhere-1")])
    assert other.text("Buckets/Bucket/Name") is None
    same = wire.signed("GET", "/", query=[("prefix", bucket), ("bucket-region", region)])
    assert same.text("Buckets/Bucket/Name") == bucket


@pytest.mark.parametrize(
    "document, refusal",
    [
        ("<Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags>", (501, "NotImplemented")),
        ("<Location><Name>use1-az1</Name><Type>AvailabilityZone</Type></Location>", (501, "NotImplemented")),
    ],
)
def test_what_a_new_bucket_cannot_have(s3, document, refusal):
    name = new_name()
    body = f"<CreateBucketConfiguration>{document}</CreateBucketConfiguration>".encode()
    assert wire.signed("PUT", f"/{name}", body=body).verdict == refusal
    refused(404, "404", s3.head_bucket, Bucket=name)


@pytest.mark.parametrize("ownership, status", [("BucketOwnerEnforced", 200), ("ObjectWriter", 400)])
def test_who_owns_what_is_in_a_new_bucket(s3, ownership, status):
    name = new_name()
    answer = wire.signed("PUT", f"/{name}", headers=[("x-amz-object-ownership", ownership)])
    assert answer.status == status, answer
    if status == 200:
        s3.delete_bucket(Bucket=name)
    else:
        assert answer.code == "AccessControlListNotSupported" and ownership in answer.text("Message"), answer
        refused(404, "404", s3.head_bucket, Bucket=name)
