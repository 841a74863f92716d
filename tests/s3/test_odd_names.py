"""Keys with characters that XML cannot express, and headers in forms that only old or careful clients send."""

import base64
import hashlib
import xml.etree.ElementTree as ElementTree

import pytest

import wire
from expect import absent, body

ICON = "folder/Icon\r"


def listed(bucket, *query):
    """Returns the keys of a listing without `encoding-type`, as an XML parser reads them."""
    answer = wire.signed("GET", f"/{bucket}", query=[("list-type", "2"), *query])
    return [e.findtext("Key") for e in answer.tree().iter("Contents")]


def test_a_carriage_return(s3, bucket):
    for key in (ICON, "line\nfeed", "tab\there"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert listed(bucket) == [ICON, "line\nfeed", "tab\there"]
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [ICON, "line\nfeed", "tab\there"]
    document = b"<Delete><Object><Key>folder/Icon&#13;</Key></Object></Delete>"
    answer = wire.signed("POST", f"/{bucket}", query=[("delete", "")], headers=[md5(document)], body=document)
    assert answer.text("Deleted/Key") == ICON, answer
    absent(s3, bucket, ICON)


def test_in_an_upload_of_parts(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key=ICON)
    assert upload["Key"] == ICON
    answer = wire.signed("GET", f"/{bucket}", query=[("uploads", "")])
    assert answer.text("Upload/Key") == ICON, answer
    part = s3.upload_part(Bucket=bucket, Key=ICON, UploadId=upload["UploadId"], PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    done = s3.complete_multipart_upload(Bucket=bucket, Key=ICON, UploadId=upload["UploadId"], MultipartUpload=parts)
    assert done["Key"] == ICON
    assert body(s3, bucket, ICON) == b"x"


def test_other_control_characters(s3, bucket):
    key = "a\x01b\x1f"
    s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    # As S3 writes them: no two keys look alike, and XML 1.0 parsers reject them.
    assert b"<Key>a&#x1;b&#x1f;</Key>" in wire.signed("GET", f"/{bucket}").body
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    missing = wire.signed("GET", f"/{bucket}/none\x01\r")
    assert missing.verdict == (404, "NoSuchKey")
    assert ElementTree.fromstring(missing.body).findtext("Key") == "none\ufffd\r"


def md5(document):
    return "content-md5", base64.b64encode(hashlib.md5(document).digest()).decode()


@pytest.fixture(scope="module")
def one(s3, shelf):
    s3.put_object(Bucket=shelf, Key="k", Body=b"0123456789")
    return shelf


LATER = ["Sunday, 06-Nov-44 08:49:37 GMT", "Sun Nov  6 08:49:37 2044", "Sun, 06 Nov 2044 08:49:37 GMT"]
EARLIER = ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 GMT"]


@pytest.mark.parametrize("now, then", list(zip(LATER, EARLIER)))
def test_dates_in_every_form(one, now, then):
    def ask(name, date):
        return wire.signed("GET", f"/{one}/k", headers=[(name, date)]).status

    assert (ask("if-modified-since", now), ask("if-modified-since", then)) == (304, 200)
    assert (ask("if-unmodified-since", now), ask("if-unmodified-since", then)) == (200, 412)


@pytest.mark.parametrize("now, then", list(zip(LATER, EARLIER)))
def test_dates_of_the_source_of_a_copy(s3, one, now, then):
    def copy(name, date):
        headers = [("x-amz-copy-source", f"{one}/k"), (f"x-amz-copy-source-{name}", date)]
        return wire.signed("PUT", f"/{one}/copy", headers=headers).status

    assert (copy("if-modified-since", now), copy("if-modified-since", then)) == (412, 200)
    assert (copy("if-unmodified-since", now), copy("if-unmodified-since", then)) == (200, 412)
    assert copy("if-unmodified-since", "no date") == 200
    s3.delete_object(Bucket=one, Key="copy")


def test_ranges_in_every_form(one):
    def ask(text):
        answer = wire.signed("GET", f"/{one}/k", headers=[("range", text)])
        return answer.status, answer.body if answer.status < 300 else answer.code

    assert ask("Bytes=2-3") == (206, b"23")
    assert ask("bytes=8-99999999999999999999999") == (206, b"89")
    assert ask("bytes=99999999999999999999999-") == (416, "InvalidRange")
    assert ask("lines=1-2") == (200, b"0123456789")


def test_one_of_several_tags(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    tag = s3.head_object(Bucket=bucket, Key="k")["ETag"]

    def put(tags, text=b"new", headers=()):
        return wire.signed("PUT", f"/{bucket}/k", headers=[("if-match", tags), *headers], body=text).verdict

    assert put('"0", "1"') == (412, "PreconditionFailed")
    assert body(s3, bucket, "k") == b"old"
    assert put(f'"0", {tag}')[0] == 200
    assert body(s3, bucket, "k") == b"new"
    # The body is compared with the signed digest in this form as well.
    answer = wire.signed("PUT", f"/{bucket}/k", headers=[("expires", "0")], body=b"other", payload="0" * 64)
    assert answer.verdict == (400, "XAmzContentSHA256Mismatch"), answer
    assert body(s3, bucket, "k") == b"new"


@pytest.mark.parametrize("value", ["0", "-1", "never"])
def test_an_expiry_that_is_no_date(s3, bucket, value):
    assert wire.signed("PUT", f"/{bucket}/k", headers=[("expires", value)], body=b"x").status == 200
    answer = wire.signed("GET", f"/{bucket}/k")
    assert (answer.headers["expires"], answer.body) == (value, b"x")


@pytest.mark.parametrize(
    "sent, kept",
    [
        ("aws-chunked", None),
        ("AWS-Chunked", None),
        ("deflate, gzip", "deflate, gzip"),
        ("gzip,aws-chunked", "gzip"),
        ("", None),
    ],
)
def test_content_encodings(s3, bucket, sent, kept):
    assert wire.signed("PUT", f"/{bucket}/k", headers=[("content-encoding", sent)], body=b"x").status == 200
    assert wire.signed("HEAD", f"/{bucket}/k").headers.get("content-encoding") == kept


def test_what_is_empty_says_nothing(s3, bucket):
    names = ["cache-control", "content-disposition", "content-language", "expires"]
    wire.signed("PUT", f"/{bucket}/k", headers=[(name, "") for name in names], body=b"x")
    query = [(f"response-{name}", "") for name in ["cache-control", "content-disposition", "content-type"]]
    answer = wire.signed("GET", f"/{bucket}/k", query=query)
    assert answer.body == b"x"
    assert [name for name in names if name in answer.headers] == []
    assert answer.headers["content-type"] == "binary/octet-stream"


def test_overridden_for_head_as_well(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    date = "Sun, 17 Mar 2030 17:46:40 GMT"
    for method in ("GET", "HEAD"):
        answer = wire.signed(method, f"/{bucket}/k", query=[("response-expires", date)])
        assert answer.headers["expires"] == date, answer


def test_answers_to_the_curious():
    assert wire.exchange("HEAD", "/", [("host", wire.HOST)]).status == 200
    answer = wire.exchange("GET", "/_/health", [("host", wire.HOST)])
    assert (answer.status, b'"ready":true' in answer.body.replace(b" ", b"")) == (200, True)


@pytest.mark.parametrize("kind", ["application/xml", "text/plain"])
def test_the_length_of_a_document_that_is_stored(s3, bucket, kind):
    s3.put_object(Bucket=bucket, Key="k", Body=b"<a>\r\x01</a>", ContentType=kind)
    assert wire.signed("GET", f"/{bucket}/k").body == b"<a>\r\x01</a>"
    assert wire.signed("HEAD", f"/{bucket}/k").headers["content-length"] == "9"
    part = wire.signed("HEAD", f"/{bucket}/k", headers=[("range", "bytes=0-2")])
    assert (part.status, part.headers["content-length"]) == (206, "3")


def test_a_part_and_a_completion_in_odd_words(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    query = [("partNumber", "1"), ("uploadId", upload)]
    part = wire.signed("PUT", f"/{bucket}/k", query=query, headers=[("expires", "0")], body=b"x")
    assert part.status == 200, part
    document = (
        f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{part.headers['etag']}</ETag></Part>"
        "</CompleteMultipartUpload>"
    ).encode()
    completion = {"query": [("uploadId", upload)], "body": document}
    answer = wire.signed("POST", f"/{bucket}/k", headers=[("if-match", '"0", "1"')], **completion)
    assert answer.verdict[0] in (404, 412), answer
    assert wire.signed("POST", f"/{bucket}/k", **completion).status == 200
    assert body(s3, bucket, "k") == b"x"


def test_a_delete_of_what_must_not_be_there(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = wire.signed("DELETE", f"/{bucket}/k", headers=[("if-none-match", "*")])
    assert answer.verdict == (412, "PreconditionFailed"), answer
    assert body(s3, bucket, "k") == b"x"
    assert wire.signed("DELETE", f"/{bucket}/none", headers=[("if-none-match", "*")]).status == 204


def test_conditions_on_a_source_that_cannot_be_read(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    tag = s3.head_object(Bucket=bucket, Key="k")["ETag"]
    many = ", ".join([tag] + [f'"{n}"' for n in range(17)])
    for text in ('"a', many):
        headers = [("x-amz-copy-source", f"{bucket}/k"), ("x-amz-copy-source-if-none-match", text)]
        answer = wire.signed("PUT", f"/{bucket}/copy", headers=headers)
        assert answer.verdict == (400, "InvalidArgument"), answer
    absent(s3, bucket, "copy")
