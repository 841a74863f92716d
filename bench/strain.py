"""Barge under strain: a memory limit, slow clients, a scrub. Each is measured with and without it, in one run.

  bench/compare.sh builds and installs what this needs; then
  python3 bench/strain.py --binaries target/release memory|slow|scrub … [--data DIR] [--scale GIB]

Prints a paragraph for each. Needs root and cgroup v1 for the memory limit.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

from compare import GIB, MIB, BargeOne, Failure, Watch, cpu_seconds, die_with_parent, fetch, forget, free_port, warm

CGROUP = pathlib.Path("/sys/fs/cgroup/memory")
PIECE = 256 * 1024


class Strained(BargeOne):
    """A master and a volume, each in a memory cgroup if there is a limit; the volume may have more arguments."""

    def __init__(self, folder, binaries, limit=None, volume=(), replicas=1):
        super().__init__(folder)
        self.replicas = replicas
        self.binaries = binaries.resolve()
        self.limit = limit
        self.more = list(volume)
        self.groups = []

    def spawn(self, name, *command):
        if name.startswith("volume"):
            command = (*command, *self.more)
        if self.limit:
            group = CGROUP / f"barge-strain-{os.getpid()}-{name}"
            group.mkdir(exist_ok=True)
            (group / "memory.limit_in_bytes").write_text(str(self.limit))
            self.groups.append(group)
            command = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *command)
        super().spawn(name, *command)

    def __enter__(self):
        self.folder.mkdir(parents=True)
        self.start(argparse.Namespace(binaries=self.binaries))
        return self

    def __exit__(self, kind, *_):
        self.stop()
        if kind and issubclass(kind, Exception):
            print(self.logs(), file=sys.stderr)
        for group in self.groups:
            with contextlib.suppress(OSError):
                group.rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)

    def volume_url(self):
        return f"http://127.0.0.1:{self.volume[self.volume.index('--port') + 1]}"

    def metric(self, name):
        for line in fetch(f"{self.volume_url()}/_/metrics").decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        raise Failure(f"no metric {name}")

    def bench(self, *arguments):
        command = [self.binaries / "barge", "--json", "--url", self.url, "bench", "--op-timeout", "600s", *arguments]
        run = subprocess.run([str(c) for c in command], capture_output=True, text=True, preexec_fn=die_with_parent)
        if run.returncode != 0:
            raise Failure(f"{run.stdout}{run.stderr}\n{self.logs()}")
        return json.loads(run.stdout)


def latencies(report):
    lines = report["series"].values()
    return ", ".join(f"p50 {line['p50_ms']:.1f} ms, p99 {line['p99_ms']:.1f} ms" for line in lines)


# ---------------------------------------------------------------- streams through the master


class Pattern:
    """Bytes that are cheap to generate and to check: a repeated block of noise, each marked with its position."""

    def __init__(self, seed):
        self.noise = bytearray(hashlib.shake_128(str(seed).encode()).digest(PIECE))

    def piece(self, number):
        self.noise[:8] = number.to_bytes(8, "little")
        return self.noise


def request(url, head):
    parts = urllib.parse.urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port))
    connection.sendall(head.encode())
    return connection


def read_head(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        try:
            more = connection.recv(4096)
        except ConnectionResetError:
            more = b""
        if not more:
            raise Failure(f"the connection ended in {head!r}")
        head += more
    head, _, rest = head.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), rest


def upload(url, key, size, seed):
    head = f"PUT /{key} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
    pattern = Pattern(seed)
    with request(url, head) as connection:
        # A server that refuses sends the reason and then stops reading.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for number in range(size // PIECE):
                connection.sendall(pattern.piece(number))
        status, said = read_head(connection)
    if status not in (200, 201):
        raise Failure(f"an upload of {key} ended with {status}: {said[:400]!r}")


def download(url, key, size, seed):
    head = f"GET /{key}?stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    pattern = Pattern(seed)
    got = memoryview(bytearray(PIECE))
    with request(url, head) as connection:
        status, rest = read_head(connection)
        if status != 200:
            raise Failure(f"a download ended with {status}")
        got[: len(rest)] = rest
        have = len(rest)
        for number in range(size // PIECE):
            while have < PIECE:
                n = connection.recv_into(got[have:])
                if n == 0:
                    raise Failure("a download was cut")
                have += n
            if got != pattern.piece(number):
                raise Failure(f"a download differs from what was stored, in piece {number}")
            have = 0


def at_once(jobs):
    """Runs all jobs at once, each on a thread; returns the seconds they took. The first failure is raised."""
    failures = []

    def run(job):
        try:
            job()
        except Exception as failure:
            failures.append(failure)

    begun = time.monotonic()
    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    if failures:
        raise Failure(f"{len(failures)} of {len(jobs)} failed: " + "; ".join(sorted({repr(failure) for failure in failures})))
    return time.monotonic() - begun


def memory(args):
    """64 uploads of 256 MiB and 64 downloads of 1 GiB at once, through the streaming master."""
    print("**A memory limit.** 64 uploads of 256 MiB and 64 downloads of 1 GiB (8 values) at once, all through the streaming master;")
    print("every byte compared with what was stored.")
    for limit in (128 * MIB, None):
        with Strained(args.data / "server", args.binaries, limit) as server:
            for n in range(8):
                upload(server.url, f"large/{n}", args.scale * GIB // 1, n)
            uploads = [lambda n=n: upload(server.url, f"up/{n}", args.scale * GIB // 4, n) for n in range(64)]
            downloads = [lambda n=n: download(server.url, f"large/{n % 8}", args.scale * GIB, n % 8) for n in range(64)]
            with Watch(server.pids()) as watch:
                took = at_once(uploads + downloads)
            moved = 64 * args.scale * GIB * 1.25 / 1e9
            where = "no limit" if limit is None else f"{limit // MIB} MiB for each of master and volume"
            peaks = [(g / "memory.max_usage_in_bytes").read_text().strip() for g in server.groups]
            kills = [(g / "memory.oom_control").read_text().split()[-1] for g in server.groups]
            print(f"{where}: {took:.0f} s, {moved / took * 1000:.0f} MB/s, peak anonymous memory {watch.largest / 1024:.0f} MiB")
            print(f"(largest process), {watch.sum / 1024:.0f} MiB (both); {watch.cpu / moved:.2f} CPU s/GB; peaks {peaks}; killed {kills}", flush=True)


# ---------------------------------------------------------------- slow clients


def location(url, path, head):
    """Returns the target of a redirect."""
    with request(url, f"{head}\r\n") as connection:
        got = b""
        while b"\r\n\r\n" not in got:
            got += connection.recv(65536)
    for line in got.split(b"\r\n"):
        if line.lower().startswith(b"location:"):
            return line.split(b":", 1)[1].strip().decode()
    raise Failure(f"no redirect: {got!r}")


class SlowClients:
    """Half of them send, half of them read, one kilobyte each second; a quarter of each through the master."""

    def __init__(self, server, count):
        self.ended = threading.Event()
        self.sockets = []
        for n in range(count):
            streamed = n % 4 == 0
            self.sockets.append(self.sender(server, n, streamed) if n % 2 else self.reader(server, streamed))
        self.moved = 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def sender(self, server, n, streamed):
        head = f"PUT /slow/{n}?redirect&length={MIB} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n"
        url = f"{server.url}/slow/{n}" if streamed else location(server.url, "", head)
        parts = urllib.parse.urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        return "send", request(url, f"PUT {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MIB}\r\n\r\n")

    def reader(self, server, streamed):
        head = "GET /warm HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        url = f"{server.url}/warm?stream" if streamed else location(server.url, "", head)
        parts = urllib.parse.urlsplit(url)
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((parts.hostname, parts.port))
        connection.sendall(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return "read", connection

    def run(self):
        while not self.ended.wait(1):
            for kind, connection in self.sockets:
                connection.setblocking(False)
                try:
                    self.moved += connection.send(bytes(1024)) if kind == "send" else len(connection.recv(1024))
                except BlockingIOError:
                    pass

    def stop(self):
        self.ended.set()
        self.thread.join()
        for _, connection in self.sockets:
            connection.close()


def slow(args):
    """500 connections at one kilobyte a second beside normal traffic."""
    print("**Slow clients.** 500 connections that send or read 1 KB/s; normal traffic: 8 at once, 1 MiB and 16 MiB, for 15 s.")
    with Strained(args.data / "server", args.binaries) as server:
        upload(server.url, "warm", 64 * MIB, 1)
        traffic = [["--op", op, "--size", size, "--concurrency", "8", "--duration", "15s"] for size in ("1MiB", "16MiB") for op in ("put", "get")]
        for name, count in (("none", 0), ("500", 500), ("none again", 0)):
            clients = SlowClients(server, count) if count else None
            if clients:
                time.sleep(10)
            lines = []
            for arguments in traffic:
                report = server.bench(*arguments)
                lines.append(f"{arguments[1]} {arguments[3]}: {report['mb_per_s']:.0f} MB/s, {latencies(report)}, {report.get('errors', 0)} errors")
            lanes, writes, reads = (server.metric(m) for m in ("barge_lanes_busy", "barge_write_buffers_used", "barge_read_buffers_used"))
            print(f"slow clients {name}: lanes {lanes:.0f}, write buffers {writes:.0f}, read buffers {reads:.0f}; moved {clients.moved if clients else 0} bytes")
            print("\n".join(lines), flush=True)
            if clients:
                clients.stop()


# ---------------------------------------------------------------- scrub


def scrub(args):
    """Reads of 16 MiB beside a scrub of 20 GiB."""
    total = 20 * args.scale
    values = total * GIB // (64 * MIB)
    print(f"**Scrub.** {total} GiB in values of 64 MiB; GETs of 16 MiB (64 values, warm), 4 at once, for 20 s.")
    with Strained(args.data / "server", args.binaries, volume=["--scrub-rate", "0"]) as server:
        server.bench("--op", "put", "--size", "64MiB", "--count", values, "--keep", "--prefix", "fill-")
        server.bench("--op", "put", "--size", "16MiB", "--count", "64", "--keep", "--prefix", "hot-")
        reads = ["--op", "get", "--size", "16MiB", "--prefix", "hot-", "--keys", "64", "--no-fill", "--keep", "--concurrency", "4"]
        for name, rate in (("none", 0), ("the default rate", 32 * MIB), ("256 MiB/s", 256 * MIB), ("no limit", 1 << 40), ("none again", 0)):
            server.more = ["--scrub-rate", str(rate), "--scrub-every", "1s"]
            server.restart_volume()
            server.bench(*reads, "--count", "640")
            before, cpu, begun = server.metric("barge_scrub_verified_bytes"), cpu_seconds(server.pids()), time.monotonic()
            report = server.bench(*reads, "--duration", "20s")
            took = time.monotonic() - begun
            verified = server.metric("barge_scrub_verified_bytes") - before
            cpu = cpu_seconds(server.pids()) - cpu
            print(f"scrub {name}: verified {verified / 1e6 / took:.0f} MB/s; GET {report['mb_per_s']:.0f} MB/s, {latencies(report)}; server CPU {cpu / took:.2f} s/s", flush=True)
        # All records are due for scrubbing.
        server.more = ["--scrub-rate", str(1 << 40), "--scrub-every", "1s"]
        server.restart_volume()
        begun, cpu = time.monotonic(), cpu_seconds(server.pids())
        while (after := server.metric("barge_scrub_verified_bytes")) < total * GIB:
            time.sleep(0.1)
        took = time.monotonic() - begun
        cpu = cpu_seconds(server.pids()) - cpu
        print(f"alone, no limit: {total} GiB in {took:.1f} s, {after / 1e6 / took:.0f} MB/s, {cpu / (after / 1e9):.2f} CPU s/GB", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="+", choices=["memory", "slow", "scrub"])
    parser.add_argument("--binaries", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("target/bench-data"))
    parser.add_argument("--scale", type=int, default=1)
    args = parser.parse_args()
    args.data = args.data.resolve() / "barge-strain"
    shutil.rmtree(args.data, ignore_errors=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for what in args.what:
        {"memory": memory, "slow": slow, "scrub": scrub}[what](args)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"strain: {failure}")
