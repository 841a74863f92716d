"""Every operation, requested by every caller: the cells of the table in `permissions`, on a private and on a publicly
readable bucket, through S3 and through the native API.

Creates its keys itself, with the program in BARGE_PROGRAM, the native address in BARGE_URL and the cluster's secret
in BARGE_SECRET_FILE; skipped if they are not set.
"""

import base64
import hashlib
import json
import os
import subprocess

import pytest

import permissions
import sigv4
import wire
from buckets import new_name, remove
from test_post import Form

DENIED = (403, "AccessDenied")
# Answers to refused callers other than AccessDenied.
WRONG = (403, "SignatureDoesNotMatch")


def barge(*args):
    """Runs the program with the cluster's secret; returns its output."""
    program, url, secret = (os.environ.get(f"BARGE_{n}") for n in ("PROGRAM", "URL", "SECRET_FILE"))
    if not (program and url and secret):
        pytest.skip("BARGE_PROGRAM, BARGE_URL and BARGE_SECRET_FILE are not set")
    command = [program, "--url", url, "--json", *args, "--secret-file", secret]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def make_key(permission, scope=None):
    """Creates a key."""
    made = barge("key", "create", "--permission", permission, *(["--scope", scope] if scope else []))
    return sigv4.Key(made["id"], made["secret"])


class Place:
    """The tested bucket, a private and a public one beside it, and the callers' keys."""

    def __init__(self, bucket, other, opened, public, keys):
        self.bucket, self.other, self.opened, self.public = bucket, other, opened, public
        self.keys = {
            **keys,
            "bucket": make_key("write", bucket),
            "prefix": make_key("write", f"{bucket}/in/"),
        }

    def permitted(self, row):
        """Returns the callers that a row permits."""
        return (row[-1] if self.public or isinstance(row[-2], int | tuple) else row[-2]).split()


@pytest.fixture(scope="module")
def places(s3):
    """The private bucket and the public one."""
    names = [new_name() for _ in range(4)]
    for name in names:
        s3.create_bucket(Bucket=name)
        for key in ("in/k", "out", "k"):
            s3.put_object(Bucket=name, Key=key, Body=b"content")
    private, public, other, opened = names
    barge("key", "anonymous", public)
    barge("key", "anonymous", opened)
    keys = {
        "nobody": None,
        "wrong": sigv4.Key(wire.ADMIN.id, "0" * 40),
        "read": make_key("read"),
        "write": make_key("write"),
        "admin": wire.ADMIN,
        "elsewhere": make_key("write", other),
    }
    made = {False: Place(private, other, opened, False, keys), True: Place(public, other, opened, True, keys)}
    yield made
    for key in {key.id for place in made.values() for key in place.keys.values() if key} - {wire.ADMIN.id}:
        barge("key", "revoke", key)
    for name in names:
        ask_natively(f"loose-{name}", "DELETE", "", b"", wire.ADMIN)
        remove(name)


def judged(row, good, caller, place, verdict, refusals):
    """Returns what is wrong with an answer, or None."""
    if caller in place.permitted(row):
        fine = verdict[0] in (good if isinstance(good, tuple) else (good,))
    else:
        fine = verdict in refusals
    return None if fine else f"{caller} on a {'public' if place.public else 'private'} bucket: {verdict}"


def ask(place, path, row, caller, link=False):
    """Sends a request through S3, or as a presigned URL."""
    method, _, query, headers, body = row[:5]
    pairs = [pair.partition("=")[::2] for pair in query.split("&")] if query else []
    lines = [(n, v.format(bucket=place.bucket, other=place.other, open=place.opened)) for n, v in headers.items()]
    if row[1] == "" and method in ("PUT", "POST") and body:
        lines.append(("content-md5", base64.b64encode(hashlib.md5(body).digest()).decode()))
    key = place.keys[caller]
    if key is None:
        return wire.anonymous(method, path, pairs, lines, body)
    if link:
        return wire.visit(method, wire.presigned(method, path, pairs, key=key), lines, body)
    return wire.signed(method, path, pairs, lines, body, key=key)


def refusals(method, caller, place, name):
    """Returns the expected refusal."""
    code = "SignatureDoesNotMatch" if caller == "wrong" else "AccessDenied"
    told = [(403, None if method == "HEAD" else code)]
    if caller == "nobody" and place.public and name == "GetObject, other headers":
        told = [(400, "InvalidRequest")]
    return told


@pytest.mark.parametrize("name", [*permissions.OPERATIONS, *permissions.OF_THE_STORE])
def test_by_s3(places, name):
    row = permissions.OPERATIONS.get(name) or permissions.OF_THE_STORE[name]
    path = f"/{{bucket}}/{row[1]}" if name in permissions.OPERATIONS and row[1] else "/{bucket}"
    path = path if name in permissions.OPERATIONS else "/"
    wrong = []
    for place in places.values():
        # Permitted callers come last: a refusal must not depend on earlier changes.
        for caller in sorted(permissions.CALLERS, key=lambda c: c in place.permitted(row)):
            answer = ask(place, path.format(bucket=place.bucket), row, caller)
            told = refusals(row[0], caller, place, name)
            wrong.append(judged(row, row[5], caller, place, answer.verdict, told))
    assert not any(wrong), [w for w in wrong if w]


@pytest.mark.parametrize("name", permissions.LINKS)
def test_by_a_link(places, name):
    row = permissions.OPERATIONS[name]
    wrong = []
    for place in places.values():
        callers = [caller for caller in permissions.CALLERS if place.keys[caller]]
        for caller in sorted(callers, key=lambda c: c in place.permitted(row)):
            path = f"/{place.bucket}/{row[1]}" if row[1] else f"/{place.bucket}"
            answer = ask(place, path, row, caller, link=True)
            wrong.append(judged(row, row[5], caller, place, answer.verdict, refusals(row[0], caller, place, name)))
    assert not any(wrong), [w for w in wrong if w]


@pytest.mark.parametrize("key", permissions.FORMS)
def test_by_a_form(places, key):
    wrong = []
    for place in places.values():
        for caller in permissions.CALLERS:
            shown = place.keys[caller]
            if shown is None:
                form = Form(place.bucket, key)
                answer = form.send(fields=form.fields)
            else:
                answer = Form(place.bucket, key, signer=sigv4.Signer(shown, region=wire.REGION)).send()
            row = (204, permissions.FORMS[key])
            told = [WRONG if caller == "wrong" else DENIED]
            wrong.append(judged(row, 204, caller, place, answer.verdict, told))
    assert not any(wrong), [w for w in wrong if w]


def test_many_deletes_are_permitted_one_by_one(places, s3):
    names = ["in/one", "one"]
    body = "<Delete>" + "".join(f"<Object><Key>{n}</Key></Object>" for n in names) + "</Delete>"
    digest = base64.b64encode(hashlib.md5(body.encode()).digest()).decode()
    for place in places.values():
        for name in names:
            s3.put_object(Bucket=place.bucket, Key=name, Body=b"x")
        headers = [("content-md5", digest)]
        answer = wire.signed(
            "POST", f"/{place.bucket}", [("delete", "")], headers, body.encode(), key=place.keys["prefix"]
        )
        assert answer.status == 200, answer
        assert [e.findtext("Key") for e in answer.tree().findall("Deleted")] == ["in/one"]
        errors = [(e.findtext("Key"), e.findtext("Code")) for e in answer.tree().findall("Error")]
        assert errors == [("one", "AccessDenied")]
        s3.head_object(Bucket=place.bucket, Key="one")


def ask_natively(path, method, query, body, key):
    """Sends a request through the native API; returns status and code."""
    connection = wire.connect(os.environ["BARGE_URL"])
    headers = {"Authorization": f"Bearer {key.id}:{key.secret}"} if key else {}
    try:
        connection.request(method, f"/{path}" + (f"?{query}" if query else ""), body or None, headers)
        answer = connection.getresponse()
        text = answer.read()
        code = json.loads(text)["error"]["code"] if answer.status >= 400 and text else None
        return answer.status, code
    finally:
        connection.close()


@pytest.mark.parametrize("name", permissions.NATIVE)
def test_by_the_native_face(places, name):
    row = permissions.NATIVE[name]
    method, path, query, body, good = row[:5]
    wrong = []
    for place in places.values():
        for caller in sorted(permissions.CALLERS, key=lambda c: c in place.permitted(row)):
            where = path.format(bucket=place.bucket)
            verdict = ask_natively(where, method, query, body, place.keys[caller])
            told = (401, "unauthorized") if caller in ("nobody", "wrong") else (403, "forbidden")
            if path.startswith("_/") and method == "POST":
                told = (403, "not_signed")
            told = (told[0], None) if method == "HEAD" else told
            wrong.append(judged(row, good, caller, place, verdict, [told]))
    assert not any(wrong), [w for w in wrong if w]
