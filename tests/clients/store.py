"""The environment of the Python client scripts: variables, a bucket of their own, bytes with known digests.

The bucket and its contents are removed, also when the script fails.
"""

import contextlib
import hashlib
import os
import tempfile
import uuid

import botocore.session
from botocore.config import Config

ENDPOINT = os.environ["BARGE_S3_ENDPOINT"]
KEY, SECRET = os.environ["BARGE_S3_KEY"], os.environ["BARGE_S3_SECRET"]
REGION = os.environ.get("BARGE_S3_REGION", "us-east-1")


def settings(**more):
    """Returns the arguments of a client, for boto3 or botocore."""
    return {
        "endpoint_url": ENDPOINT,
        "aws_access_key_id": KEY,
        "aws_secret_access_key": SECRET,
        "region_name": REGION,
        "config": Config(s3={"addressing_style": "path"}, **more),
    }


def connect(**more):
    """Returns a botocore client; all libraries include botocore."""
    return botocore.session.get_session().create_client("s3", **settings(**more))


def remove(bucket):
    """Removes a bucket and its contents; a missing one is fine."""
    s3 = connect()
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            entries = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
            if entries:
                s3.delete_objects(Bucket=bucket, Delete={"Objects": entries, "Quiet": True})
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
            for upload in page.get("Uploads", []):
                s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        s3.delete_bucket(Bucket=bucket)
    except s3.exceptions.NoSuchBucket:
        pass


@contextlib.contextmanager
def place(name):
    """A unique bucket name, not created yet, and a private directory."""
    bucket = f"c-{name}-{uuid.uuid4().hex[:16]}"
    with tempfile.TemporaryDirectory(prefix="barge-client.") as work:
        try:
            yield bucket, work
        finally:
            remove(bucket)


def digest(data):
    """Returns the digest for comparisons."""
    return hashlib.sha256(data).hexdigest()


def step(what):
    """Prints the current step; the last one is the one that failed."""
    print(f"---- {what}", flush=True)
