"""A cluster of processes on this machine, for benchmarks."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.request

BINARIES = pathlib.Path(__file__).resolve().parent.parent / "target" / "release"


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Cluster:
    """One master and some volumes with two replicas of each value."""

    def __init__(self, folder, volumes, *args):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder, self.volumes = folder, []
        self.secret = folder / "secret"
        self.secret.write_text(os.urandom(32).hex())
        self.secret.chmod(0o600)
        self.url = f"http://127.0.0.1:{port()}"
        self.master = self.start("master", "master", [
            "--port", self.url.rsplit(":", 1)[1], "--replicas", "2", *args])
        for _ in range(volumes):
            self.add()
        self.up(volumes)

    def start(self, name, program, args):
        log = (self.folder / f"{name}.log").open("ab")
        command = [str(BINARIES / program), *args, "--secret-file", str(self.secret), str(self.folder / name)]
        return subprocess.Popen(command, stdout=log, stderr=log)

    def add(self):
        self.volumes.append(None)
        self.again(len(self.volumes) - 1)

    def again(self, number):
        args = ["--port", str(port()), "--master", self.url, "--capacity", str(64 << 30), "--scrub-rate", "0"]
        self.volumes[number] = self.start(f"volume{number + 1}", "volume", args)

    def up(self, volumes):
        return self.until(lambda s: sum(v["state"] == "up" for v in s["volumes"]) == volumes, 60)

    def kill(self, number):
        self.volumes[number].kill()
        self.volumes[number].wait()

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
        raise SystemExit(f"nothing happened within {within} s, see {self.folder}")

    def barge(self, *args):
        command = [str(BINARIES / "barge"), "--json", "--url", self.url, *args]
        # Reads from a volume that has just died fail and are counted: the measurement continues.
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
