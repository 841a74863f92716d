"""redis-py as it is, in both versions of the protocol: values with all bytes, conditions, scans, pipelines, errors."""

import hashlib
import os

import redis

PORT = int(os.environ["BARGE_RESP_PORT"])
LARGE = os.urandom(1 << 20) * 20

for protocol in (2, 3):
    client = redis.Redis(port=PORT, protocol=protocol)
    assert client.ping()
    key = f"py{protocol}/value"
    assert client.set(key, LARGE) is True
    assert hashlib.sha256(client.get(key)).digest() == hashlib.sha256(LARGE).digest()
    assert client.getrange(key, 5, 104) == LARGE[5:105]
    assert client.getrange(key, -10, -1) == LARGE[-10:]
    assert client.strlen(key) == len(LARGE)
    assert client.set(key, b"x", nx=True) is None
    assert client.set(key, b"x", xx=True) is True
    assert client.set("none", b"x", xx=True) is None
    assert client.get("none") is None
    assert client.mget(key, "none") == [b"x", None]
    assert client.exists(key, "none") == 1
    assert client.type(key) == b"string" and client.ttl(key) == -1
    assert client.getdel(key) == b"x" and client.getdel(key) is None
    odd = bytes(range(256)) * 3
    client.set(f"py{protocol}/ä漢 \r\n", odd)
    assert client.get(f"py{protocol}/ä漢 \r\n") == odd

    # Without a transaction: there are none.
    pipeline = client.pipeline(transaction=False)
    for n in range(100):
        pipeline.set(f"py{protocol}/p/{n}", str(n))
        pipeline.get(f"py{protocol}/p/{n}")
    assert pipeline.execute() == [answer for n in range(100) for answer in (True, str(n).encode())]
    found = set(client.scan_iter(match=f"py{protocol}/p/*", count=9))
    assert found == {f"py{protocol}/p/{n}".encode() for n in range(100)}
    assert client.delete(*found) == 100
    assert client.keys(f"py{protocol}/p/*") == []
    assert client.dbsize() > 0 and client.info()["role"] == "master"
    assert client.config_get("save") == {"save": ""}
    assert client.set(key, b"x", ex=100, get=True) is None and 95 <= client.ttl(key) <= 100
    for call in (lambda: client.append(key, b"x"), lambda: client.pipeline().set(key, b"x").execute()):
        try:
            call()
        except redis.ResponseError:
            pass
        else:
            raise AssertionError("not refused")
    # The connection goes on after a refusal.
    assert client.ping()
print("passed")
