"""Documents that never end: connections that hold scarce slots, with valid and invalid keys.

Each test holds more connections open than there are slots and sends a request meanwhile. The endpoint must
be on this machine: a different peer is a different loopback address.
"""

import base64
import hashlib
import select
from contextlib import ExitStack, contextmanager

import pytest

import sigv4
import wire
from conftest import key_of

# More than the slots of all peers together.
MANY = 20
# More than a connection may buffer: beyond this a document needs a slot.
LONG = 200 << 10


def document(names):
    """Returns the body that names these keys, none of which needs escaping."""
    return ("<Delete>" + "".join(f"<Object><Key>{n}</Key></Object>" for n in names) + "</Delete>").encode()


@contextmanager
def begun(bucket, sent, length, key=wire.ADMIN, source=None, extra=()):
    """Sends a DeleteObjects that announces `length` bytes, but only `sent` of them."""
    headers = [("host", wire.HOST), ("content-length", str(length)), *extra]
    signer = sigv4.Signer(key, region=wire.REGION)
    query = [("delete", "")]
    asked = wire.connect(source=source)
    try:
        asked.putrequest("POST", wire.target(f"/{bucket}", query), skip_host=True, skip_accept_encoding=True)
        for name, value in signer.headers("POST", f"/{bucket}", query, headers, sigv4.UNSIGNED):
            asked.putheader(name, value)
        asked.endheaders()
        asked.send(b" " * sent)
        yield asked
    finally:
        asked.close()


def delete(bucket, names, source=None):
    """Sends a complete DeleteObjects."""
    body = document(names)
    digest = base64.b64encode(hashlib.md5(body).digest()).decode()
    with begun(bucket, 0, len(body), source=source, extra=[("content-md5", digest)]) as asked:
        asked.send(body)
        return wire.Answer(asked.getresponse())


def answered(connections):
    """Returns the connections that were answered or closed."""
    readable, _, _ = select.select([c.sock for c in connections], [], [], 0)
    return readable


@pytest.fixture
def full(s3, bucket):
    """A bucket with an object."""
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    return bucket


@pytest.mark.parametrize(
    "key, code",
    [
        (sigv4.Key("BKINVENTED0000000001", "0" * 40), "InvalidAccessKeyId"),
        (sigv4.Key(wire.ADMIN.id, "0" * 40), "SignatureDoesNotMatch"),
    ],
)
def test_a_key_that_is_none_is_refused_from_the_head(full, key, code):
    with ExitStack() as stack:
        held = [stack.enter_context(begun(full, 1, 1000, key)) for _ in range(MANY)]
        assert delete(full, ["a"]).status == 200
        for asked in held:
            assert wire.Answer(asked.getresponse()).verdict == (403, code)


def test_a_permission_that_is_missing_is_refused_from_the_head(full):
    with begun(full, 1, 1000, key_of("READ")) as asked:
        assert wire.Answer(asked.getresponse()).verdict == (403, "AccessDenied")


def test_short_documents_that_do_not_end_hold_nothing(full, s3):
    with ExitStack() as stack:
        held = [stack.enter_context(begun(full, 1, 1000)) for _ in range(MANY)]
        assert delete(full, ["a"]).status == 200
        assert "Contents" not in s3.list_objects_v2(Bucket=full)
        assert not answered(held), "the others are still open"


def test_long_documents_of_one_peer_leave_places_for_another(full, s3):
    names = ["a", *(f"{n:04}" + "x" * 400 for n in range(999))]
    assert len(document(names)) > LONG
    with ExitStack() as stack:
        held = [stack.enter_context(begun(full, LONG, 2 * LONG)) for _ in range(MANY)]
        assert delete(full, names, source="127.0.0.2").status == 200
        assert "Contents" not in s3.list_objects_v2(Bucket=full)
        assert not answered(held), "the others are still open"


def test_a_long_document_that_comes_too_slowly_loses_its_place(full):
    with begun(full, LONG, 2 * LONG) as asked:
        assert wire.Answer(asked.getresponse()).verdict == (400, "RequestTimeout")


def test_a_document_is_what_was_signed(full):
    body = document(["a"])
    answer = wire.signed("POST", f"/{full}", query=[("delete", "")], body=body, payload=sigv4.sha256(b"other"))
    assert answer.verdict == (400, "XAmzContentSHA256Mismatch"), answer


def test_a_document_is_called_for_when_its_key_was_looked_at(full):
    body = document(["a"])
    headers = [("host", wire.HOST), ("content-length", str(len(body))), ("expect", "100-continue")]
    for key, status in [(sigv4.Key(wire.ADMIN.id, "0" * 40), b" 403 "), (wire.ADMIN, b" 100 ")]:
        signer = sigv4.Signer(key, region=wire.REGION)
        all_headers = signer.headers("POST", f"/{full}", [("delete", "")], headers, sigv4.sha256(body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in all_headers)
        asked = wire.connect()
        asked.connect()
        with asked.sock as socket:
            socket.sendall(f"POST /{full}?delete= HTTP/1.1\r\n{lines}\r\n".encode())
            line = socket.makefile("rb").readline()
            assert status in line, line
