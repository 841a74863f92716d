"""Bodies in `aws-chunked` form, built by hand: signed chunk by chunk, with signed trailers, with trailers only.

After every error nothing is stored. Checksums in headers are in `test_checksums`.
"""

import base64
import hashlib

import pytest

import sigv4
import wire
from checksums import ALGORITHMS, all_in, checksum, field, header
from expect import body, nothing_in

SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
DATA = bytes(range(256)) * 1024
CHUNK = 64 << 10


def pieces(data, size=CHUNK):
    """Returns the data in chunks, including the empty last one."""
    return [data[n : n + size] for n in range(0, len(data), size)] + [b""]


class Request:
    """A put in chunks; a test may change any piece before it is sent."""

    def __init__(self, bucket, kind, data=DATA, algorithm=None, size=CHUNK, extra=()):
        self.path = f"/{bucket}/k"
        self.kind, self.algorithm = kind, algorithm
        self.chunks = pieces(data, size)
        self.value = checksum(algorithm, data) if algorithm else None
        self.decoded = str(len(data))
        self.encoding = "aws-chunked"
        self.extra = list(extra)
        self.mend_body = self.mend_headers = lambda what: what

    def body(self, signer):
        """Returns the body as it is sent."""
        lines = []
        for chunk in self.chunks:
            size = f"{len(chunk):x}"
            if self.kind != TRAILER:
                size += f";chunk-signature={signer.chunk(chunk)}"
            lines.append(size.encode() + b"\r\n")
            if chunk:
                lines.append(chunk + b"\r\n")
        if self.algorithm:
            name = header(self.algorithm)
            lines.append(f"{name}:{self.value}\r\n".encode())
            if self.kind == SIGNED_TRAILER:
                signature = signer.trailer(f"{name}:{self.value}\n".encode())
                lines.append(f"x-amz-trailer-signature:{signature}\r\n".encode())
        lines.append(b"\r\n")
        return b"".join(lines)

    def send(self):
        """Signs and sends it."""
        signer = sigv4.Signer(wire.ADMIN, region=wire.REGION)
        headers = [("host", wire.HOST), ("x-amz-decoded-content-length", self.decoded), *self.extra]
        if self.encoding:
            headers.append(("content-encoding", self.encoding))
        if self.algorithm:
            headers.append(("x-amz-trailer", header(self.algorithm)))
        headers = signer.headers("PUT", self.path, (), self.mend_headers(headers), self.kind)
        return wire.exchange("PUT", self.path, headers, self.mend_body(self.body(signer)))


KINDS = {
    "signed": (SIGNED, None),
    "signed with a trailer": (SIGNED_TRAILER, "CRC32"),
    "a trailer alone": (TRAILER, "CRC32"),
}


@pytest.fixture(params=KINDS)
def kind(request):
    """The three forms, in turn."""
    return KINDS[request.param]


@pytest.mark.parametrize("size", [0, 1, 8192, CHUNK, CHUNK + 1, 1 << 20])
def test_sizes(s3, bucket, kind, size):
    data = (DATA * 4)[:size]
    answer = Request(bucket, kind[0], data, kind[1]).send()
    assert answer.status == 200, answer
    assert body(s3, bucket, "k") == data
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == size


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("form", [SIGNED_TRAILER, TRAILER], ids=["signed", "unsigned"])
def test_trailers(s3, bucket, form, algorithm):
    data = DATA[:20000]
    answer = Request(bucket, form, data, algorithm).send()
    assert answer.status == 200 and answer.headers[header(algorithm)] == checksum(algorithm, data)
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert all_in(head) == {field(algorithm): checksum(algorithm, data)}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("form", [SIGNED_TRAILER, TRAILER], ids=["signed", "unsigned"])
def test_trailers_of_other_bytes(s3, bucket, form, algorithm):
    request = Request(bucket, form, DATA[:20000], algorithm)
    request.value = checksum(algorithm, b"other")
    assert request.send().verdict == (400, "BadDigest")
    nothing_in(s3, bucket)


def test_a_trailer_that_is_no_checksum(s3, bucket):
    request = Request(bucket, TRAILER, DATA, "CRC32")
    request.value = "nonsense"
    assert request.send().verdict in [(400, "InvalidRequest"), (400, "MalformedTrailerError"), (400, "BadDigest")]
    nothing_in(s3, bucket)


def test_a_trailer_that_was_announced_and_not_sent(s3, bucket):
    request = Request(bucket, TRAILER, DATA, "CRC32")
    request.mend_body = lambda text: text[: text.rindex(b"x-amz-checksum")] + b"\r\n"
    assert request.send().verdict in [(400, "MalformedTrailerError"), (400, "InvalidRequest")]
    nothing_in(s3, bucket)


def test_a_trailer_of_another_name(s3, bucket):
    request = Request(bucket, TRAILER, DATA, "CRC32")
    request.mend_body = lambda text: text.replace(b"x-amz-checksum-crc32:", b"x-amz-checksum-crc32c:")
    assert request.send().verdict in [(400, "MalformedTrailerError"), (400, "InvalidRequest")]
    nothing_in(s3, bucket)


def test_aws_chunked_is_no_encoding_of_the_object(s3, bucket, kind):
    assert Request(bucket, kind[0], algorithm=kind[1]).send().status == 200
    assert "ContentEncoding" not in s3.head_object(Bucket=bucket, Key="k")


def test_another_encoding_beside_it_stays(s3, bucket, kind):
    request = Request(bucket, kind[0], algorithm=kind[1])
    request.encoding = "aws-chunked,gzip"
    assert request.send().status == 200
    assert s3.head_object(Bucket=bucket, Key="k")["ContentEncoding"] == "gzip"


def test_metadata_comes_along(s3, bucket, kind):
    extra = [("x-amz-meta-a", "1"), ("content-type", "text/x")]
    assert Request(bucket, kind[0], algorithm=kind[1], extra=extra).send().status == 200
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["Metadata"], head["ContentType"]) == ({"a": "1"}, "text/x")


def flip(text, at):
    """Returns the text with one byte changed."""
    return text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]


@pytest.mark.parametrize("name", ["signed", "signed with a trailer"])
@pytest.mark.parametrize("where", ["first chunk", "last chunk", "chunk signature", "last signature"])
def test_tampered_with(s3, bucket, name, where):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    request = Request(bucket, KINDS[name][0], algorithm=KINDS[name][1])
    places = {
        "first chunk": lambda text: text.index(b"\r\n") + 100,
        "last chunk": lambda text: text.rindex(b"\r\n0;") - 5,
        "chunk signature": lambda text: text.index(b"chunk-signature=") + 20,
        "last signature": lambda text: text.rindex(b"chunk-signature=") + 20,
    }
    request.mend_body = lambda text: flip(text, places[where](text))
    assert request.send().verdict == (403, "SignatureDoesNotMatch")
    assert body(s3, bucket, "k") == b"old"


def test_chunks_in_another_order(s3, bucket):
    request = Request(bucket, SIGNED)
    length = len(f"{CHUNK:x};chunk-signature={'0' * 64}\r\n") + CHUNK + 2

    def swapped(text):
        return text[length : 2 * length] + text[:length] + text[2 * length :]

    request.mend_body = swapped
    assert request.send().verdict == (403, "SignatureDoesNotMatch")
    nothing_in(s3, bucket)


def test_a_chunk_was_taken_away(s3, bucket):
    request = Request(bucket, SIGNED)
    length = len(f"{CHUNK:x};chunk-signature={'0' * 64}\r\n") + CHUNK + 2
    request.mend_body = lambda text: text[length:]
    assert request.send().verdict == (403, "SignatureDoesNotMatch")
    nothing_in(s3, bucket)


def test_a_trailer_was_tampered_with(s3, bucket):
    request = Request(bucket, SIGNED_TRAILER, algorithm="CRC32")
    other = checksum("CRC32", b"other").encode()
    request.mend_body = lambda text: text.replace(request.value.encode(), other)
    assert request.send().verdict in [(403, "SignatureDoesNotMatch"), (400, "BadDigest")]
    nothing_in(s3, bucket)


@pytest.mark.parametrize("change", [-1, 1, -1000, 1000])
def test_a_decoded_length_that_is_wrong(s3, bucket, kind, change):
    request = Request(bucket, kind[0], algorithm=kind[1])
    request.decoded = str(len(DATA) + change)
    answer = request.send()
    assert answer.verdict in [(400, "IncompleteBody"), (400, "InvalidRequest")], answer
    nothing_in(s3, bucket)


@pytest.mark.parametrize("decoded", ["", "x", "-1"])
def test_a_decoded_length_that_is_none(s3, bucket, decoded):
    request = Request(bucket, TRAILER, algorithm="CRC32")
    request.decoded = decoded
    answer = request.send()
    assert answer.verdict in [(400, "InvalidArgument"), (400, "InvalidRequest"), (411, "MissingContentLength")], answer
    nothing_in(s3, bucket)


def test_without_a_decoded_length(s3, bucket):
    request = Request(bucket, TRAILER, algorithm="CRC32")
    request.mend_headers = lambda headers: [h for h in headers if h[0] != "x-amz-decoded-content-length"]
    assert request.send().verdict == (411, "MissingContentLength")
    nothing_in(s3, bucket)


BROKEN = {
    "no end": lambda text: text[: text.rindex(b"\r\n0")],
    "in the middle": lambda text: text[: len(text) // 2],
    "no size": lambda text: b"zz" + text[2:],
    "size too large": lambda text: b"f" + text,
    "negative size": lambda text: b"-" + text,
    "no line end after a chunk": lambda text: flip(text, text.index(b"\r\n", CHUNK)),
    "nothing": lambda text: b"",
    "a size without an end": lambda text: b"1" * 70000,
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_framing(s3, bucket, kind, how):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    request = Request(bucket, kind[0], algorithm=kind[1])
    request.mend_body = BROKEN[how]
    answer = request.send()
    codes = ("IncompleteBody", "InvalidRequest", "InvalidChunkSizeError", "MalformedTrailerError")
    assert (answer.status == 400 and answer.code in codes) or answer.verdict == (403, "SignatureDoesNotMatch"), answer
    assert body(s3, bucket, "k") == b"old"


@pytest.mark.parametrize("form", [SIGNED_TRAILER, TRAILER], ids=["signed", "unsigned"])
def test_a_content_md5_beside_a_trailer(s3, bucket, form):
    def put(summed):
        md5 = base64.b64encode(hashlib.md5(summed).digest()).decode()
        return Request(bucket, form, algorithm="CRC32", extra=[("content-md5", md5)]).send()

    assert put(b"other").verdict == (400, "BadDigest")
    nothing_in(s3, bucket)
    assert put(DATA).status == 200
    assert body(s3, bucket, "k") == DATA


@pytest.mark.parametrize("payload", [SIGNED, TRAILER])
def test_chunks_without_a_signature_are_refused(s3, bucket, payload):
    """Their framing would be stored as part of the value."""
    framed = b"5\r\nhello\r\n0\r\n\r\n"
    headers = [("host", wire.HOST), ("x-amz-content-sha256", payload), ("content-length", str(len(framed)))]
    answer = wire.exchange("PUT", f"/{bucket}/k", headers, framed)
    assert answer.verdict == (400, "InvalidArgument"), answer
    nothing_in(s3, bucket)
