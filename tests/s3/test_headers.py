"""Metadata: system headers and user metadata, as sent, as returned, as replaced.

Never checks what a signature does with headers; `test_auth` does.
"""

import datetime
import email.header

import pytest

import sigv4
import wire
from expect import nothing_in, refused

SYSTEM = {
    "ContentType": "text/plain; charset=utf-8",
    "CacheControl": "max-age=60, public",
    "ContentDisposition": 'attachment; filename="a b.txt"',
    "ContentEncoding": "gzip",
    "ContentLanguage": "de, en",
}


@pytest.mark.parametrize("name", SYSTEM)
def test_system_header(s3, bucket, name):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", **{name: SYSTEM[name]})
    assert s3.get_object(Bucket=bucket, Key="k")[name] == SYSTEM[name]
    assert s3.head_object(Bucket=bucket, Key="k")[name] == SYSTEM[name]


def test_expires(s3, bucket):
    time = datetime.datetime(2031, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Expires=time)
    assert wire.signed("HEAD", f"/{bucket}/k").headers["expires"] == "Tue, 06 May 2031 07:08:09 GMT"


def test_all_system_headers_together(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", **SYSTEM)
    head = s3.head_object(Bucket=bucket, Key="k")
    assert {name: head[name] for name in SYSTEM} == SYSTEM


def test_headers_that_were_not_sent_are_not_there(bucket):
    assert wire.signed("PUT", f"/{bucket}/k", body=b"x").status == 200
    head = wire.signed("HEAD", f"/{bucket}/k").headers
    for name in ["cache-control", "content-disposition", "content-encoding", "content-language", "expires"]:
        assert head[name] is None, name


def test_default_content_type(bucket):
    assert wire.signed("PUT", f"/{bucket}/k", body=b"x").status == 200
    assert wire.signed("HEAD", f"/{bucket}/k").headers["content-type"] == "binary/octet-stream"


def test_metadata(s3, bucket):
    sent = {"plain": "value", "empty": "", "with-dash": "a b", "with_underscore": "1", "equals": "a=b;c,d"}
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=sent)
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == sent
    assert s3.get_object(Bucket=bucket, Key="k")["Metadata"] == sent


def test_metadata_names_are_lower_case(s3, bucket):
    wire.signed("PUT", f"/{bucket}/k", headers=[("X-Amz-Meta-MixedCase", "Value")], body=b"x")
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"mixedcase": "Value"}


def test_metadata_keeps_spaces_inside(s3, bucket):
    wire.signed("PUT", f"/{bucket}/k", headers=[("x-amz-meta-a", "  two  spaces ")], body=b"x")
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"a": "two  spaces"}


def test_metadata_sent_twice_is_joined(s3, bucket):
    headers = [("x-amz-meta-a", "1"), ("x-amz-meta-a", "2")]
    assert wire.signed("PUT", f"/{bucket}/k", headers=headers, body=b"x").status == 200
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"]["a"].replace(" ", "") == "1,2"


def decoded(value):
    """Decodes a header's value: RFC 2047 if it has that form, otherwise UTF-8."""
    value = str(value)
    if value.startswith("=?"):
        return "".join(
            t.decode(c or "ascii") if isinstance(t, bytes) else t for t, c in email.header.decode_header(value)
        )
    return value.encode("latin-1", "surrogateescape").decode()


@pytest.mark.parametrize("text", ["Grüße", "漢字 und かな", "\U0001f980 crab"])
def test_metadata_in_utf8(bucket, text):
    headers = [("x-amz-meta-text", text.encode())]
    put = wire.signed("PUT", f"/{bucket}/k", headers=headers, body=b"x")
    assert put.status == 200, put
    assert decoded(wire.signed("HEAD", f"/{bucket}/k").headers["x-amz-meta-text"]) == text
    assert decoded(wire.signed("GET", f"/{bucket}/k").headers["x-amz-meta-text"]) == text


def test_metadata_in_rfc_2047(bucket):
    word = email.header.Header("Grüße", "utf-8").encode()
    put = wire.signed("PUT", f"/{bucket}/k", headers=[("x-amz-meta-text", word)], body=b"x")
    assert put.status == 200, put
    assert decoded(wire.signed("HEAD", f"/{bucket}/k").headers["x-amz-meta-text"]) == "Grüße"


def test_metadata_as_large_as_it_may_be(s3, bucket):
    # Names and values count, the prefix does not.
    sent = {f"k{n:03}": "v" * 252 for n in range(8)}
    assert sum(len(n) + len(v) for n, v in sent.items()) == 2048
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=sent)
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == sent


@pytest.mark.parametrize("size", [2049, 6000])
def test_metadata_that_is_too_large(s3, bucket, size):
    too_large = {"k": "v" * (size - 1)}
    refused(400, "MetadataTooLarge", s3.put_object, Bucket=bucket, Key="k", Body=b"x", Metadata=too_large)
    nothing_in(s3, bucket)


def test_metadata_that_is_too_large_for_an_upload_of_parts(s3, bucket):
    too_large = {"k": "v" * 2048}
    refused(400, "MetadataTooLarge", s3.create_multipart_upload, Bucket=bucket, Key="k", Metadata=too_large)
    nothing_in(s3, bucket)


def test_replacing_an_object_replaces_everything(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"a": "1", "b": "2"}, **SYSTEM)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"c": "3"})
    head = s3.head_object(Bucket=bucket, Key="k")
    assert head["Metadata"] == {"c": "3"}
    for name in ["CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage"]:
        assert name not in head


def test_a_refused_put_leaves_the_old_headers(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"a": "1"})
    headers = [("x-amz-meta-a", "2")]
    answer = wire.signed("PUT", f"/{bucket}/k", headers=headers, body=b"y", payload=sigv4.sha256(b"z"))
    assert answer.verdict == (400, "XAmzContentSHA256Mismatch"), answer
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"a": "1"}


def test_headers_of_an_upload_of_parts(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", Metadata={"a": "1"}, **SYSTEM)["UploadId"]
    place = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    part = s3.upload_part(PartNumber=1, Body=b"x", **place)
    s3.complete_multipart_upload(MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}, **place)
    head = s3.head_object(Bucket=bucket, Key="k")
    assert {name: head[name] for name in SYSTEM} == SYSTEM and head["Metadata"] == {"a": "1"}


OVERRIDES = {
    "ResponseContentType": ("ContentType", "application/x-other"),
    "ResponseCacheControl": ("CacheControl", "no-store"),
    "ResponseContentEncoding": ("ContentEncoding", "x-other"),
    "ResponseContentLanguage": ("ContentLanguage", "fr"),
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_response_override(s3, bucket, name):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", **SYSTEM)
    field, value = OVERRIDES[name]
    assert s3.get_object(Bucket=bucket, Key="k", **{name: value})[field] == value
    assert s3.head_object(Bucket=bucket, Key="k", **{name: value})[field] == value
    assert s3.head_object(Bucket=bucket, Key="k")[field] == SYSTEM[field]


def test_response_disposition_override(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", **SYSTEM)
    value = 'attachment; filename="other.bin"'
    got = s3.get_object(Bucket=bucket, Key="k", ResponseContentDisposition=value)
    assert got["ContentDisposition"] == value


def test_response_expires_override(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    value = "Thu, 01 Dec 2033 16:00:00 GMT"
    answer = wire.signed("GET", f"/{bucket}/k", query=[("response-expires", value)])
    assert (answer.status, answer.headers["expires"]) == (200, value)


def test_response_override_goes_with_a_range(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    got = s3.get_object(Bucket=bucket, Key="k", Range="bytes=2-4", ResponseContentType="text/x-part")
    assert (got["Body"].read(), got["ContentType"]) == (b"234", "text/x-part")
