"""Fixtures of every conformance test: clients, keys and a bucket of its own, all from the environment.

BARGE_S3_ENDPOINT, BARGE_S3_KEY and BARGE_S3_SECRET name the store and a key with all permissions; the restricted
keys are BARGE_S3_READ_KEY/SECRET and BARGE_S3_PREFIX_KEY/SECRET with BARGE_S3_PREFIX (bucket/prefix);
BARGE_S3_DOMAIN is the domain for virtual-hosted bucket names. Each bucket belongs to one test, and nothing outside is
touched, so any number of tests may run concurrently.
"""

import functools
import itertools
import os

import boto3
import pytest
from botocore.config import Config

import sigv4
import wire
from buckets import TOGETHER, Buckets


def addresses():
    """Addresses of this machine that no other process of this run uses."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) + 1
    return (f"127.{process}.{n >> 8 & 255}.{n & 255}" for n in itertools.count(1))


ADDRESSES = addresses()


def pytest_runtest_setup():
    """Gives each test its own peer address: stores slow down peers that send many wrong secrets or hold much open."""
    wire.here = next(ADDRESSES)


@functools.cache
def connect(key=wire.ADMIN, **settings):
    """Returns a boto3 client without retries; one per key, because creating one costs more than most tests."""
    settings = {
        "retries": {"total_max_attempts": 1},
        "s3": {"addressing_style": "path"},
        "signature_version": "s3v4",
        "connect_timeout": 10,
        "read_timeout": 60,
        "max_pool_connections": 32,
        **settings,
    }
    return boto3.client(
        "s3",
        endpoint_url=wire.ENDPOINT,
        region_name=wire.REGION,
        aws_access_key_id=key.id,
        aws_secret_access_key=key.secret,
        config=Config(**settings),
    )


def key_of(name):
    """Returns a restricted key from the environment, or skips the test if none was given."""
    key = sigv4.Key(os.environ.get(f"BARGE_S3_{name}_KEY", ""), os.environ.get(f"BARGE_S3_{name}_SECRET", ""))
    if not key.id:
        pytest.skip(f"BARGE_S3_{name}_KEY and BARGE_S3_{name}_SECRET are not set")
    return key


@pytest.fixture(scope="session")
def s3():
    """A boto3 client with its defaults and the key with all permissions."""
    return connect()


@pytest.fixture(scope="session")
def plain():
    """As `s3`, but adds no checksums unless asked."""
    return connect(request_checksum_calculation="when_required", response_checksum_validation="when_required")


@pytest.fixture(scope="session")
def reader():
    """A client with a read-only key."""
    return connect(key_of("READ"))


@pytest.fixture(scope="session")
def buckets(request):
    """The source of the tests' buckets."""
    buckets = Buckets(min(TOGETHER, len(request.session.items)))
    yield buckets
    buckets.close()


def one_of(buckets, request):
    """Lends a bucket until the test, or the module, has ended."""
    name = buckets.take()
    yield name
    buckets.give_back(name, request.node.nodeid)


@pytest.fixture
def bucket(buckets, request):
    """A bucket for one test."""
    yield from one_of(buckets, request)


@pytest.fixture(scope="module")
def shelf(buckets, request):
    """A bucket for a module's tests that only read it or use keys of their own."""
    yield from one_of(buckets, request)


@pytest.fixture(scope="module")
def other_shelf(buckets, request):
    """A second bucket beside `shelf`."""
    yield from one_of(buckets, request)


@pytest.fixture
def other_bucket(buckets, request):
    """A second bucket beside `bucket`."""
    yield from one_of(buckets, request)


def told(name):
    """Returns whether an environment variable means yes, as the other tests read it."""
    return os.environ.get(name, "") not in ("", "0", "false")


def not_skipped(report):
    """Fails skipped tests on CI, where nothing may be skipped; elsewhere the run's summary lists them."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    line = f"{report.nodeid}: {why}".replace("\n", " ")
    if told("CI"):
        report.outcome = "failed"
        report.longrepr = f"with CI=true nothing may be skipped: {line}"
    elif "BARGE_SKIPPED" in os.environ:
        with open(os.environ["BARGE_SKIPPED"], "a", encoding="utf-8") as skipped:
            skipped.write(f"{line}\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Checks each test."""
    report = yield
    not_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    """Checks each module: one may be skipped as a whole."""
    report = yield
    not_skipped(report)
    return report
