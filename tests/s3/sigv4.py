"""Signature version 4, implemented so that a test can corrupt any single piece of it.

Signs headers, URLs and the chunks of `aws-chunked` bodies, for S3 only: the path is encoded once. It never sends
anything and reads the clock only if no time is given. `test_auth` compares it with botocore's own signer.
"""

import datetime
import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import quote

UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Key:
    """An access key: id and secret."""

    id: str
    secret: str


def now():
    """Returns the current time in UTC, the time zone of signatures."""
    return datetime.datetime.now(datetime.timezone.utc)


def stamp(time):
    """Formats a time as in `x-amz-date`."""
    return time.strftime("%Y%m%dT%H%M%SZ")


def sha256(data):
    """Returns the digest of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def mac(key, text):
    """One step of the key derivation."""
    return hmac.new(key, text.encode() if isinstance(text, str) else text, hashlib.sha256).digest()


def encode(text):
    """Percent-encodes for signatures: everything but the unreserved characters."""
    return quote(text, safe="-_.~")


def encode_path(path):
    """Encodes a path once; slashes stay."""
    return quote(path, safe="/-_.~")


def query_string(pairs):
    """Returns the canonical query string of name and value pairs; it is valid in a URL, too."""
    return "&".join(f"{n}={v}" for n, v in sorted((encode(n), encode(v)) for n, v in pairs))


def canonical_headers(headers):
    """Returns the canonical header lines and the list of their names."""
    joined = {}
    for name, value in headers:
        value = value.encode() if isinstance(value, str) else value
        joined.setdefault(name.lower(), []).append(b" ".join(value.split()))
    lines = b"".join(n.encode() + b":" + b",".join(joined[n]) + b"\n" for n in sorted(joined))
    return lines, ";".join(sorted(joined))


class Signer:
    """Signs one request, and afterwards the chunks of its body."""

    def __init__(self, key, time=None, region="us-east-1", service="s3"):
        self.key, self.time = key, time or now()
        self.scope = f"{self.time:%Y%m%d}/{region}/{service}/aws4_request"
        derived = f"AWS4{key.secret}".encode()
        for part in self.scope.split("/"):
            derived = mac(derived, part)
        self.derived = derived
        self.last = None

    def _sign(self, kind, text):
        to_sign = "\n".join([kind, stamp(self.time), self.scope, text])
        self.last = mac(self.derived, to_sign).hex()
        return self.last

    def request(self, method, path, query, headers, payload):
        """Returns the signature of a request; `payload` is the value of `x-amz-content-sha256`."""
        lines, names = canonical_headers(headers)
        head = "\n".join([method, encode_path(path), query_string(query), ""])
        canonical = head.encode() + lines + f"\n{names}\n{payload}".encode()
        return self._sign("AWS4-HMAC-SHA256", sha256(canonical)), names

    def headers(self, method, path, query, headers, payload):
        """Returns the headers plus those of a signed request; a payload of None omits its header."""
        all_of_them = list(headers) + [("x-amz-date", stamp(self.time))]
        if payload is not None:
            all_of_them.append(("x-amz-content-sha256", payload))
        signature, names = self.request(method, path, query, all_of_them, payload or UNSIGNED)
        credential = f"{self.key.id}/{self.scope}"
        value = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return all_of_them + [("Authorization", value)]

    def url(self, method, path, query, headers, expires):
        """Returns the query of a presigned URL."""
        _, names = canonical_headers(headers)
        query = list(query) + [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", f"{self.key.id}/{self.scope}"),
            ("X-Amz-Date", stamp(self.time)),
            ("X-Amz-Expires", str(expires)),
            ("X-Amz-SignedHeaders", names),
        ]
        signature, _ = self.request(method, path, query, headers, UNSIGNED)
        return query + [("X-Amz-Signature", signature)]

    def policy(self, document):
        """Returns the signature of a form's policy, which is base64 already."""
        return mac(self.derived, document).hex()

    def chunk(self, data):
        """Returns the signature of the next chunk; the first continues the request's own."""
        return self._sign("AWS4-HMAC-SHA256-PAYLOAD", "\n".join([self.last, EMPTY, sha256(data)]))

    def trailer(self, lines):
        """Returns the signature of the trailers, each `name:value` and a line feed."""
        return self._sign("AWS4-HMAC-SHA256-TRAILER", "\n".join([self.last, sha256(lines)]))
