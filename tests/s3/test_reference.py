"""All methods with all sub-resources, and all headers of S3: what is not supported is refused by name and changes
nothing."""

import pytest

import reference
import wire
from expect import absent, body
from reference import BY_NAME, DONE
from test_post import Form

METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE"]


@pytest.fixture(scope="module")
def filled(s3, shelf):
    s3.put_object(Bucket=shelf, Key="k", Body=b"content", Metadata={"a": "b"})
    s3.put_object_tagging(Bucket=shelf, Key="k", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    return shelf


def untouched(s3, name):
    """Expects the bucket and its contents unchanged."""
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=name).get("Contents", [])] == ["k"]
    assert body(s3, name, "k") == b"content"
    head = s3.head_object(Bucket=name, Key="k")
    assert (head["Metadata"], head["ContentLength"]) == ({"a": "b"}, 7)
    assert s3.get_object_tagging(Bucket=name, Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]


def walk(path, subresources):
    """Each method with each sub-resource that does not support it."""
    for name, there in subresources.items():
        for method in METHODS:
            if method in there.split():
                continue
            for value in ("", "x"):
                answer = wire.signed(method, path, query=[(name, value)])
                yield method, name, value, answer


def test_methods_that_a_subresource_of_a_bucket_does_not_have(s3, filled):
    for method, name, _, answer in walk(f"/{filled}", reference.OF_BUCKETS):
        there = reference.OF_BUCKETS[name]
        assert answer.status == (405 if there else 501), (method, name, answer)
        if there:
            assert sorted(answer.headers["Allow"].split(", ")) == sorted(there.split()), (method, name, answer)
    untouched(s3, filled)


def test_methods_that_a_subresource_of_an_object_does_not_have(s3, filled):
    for method, name, _, answer in walk(f"/{filled}/k", reference.OF_OBJECTS):
        there = reference.OF_OBJECTS[name]
        assert answer.status == (405 if there else 501), (method, name, answer)
    untouched(s3, filled)


def test_subresources_of_buckets_are_none_of_objects(s3, filled):
    others = set(reference.OF_BUCKETS) - set(reference.OF_OBJECTS)
    for method, name, value, answer in walk(f"/{filled}/k", dict.fromkeys(others, "")):
        # Links to an object may have a name and a value after them.
        idle = value and method in ("GET", "HEAD") and reference.OF_BUCKETS[name]
        assert answer.status in ((200,) if idle else (405, 501)), (method, name, answer)
    untouched(s3, filled)


def test_subresources_that_nobody_knows(s3, filled):
    for method in METHODS:
        for path in (f"/{filled}", f"/{filled}/k"):
            answer = wire.signed(method, path, query=[("of-tomorrow", "")])
            assert answer.status == 501, (method, answer)
            assert method == "HEAD" or "of-tomorrow" in answer.text("Message"), answer
    untouched(s3, filled)


def test_links_may_have_more_behind_them(filled):
    for query in ([("v", "2")], [("20261130", "")], [("id", "7")], [("deadbeef", "")], [("x-id", "GetObject")]):
        assert wire.signed("GET", f"/{filled}/k", query=query).body == b"content"


# The uploads, without the tested header.
UPLOADS = {
    "put": lambda bucket, key, headers: wire.signed("PUT", f"/{bucket}/{key}", headers=headers, body=b"x"),
    "parts": lambda bucket, key, headers: wire.signed(
        "POST", f"/{bucket}/{key}", query=[("uploads", "")], headers=headers
    ),
    "copy": lambda bucket, key, headers: wire.signed(
        "PUT", f"/{bucket}/{key}", headers=[("x-amz-copy-source", f"{bucket}/k"), *headers]
    ),
    "link": lambda bucket, key, headers: wire.visit(
        "PUT", wire.presigned("PUT", f"/{bucket}/{key}", query=[(n.title(), v) for n, v in headers]), body=b"x"
    ),
}


@pytest.mark.parametrize("how", [*UPLOADS, "form"])
@pytest.mark.parametrize("name, value, becomes", reference.OF_UPLOADS)
def test_headers_of_uploads(s3, filled, how, name, value, becomes):
    if how == "form":
        # Tags have another form field.
        becomes = BY_NAME if name == "x-amz-tagging" else becomes
        answer = Form(filled, key="new", conditions=[{name: value}], extra={name: value}).send()
    else:
        answer = UPLOADS[how](filled, "new", [(name, value)])
    if becomes == DONE:
        assert answer.status in (200, 204), answer
        if how in ("put", "link", "form"):
            head = s3.head_object(Bucket=filled, Key="new")
            assert head["Metadata"] == ({"a": "1"} if name == "x-amz-meta-a" else {})
            tags = s3.get_object_tagging(Bucket=filled, Key="new")["TagSet"]
            assert tags == ([{"Key": "a", "Value": "b"}] if name == "x-amz-tagging" else [])
        s3.delete_object(Bucket=filled, Key="new")
        return
    if becomes == BY_NAME:
        assert answer.verdict in BY_NAMES, answer
        assert name in answer.text("Message"), answer
    elif how == "form" and name == "x-amz-expected-bucket-owner":
        assert answer.verdict == (501, "NotImplemented"), "it is no field"
    else:
        assert answer.verdict == becomes, answer
    absent(s3, filled, "new")


# Operations that refuse by name.
BY_NAMES = [(501, "NotImplemented"), (400, "AccessControlListNotSupported"), (400, "InvalidStorageClass")]

# Headers of other operations: method, query, and the headers that the operation ignores.
ELSEWHERE = [
    ("PUT", [], "x-amz-copy-source-if-match", "x"),
    ("PUT", [], "x-amz-mp-object-size", "9"),
    ("PUT", [], "x-amz-metadata-directive", "REPLACE"),
    ("PUT", [], "x-amz-checksum-algorithm", "SHA256"),
    ("DELETE", [], "x-amz-copy-source", "b/k"),
    ("POST", [("uploads", "")], "x-amz-copy-source", "b/k"),
    ("POST", [("uploads", "")], "if-none-match", "*"),
    ("GET", [], "x-amz-object-attributes", "ETag"),
]


@pytest.mark.parametrize("method, query, name, value", ELSEWHERE)
def test_headers_of_other_operations(s3, filled, method, query, name, value):
    answer = wire.signed(method, f"/{filled}/k", query=query, headers=[(name, value)])
    assert answer.verdict == (501, "NotImplemented") and name in answer.text("Message"), answer
    untouched(s3, filled)


def test_a_range_of_a_whole_copy(s3, filled):
    headers = [("x-amz-copy-source", f"{filled}/k"), ("x-amz-copy-source-range", "bytes=0-2")]
    answer = wire.signed("PUT", f"/{filled}/new", headers=headers)
    assert answer.verdict == (501, "NotImplemented"), answer
    absent(s3, filled, "new")


def test_what_clients_send_besides(filled):
    """Headers that are in no reference or change nothing, and that some clients send with every request."""
    for name, value in [("x-amz-te", "append-md5"), ("x-amz-user-agent", "aws-sdk-js/3"), ("x-amzn-trace-id", "Root=1")]:
        assert wire.signed("GET", f"/{filled}/k", headers=[(name, value)]).body == b"content", name
    link = wire.presigned("GET", f"/{filled}/k")
    assert wire.visit("GET", link, headers=[("x-amz-cf-id", "of-a-cache")]).body == b"content"
