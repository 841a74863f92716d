#!/usr/bin/env python3
"""Reconciliation among a million values: which orphans and missing replicas are found and deleted, at what cost.

  bench/orphans.py [--values 1000000] [--offline 3600] [--rate 20] [--orphans 1000] [--uploads 1000] [--data target/bench-data/orphans]

Three volumes, two replicas of each value of 512 bytes.
 even      all volumes hold what they should: bytes exchanged to find that out;
 returned  one of them is down while values are overwritten and deleted; when it returns, nothing old is served,
           nothing deleted comes back, and excess replicas are removed; bytes exchanged until it counts again;
 orphans   records are planted as if their master died before the commit, and uploads are in progress that end
           when the orphans are deleted: exactly the orphans are deleted.
Exits with 1 if anything acknowledged is missing or wrong.
"""

import argparse
import http.client
import pathlib
import random
import resource
import socket
import threading
import time
import urllib.parse

from cluster import Cluster

SIZE = 512
READERS = 8
# Values that are not changed, but read as well.
KNOWN = 20_000
# A request body is cut off after a minute without a byte.
DRIP = 15


def say(name, **figures):
    print(f"{name}: " + ", ".join(f"{what} {figure}" for what, figure in figures.items()), flush=True)


class Client:
    """One connection to the master, and those to the volumes that it redirects to."""

    def __init__(self, url):
        self.host = urllib.parse.urlparse(url).netloc
        self.connections = {}

    def ask(self, verb, target, body=None, headers=None, host=None, follow=True):
        host = host or self.host
        for attempt in (1, 2):
            connection = self.connections.setdefault(host, http.client.HTTPConnection(host, timeout=60))
            try:
                connection.request(verb, target, body=body, headers=headers or {})
                answer = connection.getresponse()
                found = answer.status, answer.read()
                break
            except (OSError, http.client.HTTPException):
                # The other side may have closed a kept connection; a second refusal is an answer.
                self.connections.pop(host).close()
                if attempt == 2:
                    return 0, b""
        if found[0] == 307 and follow:
            where = urllib.parse.urlparse(answer.headers["location"])
            return self.ask(verb, f"{where.path}?{where.query}", body, headers, where.netloc)
        return (found[0], answer.headers.get("location")) if found[0] == 307 else found


class Oracle:
    """What was acknowledged for changed keys, and the initial values of others; None: deleted. An unanswered change
    may have happened."""

    def __init__(self):
        self.known, self.unsure, self.wrong, self.reads = {}, set(), [], 0

    def learn(self, url, numbers):
        def read(part):
            client = Client(url)
            for number in part:
                status, body = client.ask("GET", f"/v/{number}")
                if (status, len(body)) != (200, SIZE):
                    self.wrong.append((number, status))
                self.known[number] = body
        in_parallel(read, [numbers[n::READERS] for n in range(READERS)])

    def change(self, client, number, serial):
        key = f"v/{number}"
        if serial % 3 == 0:
            verb, body, good = "DELETE", None, (200, 404)
        else:
            verb, body, good = "PUT", f"{number} {serial} ".encode().ljust(SIZE, b"."), (200, 201)
        status, _ = client.ask(verb, f"/{key}" + ("?stream" if body else ""), body)
        if status in good:
            self.known[number] = body
            self.unsure.discard(number)
        else:
            self.unsure.add(number)

    def check(self, client, number):
        if number in self.unsure:
            return
        status, body = client.ask("GET", f"/v/{number}")
        expected = self.known[number]
        good = status == 404 if expected is None else (status, body) == (200, expected)
        self.reads += 1
        # A volume that dies or returns at this moment may refuse: that is not stale.
        if not good and status not in (0, 502, 503):
            self.wrong.append((number, status))

    def check_all(self, url, rounds=1):
        numbers = [n for n in self.known for _ in range(rounds)]
        random.shuffle(numbers)
        parts = [numbers[n::READERS] for n in range(READERS)]

        def read(part):
            client = Client(url)
            for number in part:
                self.check(client, number)
        in_parallel(read, parts)


def in_parallel(work, parts):
    threads = [threading.Thread(target=work, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def dry_run(cluster):
    began = time.monotonic()
    found = cluster.signed("cluster", "orphans", "--dry-run")
    return found, time.monotonic() - began


def blobs(status):
    return sum(v["blobs"] for v in status["volumes"])


def compared(cluster):
    """Returns the bytes exchanged to compare inventories since the master started."""
    _, text = Client(cluster.url).ask("GET", "/_/metrics")
    return next(int(float(line.split()[1])) for line in text.decode().splitlines() if line.startswith("barge_reconciliation_bytes"))


def disk(cluster, number):
    return sum(p.stat().st_blocks * 512 for p in (cluster.folder / f"volume{number + 1}").rglob("*") if p.is_file())


def returned(cluster, args):
    oracle, client, before = Oracle(), Client(cluster.url), disk(cluster, 2)
    oracle.learn(cluster.url, random.sample(range(args.values), min(args.values, KNOWN)))
    cluster.kill(2)
    cluster.until(lambda s: sum(v["state"] == "up" for v in s["volumes"]) == 2, 60)
    began, serial = time.monotonic(), 0
    while (now := time.monotonic() - began) < args.offline:
        if serial < now * args.rate:
            oracle.change(client, random.randrange(args.values), serial)
            serial += 1
        else:
            time.sleep(0.01)
    spent = compared(cluster)
    deleted = sum(1 for body in oracle.known.values() if body is None)
    say("offline", seconds=args.offline, changes=serial, deleted=deleted, unanswered=len(oracle.unsure))
    cluster.again(2)
    began = time.monotonic()
    # From its first moment on, reads check it for old versions.
    reader = threading.Thread(target=oracle.check_all, args=(cluster.url,))
    reader.start()
    live = args.values - deleted
    cluster.until(lambda s: sum(v["state"] == "up" for v in s["volumes"]) == 3, 600)
    up, exchanged = time.monotonic() - began, compared(cluster) - spent
    cluster.until(lambda s: blobs(s) <= (live + len(oracle.unsure)) * 2 and s["repair"]["queued_blobs"] == 0, 1800)
    even = time.monotonic() - began
    reader.join()
    oracle.check_all(cluster.url, 3)
    found, _ = dry_run(cluster)
    say("returned", up_after=f"{up:.1f} s", without_surplus_after=f"{even:.1f} s", reads=oracle.reads, wrong=len(oracle.wrong),
        bytes_exchanged=exchanged, orphans_left=found["orphans"], missing=found["missing"],
        replicas=f"{blobs(cluster.status())} of {live * 2}", disk_before=before, disk_after=disk(cluster, 2))
    good = found["orphans"] == found["missing"] == 0 and (oracle.unsure or blobs(cluster.status()) == live * 2)
    return oracle, good


class Upload:
    """An upload whose last bytes are sent on request."""

    def __init__(self, url, number):
        self.body = f"slow {number} ".encode().ljust(4096, b".")
        self.sent = 0
        where = urllib.parse.urlparse(url)
        self.socket = socket.create_connection((where.hostname, where.port), timeout=60)
        self.socket.sendall(f"PUT /slow/{number}?stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(self.body)}\r\n\r\n".encode())

    def drip(self, to):
        self.socket.sendall(self.body[self.sent:to])
        self.sent = to

    def end(self):
        self.drip(len(self.body))
        status = self.socket.recv(4096).split(b" ", 2)[1]
        self.socket.close()
        return status in (b"200", b"201")


def plant(cluster, number):
    """A value for which the volumes give receipts that are never committed."""
    client, body = Client(cluster.url), f"orphan {number} ".encode().ljust(SIZE, b".")
    status, where = client.ask("PUT", f"/orphan/{number}", b"", {"expect": "100-continue", "content-length": str(SIZE)}, follow=False)
    if status != 307:
        raise SystemExit(f"no ticket: {status} {where}")
    where = urllib.parse.urlparse(where)
    client = Client(cluster.url)
    status, text = client.ask("PUT", f"{where.path}?{where.query}", body, {"barge-chain": "1"}, where.netloc)
    if status != 201:
        raise SystemExit(f"not planted: {status} {text}")


def orphans(cluster, args, grace):
    before = blobs(cluster.status())
    for number in range(args.orphans):
        plant(cluster, number)
    uploads = [Upload(cluster.url, number) for number in range(args.uploads)]
    for upload in uploads:
        upload.drip(1024)
    found, took = dry_run(cluster)
    say("planted", found=found["orphans"], young=found["young"], bytes_exchanged=found["exchanged_bytes"], seconds=f"{took:.1f}")
    planted, began, dripped = found["orphans"], time.monotonic(), 1024
    while found["orphans"] > 0:
        if time.monotonic() - began > 600:
            raise SystemExit(f"orphans are left: {found}")
        if time.monotonic() - began > DRIP * (dripped - 1023):
            dripped += 1
            for upload in uploads:
                upload.drip(dripped)
        time.sleep(1)
        found, _ = dry_run(cluster)
    gone = time.monotonic() - began
    ended = sum(upload.end() for upload in uploads)
    client = Client(cluster.url)
    good = sum(client.ask("GET", f"/slow/{n}") == (200, u.body) for n, u in enumerate(uploads))
    now = cluster.until(lambda s: blobs(s) == before + 2 * args.uploads, 60)
    say("collected", records=planted, gone_after=f"{gone:.1f} s (grace {grace} s)", uploads_answered=ended, uploads_read=good,
        replicas=f"{blobs(now)} of {before + 2 * args.uploads}")
    return planted == 2 * args.orphans and ended == good == args.uploads


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, default=1_000_000)
    parser.add_argument("--offline", type=int, default=3600, help="seconds")
    parser.add_argument("--rate", type=int, default=20, help="values overwritten or deleted in a second meanwhile")
    parser.add_argument("--orphans", type=int, default=1000)
    parser.add_argument("--uploads", type=int, default=1000)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("target/bench-data/orphans"))
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    grace = 45
    # Otherwise repair would re-create its replicas elsewhere, and all of its own would be removed.
    cluster = Cluster(args.data, 3, "--repair-after", f"{args.offline * 2 + 600}s", "--orphan-grace", f"{grace}s")
    try:
        began = time.monotonic()
        cluster.barge("bench", "--op", "put", "--size", str(SIZE), "--count", str(args.values), "--keys", str(args.values), "--prefix",
                      "v/", "--keep", "--concurrency", "16", "--duration", "10000s")
        cluster.until(lambda s: blobs(s) == 2 * args.values, 60)
        say("filled", values=args.values, seconds=f"{time.monotonic() - began:.0f}")
        found, took = dry_run(cluster)
        say("even", bytes_exchanged=found["exchanged_bytes"], seconds=f"{took:.1f}", orphans=found["orphans"], missing=found["missing"])
        oracle, good = returned(cluster, args)
        good = orphans(cluster, args, grace) and good
        oracle.check_all(cluster.url)
        say("at the end", reads=oracle.reads, wrong=len(oracle.wrong))
        if oracle.wrong or not good:
            raise SystemExit(f"wrong reads: {oracle.wrong[:10]}")
    finally:
        cluster.end()


main()
