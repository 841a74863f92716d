"""pyarrow: a partitioned dataset of Parquet written to the store and read back, whole, filtered, and by column."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

import store
from store import step

ROWS = 300_000


def table():
    """Rows of several types, computed from their numbers."""
    return pa.table(
        {
            "id": pa.array(range(ROWS), pa.int64()),
            "day": pa.array([f"2026-01-{n % 4 + 1:02}" for n in range(ROWS)]),
            "value": pa.array([n * 0.5 for n in range(ROWS)]),
            "text": pa.array([None if n % 7 == 0 else f"text of {n}" for n in range(ROWS)]),
        }
    )


def file_system():
    """Returns the store as pyarrow's file system."""
    scheme, _, host = store.ENDPOINT.partition("://")
    return fs.S3FileSystem(
        access_key=store.KEY,
        secret_key=store.SECRET,
        endpoint_override=host,
        scheme=scheme,
        region=store.REGION,
        allow_bucket_creation=True,
        allow_bucket_deletion=True,
        force_virtual_addressing=False,
    )


def dataset(s3, bucket, rows):
    step("a dataset, written")
    by_day = ds.partitioning(pa.schema([("day", pa.string())]), flavor="hive")
    how = {"format": "parquet", "partitioning": by_day, "filesystem": s3}
    ds.write_dataset(rows, f"{bucket}/set", max_rows_per_group=20_000, **how)
    found = s3.get_file_info(fs.FileSelector(f"{bucket}/set", recursive=True))
    assert sum(info.type == fs.FileType.File for info in found) == 4, found

    step("the dataset, read whole, filtered, by column")
    back = ds.dataset(f"{bucket}/set", **how)
    assert back.to_table().sort_by("id").select(rows.column_names).equals(rows)
    some = back.to_table(filter=(ds.field("day") == "2026-01-03") & (ds.field("id") < 1000), columns=["id", "text"])
    wanted = rows.filter(pc.and_(pc.equal(rows["day"], "2026-01-03"), pc.less(rows["id"], 1000)))
    assert some.sort_by("id").equals(wanted.select(["id", "text"]))
    assert back.count_rows() == ROWS


def one_file(s3, bucket, rows):
    step("one file, by ranges")
    pq.write_table(rows, f"{bucket}/one.parquet", filesystem=s3, row_group_size=50_000)
    file = pq.ParquetFile(f"{bucket}/one.parquet", filesystem=s3)
    assert file.num_row_groups == 6
    assert file.read_row_group(3, columns=["value"]).equals(rows.slice(150_000, 50_000).select(["value"]))


def streams(s3, bucket):
    step("streams, copies, moves")
    data = bytes(range(256)) * 100_000
    with s3.open_output_stream(f"{bucket}/raw") as out:
        for n in range(0, len(data), 1 << 20):
            out.write(data[n : n + (1 << 20)])
    s3.copy_file(f"{bucket}/raw", f"{bucket}/copy")
    s3.move(f"{bucket}/copy", f"{bucket}/moved")
    with s3.open_input_file(f"{bucket}/moved") as back:
        assert back.size() == len(data)
        assert back.read_at(1000, 12_345_678) == data[12_345_678:12_346_678]
        assert store.digest(back.read()) == store.digest(data)
    assert s3.get_file_info(f"{bucket}/copy").type == fs.FileType.NotFound


def main():
    rows = table()
    with store.place("pyarrow") as (bucket, _):
        s3 = file_system()
        s3.create_dir(bucket)
        dataset(s3, bucket, rows)
        one_file(s3, bucket, rows)
        streams(s3, bucket)
        step("remove")
        s3.delete_dir_contents(f"{bucket}/set")
        assert s3.get_file_info(fs.FileSelector(f"{bucket}/set", allow_not_found=True)) == []
    step("done")


main()
