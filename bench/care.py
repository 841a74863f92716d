#!/usr/bin/env python3
"""How fast copies are made and moved, as a share of what the disk gives to dd in the same run, and what clients notice of it.

  bench/care.py [--gib 8] [--size 16MiB] [--data target/bench-data/care]

Six volumes on one disk, two copies of each value. Each of the phases runs unthrottled and at the rate that is the default:
 repair     a volume is killed; from the moment in which its copies count no more until nothing is owed;
 rebalance  two empty volumes come; from the start until all are equally full.
Meanwhile four clients read. All servers and clients share the machine: each byte of a copy is read and written on the same disk. The table goes to
standard output.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import threading
import time
import urllib.request

BINARIES = pathlib.Path(__file__).resolve().parent.parent / "target" / "release"
REPAIR_AFTER = 6


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def dd(folder, write):
    """MB/s of one GiB past the page cache, the median of three."""
    path, speeds = folder / "dd", []
    for _ in range(3):
        if write:
            command = ["dd", "if=/dev/zero", f"of={path}", "bs=1M", "count=1024", "oflag=direct", "conv=fdatasync"]
        else:
            command = ["dd", f"if={path}", "of=/dev/null", "bs=1M", "iflag=direct"]
        began = time.monotonic()
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        speeds.append(1024 * 1.048576 / (time.monotonic() - began))
    return statistics.median(speeds)


class Cluster:
    def __init__(self, folder, rate):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder, self.rate, self.volumes = folder, rate, []
        self.secret = folder / "secret"
        self.secret.write_text(os.urandom(32).hex())
        self.secret.chmod(0o600)
        self.url = f"http://127.0.0.1:{port()}"
        self.master = self.start("master", "master", [
            "--port", self.url.rsplit(":", 1)[1], "--replicas", "2", "--repair-after", f"{REPAIR_AFTER}s",
            "--repair-rate", str(rate)])
        for _ in range(6):
            self.add()
        self.until(lambda s: sum(v["state"] == "up" for v in s["volumes"]) == 6, 60)

    def start(self, name, program, args):
        log = (self.folder / f"{name}.log").open("ab")
        command = [str(BINARIES / program), *args, "--secret-file", str(self.secret), str(self.folder / name)]
        return subprocess.Popen(command, stdout=log, stderr=log)

    def add(self):
        name = f"volume{len(self.volumes) + 1}"
        args = ["--port", str(port()), "--master", self.url, "--capacity", str(64 << 30), "--scrub-rate", "0"]
        self.volumes.append(self.start(name, "volume", args))

    def status(self):
        with urllib.request.urlopen(f"{self.url}/_/status", timeout=10) as answer:
            return json.load(answer)

    def until(self, holds, within):
        began = time.monotonic()
        while time.monotonic() - began < within:
            try:
                status = self.status()
                if holds(status):
                    return status
            except OSError:
                pass
            time.sleep(0.1)
        raise SystemExit(f"waited {within} s in vain, see {self.folder}")

    def barge(self, *args):
        command = [str(BINARIES / "barge"), "--json", "--url", self.url, *args]
        # Reads that meet a volume which has just died fail, and are counted: that is no end of the measurement.
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
        if not ran.stdout.strip():
            raise SystemExit(f"{' '.join(command)}: {ran.stderr}")
        return json.loads(ran.stdout.splitlines()[-1])

    def signed(self, *args):
        return self.barge(*args, "--secret-file", str(self.secret))

    def end(self):
        for server in [self.master, *self.volumes]:
            server.kill()
            server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Reads(threading.Thread):
    """GETs until it is told to end; how long each took."""

    def __init__(self, cluster, size, keys, seconds):
        super().__init__()
        self.args = ["bench", "--op", "get", "--size", size, "--keys", str(keys), "--concurrency", "4", "--no-fill", "--keep",
                     "--duration", f"{seconds}s"]
        self.cluster, self.found = cluster, None

    def run(self):
        self.found = self.cluster.barge(*self.args)


def p99(found):
    return next(iter(found["series"].values()))["p99_ms"]


def beside_reads(cluster, size, keys, work):
    """Runs `work` while clients read for as long as it takes; bytes, seconds and the reads' p99s."""
    stop, found = threading.Event(), []

    def read():
        while not stop.is_set():
            reads = Reads(cluster, size, keys, 3)
            reads.run()
            found.append(p99(reads.found))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        copied, seconds = work()
    finally:
        stop.set()
        reader.join()
    return copied, seconds, statistics.median(found)


def repair(cluster):
    before = cluster.status()["repair"]["copied_bytes"]
    cluster.volumes[0].kill()
    cluster.volumes[0].wait()
    cluster.until(lambda s: s["repair"]["owed_blobs"] > 0, 60)
    began = time.monotonic()
    after = cluster.until(lambda s: s["repair"]["owed_blobs"] == 0 and s["repair"]["copied_bytes"] > before, 1800)
    return after["repair"]["copied_bytes"] - before, time.monotonic() - began


def rebalance(cluster):
    before = cluster.status()["repair"]["copied_bytes"]
    cluster.add()
    cluster.add()
    cluster.until(lambda s: sum(v["state"] == "up" for v in s["volumes"]) == 7, 60)
    time.sleep(2)
    cluster.signed("cluster", "rebalance", "start")
    began = time.monotonic()
    after = cluster.until(lambda s: s["rebalance"] is None, 1800)
    # Its last pass finds nothing more to move, and has waited for the volumes' reports.
    return after["repair"]["copied_bytes"] - before, max(time.monotonic() - began - 6, 0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=int, default=8)
    parser.add_argument("--size", default="16MiB")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("target/bench-data/care"))
    args = parser.parse_args()
    args.data.mkdir(parents=True, exist_ok=True)
    keys = args.gib * 1024 // int(args.size.removesuffix("MiB"))
    print("| phase | rate set | bytes | seconds | MB/s | dd write MB/s | share | GET p99 ms before | during |")
    print("|---|---|---|---|---|---|---|---|---|")
    for rate in (0, 128 << 20):
        cluster = Cluster(args.data / "cluster", rate)
        try:
            cluster.barge("bench", "--op", "put", "--size", args.size, "--count", str(keys), "--keys", str(keys), "--keep",
                          "--concurrency", "4", "--duration", "600s")
            for name, phase in (("repair", repair), ("rebalance", rebalance)):
                written = dd(args.data, True)
                quiet = []
                for _ in range(3):
                    reads = Reads(cluster, args.size, keys, 3)
                    reads.run()
                    quiet.append(p99(reads.found))
                copied, seconds, busy = beside_reads(cluster, args.size, keys, lambda p=phase: p(cluster))
                speed = copied / 1e6 / seconds
                limit = f"{rate >> 20} MiB/s a volume" if rate else "none"
                print(f"| {name} | {limit} | {copied / 1e9:.2f} GB | {seconds:.1f} | {speed:.0f} | {written:.0f} | "
                      f"{speed / written:.2f} | {statistics.median(quiet):.0f} | {busy:.0f} |", flush=True)
        finally:
            cluster.end()


main()
