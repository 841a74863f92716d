"""Uploads by HTML form: the fields, the policy and each of its conditions, and the answer.

The form is built by hand, so that any field can be missing or wrong. After each refusal nothing was stored.
"""

import base64
import datetime
import json
import urllib.parse

import pytest

import sigv4
import wire
from checksums import checksum
from conftest import key_of
from expect import absent, body, nothing_in

BOUNDARY = "----form-boundary-7MA4YWxkTrZu0gW"
HOUR = datetime.timedelta(hours=1)


def multipart(fields, content, filename="file.txt", name="file", after=()):
    """Returns a form's body: the fields, then the file, then fields that must not follow it."""
    lines = []
    for field, value in fields:
        value = value if isinstance(value, bytes) else value.encode()
        lines += [f"--{BOUNDARY}", f'Content-Disposition: form-data; name="{field}"', "", value]
    if content is not None:
        disposition = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'
        lines += [f"--{BOUNDARY}", disposition, "Content-Type: application/x-file", "", content]
    for field, value in after:
        lines += [f"--{BOUNDARY}", f'Content-Disposition: form-data; name="{field}"', "", value]
    lines += [f"--{BOUNDARY}--", ""]
    return b"\r\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)


class Form:
    """A form that would succeed; a test breaks one thing in it."""

    def __init__(self, bucket, key="k", conditions=(), extra=(), expires=HOUR, signer=None):
        self.bucket = bucket
        self.signer = signer or sigv4.Signer(wire.ADMIN, region=wire.REGION)
        self.signed = {
            "x-amz-algorithm": "AWS4-HMAC-SHA256",
            "x-amz-credential": f"{self.signer.key.id}/{self.signer.scope}",
            "x-amz-date": sigv4.stamp(self.signer.time),
        }
        self.fields = {"key": key, **dict(extra)}
        self.policy = {
            "expiration": (sigv4.now() + expires).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "conditions": [{"bucket": bucket}, ["starts-with", "$key", ""], *conditions],
        }
        self.policy["conditions"] += [{name: value} for name, value in self.signed.items()]
        self.document = None

    def all_fields(self):
        """Returns all fields, signed."""
        document = self.document or base64.b64encode(json.dumps(self.policy).encode()).decode()
        signature = self.signer.policy(document)
        return {**self.fields, **self.signed, "policy": document, "x-amz-signature": signature}

    def send(self, content=b"content", fields=None, **how):
        """Sends it."""
        fields = self.all_fields() if fields is None else fields
        data = multipart(fields.items(), content, **how)
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        return wire.exchange("POST", f"/{self.bucket}", [("host", wire.HOST), ("content-type", kind)], data)


def test_simple(s3, bucket):
    answer = Form(bucket).send()
    assert (answer.status, answer.body) == (204, b""), answer
    assert answer.headers["etag"] == s3.head_object(Bucket=bucket, Key="k")["ETag"]
    assert answer.headers["location"].endswith(f"{bucket}/k")
    assert body(s3, bucket, "k") == b"content"


@pytest.mark.parametrize("size", [0, 1, 70000, 6 << 20])
def test_sizes(s3, bucket, size):
    data = (b"\r\n--" + BOUNDARY.encode()[:-1] + b"\r\n") * (size // 20 + 1)
    data = data[:size]
    assert Form(bucket).send(data).status == 204
    assert body(s3, bucket, "k") == data


def test_made_by_boto3(s3, bucket):
    post = s3.generate_presigned_post(bucket, "a/${filename}", ExpiresIn=60)
    data = multipart(post["fields"].items(), b"content", filename="name.bin")
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    where = urllib.parse.urlsplit(post["url"]).path
    assert wire.exchange("POST", where, [("host", wire.HOST), ("content-type", kind)], data).status == 204
    assert body(s3, bucket, "a/name.bin") == b"content"


@pytest.mark.parametrize(
    "filename, key",
    [
        ("file.txt", "up/file.txt"),
        ("C:\\\\dir\\\\file.txt", "up/file.txt"),
        ("/etc/passwd", "up/passwd"),
        ("ä b.txt", "up/ä b.txt"),
    ],
)
def test_filename_in_the_key(s3, bucket, filename, key):
    answer = Form(bucket, key="up/${filename}").send(filename=filename)
    assert answer.status == 204, answer
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    # Browsers send the name alone; if one sends a path, either its last part is meant, or all of it.
    assert len(listed) == 1 and listed[0].startswith("up/") and listed[0].endswith(key[3:])


def test_headers_and_metadata(s3, bucket):
    extra = {"Content-Type": "text/x", "Cache-Control": "no-cache", "x-amz-meta-a": "1", "x-amz-meta-b": "zwei"}
    conditions = [{name: value} for name, value in extra.items()]
    assert Form(bucket, conditions=conditions, extra=extra).send().status == 204
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ContentType"], head["CacheControl"]) == ("text/x", "no-cache")
    assert head["Metadata"] == {"a": "1", "b": "zwei"}


def test_tags(s3, bucket):
    tagging = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"
    form = Form(bucket, conditions=[{"tagging": tagging}], extra={"tagging": tagging})
    assert form.send().status == 204
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "a", "Value": "1"}]


def test_a_checksum(s3, bucket):
    extra = {"x-amz-checksum-sha256": checksum("SHA256", b"content")}
    assert Form(bucket, conditions=[extra], extra=extra).send().status == 204
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == checksum("SHA256", b"content")


def test_a_checksum_of_other_bytes(s3, bucket):
    extra = {"x-amz-checksum-sha256": checksum("SHA256", b"other")}
    assert Form(bucket, conditions=[extra], extra=extra).send().verdict == (400, "BadDigest")
    nothing_in(s3, bucket)


@pytest.mark.parametrize("wanted, status", [("200", 200), ("201", 201), ("204", 204), ("302", 204), ("x", 204)])
def test_success_action_status(s3, bucket, wanted, status):
    extra = {"success_action_status": wanted}
    answer = Form(bucket, key="a b", conditions=[extra], extra=extra).send()
    assert answer.status == status
    if status == 201:
        assert (answer.text("Bucket"), answer.text("Key")) == (bucket, "a b")
        assert answer.text("ETag") == s3.head_object(Bucket=bucket, Key="a b")["ETag"]
        assert answer.text("Location").endswith(f"{bucket}/a%20b")
    else:
        assert answer.body == b""
    assert body(s3, bucket, "a b") == b"content"


@pytest.mark.parametrize("target", ["http://app.example/done", "http://app.example/done?x=1"])
def test_success_action_redirect(s3, bucket, target):
    extra = {"success_action_redirect": target}
    answer = Form(bucket, key="a b", conditions=[extra], extra=extra).send()
    assert answer.status == 303
    where = urllib.parse.urlsplit(answer.headers["location"])
    query = dict(urllib.parse.parse_qsl(where.query))
    assert answer.headers["location"].startswith(target)
    assert (query["bucket"], query["key"]) == (bucket, "a b")
    assert query["etag"] == s3.head_object(Bucket=bucket, Key="a b")["ETag"]


def test_fields_after_the_file_are_ignored(s3, bucket):
    form = Form(bucket)
    assert form.send(after=[("x-amz-meta-late", "1")]).status == 204
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {}


def test_names_of_fields_in_any_case(s3, bucket):
    fields = {{"key": "Key", "policy": "Policy"}.get(n, n.title()): v for n, v in Form(bucket).all_fields().items()}
    assert Form(bucket).send(fields=fields).status == 204
    assert body(s3, bucket, "k") == b"content"


MATCHING = {
    "eq": (["eq", "$x-amz-meta-a", "one"], "one"),
    "starts-with": (["starts-with", "$x-amz-meta-a", "on"], "one"),
    "anything": (["starts-with", "$x-amz-meta-a", ""], "whatever"),
    "an exact match": ({"x-amz-meta-a": "one"}, "one"),
}


@pytest.mark.parametrize("name", MATCHING)
def test_a_condition_that_is_met(s3, bucket, name):
    condition, value = MATCHING[name]
    form = Form(bucket, conditions=[condition], extra={"x-amz-meta-a": value})
    assert form.send().status == 204
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"a": value}


FAILING = {
    "eq": (["eq", "$x-amz-meta-a", "one"], {"x-amz-meta-a": "two"}),
    "eq in another case": (["eq", "$x-amz-meta-a", "one"], {"x-amz-meta-a": "ONE"}),
    "starts-with": (["starts-with", "$x-amz-meta-a", "on"], {"x-amz-meta-a": "two"}),
    "an exact match": ({"x-amz-meta-a": "one"}, {"x-amz-meta-a": "one "}),
    "a missing field": ({"x-amz-meta-a": "one"}, {}),
    "another content type": (["starts-with", "$Content-Type", "image/"], {"Content-Type": "text/html"}),
    "another key": (["eq", "$key", "other"], {}),
    "another prefix of the key": (["starts-with", "$key", "user/"], {}),
    "another bucket": ({"bucket": "other"}, {}),
    "another status": ({"success_action_status": "201"}, {"success_action_status": "200"}),
    "another acl": ({"acl": "private"}, {"acl": "public-read"}),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_condition_that_is_not_met(s3, bucket, name):
    condition, extra = FAILING[name]
    assert Form(bucket, conditions=[condition], extra=extra).send().verdict == (403, "AccessDenied")
    nothing_in(s3, bucket)


def test_a_field_that_no_condition_names(s3, bucket):
    assert Form(bucket, extra={"x-amz-meta-a": "1"}).send().verdict == (403, "AccessDenied")
    nothing_in(s3, bucket)


def test_fields_that_need_no_condition(s3, bucket):
    assert Form(bucket, extra={"x-ignore-anything": "1"}).send().status == 204
    assert body(s3, bucket, "k") == b"content"


@pytest.mark.parametrize(
    "least, most, code",
    [(7, 7, None), (0, 100, None), (8, 100, "EntityTooSmall"), (0, 6, "EntityTooLarge"), (0, 0, "EntityTooLarge")],
)
def test_content_length_range(s3, bucket, least, most, code):
    answer = Form(bucket, conditions=[["content-length-range", least, most]]).send()
    if code:
        assert answer.verdict == (400, code), answer
        nothing_in(s3, bucket)
    else:
        assert answer.status == 204 and body(s3, bucket, "k") == b"content"


def test_a_large_file_beyond_the_range(s3, bucket):
    answer = Form(bucket, conditions=[["content-length-range", 0, 1000]]).send(bytes(4 << 20))
    assert answer.verdict == (400, "EntityTooLarge"), answer
    nothing_in(s3, bucket)


def test_an_expired_policy(s3, bucket):
    assert Form(bucket, expires=-HOUR).send().verdict == (403, "AccessDenied")
    nothing_in(s3, bucket)


POLICIES = {
    "no json": b"no json",
    "no expiration": b'{"conditions": []}',
    "no conditions": b'{"expiration": "2099-01-01T00:00:00Z"}',
    "an invalid expiration": b'{"expiration": "soon", "conditions": []}',
    "an invalid condition": b'{"expiration": "2099-01-01T00:00:00Z", "conditions": [["contains", "$key", "a"]]}',
    "a list": b"[]",
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_that_is_none(s3, bucket, name):
    form = Form(bucket)
    form.document = base64.b64encode(POLICIES[name]).decode()
    assert form.send().verdict == (400, "InvalidPolicyDocument")
    nothing_in(s3, bucket)


@pytest.mark.parametrize("name", ["x-amz-signature", "x-amz-credential", "x-amz-algorithm", "x-amz-date"])
def test_a_field_of_the_signature_is_missing(s3, bucket, name):
    fields = Form(bucket).all_fields()
    del fields[name]
    answer = Form(bucket).send(fields=fields)
    assert answer.verdict in [(400, "InvalidArgument"), (403, "AccessDenied")], answer
    nothing_in(s3, bucket)


def test_without_a_policy_it_is_anonymous(s3, bucket):
    assert Form(bucket).send(fields={"key": "k"}).verdict == (403, "AccessDenied")
    nothing_in(s3, bucket)


def test_without_a_key(s3, bucket):
    fields = Form(bucket).all_fields()
    del fields["key"]
    assert Form(bucket).send(fields=fields).verdict in [(400, "InvalidArgument"), (403, "AccessDenied")]
    nothing_in(s3, bucket)


def test_without_a_file(s3, bucket):
    assert Form(bucket).send(None).verdict == (400, "InvalidArgument")
    nothing_in(s3, bucket)


def test_a_policy_that_was_tampered_with(s3, bucket):
    fields = Form(bucket).all_fields()
    fields["policy"] = base64.b64encode(base64.b64decode(fields["policy"]).replace(b"2", b"3", 1)).decode()
    assert Form(bucket).send(fields=fields).verdict == (403, "SignatureDoesNotMatch")
    nothing_in(s3, bucket)


def test_a_wrong_secret(s3, bucket):
    wrong = sigv4.Signer(sigv4.Key(wire.ADMIN.id, "wrong"), region=wire.REGION)
    assert Form(bucket, signer=wrong).send().verdict == (403, "SignatureDoesNotMatch")
    nothing_in(s3, bucket)


def test_a_key_that_nobody_has(s3, bucket):
    unknown = sigv4.Signer(sigv4.Key("AKNOBODYHASTHISKEY00", "secret"), region=wire.REGION)
    assert Form(bucket, signer=unknown).send().verdict == (403, "InvalidAccessKeyId")
    nothing_in(s3, bucket)


def test_a_form_that_breaks_off(s3, bucket):
    form = Form(bucket)
    data = multipart(form.all_fields().items(), bytes(100_000))[:-60]
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    answer = wire.exchange("POST", f"/{bucket}", [("host", wire.HOST), ("content-type", kind)], data)
    assert answer.verdict in [(400, "MalformedPOSTRequest"), (400, "IncompleteBody")], answer
    absent(s3, bucket, "k")


def test_a_bucket_that_is_not_there(bucket):
    form = Form(f"{bucket}-none")
    assert form.send().verdict == (404, "NoSuchBucket")


AUTHORIZATION = f"AWS4-HMAC-SHA256 Credential=A/20220101/r/s3/aws4_request, SignedHeaders=host, Signature={'0' * 64}"


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("more, code", [('; x="é"', "InvalidRequest"), ("", "InvalidArgument")])
def test_a_form_of_the_reader_beside_a_header(s3, bucket, more, code, signed):
    # What is an invalid form to one reader and a valid one to the next stores nothing, whoever signed it.
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    form = Form(bucket, signer=sigv4.Signer(key_of("READ"), region=wire.REGION))
    data = multipart(form.all_fields().items(), b"content")
    kind = f"multipart/form-data; boundary={BOUNDARY}{more}".encode()
    headers = [("host", wire.HOST), ("content-type", kind)]
    headers += [("authorization", AUTHORIZATION), ("x-amz-date", form.signed["x-amz-date"])] if signed else []
    answer = wire.exchange("POST", f"/{bucket}", headers, data)
    assert answer.verdict == ((400, code) if more or signed else (403, "AccessDenied")), answer
    assert body(s3, bucket, "k") == b"old"


def test_a_policy_for_any_bucket(s3, bucket):
    form = Form(bucket)
    form.policy["conditions"].remove({"bucket": bucket})
    assert form.send().verdict == (403, "AccessDenied")
    nothing_in(s3, bucket)


@pytest.mark.parametrize("ranges", [[(0, 3), (0, 100)], [(0, 100), (0, 3)]])
def test_all_ranges_hold(s3, bucket, ranges):
    conditions = [["content-length-range", *each] for each in ranges]
    assert Form(bucket, conditions=conditions).send().verdict == (400, "EntityTooLarge")
    nothing_in(s3, bucket)


def test_a_field_twice(s3, bucket):
    form = Form(bucket)
    fields = [("Key", "other"), *form.all_fields().items()]
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    headers = [("host", wire.HOST), ("content-type", kind)]
    answer = wire.exchange("POST", f"/{bucket}", headers, multipart(fields, b"content"))
    assert answer.verdict == (400, "InvalidArgument"), answer
    nothing_in(s3, bucket)
