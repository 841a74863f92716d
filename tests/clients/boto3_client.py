"""boto3: put, a large file with many threads, an upload resumed from list_parts, presign, conditions.

Every download is compared by digest.
"""

import os
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

import store
from store import digest, step

MIB = 1 << 20


def refusal(call, **how):
    """Returns the error code of a refused call."""
    try:
        call(**how)
    except ClientError as e:
        return e.response["Error"]["Code"]
    raise AssertionError("this should have been refused")


def put_and_get(s3, bucket):
    step("put and get")
    data = os.urandom(100_000)
    s3.put_object(Bucket=bucket, Key="dir/small", Body=data, Metadata={"owner": "me"}, ContentType="text/x-small")
    got = s3.get_object(Bucket=bucket, Key="dir/small")
    assert digest(got["Body"].read()) == digest(data)
    assert (got["Metadata"], got["ContentType"]) == ({"owner": "me"}, "text/x-small")
    assert s3.get_object(Bucket=bucket, Key="dir/small", Range="bytes=500-999")["Body"].read() == data[500:1000]


def by_threads(s3, bucket, work):
    step("96 MiB by eight threads, both ways")
    path, back = os.path.join(work, "large"), os.path.join(work, "back")
    data = os.urandom(96 * MIB)
    with open(path, "wb") as file:
        file.write(data)
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB, max_concurrency=8)
    sent = []
    s3.upload_file(path, bucket, "large", Config=config, Callback=sent.append)
    assert sum(sent) == len(data)
    assert s3.head_object(Bucket=bucket, Key="large")["ETag"].endswith('-12"')
    s3.download_file(bucket, "large", back, Config=config)
    with open(back, "rb") as file:
        assert digest(file.read()) == digest(data)
    s3.copy({"Bucket": bucket, "Key": "large"}, bucket, "copy", Config=config)
    with open(back, "wb") as file:
        s3.download_fileobj(bucket, "copy", file, Config=config)
    with open(back, "rb") as file:
        assert digest(file.read()) == digest(data)


def resumed(s3, bucket):
    step("an upload that stopped half way is resumed")
    data = os.urandom(22 * MIB)
    parts = {n + 1: data[n * 5 * MIB : (n + 1) * 5 * MIB] for n in range(5)}
    place = {"Bucket": bucket, "Key": "resumed"}
    begun = s3.create_multipart_upload(**place)["UploadId"]
    for number in (1, 2, 4):
        s3.upload_part(PartNumber=number, Body=parts[number], UploadId=begun, **place)
    # A second client, which knows only the bucket and the key.
    s3 = boto3.client("s3", **store.settings())
    (upload,) = s3.list_multipart_uploads(Bucket=bucket, Prefix="resumed")["Uploads"]
    place["UploadId"] = upload["UploadId"]
    there = {
        part["PartNumber"]: part["ETag"]
        for page in s3.get_paginator("list_parts").paginate(PaginationConfig={"PageSize": 2}, **place)
        for part in page["Parts"]
    }
    assert sorted(there) == [1, 2, 4]
    for number in parts.keys() - there.keys():
        there[number] = s3.upload_part(PartNumber=number, Body=parts[number], **place)["ETag"]
    done = {"Parts": [{"PartNumber": n, "ETag": there[n]} for n in sorted(there)]}
    s3.complete_multipart_upload(MultipartUpload=done, **place)
    assert digest(s3.get_object(Bucket=bucket, Key="resumed")["Body"].read()) == digest(data)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def presigned(s3, bucket):
    step("presigned URLs")
    place = {"Bucket": bucket, "Key": "presigned"}
    data = os.urandom(70_000)
    put = s3.generate_presigned_url("put_object", place, ExpiresIn=60)
    with urllib.request.urlopen(urllib.request.Request(put, data, method="PUT")) as answer:
        assert answer.status == 200
    get = s3.generate_presigned_url("get_object", place, ExpiresIn=60)
    with urllib.request.urlopen(get) as answer:
        assert digest(answer.read()) == digest(data)


def conditions(s3, bucket):
    step("conditional writes")
    place = {"Bucket": bucket, "Key": "once"}

    def create(n):
        try:
            return s3.put_object(Body=b"%d" % n, IfNoneMatch="*", **place)["ETag"]
        except ClientError as e:
            assert e.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict")

    with ThreadPoolExecutor(8) as pool:
        (tag,) = [tag for tag in pool.map(create, range(16)) if tag]
    assert s3.head_object(**place)["ETag"] == tag
    s3.put_object(Body=b"second", IfMatch=tag, **place)
    assert refusal(s3.put_object, Body=b"third", IfMatch=tag, **place) == "PreconditionFailed"
    assert s3.get_object(**place)["Body"].read() == b"second"


def listed_and_deleted(s3, bucket):
    step("lists and deletes")
    names = [f"many/{n:03}" for n in range(250)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: s3.put_object(Bucket=bucket, Key=name, Body=name.encode()), names))
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix="many/", PaginationConfig={"PageSize": 40}
    )
    assert [entry["Key"] for page in pages for entry in page["Contents"]] == names
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": name} for name in names]})
    assert s3.list_objects_v2(Bucket=bucket, Prefix="many/")["KeyCount"] == 0
    assert refusal(s3.get_object, Bucket=bucket, Key=names[0]) == "NoSuchKey"


def main():
    # By default it presigns with signature version 2, which is not accepted.
    settings = store.settings(signature_version="s3v4", retries={"total_max_attempts": 1}, max_pool_connections=16)
    s3 = boto3.client("s3", **settings)
    with store.place("boto3") as (bucket, work):
        s3.create_bucket(Bucket=bucket)
        put_and_get(s3, bucket)
        by_threads(s3, bucket, work)
        resumed(s3, bucket)
        presigned(s3, bucket)
        conditions(s3, bucket)
        listed_and_deleted(s3, bucket)
    assert refusal(s3.list_objects_v2, Bucket=bucket) == "NoSuchBucket"
    step("done")


main()
