"""All methods with all sub-resources, and all headers that S3 has: what is not done is refused by its name, and changes
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
    """The bucket and what is in it are what they were."""
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=name).get("Contents", [])] == ["k"]
    assert body(s3, name, "k") == b"content"
    head = s3.head_object(Bucket=name, Key="k")
    assert (head["Metadata"], head["ContentLength"]) == ({"a": "b"}, 7)
    assert s3.get_object_tagging(Bucket=name, Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]


def walk(path, subresources):
    """Each method with each sub-resource that does not have it."""
    for name, there in subresources.items():
        for method in METHODS:
            if method in there.split():
                continue
            for value in ("", "x"):
                answer = wire.signed(method, path, query=[(name, value)])
                yield method, name, there, answer


def test_methods_that_a_subresource_of_a_bucket_does_not_have(s3, filled):
    for method, name, there, answer in walk(f"/{filled}", reference.OF_BUCKETS):
        assert answer.status == (405 if there else 501), (method, name, answer)
        if there:
            assert sorted(answer.headers["Allow"].split(", ")) == sorted(there.split()), (method, name, answer)
    untouched(s3, filled)


def test_methods_that_a_subresource_of_an_object_does_not_have(s3, filled):
    for method, name, there, answer in walk(f"/{filled}/k", reference.OF_OBJECTS):
        assert answer.status == (405 if there else 501), (method, name, answer)
    untouched(s3, filled)


def test_subresources_of_buckets_are_none_of_objects(s3, filled):
    others = set(reference.OF_BUCKETS) - set(reference.OF_OBJECTS)
    for method, name, _, answer in walk(f"/{filled}/k", dict.fromkeys(others, "")):
        assert answer.status in (405, 501), (method, name, answer)
    untouched(s3, filled)


def test_subresources_that_nobody_knows(s3, filled):
    for method in METHODS:
        for path in (f"/{filled}", f"/{filled}/k"):
            answer = wire.signed(method, path, query=[("of-tomorrow", "")])
            assert answer.status == 501, (method, answer)
            assert method == "HEAD" or "of-tomorrow" in answer.text("Message"), answer
    untouched(s3, filled)


def test_links_may_have_more_behind_them(filled):
    for query in ([("v", "2")], [("20261130", "")], [("x-id", "GetObject")]):
        assert wire.signed("GET", f"/{filled}/k", query=query).body == b"content"


# How an upload is asked for, without the header.
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
        # It has another field for tags.
        becomes = BY_NAME if name == "x-amz-tagging" else becomes
        answer = Form(filled, key="new", conditions=[{name: value}], extra={name: value}).send()
    else:
        answer = UPLOADS[how](filled, "new", [(name, value)])
    if becomes == DONE:
        assert answer.status in (200, 204), answer
    elif becomes == BY_NAME:
        assert answer.status in (400, 501), answer
        assert name in answer.text("Message"), answer
    else:
        assert answer.status in (400, 403, 501), answer
    if becomes == DONE:
        s3.delete_object(Bucket=filled, Key="new")
    else:
        absent(s3, filled, "new")
