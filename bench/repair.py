#!/usr/bin/env python3
"""Speed of repair and rebalance relative to dd on the same disk in the same run, and the effect on clients.

  bench/repair.py [--gib 8] [--size 16MiB] [--rounds 3] [--data target/bench-data/repair]

Six volumes on one disk, two replicas of each value. Each of the phases runs unthrottled and at the default rate:
 repair     a volume is killed; from the moment its replicas no longer count until the repair queue is empty;
 rebalance  two empty volumes are added; from the start until all volumes are equally full.
Meanwhile four clients read. All servers and clients share the machine: each byte of a replica is read and written on
the same disk. The table goes to standard output.
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import threading
import time

from cluster import Cluster

REPAIR_AFTER = 6


def dd(folder, write):
    """Returns MB/s for one GiB past the page cache, the median of three."""
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


class Reads(threading.Thread):
    """Sends GETs until stopped; returns how long each took."""

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
    """Runs `work` while clients read; returns bytes, seconds, and the median of the p99 of each second."""
    stop, found = threading.Event(), []

    def read():
        while not stop.is_set():
            began = time.monotonic()
            reads = Reads(cluster, size, keys, 1)
            reads.run()
            found.append((began, time.monotonic(), p99(reads.found)))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        copied, began, ended = work()
    finally:
        stop.set()
        reader.join()
    # Reads in progress while replicas were written.
    return copied, ended - began, statistics.median(p99 for first, last, p99 in found if last > began and first < ended)


def repair(cluster):
    before = cluster.status()["repair"]["replicated_bytes"]
    cluster.kill(0)
    cluster.until(lambda s: s["repair"]["queued_blobs"] > 0, 60)
    began = time.monotonic()
    after = cluster.until(lambda s: s["repair"]["queued_blobs"] == 0 and s["repair"]["replicated_bytes"] > before, 1800)
    return after["repair"]["replicated_bytes"] - before, began, time.monotonic()


def rebalance(cluster):
    before = cluster.status()["repair"]["replicated_bytes"]
    cluster.add()
    cluster.add()
    cluster.up(7)
    time.sleep(2)
    cluster.signed("cluster", "rebalance", "start")
    began = time.monotonic()
    copied, ended = before, began
    # It ends when a pass finds nothing to move, after the volumes' reports have arrived; the last replica counts.
    while (status := cluster.status())["rebalance"] is not None:
        if status["repair"]["replicated_bytes"] != copied:
            copied, ended = status["repair"]["replicated_bytes"], time.monotonic()
        time.sleep(0.05)
    return copied - before, began, ended


def measure(folder, rate, size, keys):
    """One cluster from its first value on: (phase, bytes, seconds, dd written, dd read, p99 before, p99 during)."""
    cluster, found = Cluster(folder / "cluster", 6, "--repair-after", f"{REPAIR_AFTER}s", "--repair-rate", str(rate)), []
    try:
        cluster.barge("bench", "--op", "put", "--size", size, "--count", str(keys), "--keys", str(keys), "--keep",
                      "--concurrency", "4", "--duration", "600s")
        for name, phase in (("repair", repair), ("rebalance", rebalance)):
            written, read = dd(folder, True), dd(folder, False)
            quiet = []
            for _ in range(9):
                reads = Reads(cluster, size, keys, 1)
                reads.run()
                quiet.append(p99(reads.found))
            copied, seconds, busy = beside_reads(cluster, size, keys, lambda p=phase: p(cluster))
            found.append((name, copied, seconds, written, read, statistics.median(quiet), busy))
    finally:
        cluster.end()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=int, default=8)
    parser.add_argument("--size", default="16MiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("target/bench-data/repair"))
    args = parser.parse_args()
    args.data.mkdir(parents=True, exist_ok=True)
    keys = args.gib * 1024 // int(args.size.removesuffix("MiB"))
    table = {}
    for number in range(args.rounds):
        # The disk's state after a round must not always burden the same rate.
        for rate in ((0, 128 << 20), (128 << 20, 0))[number % 2]:
            for name, *row in measure(args.data, rate, args.size, keys):
                print(f"round {number + 1}, {name}, rate {rate}: {row}", file=sys.stderr, flush=True)
                table.setdefault((rate, name), []).append(row)
    print(f"{args.rounds} rounds of {args.gib} GiB; medians, and for the share (least–greatest)\n")
    print("| phase | rate set | bytes | seconds | MB/s | dd write MB/s | share | dd read MB/s | GET p99 ms before | during |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (rate, name), rows in sorted(table.items()):
        limit = f"{rate >> 20} MiB/s a volume" if rate else "none"
        speeds = [copied / 1e6 / seconds for copied, seconds, *_ in rows]
        shares = [speed / row[2] for speed, row in zip(speeds, rows)]
        copied, seconds, written, read, quiet, busy = (statistics.median(column) for column in zip(*rows))
        print(f"| {name} | {limit} | {copied / 1e9:.2f} GB | {seconds:.1f} | {statistics.median(speeds):.0f} | {written:.0f} | "
              f"{statistics.median(shares):.2f} ({min(shares):.2f}–{max(shares):.2f}) | {read:.0f} | {quiet:.0f} | {busy:.0f} |")


main()
