#!/usr/bin/env python3
"""Two builds of Barge side by side, in turns: what a change costs.

  bench/pair.py OLD NEW [--sizes 1MiB 16MiB] [--bytes 512MiB] [--rounds 5] [--data target/bench-data/pair]

OLD and NEW are folders with the binaries `master` and `volume`. In each round each build starts on empty disks, with
two volumes and two replicas, stores this many bytes in values of one size from four clients, redirected and streamed
through the master, and reads them. Prints the median of the rounds and of their ratios: above 1, NEW is faster.
"""

import argparse
import http.client
import pathlib
import statistics
import threading
import time
import urllib.parse

import cluster

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
CLIENTS = 4


def size(text):
    return int(text[:-3]) * UNITS[text[-3:]]


def call(connection, method, path, body=None):
    connection.request(method, path, body)
    answer = connection.getresponse()
    return answer.status, answer.getheader("location"), answer.read()


class Client:
    """Keeps a connection to each server."""

    def __init__(self, url):
        self.url, self.connections = url, {}

    def to(self, url):
        at = urllib.parse.urlsplit(url)
        connection = self.connections.setdefault(at.netloc, http.client.HTTPConnection(at.netloc))
        return connection, at.path + (f"?{at.query}" if at.query else "")

    @staticmethod
    def wait(connection, target, body):
        """Requests the target of an upload. Not sending the body ends the connection."""
        connection.putrequest("PUT", target)
        connection.putheader("Content-Length", str(len(body)))
        connection.putheader("Expect", "100-continue")
        connection.endheaders()
        answer = connection.getresponse()
        said = answer.status, answer.getheader("location"), answer.read()
        connection.close()
        return said

    def ask(self, method, path, body, stream):
        connection, target = self.to(f"{self.url}/{path}")
        if stream:
            status, _, answer = call(connection, method, f"{target}?stream", body)
        else:
            status, location, answer = self.wait(connection, target, body) if body else call(connection, method, target)
            if status == 307:
                connection, target = self.to(location)
                status, _, answer = call(connection, method, target, body)
        assert status in (200, 201), (method, path, status, answer[:200])
        return answer


def timed(url, keys, method, value, stream):
    """Returns the seconds for all keys, with this many clients."""
    failures = []

    def work(mine):
        client = Client(url)
        try:
            for key in mine:
                answer = client.ask(method, key, value, stream)
                assert method == "PUT" or len(answer) == length, key
        except Exception as e:  # reported below: a thread's exception is lost
            failures.append(e)

    length = len(value) if value else measured
    threads = [threading.Thread(target=work, args=(keys[n::CLIENTS],)) for n in range(CLIENTS)]
    began = time.monotonic()
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failures, failures[0]
    return time.monotonic() - began


def main():
    global measured
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs=2, type=pathlib.Path)
    parser.add_argument("--sizes", nargs="+", default=["1MiB", "16MiB"])
    parser.add_argument("--bytes", default="512MiB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("target/bench-data/pair"))
    args = parser.parse_args()
    print(f"{'size':>7} {'what':<14} {'old MB/s':>9} {'new MB/s':>9} {'ratio':>6}")
    for text in args.sizes:
        measured = size(text)
        value, keys = bytes(range(256)) * (measured // 256), [f"pair/{n}" for n in range(size(args.bytes) // measured)]
        speeds = {}
        for turn in range(args.rounds):
            for which in [0, 1] if turn % 2 == 0 else [1, 0]:
                cluster.BINARIES = args.builds[which].resolve()
                running = cluster.Cluster(args.data, 2)
                try:
                    for stream in [False, True]:
                        names = [f"{key}-{stream}" for key in keys]
                        for method in ["PUT", "GET"]:
                            took = timed(running.url, names, method, value if method == "PUT" else None, stream)
                            what = f"{method} {'streamed' if stream else 'redirected'}"
                            speeds.setdefault(what, ([], []))[which].append(measured * len(keys) / took / 1e6)
                finally:
                    running.end()
        for what, (old, new) in speeds.items():
            ratio = statistics.median(b / a for a, b in zip(old, new))
            print(f"{text:>7} {what:<14} {statistics.median(old):>9.0f} {statistics.median(new):>9.0f} {ratio:>6.2f}")


if __name__ == "__main__":
    main()
