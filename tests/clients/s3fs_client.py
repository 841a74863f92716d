"""s3fs, the store as an fsspec file system: write, read, ranges, lists, patterns, mv, multipart, rm -r.

Every file is compared by digest.
"""

import os

import s3fs

import store
from store import digest, step

MIB = 1 << 20


def files(s3, bucket):
    step("writing and reading files")
    data = os.urandom(300_000)
    with s3.open(f"{bucket}/dir/ä b.bin", "wb") as file:
        file.write(data)
    with s3.open(f"{bucket}/dir/ä b.bin", "rb") as file:
        assert digest(file.read()) == digest(data)
        file.seek(123_456)
        assert file.read(1000) == data[123_456:124_456]
    assert s3.cat_file(f"{bucket}/dir/ä b.bin", start=10, end=20) == data[10:20]
    assert s3.tail(f"{bucket}/dir/ä b.bin", 100) == data[-100:]
    assert s3.info(f"{bucket}/dir/ä b.bin")["size"] == 300_000
    s3.pipe_file(f"{bucket}/dir/small", b"small")
    assert s3.cat_file(f"{bucket}/dir/small") == b"small"


def in_parts(s3, bucket):
    step("a multipart upload")
    data = os.urandom(23 * MIB)
    with s3.open(f"{bucket}/large", "wb", block_size=5 * MIB) as file:
        for n in range(0, len(data), 700_000):
            file.write(data[n : n + 700_000])
    assert digest(s3.cat_file(f"{bucket}/large")) == digest(data)
    assert s3.info(f"{bucket}/large")["ETag"].strip('"').rpartition("-")[2].isdigit()
    s3.mv(f"{bucket}/large", f"{bucket}/moved")
    assert not s3.exists(f"{bucket}/large")
    assert digest(s3.cat_file(f"{bucket}/moved")) == digest(data)


def lists(s3, bucket):
    step("lists and patterns")
    for n in range(5):
        s3.pipe_file(f"{bucket}/tree/{n % 2}/{n}.txt", str(n).encode())
    assert s3.glob(f"{bucket}/tree/**/*.txt") == [f"{bucket}/tree/{n % 2}/{n}.txt" for n in (0, 2, 4, 1, 3)]
    assert s3.glob(f"{bucket}/tree/1/[0-3].txt") == [f"{bucket}/tree/1/1.txt", f"{bucket}/tree/1/3.txt"]
    assert s3.ls(f"{bucket}/tree") == [f"{bucket}/tree/0", f"{bucket}/tree/1"]
    assert s3.du(f"{bucket}/tree") == 5
    assert s3.isdir(f"{bucket}/tree/0") and s3.isfile(f"{bucket}/tree/0/0.txt")


def up_and_down(s3, bucket, work):
    step("directories, both ways")
    source, back = os.path.join(work, "from"), os.path.join(work, "to")
    for n in range(6):
        os.makedirs(f"{source}/{n}")
        with open(f"{source}/{n}/file", "wb") as file:
            file.write(os.urandom(n * 10_000))
    s3.put(source, f"{bucket}/put", recursive=True)
    s3.get(f"{bucket}/put", back, recursive=True)
    for n in range(6):
        with open(f"{source}/{n}/file", "rb") as one, open(f"{back}/{n}/file", "rb") as two:
            assert digest(one.read()) == digest(two.read())


def main():
    # As an argument it would also be requested as the location of new buckets.
    os.environ["AWS_DEFAULT_REGION"] = store.REGION
    s3 = s3fs.S3FileSystem(
        key=store.KEY,
        secret=store.SECRET,
        endpoint_url=store.ENDPOINT,
        config_kwargs={"s3": {"addressing_style": "path"}},
        use_listings_cache=False,
    )
    with store.place("s3fs") as (bucket, work):
        s3.mkdir(bucket)
        files(s3, bucket)
        in_parts(s3, bucket)
        lists(s3, bucket)
        up_and_down(s3, bucket, work)
        step("rm -r")
        s3.rm(f"{bucket}/tree", recursive=True)
        assert not s3.exists(f"{bucket}/tree") and s3.exists(f"{bucket}/moved")
        s3.rm(bucket, recursive=True)
        assert not s3.exists(bucket)
    step("done")


main()
