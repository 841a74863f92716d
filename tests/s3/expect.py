"""Short assertions: refusals with status and code, contents, absence.

Only assertions and the reads they need. Nothing here writes.
"""

import pytest
from botocore.exceptions import ClientError


def refused(status, code, call, /, **arguments):
    """Expects the call to fail with this status and code; a tuple allows several codes. Returns the answer."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    got = answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]
    codes = code if isinstance(code, tuple) else (code,)
    assert got[0] == status and got[1] in codes, f"wanted {status} {code}, got {got}: {answer['Error'].get('Message')}"
    return answer


def body(s3, bucket, key, **how):
    """Returns the bytes of an object."""
    return s3.get_object(Bucket=bucket, Key=key, **how)["Body"].read()


def absent(s3, bucket, key):
    """Expects that the object does not exist."""
    refused(404, "NoSuchKey", s3.get_object, Bucket=bucket, Key=key)


def nothing_in(s3, bucket):
    """Expects a bucket without objects and uploads."""
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def keys(answer):
    """Returns the keys of a listing, in its order."""
    return [entry["Key"] for entry in answer.get("Contents", [])]


def prefixes(answer):
    """Returns the common prefixes of a listing, in its order."""
    return [entry["Prefix"] for entry in answer.get("CommonPrefixes", [])]
