"""Buckets for tests, created and removed in batches: one by one would cost the store more than many a test does.

Uses `wire`, because a library costs more than its requests. Asserts that everything a test leaves can be removed.
"""

import base64
import hashlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote_plus
from xml.sax.saxutils import escape

import wire

# Concurrent operations.
TOGETHER = 16


def new_name():
    """Returns a unique bucket name."""
    return f"t-{uuid.uuid4().hex[:20]}"


def create(name):
    """Creates a bucket."""
    answer = wire.signed("PUT", f"/{name}")
    assert answer.status == 200, answer


def fill(name, keys):
    """Puts an object under each key, with the key as its content. Many at once, which is faster."""

    def put(key):
        answer = wire.signed("PUT", f"/{name}/{key}", body=key.encode())
        assert answer.status == 200, answer

    with ThreadPoolExecutor(TOGETHER) as pool:
        list(pool.map(put, keys))


def empty(name):
    """Removes every object and every version from a bucket."""
    more = True
    while more:
        page = wire.signed("GET", f"/{name}", [("versions", ""), ("encoding-type", "url")])
        assert page.status == 200, page
        tree = page.tree()
        more = tree.findtext("IsTruncated") == "true"
        entries = [(unquote_plus(e.findtext("Key")), e.findtext("VersionId")) for e in tree if e.find("Key") is not None]
        if entries:
            delete(name, entries)


def delete(name, entries):
    """Deletes pairs of key and version."""
    # Characters that XML would change.
    odd = {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}
    objects = "".join(
        f"<Object><Key>{escape(key, odd)}</Key><VersionId>{version}</VersionId></Object>" for key, version in entries
    )
    text = f"<Delete><Quiet>true</Quiet>{objects}</Delete>".encode()
    digest = base64.b64encode(hashlib.md5(text).digest()).decode()
    answer = wire.signed("POST", f"/{name}", [("delete", "")], [("content-md5", digest)], text)
    assert answer.status == 200 and answer.tree().find("Error") is None, answer


def abort(name):
    """Aborts the unfinished uploads of a bucket."""
    more = True
    while more:
        page = wire.signed("GET", f"/{name}", [("uploads", ""), ("encoding-type", "url")])
        assert page.status == 200, page
        more = page.text("IsTruncated") == "true"
        for upload in page.tree().findall("Upload"):
            key = unquote_plus(upload.findtext("Key"))
            answer = wire.signed("DELETE", f"/{name}/{key}", [("uploadId", upload.findtext("UploadId"))])
            assert answer.status == 204, answer


def remove(name):
    """Removes a bucket and its contents."""
    empty(name)
    answer = wire.signed("DELETE", f"/{name}")
    if answer.code == "BucketNotEmpty":
        abort(name)
        answer = wire.signed("DELETE", f"/{name}")
    assert answer.status == 204, answer


class Buckets:
    """Buckets that are ready, and those that no test needs any longer."""

    def __init__(self, together):
        self.together, self.ready, self.left = together, [], {}
        self.pool = ThreadPoolExecutor(together)

    def take(self):
        """Returns an empty bucket for one user."""
        if not self.ready:
            names = [new_name() for _ in range(self.together)]
            list(self.pool.map(create, names))
            self.ready = names
        return self.ready.pop()

    def give_back(self, name, user):
        """Removes a bucket, now or soon; names its user if that fails."""
        self.left[name] = user
        if len(self.left) == self.together:
            self.clear()

    def clear(self):
        """Removes the returned buckets."""
        left, self.left = self.left, {}
        removals = [(self.pool.submit(remove, name), name, user) for name, user in left.items()]
        failures = [f"{name} of {user}: {r.exception()!r}" for r, name, user in removals if r.exception()]
        assert not failures, failures

    def close(self):
        """Removes all of them."""
        self.left.update(dict.fromkeys(self.ready, "nobody"))
        self.ready = []
        self.clear()
