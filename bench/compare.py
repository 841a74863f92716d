"""Compares Barge with nginx, SeaweedFS and the raw disk in turns, or three S3 servers; run by compare.sh.

A cell is one size at one concurrency. In each round of a cell every contender starts with an empty directory
and a fresh process, gets PUTs, then GETs with a warm page cache, and is removed; Barge also gets GETs with an
empty page cache, and then with --reads zero-copy. The disk is synced
between contenders, so that none pays for another's dirty pages. The result is the median over the rounds;
a ratio is the median of the ratios within each round.
"""

import argparse
import contextlib
import ctypes
import datetime
import json
import math
import os
import pathlib
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

MIB = 1 << 20
GIB = 1 << 30
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
START_DEADLINE_SECONDS = 30
SAMPLE_SECONDS = 0.05
PUT_BYTES = GIB
GET_BYTES = 4 * GIB
# For S3 servers: the slowest of them would take most of the hour.
S3_GET_BYTES = 2 * GIB
S3_VALUES_MAX = 256
# Bytes one contender may write in one cell: with its warm pages they must fit into memory and onto the disk.
CELL_BYTES_MAX = 12 * GIB
RESULTS = pathlib.Path("bench/results.md")
HEADER = """# Results

Written by `bench/compare.sh`, which says how it measures; the newest run comes first. MB is 10^6 bytes, MiB is 2^20.
"""


class Failure(Exception):
    """The benchmark cannot continue."""


def parse_size(text):
    for unit, factor in {"KiB": 1024, "MiB": MIB, "GiB": GIB}.items():
        if text.endswith(unit):
            return int(text.removesuffix(unit)) * factor
    return int(text)


def size_name(size):
    return f"{size // GIB} GiB" if size % GIB == 0 else f"{size // MIB} MiB"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def die_with_parent():
    """Runs in a server before it starts: it ends when this program does, however this program ends."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


# ---------------------------------------------------------------- processes


def descendants(pid):
    """A process and its children (nginx has workers)."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as f:
                for child in f.read().split():
                    found += descendants(int(child))
    return found


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as f:
            # After the name, which may hold anything: state is field 3, utime and stime are 14 and 15.
            fields = f.read().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / CLOCK_TICKS


def anonymous_kib(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/status") as f:
            for line in f:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1])
    return 0


class Watch:
    """The cost of server processes while it is open: CPU time, and the peak of anonymous memory."""

    def __init__(self, pids):
        self.pids = pids
        self.largest = self.sum = 0
        self.ended = threading.Event()

    def __enter__(self):
        self.cpu = cpu_seconds(self.pids)
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.cpu = cpu_seconds(self.pids) - self.cpu

    def sample(self):
        more = True
        while more:
            more = not self.ended.wait(SAMPLE_SECONDS)
            sizes = [anonymous_kib(pid) for pid in self.pids]
            self.largest = max(self.largest, *sizes)
            self.sum = max(self.sum, sum(sizes))


class Server:
    """A contender: its processes, and the URL where it takes PUT and GET."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []
        self.url = ""

    def spawn(self, name, *command):
        log = open(self.folder / f"{name}.log", "wb")
        process = subprocess.Popen(
            [str(c) for c in command],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
            # The terminal's ctrl-C is for this program, which then stops the servers.
            start_new_session=True,
        )
        log.close()
        self.processes.append(process)

    def pids(self):
        return [pid for process in self.processes for pid in descendants(process.pid)]

    def wait(self, ready):
        deadline = time.monotonic() + START_DEADLINE_SECONDS
        while not ready():
            ended = [p for p in self.processes if p.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise Failure(f"a server did not start:\n{self.logs()}")
            time.sleep(0.02)

    def logs(self):
        tails = []
        for path in sorted(self.folder.glob("*.log")):
            tails.append(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}")
        return "\n".join(tails)

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def fetch(url):
    """Returns the body of an answer, or None."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        return b"" if error.code < 500 else None
    except OSError:
        return None


NGINX_CONF = """
daemon off;
{user}
worker_processes auto;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  client_max_body_size 0;
  client_body_temp_path {folder}/incoming;
  proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    root {folder}/data;
    location / {{ dav_methods PUT DELETE; create_full_put_path on; }}
  }}
}}
"""


class Nginx(Server):
    """Plain files."""

    name = "nginx"
    replicas = 1
    plain = True
    prefix = None
    size_max = math.inf

    def start(self, args):
        (self.folder / "data").mkdir()
        port = free_port()
        user = "user root;" if os.geteuid() == 0 else ""
        conf = self.folder / "nginx.conf"
        conf.write_text(NGINX_CONF.format(folder=self.folder, port=port, user=user))
        self.spawn("nginx", args.nginx, "-e", self.folder / "error.log", "-c", conf)
        self.url = f"http://127.0.0.1:{port}"
        self.wait(lambda: fetch(self.url) is not None)


class Seaweed(Server):
    """SeaweedFS's volume server, accessed directly, as its clients do once its master has told them the address."""

    name = "seaweedfs"
    replicas = 1
    plain = True
    # By default its volume server takes no larger piece, and it keeps each in memory.
    size_max = 256 * MIB - 1

    def start(self, args):
        (self.folder / "data").mkdir()
        master, volume = free_port(), free_port()
        where = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self.folder}/data"]
        ports = [f"-master.port={master}", f"-volume.port={volume}", "-volume.max=8"]
        # gRPC ports are these plus 10000 by default.
        ports += [f"-master.port.grpc={free_port()}", f"-volume.port.grpc={free_port()}"]
        self.spawn("weed", args.weed, "server", *where, *ports, "-filer=false", "-s3=false")
        assign = f"http://127.0.0.1:{master}/dir/assign"
        self.wait(lambda: b"fid" in (fetch(assign) or b""))
        number = json.loads(fetch(assign))["fid"].partition(",")[0]
        self.url = f"http://127.0.0.1:{volume}"
        # A file id, with "_1", "_2" … for those that follow it.
        self.prefix = f"{number},0101637037d6_"


class Barge(Server):
    """A master and one volume per replica."""

    plain = False
    prefix = None
    size_max = math.inf

    def start(self, args):
        binaries = args.binaries.resolve()
        master_port = free_port()
        self.url = f"http://127.0.0.1:{master_port}"
        secret = ["--secret-file", self.folder / "secret"]
        replicas = ["--replicas", self.replicas, "--min-replicas", self.replicas]
        more = [*replicas, *getattr(self, "s3", []), "--port", master_port]
        self.spawn("master", binaries / "master", *secret, *more, self.folder / "master")
        self.wait(lambda: (self.folder / "secret").exists())
        for n in range(1, self.replicas + 1):
            port = free_port()
            where = ["--port", port, "--master", self.url]
            self.volume = [f"volume{n}", binaries / "volume", *secret, *where, self.folder / f"volume{n}"]
            self.spawn(*self.volume)
        # 200 once --min-replicas volumes take writes: all of them.
        self.wait(lambda: fetch(f"{self.url}/_/health") is not None)


    def restart_volume(self, *more):
        """Restarts the last volume with more arguments."""
        process = self.processes.pop()
        process.terminate()
        process.wait(timeout=20)
        self.spawn(*self.volume, *more)
        port = self.volume[self.volume.index("--port") + 1]
        self.wait(lambda: fetch(f"http://127.0.0.1:{port}/_/health") is not None)


class BargeOne(Barge):
    name = "barge"
    replicas = 1


class BargeThree(Barge):
    name = "barge ×3"
    replicas = 3


CONTENDERS = [Nginx, Seaweed, BargeOne, BargeThree]

# ---------------------------------------------------------------- S3 servers: without keys they accept plain requests

BUCKET = "bench"


def make_bucket(url):
    """Creates the bucket; returns whether it exists."""
    request = urllib.request.Request(f"{url}/{BUCKET}", method="PUT", data=b"")
    try:
        with urllib.request.urlopen(request, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code == 409
    except OSError:
        return False


class S3Face:
    """The common part of the S3 servers."""

    replicas = 1
    plain = True
    prefix = None
    size_max = math.inf


class BargeS3(S3Face, Barge):
    """A master that serves S3, and one volume."""

    name = "barge"
    more = []

    def start(self, args):
        port = free_port()
        self.s3 = ["--s3-listen", f"127.0.0.1:{port}", *self.more]
        super().start(args)
        self.url = f"http://127.0.0.1:{port}"
        self.wait(lambda: make_bucket(self.url))
        self.url += f"/{BUCKET}"


class BargeBlake3(BargeS3):
    """The same, with entity tags that cost nothing."""

    name = "barge, BLAKE3 tags"
    more = ["--s3-etag", "blake3"]


class BargeRedirected(BargeOne):
    """The native API: the reference for streaming through the master."""

    name = "redirected"


class SeaweedS3(S3Face, Server):
    """SeaweedFS's S3 API, with its filer, master and volume server in one process."""

    name = "seaweedfs"

    def start(self, args):
        (self.folder / "data").mkdir()
        master, volume, filer, s3 = (free_port() for _ in range(4))
        where = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self.folder}/data", "-master.telemetry=false"]
        ports = [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}"]
        ports += [f"-{server}.port.grpc={free_port()}" for server in ("master", "volume", "filer", "s3")]
        self.spawn("weed", args.weed, "server", *where, *ports, "-volume.max=64", "-filer", "-s3")
        url = f"http://127.0.0.1:{s3}"
        self.wait(lambda: fetch(url) is not None and make_bucket(url))
        self.url = f"{url}/{BUCKET}"


class S3sFs(S3Face, Server):
    """s3s-fs: files, served with the library that Barge uses."""

    name = "s3s-fs"

    def start(self, args):
        data = self.folder / "data"
        data.mkdir()
        port = free_port()
        self.spawn("s3s-fs", args.s3s_fs, "--host", "127.0.0.1", "--port", port, data)
        url = f"http://127.0.0.1:{port}"
        self.wait(lambda: make_bucket(url))
        self.url = f"{url}/{BUCKET}"


S3_CONTENDERS = [SeaweedS3, S3sFs, BargeS3, BargeBlake3, BargeRedirected]

# ---------------------------------------------------------------- one cell


class Cell:
    """A size at a concurrency, and its results: figures[operation][contender] is a list, one entry per round."""

    def __init__(self, size, concurrency, s3):
        self.size = size
        self.concurrency = concurrency
        self.values = max(concurrency, math.ceil(PUT_BYTES / size), 2)
        self.reads = max(concurrency, math.ceil((S3_GET_BYTES if s3 else GET_BYTES) / size))
        if s3:
            most = max(concurrency, S3_VALUES_MAX)
            self.values, self.reads = min(self.values, most), min(self.reads, 2 * most)
        self.figures = {"put": {}, "get": {}, "cold": {}}

    def fits(self, contender):
        fits = self.values * self.size * contender.replicas <= CELL_BYTES_MAX
        return fits and self.size <= contender.size_max

    def record(self, operation, contender, figures):
        self.figures[operation].setdefault(contender, []).append(figures)


def bench(args, server, cell, operation, *more):
    """Runs the load; returns its report."""
    command = [args.binaries / "barge", "--json", "--url", server.url, "bench", "--op", operation]
    command += ["--size", cell.size, "--concurrency", cell.concurrency, "--keep", "--op-timeout", "600s", *more]
    command += ["--plain"] if server.plain else []
    command += ["--prefix", server.prefix] if server.prefix else []
    run = subprocess.run([str(c) for c in command], capture_output=True, text=True, preexec_fn=die_with_parent)
    if run.returncode != 0:
        said = f"{run.stdout}{run.stderr}"
        raise Failure(f"the load on {server.name} failed ({run.returncode}):\n{said}\n{server.logs()}")
    return json.loads(run.stdout)


def measured(args, server, cell, operation, *more):
    with Watch(server.pids()) as watch:
        report = bench(args, server, cell, operation, *more)
    gigabytes = report["ops"] * cell.size / 1e9
    return {
        "mb_per_s": report["mb_per_s"],
        "seconds": report["seconds"],
        "cpu_per_gb": watch.cpu / gigabytes,
        "largest_mib": watch.largest / 1024,
        "sum_mib": watch.sum / 1024,
    }


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def forget(folder):
    """Drops every file from the page cache."""
    os.sync()
    for path in files(folder):
        with open(path, "rb") as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm(folder):
    """Reads every file, so that the disk is not what is measured afterwards. Cached pages are dropped first:
    pages that were written one by one are served more slowly than those that were read in."""
    forget(folder)
    buffer = bytearray(4 * MIB)
    for path in files(folder):
        with open(path, "rb", buffering=0) as f:
            while f.readinto(buffer):
                pass


def get_warm(args, server, cell, name):
    keys = ["--no-fill", "--keys", cell.values]
    bench(args, server, cell, "get", *keys, "--count", max(cell.concurrency, cell.reads // 8))
    cell.record("get", name, measured(args, server, cell, "get", *keys, "--count", cell.reads))


def get_cold(args, server, cell):
    """Each value once, from the disk; and dd for the same bytes from a file of their own."""
    forget(server.folder)
    once = ["--no-fill", "--keys", cell.values, "--count", cell.values]
    cell.record("cold", server.name, measured(args, server, cell, "get", *once))


def round_of(args, cell, contender):
    """All measurements of one contender in one round."""
    folder = args.data / "server"
    folder.mkdir(parents=True)
    server = contender(folder)
    try:
        server.start(args)
        put = measured(args, server, cell, "put", "--count", cell.values)
        begun = time.monotonic()
        os.sync()
        synced = put["seconds"] + time.monotonic() - begun
        cell.record("put", server.name, put)
        if contender is Nginx:
            synced = {"mb_per_s": cell.values * cell.size / 1e6 / synced}
            cell.record("put", "nginx, then sync", synced)
        if contender is BargeOne:
            get_cold(args, server, cell)
        warm(folder)
        get_warm(args, server, cell, server.name)
        if contender is BargeOne:
            server.restart_volume("--reads", "zero-copy")
            get_warm(args, server, cell, "zero-copy")
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
        os.sync()


def dd(*operands):
    return [f"dd {' '.join(str(o) for o in operands)} status=none"]


def run_all(commands, at_once):
    """Runs shell commands with this concurrency; returns how long it took."""
    begun = time.monotonic()
    feed = "\n".join(commands).encode()
    subprocess.run(["xargs", "-d", "\n", "-P", str(at_once), "-I", "{}", "sh", "-c", "{}"], input=feed, check=True)
    return time.monotonic() - begun


def raw_disk(args, cell):
    """dd: one file, synced at its end; one file per value, each synced, with this concurrency; and from the disk."""
    folder = args.data / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    mib = max(PUT_BYTES, cell.size) // MIB
    block = min(cell.size, 4 * MIB) // MIB
    size = [f"bs={block}M"]
    written = dd("if=/dev/zero", f"of={folder}/one", *size, f"count={mib // block}", "conv=fdatasync")
    cell.record("put", "dd", {"mb_per_s": mib * MIB / 1e6 / run_all(written, 1)})
    read = dd(f"if={folder}/one", "of=/dev/null", *size, "iflag=direct")
    cell.record("cold", "dd", {"mb_per_s": mib * MIB / 1e6 / run_all(read, 1)})
    each = []
    for n in range(cell.values):
        each += dd("if=/dev/zero", f"of={folder}/{n}", *size, f"count={cell.size // MIB // block}", "conv=fdatasync")
    took = run_all(each, cell.concurrency)
    cell.record("put", "dd, each", {"mb_per_s": cell.values * cell.size / 1e6 / took})
    shutil.rmtree(folder)
    os.sync()


# ---------------------------------------------------------------- the table


def median(figures, name):
    values = [f[name] for f in figures if name in f]
    return statistics.median(values) if values else None


def ratio(cell, operation, contender, beside, what="mb_per_s"):
    pairs = zip(cell.figures[operation].get(contender, []), cell.figures[operation].get(beside, []))
    ratios = [a[what] / b[what] for a, b in pairs if b.get(what)]
    if not ratios:
        return "–"
    text = f"{statistics.median(ratios):.2f}"
    return text if len(ratios) == 1 else f"{text} ({min(ratios):.2f}–{max(ratios):.2f})"


def entry(cell, operation, contender):
    figures = cell.figures[operation].get(contender, [])
    if not figures:
        return "–"
    text = f"{median(figures, 'mb_per_s'):.0f}"
    if median(figures, "cpu_per_gb") is None:
        return text
    text += f" · {median(figures, 'cpu_per_gb'):.2f} · {median(figures, 'largest_mib'):.0f}"
    whole, largest = median(figures, "sum_mib"), median(figures, "largest_mib")
    return text if round(whole) == round(largest) else f"{text}/{whole:.0f}"


def rows(heads, cells, operation, columns):
    lines = [f"| {' | '.join(['', *heads])} |", f"|{'---|' * (len(heads) + 1)}"]
    for cell in cells:
        row = [f"{operation.upper()} {size_name(cell.size)}, {cell.concurrency} at once"]
        lines.append(f"| {' | '.join(row + [column(cell) for column in columns])} |")
    return "\n".join(lines)


def shown(operation, contender):
    return lambda cell: entry(cell, operation, contender)


def beside(operation, contender, other, what="mb_per_s"):
    return lambda cell: ratio(cell, operation, contender, other, what)


def tables(cells):
    put_heads = ["dd", "dd, each", "nginx", "nginx, then sync", "seaweedfs", "barge", "to nginx", "its CPU to nginx's"]
    put_heads += ["to nginx + sync", "to seaweedfs", "to dd", "to dd, each", "barge ×3", "to nginx"]
    put = [shown("put", name) for name in ("dd", "dd, each", "nginx", "nginx, then sync", "seaweedfs", "barge")]
    put += [beside("put", "barge", "nginx"), beside("put", "barge", "nginx", "cpu_per_gb")]
    put += [beside("put", "barge", name) for name in ("nginx, then sync", "seaweedfs", "dd", "dd, each")]
    put += [shown("put", "barge ×3"), beside("put", "barge ×3", "nginx")]
    get_heads = ["nginx", "seaweedfs", "barge", "to nginx", "its CPU to nginx's", "to seaweedfs"]
    get_heads += ["zero-copy", "to nginx", "its CPU to nginx's", "barge ×3", "to nginx"]
    get = [shown("get", name) for name in ("nginx", "seaweedfs", "barge")]
    get += [beside("get", "barge", "nginx"), beside("get", "barge", "nginx", "cpu_per_gb")]
    get += [beside("get", "barge", "seaweedfs"), shown("get", "zero-copy")]
    get += [beside("get", "zero-copy", "nginx"), beside("get", "zero-copy", "nginx", "cpu_per_gb")]
    get += [shown("get", "barge ×3"), beside("get", "barge ×3", "nginx")]
    cold = [shown("cold", "dd"), shown("cold", "barge"), beside("cold", "barge", "dd")]
    return "\n\n".join(
        [
            rows(put_heads, cells, "put", put),
            rows(get_heads, cells, "get", get),
            rows(["dd iflag=direct", "barge", "to dd"], cells, "cold", cold).replace("| COLD ", "| cold GET "),
        ]
    )


def s3_tables(cells):
    names = ["seaweedfs", "s3s-fs", "barge", "barge, BLAKE3 tags", "redirected"]
    parts = []
    for operation in ("put", "get"):
        heads = [*names[:3], "to seaweedfs", "to s3s-fs", *names[3:], "CPU to redirected", "with BLAKE3 tags"]
        columns = [shown(operation, name) for name in names[:3]]
        columns += [beside(operation, "barge", name) for name in names[:2]]
        columns += [shown(operation, name) for name in names[3:]]
        columns += [beside(operation, name, "redirected", "cpu_per_gb") for name in names[2:4]]
        parts.append(rows(heads, cells, operation, columns))
    return "\n\n".join(parts)


def describe_s3(args, cells, seconds):
    version = output_of("git", "describe", "--always", "--dirty")
    barge = output_of(args.binaries / "master", "--version")
    weed = "SeaweedFS " + output_of(args.weed, "version").partition("\n")[0].partition("GB ")[2].partition(" ")[0]
    today = datetime.date.today().isoformat()
    return f"""## S3, {today}, Barge {barge.rpartition(" ")[2]} at {version}

{machine(args.data)}; {weed}; s3s-fs {args.s3s_fs_version}; {args.rounds} rounds in {seconds / 60:.0f} minutes. Loopback; servers, load program and disk share the
machine. Requests are not signed: none of the three has keys.

`MB/s · server CPU s per GB · peak anonymous memory in MiB, largest process/all of them`, each the median; a ratio is the median of the ratios within each round
(least–greatest). *barge*: a master and one volume, one replica, PUT synced when it is answered; *seaweedfs* and *s3s-fs* sync nothing. *redirected*: the native API, where the
bytes do not go through the master. GET with a warm page cache. PUT: 1 GiB and at most {S3_VALUES_MAX} values, GET: twice that.

{s3_tables(cells)}
"""


def output_of(*command):
    run = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    return (run.stdout + run.stderr).strip()


def machine(data):
    with open("/proc/meminfo") as f:
        gib = int(f.readline().split()[1]) / MIB
    with open("/proc/cpuinfo") as f:
        model = next((line.partition(":")[2].strip() for line in f if line.startswith("model name")), "?")
    filesystem = output_of("stat", "--file-system", "--format=%T", data)
    kind = output_of("findmnt", "--noheadings", "--output", "FSTYPE", "--target", data) or filesystem
    return f"{os.cpu_count()} cores ({model}), {gib:.0f} GiB, Linux {platform.release()}, {kind}"


def describe(args, cells, seconds):
    version = output_of("git", "describe", "--always", "--dirty")
    barge = output_of(args.binaries / "master", "--version")
    nginx = output_of(args.nginx, "-v").rpartition(" ")[2]
    weed = "SeaweedFS " + output_of(args.weed, "version").partition("\n")[0].partition("GB ")[2].partition(" ")[0]
    today = datetime.date.today().isoformat()
    return f"""## {today}, Barge {barge.rpartition(" ")[2]} at {version}

{machine(args.data)}; {nginx}; {weed}; {args.rounds} rounds in {seconds / 60:.0f} minutes. Loopback; servers, load program and disk share the machine.

`MB/s · server CPU s per GB · peak anonymous memory in MiB, largest process/all of them`, each the median; a ratio is
the median of the ratios within each round (least–greatest). PUT with Barge is synced when it is answered; with nginx it is
not, and what the kernel writes later is not in its CPU time: *nginx, then sync* adds the sync to the time. *dd*: `conv=fdatasync`, one file
of at least 1 GiB; *dd, each*: one dd and one file a value, each synced, as many at once as there are uploads. *seaweedfs*: its volume server, asked directly
(it syncs nothing either). *barge*: one volume, one replica. *barge ×3*: three volumes, three replicas, all on this one disk, so it writes three times the
bytes. GET with a warm page cache, every block verified; *zero-copy*: with `--reads zero-copy`. Cold GET: each value once, from the disk.
–: not measured (it would not fit into {CELL_BYTES_MAX // GIB} GiB, or SeaweedFS's 256 MiB).

{tables(cells)}
"""


def write_results(section):
    """Puts the section first; one with the same heading is replaced."""
    heading = section.partition("\n")[0]
    text = RESULTS.read_text() if RESULTS.exists() else ""
    older = [f"## {part.strip()}\n" for part in text.split("\n## ")[1:]]
    kept = [part for part in older if part.partition("\n")[0] != heading]
    RESULTS.write_text("\n".join([HEADER, section, *kept]))


# ---------------------------------------------------------------- the run


def interrupted(*_):
    raise KeyboardInterrupt


def parse_arguments():
    quick = os.environ.get("QUICK", "0") not in ("", "0")
    default = os.environ.get
    parser = argparse.ArgumentParser()
    parser.add_argument("--nginx", default="")
    parser.add_argument("--weed", required=True)
    parser.add_argument("--binaries", type=pathlib.Path, required=True)
    parser.add_argument("--s3s-fs", default="", help="measure S3 servers, this one among them")
    parser.add_argument("--s3s-fs-version", default="")
    parser.add_argument("--rounds", type=int, default=default("ROUNDS", "1" if quick else "5"))
    parser.add_argument("--sizes", default=default("SIZES", "1MiB 16MiB" if quick else "1MiB 16MiB 256MiB 1GiB"))
    parser.add_argument("--concurrency", default=default("CONCURRENCY", "8" if quick else "1 8"))
    parser.add_argument("--data", type=pathlib.Path, default=default("DATA", "target/bench-data"))
    args = parser.parse_args()
    args.quick = quick
    # Its contents are removed, so it must be ours: a separate folder inside the given one.
    args.data = args.data.resolve() / "barge-compare"
    return args


def main():
    args = parse_arguments()
    signal.signal(signal.SIGTERM, interrupted)
    sizes = [parse_size(s) for s in args.sizes.split()]
    cells = [Cell(size, int(c), bool(args.s3s_fs)) for size in sizes for c in args.concurrency.split()]
    shutil.rmtree(args.data, ignore_errors=True)
    args.data.mkdir(parents=True)
    begun = time.monotonic()
    try:
        for number in range(1, args.rounds + 1):
            for cell in cells:
                what = f"{size_name(cell.size)}, {cell.concurrency} at once"
                print(f"[{time.monotonic() - begun:5.0f} s] round {number}: {what}", file=sys.stderr, flush=True)
                if not args.s3s_fs:
                    raw_disk(args, cell)
                for contender in filter(cell.fits, S3_CONTENDERS if args.s3s_fs else CONTENDERS):
                    round_of(args, cell, contender)
        section = (describe_s3 if args.s3s_fs else describe)(args, cells, time.monotonic() - begun)
    finally:
        shutil.rmtree(args.data, ignore_errors=True)
    print(section)
    if not args.quick:
        write_results(section)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"compare: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
