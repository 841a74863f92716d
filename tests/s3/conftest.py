"""What every conformance test is given: clients, keys and a bucket of its own, all from the environment.

BARGE_S3_ENDPOINT, BARGE_S3_KEY and BARGE_S3_SECRET name the store and a key that may do everything; the keys that may
do less are BARGE_S3_READ_KEY/SECRET and BARGE_S3_PREFIX_KEY/SECRET with BARGE_S3_PREFIX (bucket/prefix);
BARGE_S3_DOMAIN is where buckets may stand in front. A bucket lives as long as its test, and nothing outside it is
touched, so any number of tests may run beside each other.
"""

import os
import uuid

import boto3
import pytest
from botocore.config import Config

import sigv4
import wire


def connect(key=wire.ADMIN, **settings):
    """A boto3 client that never sends anything twice."""
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
    """A lesser key of the environment; a test that needs one is skipped only where none was given."""
    key = sigv4.Key(os.environ.get(f"BARGE_S3_{name}_KEY", ""), os.environ.get(f"BARGE_S3_{name}_SECRET", ""))
    if not key.id:
        pytest.skip(f"BARGE_S3_{name}_KEY and BARGE_S3_{name}_SECRET are not set")
    return key


def new_name():
    """A bucket name that nobody else has."""
    return f"t-{uuid.uuid4().hex[:20]}"


def empty(s3, name):
    """Removes everything from a bucket, what was not finished included."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        entries = [{"Key": v["Key"], "VersionId": v["VersionId"]} for v in page.get("Versions", [])]
        entries += [{"Key": v["Key"], "VersionId": v["VersionId"]} for v in page.get("DeleteMarkers", [])]
        if entries:
            answer = s3.delete_objects(Bucket=name, Delete={"Objects": entries, "Quiet": True})
            assert not answer.get("Errors"), answer["Errors"]
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=name):
        for upload in page.get("Uploads", []):
            s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])


@pytest.fixture(scope="session")
def s3():
    """A client as boto3 makes it, with the key that may do everything."""
    return connect()


@pytest.fixture(scope="session")
def plain():
    """As `s3`, and it adds no checksum that was not asked for."""
    return connect(request_checksum_calculation="when_required", response_checksum_validation="when_required")


@pytest.fixture(scope="session")
def reader():
    """A client of a key that may only read."""
    return connect(key_of("READ"))


@pytest.fixture(scope="session")
def make_bucket(s3):
    """Makes a bucket; the caller sees to its removal."""

    def make():
        name = new_name()
        s3.create_bucket(Bucket=name)
        return name

    return make


@pytest.fixture
def bucket(s3, make_bucket):
    """A bucket that is there for one test."""
    name = make_bucket()
    yield name
    empty(s3, name)
    s3.delete_bucket(Bucket=name)


@pytest.fixture(scope="module")
def shelf(s3, make_bucket):
    """A bucket for a module's tests that only read it or keep to keys of their own."""
    name = make_bucket()
    yield name
    empty(s3, name)
    s3.delete_bucket(Bucket=name)


@pytest.fixture
def other_bucket(s3, make_bucket):
    """A second bucket beside `bucket`."""
    name = make_bucket()
    yield name
    empty(s3, name)
    s3.delete_bucket(Bucket=name)


def told(name):
    """Whether a variable is set to something like yes, as the other tests read it."""
    return os.environ.get(name, "") not in ("", "0", "false")


def not_skipped(report):
    """What has not run must not pass on CI; elsewhere the summary of the run repeats it."""
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
    """Looks at each test."""
    report = yield
    not_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    """Looks at each module: one may be skipped as a whole."""
    report = yield
    not_skipped(report)
    return report
