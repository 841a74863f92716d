"""CORS rules: stored, shown, removed, and how preflights are answered by them.

Preflight requests are not signed; a browser could not sign them.
"""

import pytest

import wire
from expect import body, refused

RULES = {
    "CORSRules": [
        {
            "ID": "one",
            "AllowedOrigins": ["http://app.example", "https://*.example.org"],
            "AllowedMethods": ["GET", "PUT"],
            "AllowedHeaders": ["content-type", "x-amz-meta-*"],
            "ExposeHeaders": ["ETag", "x-amz-meta-a"],
            "MaxAgeSeconds": 600,
        },
        {"AllowedOrigins": ["*"], "AllowedMethods": ["HEAD"]},
    ]
}


@pytest.fixture
def open_bucket(s3, bucket):
    """A bucket with rules and an object."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"content")
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration=RULES)
    return bucket


def preflight(bucket, origin, method, headers=None, key="k"):
    """Sends a preflight."""
    asked = [("origin", origin), ("access-control-request-method", method)]
    if headers:
        asked.append(("access-control-request-headers", headers))
    return wire.anonymous("OPTIONS", f"/{bucket}/{key}", headers=asked)


def words(answer, name):
    return {word.strip().lower() for word in (answer.headers[name] or "").split(",")}


def test_none(s3, bucket):
    refused(404, "NoSuchCORSConfiguration", s3.get_bucket_cors, Bucket=bucket)


def test_kept(s3, open_bucket):
    assert s3.get_bucket_cors(Bucket=open_bucket)["CORSRules"] == RULES["CORSRules"]


def test_replaced(s3, open_bucket):
    other = [{"AllowedOrigins": ["*"], "AllowedMethods": ["DELETE"]}]
    s3.put_bucket_cors(Bucket=open_bucket, CORSConfiguration={"CORSRules": other})
    assert s3.get_bucket_cors(Bucket=open_bucket)["CORSRules"] == other


def test_removed(s3, open_bucket):
    assert s3.delete_bucket_cors(Bucket=open_bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    refused(404, "NoSuchCORSConfiguration", s3.get_bucket_cors, Bucket=open_bucket)
    assert preflight(open_bucket, "http://app.example", "GET").verdict == (403, "AccessForbidden")


def test_removed_when_there_is_none(s3, bucket):
    assert s3.delete_bucket_cors(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204


@pytest.mark.parametrize(
    "rule",
    [
        {"AllowedOrigins": ["*"], "AllowedMethods": ["PATCH"]},
        {"AllowedOrigins": ["http://*.a.*"], "AllowedMethods": ["GET"]},
        {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"], "AllowedHeaders": ["x-*-*"]},
    ],
    ids=["method", "origin", "header"],
)
def test_rules_that_are_none(s3, bucket, rule):
    refused(400, "InvalidRequest", s3.put_bucket_cors, Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    refused(404, "NoSuchCORSConfiguration", s3.get_bucket_cors, Bucket=bucket)


@pytest.mark.parametrize("document", [b"", b"no xml", b"<CORSConfiguration>", b"<CORSConfiguration/>"])
def test_what_says_nothing(s3, bucket, document):
    answer = wire.signed("PUT", f"/{bucket}", query=[("cors", "")], body=document)
    codes = ("MalformedXML", "MissingRequestBodyError") if not document else ("MalformedXML",)
    assert answer.status == 400 and answer.code in codes, answer
    refused(404, "NoSuchCORSConfiguration", s3.get_bucket_cors, Bucket=bucket)


def test_preflight(open_bucket):
    answer = preflight(open_bucket, "http://app.example", "PUT", "content-type, x-amz-meta-b")
    assert (answer.status, answer.body) == (200, b""), answer
    assert answer.headers["access-control-allow-origin"] == "http://app.example"
    assert words(answer, "access-control-allow-methods") == {"get", "put"}
    assert words(answer, "access-control-allow-headers") == {"content-type", "x-amz-meta-b"}
    assert words(answer, "access-control-expose-headers") == {"etag", "x-amz-meta-a"}
    assert answer.headers["access-control-max-age"] == "600"
    assert "origin" in words(answer, "vary")


def test_preflight_by_a_pattern(open_bucket):
    answer = preflight(open_bucket, "https://www.example.org", "GET")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "https://www.example.org")


def test_preflight_by_the_second_rule(open_bucket):
    answer = preflight(open_bucket, "http://anybody.example", "HEAD")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "*")
    assert answer.headers["access-control-max-age"] is None


REFUSED = {
    "origin": ("http://other.example", "GET", None),
    "scheme": ("https://app.example", "GET", None),
    "port": ("http://app.example:8080", "GET", None),
    "pattern": ("https://example.org", "GET", None),
    "method": ("http://app.example", "DELETE", None),
    "header": ("http://app.example", "PUT", "content-type, x-other"),
    "header of a rule without any": ("http://anybody.example", "HEAD", "content-type"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_preflight_refused(open_bucket, name):
    answer = preflight(open_bucket, *REFUSED[name])
    assert answer.verdict == (403, "AccessForbidden"), answer
    assert answer.headers["access-control-allow-origin"] is None


def test_preflight_without_rules(bucket):
    assert preflight(bucket, "http://app.example", "GET").verdict == (403, "AccessForbidden")


@pytest.mark.parametrize("headers", [[], [("origin", "http://app.example")]], ids=["nothing", "no method"])
def test_preflight_that_asks_nothing(open_bucket, headers):
    answer = wire.anonymous("OPTIONS", f"/{open_bucket}/k", headers=headers)
    assert answer.verdict in [(400, "BadRequest"), (400, "InvalidRequest")], answer


def test_an_answer_to_an_origin(open_bucket):
    answer = wire.signed("GET", f"/{open_bucket}/k", headers=[("origin", "http://app.example")])
    assert answer.body == b"content"
    assert answer.headers["access-control-allow-origin"] == "http://app.example"
    assert words(answer, "access-control-expose-headers") == {"etag", "x-amz-meta-a"}


def test_a_refusal_to_an_origin(open_bucket):
    answer = wire.signed("GET", f"/{open_bucket}/none", headers=[("origin", "http://app.example")])
    assert answer.verdict == (404, "NoSuchKey")
    assert answer.headers["access-control-allow-origin"] == "http://app.example"


@pytest.mark.parametrize("headers", [[], [("origin", "http://other.example")]], ids=["none", "another"])
def test_an_answer_to_nobody_in_particular(open_bucket, headers):
    answer = wire.signed("GET", f"/{open_bucket}/k", headers=headers)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, None)


def test_rules_give_no_permission(s3, open_bucket):
    origin = [("origin", "http://app.example")]
    assert wire.anonymous("GET", f"/{open_bucket}/k", headers=origin).verdict == (403, "AccessDenied")
    assert body(s3, open_bucket, "k") == b"content"


def test_a_setting_is_bounded(s3, bucket):
    """The rules are one entry of the masters' log and are read with every request for the bucket."""
    rule = {"AllowedMethods": ["GET"], "AllowedHeaders": ["x" * 1000 + str(n) for n in range(70)]}
    large = {"CORSRules": [{**rule, "AllowedOrigins": ["http://app.example"]}]}
    refused(400, "InvalidRequest", s3.put_bucket_cors, Bucket=bucket, CORSConfiguration=large)
    refused(404, "NoSuchCORSConfiguration", s3.get_bucket_cors, Bucket=bucket)


def test_caches_are_told_that_answers_vary(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")

    def vary(*headers):
        return (wire.signed("GET", f"/{bucket}/k", headers=headers).headers["vary"] or "").lower()

    assert "origin" not in vary()
    rule = {"AllowedMethods": ["GET"], "AllowedOrigins": ["https://example.org"]}
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    assert "origin" in vary()
    assert "origin" in vary(("origin", "https://elsewhere.test"))
    assert "origin" in vary(("origin", "https://example.org"))
