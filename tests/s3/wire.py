"""Requests as bytes on a connection of their own, for what no S3 library would send, and answers as they came.

Signs with `sigv4` unless it is told not to. It never retries, follows or corrects anything.
"""

import http.client
import os
import re
import socket
import ssl
import xml.etree.ElementTree as ElementTree
from urllib.parse import urlsplit

import sigv4

ENDPOINT = os.environ.get("BARGE_S3_ENDPOINT", "http://127.0.0.1:9000")
REGION = os.environ.get("BARGE_S3_REGION", "us-east-1")
ADMIN = sigv4.Key(os.environ.get("BARGE_S3_KEY", "test"), os.environ.get("BARGE_S3_SECRET", "test"))
HOST = urlsplit(ENDPOINT).netloc
PATIENCE = 20
# Where connections to a store on this machine come from: `conftest` gives each test an address of its own.
here = "127.0.0.1"


class Answer:
    """Status, headers and body of an answer."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def tree(self):
        """The body's XML, its namespace taken off."""
        return ElementTree.fromstring(re.sub(rb' xmlns="[^"]*"', b"", self.body))

    def text(self, path):
        """The text of an element of the body, or None."""
        return self.tree().findtext(path)

    @property
    def code(self):
        """The code of an error; None when there is no body of that form."""
        try:
            return self.text("Code")
        except ElementTree.ParseError:
            return None

    @property
    def verdict(self):
        """Status and code of an error, to be compared at once."""
        return self.status, self.code

    def __repr__(self):
        return f"{self.status} {dict(self.headers)} {self.body[:600]!r}"


def connect(url=ENDPOINT, source=None):
    """A connection to the endpoint, or to another URL."""
    parts = urlsplit(url)
    how = {"timeout": PATIENCE}
    if parts.hostname.startswith("127."):
        how["source_address"] = (source or here, 0)
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))
        return http.client.HTTPSConnection(parts.hostname, parts.port or 443, context=context, **how)
    return http.client.HTTPConnection(parts.hostname, parts.port or 80, **how)


def target(path, query):
    """A path and query as they stand in the request line."""
    encoded = sigv4.encode_path(path)
    return f"{encoded}?{sigv4.query_string(query)}" if query else encoded


def exchange(method, where, headers, body=b"", length=True):
    """Sends exactly this, `Content-Length` added, and reads the answer."""
    connection = connect()
    try:
        connection.putrequest(method, where, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if length and (body or method in ("PUT", "POST")):
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        try:
            if body:
                connection.send(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before the end: the answer says why
        return Answer(connection.getresponse())
    finally:
        connection.close()


def signed(method, path, query=(), headers=(), body=b"", key=ADMIN, payload="", time=None, length=True, **scope):
    """A signed request. `payload` is the body's own digest when it is empty, and absent when it is None."""
    payload = sigv4.sha256(body) if payload == "" else payload
    scope.setdefault("region", REGION)
    all_headers = sigv4.Signer(key, time, **scope).headers(method, path, query, [("host", HOST), *headers], payload)
    return exchange(method, target(path, query), all_headers, body, length)


def anonymous(method, path, query=(), headers=(), body=b""):
    """A request without a signature."""
    return exchange(method, target(path, query), [("host", HOST), *headers], body)


def presigned(method, path, query=(), headers=(), expires=300, key=ADMIN, time=None):
    """The request target of a presigned URL that signs these headers besides the host."""
    signer = sigv4.Signer(key, time, region=REGION)
    return target(path, signer.url(method, path, query, [("host", HOST), *headers], expires))


def visit(method, where, headers=(), body=b""):
    """A request to a target that carries its own permission."""
    return exchange(method, where, [("host", HOST), *headers], body)


def begun(method, path, headers, body, key=ADMIN, payload=sigv4.UNSIGNED):
    """A socket over which a signed request was sent as far as `body` goes; the caller has set its length."""
    all_headers = sigv4.Signer(key, region=REGION).headers(method, path, (), [("host", HOST), *headers], payload)
    connection = connect()
    connection.putrequest(method, target(path, ()), skip_host=True, skip_accept_encoding=True)
    for name, value in all_headers:
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(body)
    return connection


def broken_off(method, path, headers, body, **how):
    """Begins a request, and hangs up in the middle of its body, after all that was sent is on its way."""
    connection = begun(method, path, headers, body, **how)
    connection.sock.shutdown(socket.SHUT_WR)
    connection.sock.settimeout(PATIENCE)
    try:
        while connection.sock.recv(65536):
            pass
    except OSError:
        pass
    connection.close()
