"""Buckets for tests, made and removed several at a time: one by one, that would cost the store more than many a test does.

Speaks by `wire`, because a library would cost more than its requests. It asserts that whatever a test leaves can be removed.
"""

import base64
import hashlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote_plus
from xml.sax.saxutils import escape

import wire

# What is done at once.
TOGETHER = 16


def new_name():
    """A bucket name that nobody else has."""
    return f"t-{uuid.uuid4().hex[:20]}"


def create(name):
    """Makes a bucket."""
    answer = wire.signed("PUT", f"/{name}")
    assert answer.status == 200, answer


def fill(name, keys):
    """Puts an object under each key: its name. Many at once, as a store is quicker at that."""

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
    # What XML would make another character of.
    odd = {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}
    objects = "".join(
        f"<Object><Key>{escape(key, odd)}</Key><VersionId>{version}</VersionId></Object>" for key, version in entries
    )
    text = f"<Delete><Quiet>true</Quiet>{objects}</Delete>".encode()
    digest = base64.b64encode(hashlib.md5(text).digest()).decode()
    answer = wire.signed("POST", f"/{name}", [("delete", "")], [("content-md5", digest)], text)
    assert answer.status == 200 and answer.tree().find("Error") is None, answer


def abort(name):
    """Gives up the uploads of a bucket that were not finished."""
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
    """Removes a bucket with all that is in it."""
    empty(name)
    answer = wire.signed("DELETE", f"/{name}")
    if answer.code == "BucketNotEmpty":
        abort(name)
        answer = wire.signed("DELETE", f"/{name}")
    assert answer.status == 204, answer


class Buckets:
    """Buckets that are ready, and those that no test needs any more."""

    def __init__(self, together):
        self.together, self.ready, self.left = together, [], {}
        self.pool = ThreadPoolExecutor(together)

    def take(self):
        """A bucket that nobody else has, with nothing in it."""
        if not self.ready:
            names = [new_name() for _ in range(self.together)]
            list(self.pool.map(create, names))
            self.ready = names
        return self.ready.pop()

    def give_back(self, name, user):
        """Has a bucket removed, now or soon; the user is named when it cannot be."""
        self.left[name] = user
        if len(self.left) == self.together:
            self.clear()

    def clear(self):
        """Removes those that were given back."""
        left, self.left = self.left, {}
        removals = [(self.pool.submit(remove, name), name, user) for name, user in left.items()]
        failures = [f"{name} of {user}: {r.exception()!r}" for r, name, user in removals if r.exception()]
        assert not failures, failures

    def close(self):
        """Removes all of them."""
        self.left.update(dict.fromkeys(self.ready, "nobody"))
        self.ready = []
        self.clear()
