"""Raw requests on connections of their own, for what no S3 library would send, and raw answers.

Signs with `sigv4` unless told not to. It never retries, follows or corrects anything.
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
# The source address of connections to a store on this machine: `conftest` gives each test its own.
here = "127.0.0.1"


class Answer:
    """Status, headers and body of an answer."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def tree(self):
        """Returns the body's XML without its namespace."""
        return ElementTree.fromstring(re.sub(rb' xmlns="[^"]*"', b"", self.body))

    def text(self, path):
        """Returns the text of an element of the body, or None."""
        return self.tree().findtext(path)

    @property
    def code(self):
        """Returns the error code, or None if the body has no such form."""
        try:
            return self.text("Code")
        except ElementTree.ParseError:
            return None

    @property
    def verdict(self):
        """Returns status and error code, to be compared at once."""
        return self.status, self.code

    def __repr__(self):
        return f"{self.status} {dict(self.headers)} {self.body[:600]!r}"


def connect(url=ENDPOINT, source=None):
    """Opens a connection to the endpoint, or to another URL."""
    parts = urlsplit(url)
    how = {"timeout": PATIENCE}
    if parts.hostname.startswith("127."):
        how["source_address"] = (source or here, 0)
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))
        return http.client.HTTPSConnection(parts.hostname, parts.port or 443, context=context, **how)
    return http.client.HTTPConnection(parts.hostname, parts.port or 80, **how)


def target(path, query):
    """Returns a path and query as in the request line."""
    encoded = sigv4.encode_path(path)
    return f"{encoded}?{sigv4.query_string(query)}" if query else encoded


def exchange(method, where, headers, body=b"", length=True):
    """Sends exactly this, plus `Content-Length`, and reads the answer."""
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
    """Sends a signed request. `payload` is the body's digest by default, and omitted if None."""
    payload = sigv4.sha256(body) if payload == "" else payload
    scope.setdefault("region", REGION)
    all_headers = sigv4.Signer(key, time, **scope).headers(method, path, query, [("host", HOST), *headers], payload)
    return exchange(method, target(path, query), all_headers, body, length)


def anonymous(method, path, query=(), headers=(), body=b""):
    """Sends a request without a signature."""
    return exchange(method, target(path, query), [("host", HOST), *headers], body)


def presigned(method, path, query=(), headers=(), expires=300, key=ADMIN, time=None):
    """Returns the request target of a presigned URL that signs these headers besides the host."""
    signer = sigv4.Signer(key, time, region=REGION)
    return target(path, signer.url(method, path, query, [("host", HOST), *headers], expires))


def visit(method, where, headers=(), body=b""):
    """Sends a request to a target that carries its own permission."""
    return exchange(method, where, [("host", HOST), *headers], body)


def begun(method, path, headers, body, key=ADMIN, payload=sigv4.UNSIGNED):
    """Returns a socket over which a signed request was sent up to the end of `body`; the caller sets the length."""
    all_headers = sigv4.Signer(key, region=REGION).headers(method, path, (), [("host", HOST), *headers], payload)
    connection = connect()
    connection.putrequest(method, target(path, ()), skip_host=True, skip_accept_encoding=True)
    for name, value in all_headers:
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(body)
    return connection


def broken_off(method, path, headers, body, **how):
    """Starts a request and closes the connection in the middle of its body, after all sent bytes are on their way."""
    connection = begun(method, path, headers, body, **how)
    connection.sock.shutdown(socket.SHUT_WR)
    connection.sock.settimeout(PATIENCE)
    try:
        while connection.sock.recv(65536):
            pass
    except OSError:
        pass
    connection.close()
